"""Costs by the clock."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval

from skearlyexit.costs._base import Cost
from skearlyexit.costs._links import Link, check_links
from skearlyexit.costs._parts import CostInput, CostMeasurement
from skearlyexit.costs._timing import time_parts


class SecondsCost(Cost):
    """Seconds per row, measured on this machine when the model is fitted.

    Each part is run on its own; the value is the median of the repetitions, and their quartiles
    are kept beside it. Two fits measure different times, and thresholds that depend on costs differ
    with them.

    Parameters
    ----------
    batch_size : int, default=256
        Rows of a call. One row at a time costs more per row, and heads that are not torch modules
        more than the others.
    n_repeats : int, default=15
        How often each part is timed.
    links : sequence of Link, default=()
        Connections between machines.

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
        """Seconds."""
        return "s"

    def read(self, parts: Sequence[CostInput]) -> list[CostMeasurement]:
        """Time each part; see `Cost.read`."""
        timed = time_parts(parts, self.batch_size, self.n_repeats)
        return [CostMeasurement.of_times(times) for times in timed]

    def of_link(self, link: Link, n_bytes: float) -> float:
        """Seconds of a link; see `Cost.of_link`."""
        return link.seconds(n_bytes)

    def _validate_params(self) -> None:
        super()._validate_params()
        check_links(self.links, "SecondsCost")
