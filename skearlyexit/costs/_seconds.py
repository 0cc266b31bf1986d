"""Costs in seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval

from skearlyexit.costs._base import Cost
from skearlyexit.costs._links import Link, check_links
from skearlyexit.costs._parts import CostInput, CostMeasurement, PartMeasurements
from skearlyexit.costs._timing import time_parts


class SecondsCost(Cost):
    """Time per sample in seconds, measured on this machine in `fit`.

    The fitted model is run by what executes predictions, torch, scikit-learn or ONNX Runtime, as
    the parameter `runtime` of the estimator says. The cost of a part is the median of repeated
    measurements, whose quartiles are reported as well. Since times differ from fit to fit,
    thresholds that depend on costs may differ, too.

    Parameters
    ----------
    batch_size : int, default=256
        Number of samples in each call. Small batches take more time per sample, in particular for
        heads that are not torch modules. Set it to 1 if single samples are predicted.
    n_repeats : int, default=15
        Number of measurements.
    links : sequence of Link, default=()
        Connections between the machines that run the network.

    Notes
    -----
    Each stage, head and decision is timed while the model runs, but with ``runtime="onnx"``: ONNX
    Runtime executes the model as a whole: the time to exit at each exit is measured, with and
    without the heads before it, and the times of the parts are those that explain these best. A
    head then includes its decision, and the last stage includes the last head.

    Before the training, when exits are placed by cost, each block is timed alone by torch, whatever
    the runtime is. Heads on trial are measured as those of the fitted model.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone, SecondsCost
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"],
    ...     cost=SecondsCost(batch_size=16, n_repeats=5), calibration=None, max_epochs=1,
    ...     random_state=0)
    >>> table = clf.fit(X, y).cost_table_
    >>> table.unit, [stage.how for stage in table.stages]
    ('s', ['measured', 'measured', 'measured'])
    >>> [stage.low <= stage.value <= stage.high for stage in table.stages]
    [True, True, True]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "links": ["array-like"],
    }
    is_exact = False

    def __init__(
        self, batch_size: int = 256, *, n_repeats: int = 15, links: Sequence[Link] = ()
    ) -> None:
        self.batch_size = batch_size
        self.n_repeats = n_repeats
        self.links = links

    @property
    def unit_name(self) -> str:
        """Unit of the costs, "s"."""
        return "s"

    def read(self, parts: Sequence[CostInput]) -> list[CostMeasurement]:
        timed = time_parts(parts, self.batch_size, self.n_repeats)
        return [CostMeasurement.of_times(times) for times in timed]

    def while_running(self, time: Callable[[int, int], PartMeasurements]) -> PartMeasurements:
        return time(self.batch_size, self.n_repeats)

    def of_link(self, link: Link, n_bytes: float) -> float:
        return link.seconds(n_bytes)

    def _validate_params(self) -> None:
        super()._validate_params()
        check_links(self.links, "SecondsCost")
