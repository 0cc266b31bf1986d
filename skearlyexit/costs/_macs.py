"""Costs by counting."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from skearlyexit.costs._base import Cost
from skearlyexit.costs._estimators import UncountedError, estimator_macs
from skearlyexit.costs._links import Link, check_links
from skearlyexit.costs._modules import module_macs
from skearlyexit.costs._parts import CostInput, CostMeasurement
from skearlyexit.costs._timing import time_parts

#: Rows and repetitions by which parts are timed that cannot be counted.
TIMED_ROWS, TIMED_REPEATS = 256, 9


class MACsCost(Cost):
    """Multiply-accumulates per row, by torch's counter and by stated counts for estimators.

    An estimator of a kind that has no count is timed, and its time turned into operations at the
    rate at which this machine was seen to run the network itself. Two fits then differ in its cost,
    and in thresholds that depend on it.

    Parameters
    ----------
    rate : float, default=None
        Multiply-accumulates per second of a machine that is not this one; costs are then in
        seconds.
    links : sequence of Link, default=()
        Connections between machines; they need a rate.

    See Also
    --------
    skearlyexit.costs.module_macs : What is counted of torch modules.
    skearlyexit.costs.estimator_macs : What is counted of scikit-learn's estimators.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MACsCost, MLPBackbone
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"], cost=MACsCost(rate=1e6),
    ...     calibration=None, max_epochs=1, random_state=0)
    >>> print(clf.fit(X, y).cost_table_)
    exit       stage     head  decision  until here  of plain
    stem    0.000512  3.2e-05     2e-06    0.000546  26.3%
    block1  0.000512  3.2e-05     2e-06     0.00109  52.5%
    block3   0.00102  3.2e-05         0     0.00215  103.3%
    in s per row; the plain network costs 0.00208
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "rate": [Interval(Real, 0, None, closed="neither"), None],
        "links": ["array-like"],
    }

    def __init__(self, *, rate: float | None = None, links: Sequence[Link] = ()) -> None:
        self.rate = rate
        self.links = links

    @property
    def unit_name(self) -> str:
        """MACs, or seconds if there is a rate."""
        return "MACs" if self.rate is None else "s"

    def read(self, parts: Sequence[CostInput]) -> list[CostMeasurement]:
        """Count each part; see `Cost.read`."""
        return [CostMeasurement.exactly(_count(part) / (self.rate or 1.0)) for part in parts]

    def of_cascade(
        self,
        stages: Sequence[CostInput],
        heads: Sequence[CostInput],
        decisions: Sequence[CostInput],
        blocks: np.ndarray,
    ) -> tuple[list[CostMeasurement], list[CostMeasurement], list[CostMeasurement]]:
        """Count, or time what cannot be counted; see `Cost.of_cascade`."""
        readings: list[CostMeasurement | None] = []
        parts = [*heads, *decisions]
        for part in parts:
            try:
                readings += self.read([part])
            except UncountedError:
                readings.append(None)
        unknown = [i for i, reading in enumerate(readings) if reading is None]
        if unknown:
            # In the unit of the blocks, per second of this machine.
            if not blocks.sum() > 0:
                kinds = ", ".join(type(parts[i].model).__name__ for i in unknown)
                raise ValueError(
                    f"There is no count of operations for {kinds}, and the network has none that "
                    "its time could be compared with. Give cost='seconds'."
                )
            seconds = _seconds(stages)
            rate = float(blocks.sum()) / sum(reading.value for reading in seconds)
            for i, reading in zip(unknown, _seconds([parts[i] for i in unknown]), strict=True):
                readings[i] = reading.scaled(rate)
        known = [CostMeasurement.exactly(value) for value in blocks]
        found = [each for each in readings if each is not None]
        return known, found[: len(heads)], found[len(heads) :]

    def of_link(self, link: Link, n_bytes: float) -> float:
        """Seconds of a link; see `Cost.of_link`."""
        return link.seconds(n_bytes)

    def _validate_params(self) -> None:
        super()._validate_params()
        check_links(self.links, "MACsCost")
        if len(self.links) and self.rate is None:
            raise ValueError(
                "The 'links' of MACsCost take seconds, which need its 'rate', in multiply-"
                "accumulates per second, to compare with; got rate=None."
            )


def counted_or_free(part: CostInput) -> float:
    """Multiply-accumulates per row of a part, 0 if there is no count."""
    try:
        return _count(part)
    except UncountedError:
        return 0.0


def _count(part: CostInput) -> float:
    """Operations per row."""
    if part.macs is not None:
        return part.macs
    if isinstance(part.model, torch.nn.Module):
        return module_macs(part.model, part.inputs, part.n_rows)[0]
    pooling = 0.0
    if part.pooling is not None:
        pooling = module_macs(part.pooling, part.inputs, part.n_rows)[0]
    return pooling + estimator_macs(part.model)


def _seconds(parts: Sequence[CostInput]) -> list[CostMeasurement]:
    return [
        CostMeasurement.of_times(times) for times in time_parts(parts, TIMED_ROWS, TIMED_REPEATS)
    ]
