"""Costs in multiply-accumulate operations (MACs)."""

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

#: Number of samples and of repetitions for timing parts that cannot be counted.
TIMED_ROWS, TIMED_REPEATS = 256, 9


class MACsCost(Cost):
    """Number of multiply-accumulate operations (MACs) per sample.

    For torch modules, products of matrices, convolutions and attention are counted. Element-wise
    operations, normalization and pooling count as 0, as is usual. For scikit-learn estimators, see
    `estimator_macs`.

    An estimator without a count is timed. Its time is converted to operations at the rate at which
    this machine runs the network. The cost of this estimator, and thresholds that depend on it, may
    then differ from fit to fit.

    Parameters
    ----------
    rate : float, default=None
        MACs per second of the machine that will run the network. If given, costs are in seconds.
    links : sequence of Link, default=()
        Connections between the machines that run the network. They require `rate`.

    See Also
    --------
    skearlyexit.costs.estimator_macs : Count the operations of a scikit-learn estimator.

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
    in s per sample; the plain network costs 0.00208
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
        """Unit of the costs: "MACs", or "s" if there is a rate."""
        return "MACs" if self.rate is None else "s"

    def read(self, parts: Sequence[CostInput]) -> list[CostMeasurement]:
        return [CostMeasurement.exactly(_count(part) / (self.rate or 1.0)) for part in parts]

    def of_cascade(
        self,
        stages: Sequence[CostInput],
        heads: Sequence[CostInput],
        decisions: Sequence[CostInput],
        blocks: np.ndarray,
    ) -> tuple[list[CostMeasurement], list[CostMeasurement], list[CostMeasurement]]:
        readings: list[CostMeasurement | None] = []
        parts = [*heads, *decisions]
        for part in parts:
            try:
                readings += self.read([part])
            except UncountedError:
                readings.append(None)
        unknown = [i for i, reading in enumerate(readings) if reading is None]
        if unknown:
            # The rate is in the unit of the blocks, per second of this machine.
            if not blocks.sum() > 0:
                kinds = ", ".join(type(parts[i].model).__name__ for i in unknown)
                raise ValueError(
                    f"There is no count of operations for {kinds}, and the network has no counted "
                    "operations to compare its time with. Give cost='seconds'."
                )
            seconds = _seconds(stages)
            rate = float(blocks.sum()) / sum(reading.value for reading in seconds)
            for i, reading in zip(unknown, _seconds([parts[i] for i in unknown]), strict=True):
                readings[i] = reading.scaled(rate)
        known = [CostMeasurement.exactly(value) for value in blocks]
        found = [each for each in readings if each is not None]
        return known, found[: len(heads)], found[len(heads) :]

    def of_link(self, link: Link, n_bytes: float) -> float:
        return link.seconds(n_bytes)

    def _validate_params(self) -> None:
        super()._validate_params()
        check_links(self.links, "MACsCost")
        if len(self.links) and self.rate is None:
            raise ValueError(
                "The 'links' of MACsCost are in seconds, and need its 'rate', in MACs per second, "
                "for comparison; got rate=None."
            )


def counted_or_free(part: CostInput) -> float:
    """MACs per sample of a part, or 0 if there is no count."""
    try:
        return _count(part)
    except UncountedError:
        return 0.0


def counts(part: CostInput) -> bool:
    """Whether the operations of a part can be counted."""
    try:
        _count(part)
    except UncountedError:
        return False
    return True


def _count(part: CostInput) -> float:
    """Operations per sample."""
    if part.macs is not None:
        return part.macs
    if isinstance(part.model, torch.nn.Module):
        return module_macs(part.model, part.inputs, part.n_samples)[0]
    pooling = 0.0
    if part.pooling is not None:
        pooling = module_macs(part.pooling, part.inputs, part.n_samples)[0]
    return pooling + estimator_macs(part.model)


def _seconds(parts: Sequence[CostInput]) -> list[CostMeasurement]:
    return [
        CostMeasurement.of_times(times) for times in time_parts(parts, TIMED_ROWS, TIMED_REPEATS)
    ]
