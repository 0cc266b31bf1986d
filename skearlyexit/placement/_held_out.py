"""The held-out samples of trial heads, prepared to evaluate many subsets of their candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from skearlyexit._exit_table import ExitTable, Outputs
from skearlyexit.calibration import CalibrationData
from skearlyexit.placement._base import Probed


@dataclass(frozen=True)
class HeldOut:
    """Held-out samples of trial heads, with values that do not depend on the subset.

    Attributes
    ----------
    probed : Probed
        Outputs of the trial heads, with samples of positive weight only, and without the
        probabilities that no subset needs.
    correct : ndarray of shape (n_samples, n_candidates), bool
        Whether the prediction at each candidate is correct.
    """

    probed: Probed
    correct: np.ndarray

    @classmethod
    def of(cls, probed: Probed) -> HeldOut:
        """Held-out samples of trial heads, without those of weight 0."""
        samples = probed.samples
        used = CalibrationData.from_table(
            probed.table, samples.y, np.empty(0), samples.calibration_weight
        )
        if len(used.correct) < 2:
            raise ValueError(
                "Placing exits by the outputs of heads needs at least two held-out samples, one "
                f"to choose by and one to evaluate on. Got {len(used.correct)} instead; give more "
                "samples, or name the exits."
            )
        assert samples.calibration_weight is not None
        rows = np.flatnonzero(samples.calibration_weight > 0)
        # Unused probabilities are dropped, since copying them for each subset takes long.
        table = ExitTable(probed.table.probabilities[:, :, :0], probed.table.scores)
        if not probed.exit_rule.has_memory:
            samples = replace(samples, X=Outputs(samples.X.probabilities[:, :, :0]))
        small = replace(probed, table=table, samples=samples)
        return cls(_with_rows(small, rows), used.correct)

    @property
    def n_places(self) -> int:
        """Number of candidates, including the end of the network."""
        return len(self.probed.places)

    def halves(self) -> tuple[HeldOut, HeldOut]:
        """Every second sample, or group of samples, to choose by, and the others to evaluate on."""
        order = np.arange(len(self.correct))
        groups = self.probed.samples.groups
        if groups is not None:
            order = np.unique(groups, return_inverse=True)[1]
        first, second = (self._rows(np.flatnonzero(order % 2 == half)) for half in (0, 1))
        return first, second

    def calibration_data(self, chosen: Sequence[int]) -> CalibrationData:
        """Calibration data with exits at these candidates only, which include the end."""
        table, costs = self.probed.subset(chosen)
        correct = self.correct[:, list(chosen)]
        if self.probed.exit_rule.combination.has_memory:
            correct = table.labels == self.probed.samples.y[:, None]
        weight = self.probed.samples.calibration_weight
        assert weight is not None
        return CalibrationData(table.scores, correct, costs, weight)

    @property
    def stages(self) -> np.ndarray:
        """Cost of each stage in units of the plain network, shape (n_candidates,).

        The last one includes the head at the end, which the plain network runs, too.
        """
        stages = self.probed.stages.copy()
        stages[-1] += self.probed.heads[-1]
        return stages / self._unit

    @property
    def heads(self) -> np.ndarray:
        """Cost of the head and the decision at each candidate but the end, in the same units."""
        return (self.probed.heads[:-1] + self.probed.decisions[:-1]) / self._unit

    @property
    def _unit(self) -> float:
        """Cost of the plain network, by which `exit_costs` divides."""
        plain = float(self.probed.stages.sum() + self.probed.heads[-1])
        return plain if plain > 0 else 1.0

    def _rows(self, rows: np.ndarray) -> HeldOut:
        return HeldOut(_with_rows(self.probed, rows), self.correct[rows])


def _with_rows(probed: Probed, rows: np.ndarray) -> Probed:
    return replace(
        probed,
        samples=probed.samples.take(rows),
        table=ExitTable(probed.table.probabilities[rows], probed.table.scores[rows]),
    )


def careful_thresholds(data: CalibrationData, max_drop: float) -> np.ndarray:
    """Lowest threshold of each early exit, considered alone, that keeps the accuracy.

    The samples whose score reaches the threshold exit. The loss of accuracy is the weight of those
    that are wrong there and correct at the end, minus the weight of those that are correct there
    and wrong at the end, as a share of the weight of all samples.

    Parameters
    ----------
    data : CalibrationData
    max_drop : float
        Largest loss of accuracy.

    Returns
    -------
    thresholds : ndarray of shape (n_exits - 1,)
        Infinity for exits at which every threshold exceeds this loss.
    """
    thresholds = np.full(data.n_exits - 1, np.inf)
    right = data.correct.astype(np.float64)
    total = data.weight.sum()
    for exit_ in range(len(thresholds)):
        order = np.argsort(-data.scores[:, exit_], kind="stable")
        scores = data.scores[order, exit_]
        lost = data.weight[order] * (right[order, -1] - right[order, exit_])
        # Samples with equal scores exit together.
        is_last = np.append(scores[1:] < scores[:-1], True)
        allowed = np.flatnonzero(is_last & (np.cumsum(lost) / total <= max_drop + 1e-12))
        if len(allowed):
            everybody = allowed[-1] == len(scores) - 1
            thresholds[exit_] = 0.0 if everybody else scores[allowed[-1]]
    return thresholds


def reach(data: CalibrationData, thresholds: np.ndarray) -> np.ndarray:
    """Share of the samples that reach each exit, shape (n_exits,)."""
    leaving = np.bincount(data.exits(thresholds), data.weight, data.n_exits)
    coming = leaving[::-1].cumsum(dtype=np.float64)[::-1]
    return np.asarray(coming / coming[0])
