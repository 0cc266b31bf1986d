"""Choice of the exits that run on each machine, and of the thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from skearlyexit._utils._frames import aligned, preformatted
from skearlyexit._utils._unwrap import last_step
from skearlyexit.calibration import (
    AccuracyDrop,
    CalibrationData,
    ErrorRise,
    OperatingPoint,
    compute_frontier,
)
from skearlyexit.costs import Link
from skearlyexit.tiers._compression import check_compression, compressed
from skearlyexit.tiers._judged import LabeledRows, accuracy_at
from skearlyexit.tiers._machines import check_machines
from skearlyexit.tiers._parts import parts_of
from skearlyexit.tiers._plan import TierPlan
from skearlyexit.tiers._report import bytes_text, seconds_text
from skearlyexit.tiers._tier import Tier

#: What can be minimized: the attribute of the arrays by exit, and how it is printed.
TARGETS = {
    "latency": ("latency", seconds_text),
    "bytes": ("n_bytes", bytes_text),
    "energy": ("energy", "{:.3g}".format),
    "price": ("price", "{:.3g}".format),
}
#: Operating point if none is requested.
DEFAULTS: dict[str, OperatingPoint] = {
    "classifier": AccuracyDrop(0.01),
    "regressor": ErrorRise(0.01),
}
#: Maximum number of plans that are printed.
MAX_SHOWN = 10


@dataclass(frozen=True, eq=False)
class RankedPlan:
    """A plan with its best thresholds.

    Parameters
    ----------
    plan : TierPlan
        The plan.
    thresholds : ndarray of shape (n_exits - 1,)
        Thresholds with the lowest mean of what is minimized that satisfy the operating point.
    value : float
        This mean per sample, on the calibration samples.
    drop : float
        Accuracy that is lost on the calibration samples, compared with the last exit without
        compression; in regression, the share of the loss that is explained. Negative if early exits
        gain accuracy.

    Examples
    --------
    See `choose_plan`, which returns such objects:

    >>> import numpy as np
    >>> from skearlyexit.tiers import RankedPlan, Tier, TierPlan
    >>> plan = TierPlan([Tier("device", rate=1e6)], [], [0, 0])
    >>> RankedPlan(plan, np.array([0.9]), value=0.004, drop=0.002).plan.assignment
    [0, 0]
    """

    plan: TierPlan
    thresholds: np.ndarray
    value: float
    drop: float


@dataclass(frozen=True, eq=False, repr=False)
class PlanChoice:
    """The best plan, and all others in the order of what is minimized.

    It prints as a table of the first ten.

    Parameters
    ----------
    target : {"latency", "bytes", "energy", "price"}
        What is minimized.
    operating_point : OperatingPoint
        What the thresholds had to satisfy.
    ranking : list of RankedPlan
        All plans, the best one first.

    Attributes
    ----------
    plan, thresholds, value, drop
        Those of the best plan, as in `RankedPlan`.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit import AccuracyDrop
    >>> from skearlyexit.tiers import PlanChoice, RankedPlan, Tier, TierPlan
    >>> plan = TierPlan([Tier("device", rate=1e6)], [], ["device", "device"])
    >>> ranked = RankedPlan(plan, np.array([0.9]), value=0.004, drop=0.002)
    >>> print(PlanChoice("latency", AccuracyDrop(0.01), [ranked]))
    lowest mean latency for AccuracyDrop(value=0.01)
    assignment      latency   drop  thresholds
    device, device     4 ms  0.20%  0.9
    """

    target: str
    operating_point: OperatingPoint
    ranking: list[RankedPlan]

    @property
    def plan(self) -> TierPlan:
        return self.ranking[0].plan

    @property
    def thresholds(self) -> np.ndarray:
        return self.ranking[0].thresholds

    @property
    def value(self) -> float:
        return self.ranking[0].value

    @property
    def drop(self) -> float:
        return self.ranking[0].drop

    def __str__(self) -> str:
        shown, text = self.ranking[:MAX_SHOWN], TARGETS[self.target][1]
        table = aligned(
            {
                "assignment": [", ".join(map(str, each.plan.assignment)) for each in shown],
                self.target: [text(each.value) for each in shown],
                "drop": [f"{each.drop:.2%}" for each in shown],
                "thresholds": [
                    ", ".join(f"{threshold:.3g}" for threshold in each.thresholds) for each in shown
                ],
            }
        )
        lines = [f"lowest mean {self.target} for {self.operating_point.description}", *table]
        if len(self.ranking) > len(shown):
            lines.append(f"and {len(self.ranking) - len(shown)} other assignments")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return preformatted(str(self))


def choose_plan(
    tiers: Sequence[Tier],
    links: Sequence[Link],
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    minimize: str = "latency",
    operating_point: OperatingPoint | None = None,
    sample_weight: Any = None,
    groups: Any = None,
    sample_bytes: float | None = None,
    compression: str | None = None,
    answer_bytes: float | None = None,
    links_back: Sequence[Link] | None = None,
    local_link: Link | None = None,
) -> PlanChoice:
    """Choose which exit runs on which tier, and the thresholds.

    All assignments in the order of the tiers are tried; of several devices, those with at most the
    first exit on these. For each, the frontier is computed again,
    with what is minimized as the cost of an exit, since the best thresholds depend on where the
    links are. Of the thresholds that satisfy the operating point, those with the lowest mean are
    chosen.

    Parameters
    ----------
    tiers : sequence of Tier
        Machines, as in `TierPlan`.
    links : sequence of Link
        Link from each tier to the next one.
    estimator : EarlyExitClassifier, CascadeClassifier, a regressor of these or Pipeline
        Fitted estimator with exits, or fitted pipeline whose last step is one. It is not changed.
    X : array-like of shape (n_samples, n_features) or (n_samples, ...)
        Calibration samples that the model was not fitted on.
    y : array-like of shape (n_samples, ...), default=None
        True labels or values. May be None only if X is a torch Dataset with labels.
    minimize : {"latency", "bytes", "energy", "price"}, default="latency"
        What is to be as low as possible in the mean.
    operating_point : OperatingPoint, default=None
        What the thresholds must satisfy: an operating point that limits the loss of accuracy, such
        as ``AccuracyDrop(0.02)``, ``TargetAccuracy(0.95)`` or ``RiskControl(0.02)``, or fixed
        thresholds. None is ``AccuracyDrop(0.01)``, and ``ErrorRise(0.01)`` in regression.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights. Samples of weight 0 are ignored.
    groups : array-like of shape (n_samples,), default=None
        Group of each sample, as in `EarlyExitClassifier.calibrate`.
    sample_bytes : float, default=None
        Size of a sample as it is sent, as in `ModelParts.of`.
    compression : {"float16", "int8"} or None, default=None
        Format in which embeddings are sent, as in `TierPlan`. The operating point is that of the
        model with compression, which runs once for each choice of links.
    answer_bytes : float or None, default=None
        Size of the answer, if it is sent back to the first tier, as in `TierPlan`.
    links_back : sequence of Link or None, default=None
        Links by which answers are sent back, as in `TierPlan`.
    local_link : Link or None, default=None
        Link among several devices of the first tier, as in `TierPlan`.

    Returns
    -------
    choice : PlanChoice
        The best plan with its thresholds, and the ranking of all others.

    Raises
    ------
    TypeError
        If the estimator is not one with exits, or `operating_point` is no operating point.
    ValueError
        If X, y or an argument is invalid, or no thresholds satisfy the operating point. It is a
        `NotCertifiedError` if a guarantee was requested and cannot be given.

    Notes
    -----
    Thresholds that are chosen from the frontier lose more accuracy on new samples than on these.
    Evaluate the plan on others, by
    ``choice.plan.report(estimator, X_test, y_test, threshold=choice.thresholds)``, or give a
    `RiskControl`. Without compression, its thresholds are the same for all assignments, so that the
    guarantee holds for the best one, too. With compression, it holds for each assignment, compared
    with the last exit of the compressed model, but not for the choice between them.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skearlyexit import EarlyExitClassifier, Link, MLPBackbone
    >>> from skearlyexit.tiers import Tier, choose_plan
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=32, hidden=32), exits=["stem"], calibration=None, max_epochs=3,
    ...     random_state=0).fit(X[:1200], y[:1200])
    >>> choice = choose_plan(
    ...     [Tier("device", rate=1e6), Tier("cloud", rate=1e9)], [Link(latency=0.5)],
    ...     clf, X[1200:], y[1200:])
    >>> choice.plan.assignment  # slow, and still faster than the link
    ['device', 'device']
    """
    check_machines(tiers, links)
    if minimize not in TARGETS:
        raise ValueError(f"'minimize' must be one of {list(TARGETS)}. Got {minimize!r} instead.")
    model, X = last_step(estimator, X)
    point = _requested(operating_point, model)
    check_compression(compression)
    labeled = LabeledRows.of(model, X, y, sample_weight, groups)
    parts = parts_of(model, labeled.rows, sample_bytes, compression)

    @cache
    def outputs(cuts: tuple[int, ...]) -> CalibrationData:
        cascade = compressed(model.cascade_, cuts, compression)
        return labeled.data(cascade, with_probabilities=point.needs_probabilities)

    plain = outputs(())
    last_accuracy = accuracy_at(plain, np.full(len(plain.weight), parts.n_exits - 1))
    names = [tier.name for tier in tiers]
    ranking = []
    for assignment in combinations_with_replacement(names, parts.n_exits):
        if tiers[0].n_devices > 1 and assignment.count(names[0]) > 1:
            continue  # views are merged behind the first exit
        plan = TierPlan(
            tiers,
            links,
            list(assignment),
            compression,
            answer_bytes=answer_bytes,
            links_back=links_back,
            local_link=local_link,
        )
        values = getattr(plan.by_exit(parts), TARGETS[minimize][0])
        data = replace(outputs(plan.cuts if compression else ()), costs=values)
        thresholds = np.empty(0)  # of a single exit
        if parts.n_exits > 1:
            thresholds = point.thresholds(data, compute_frontier(data))
        value, accuracy = data.evaluate(thresholds)
        ranking.append(RankedPlan(plan, thresholds, value, last_accuracy - accuracy))
    if not any(each.value for each in ranking):
        raise ValueError(
            f"minimize={minimize!r} is 0 for all assignments. Give the tiers and links what it is "
            "computed from, such as a price, or minimize something else."
        )
    # The order of equal ones is that of the tiers: as much as possible on the first.
    return PlanChoice(minimize, point, sorted(ranking, key=lambda each: (each.value, each.drop)))


def _requested(operating_point: OperatingPoint | None, model: Any) -> OperatingPoint:
    """Validated operating point, by default the loss of accuracy of the kind of model."""
    if operating_point is None:
        operating_point = DEFAULTS[model._task.estimator_type]
    if not isinstance(operating_point, OperatingPoint):
        raise TypeError(
            "'operating_point' must be an object such as AccuracyDrop(0.01). Got "
            f"{operating_point!r}."
        )
    operating_point._validate_params()
    model._task.check(operating_point)

    def refuse() -> float:
        raise ValueError(
            f"{operating_point.description} limits the cost of the network, and plans are chosen "
            "for the least latency or price at a given accuracy. Give an operating point such as "
            "AccuracyDrop(0.01)."
        )

    # It asks for the least cost only if it limits the cost.
    table = model.cost_table_
    operating_point.resolved(table.unit, table.plain).check_costs(refuse)
    return operating_point
