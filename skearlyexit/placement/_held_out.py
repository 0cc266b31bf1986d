"""The held-out rows of a probe, ready to be asked about many subsets of its places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from skearlyexit._exit_table import ExitTable, Outputs
from skearlyexit.calibration import CalibrationData
from skearlyexit.placement._base import Probed


@dataclass(frozen=True)
class HeldOut:
    """Rows of a probe, with what every subset has in common worked out once.

    Attributes
    ----------
    probed : Probed
        Rows of positive weight only; of its tables only what subsets are made from.
    correct : ndarray of shape (n_samples, n_places), bool
        Whether each place is right.
    """

    probed: Probed
    correct: np.ndarray

    @classmethod
    def of(cls, probed: Probed) -> HeldOut:
        """Held-out rows of a probe; those of weight 0 count for nothing."""
        samples = probed.samples
        used = CalibrationData.from_table(
            probed.table, samples.y, np.empty(0), samples.calibration_weight
        )
        if len(used.correct) < 2:
            raise ValueError(
                "Placing exits by what heads answer needs at least two held-out rows, one to "
                f"choose by and one to judge by. Got {len(used.correct)} instead; give more rows, "
                "or name the exits."
            )
        assert samples.calibration_weight is not None
        rows = np.flatnonzero(samples.calibration_weight > 0)
        # What nothing reads any more is dropped, since copying it for each subset takes long.
        table = ExitTable(probed.table.probabilities[:, :, :0], probed.table.scores)
        if not probed.exit_rule.has_memory:
            samples = replace(samples, X=Outputs(samples.X.probabilities[:, :, :0]))
        small = replace(probed, table=table, samples=samples)
        return cls(_with_rows(small, rows), used.correct)

    @property
    def n_places(self) -> int:
        """Number of places, the end included."""
        return len(self.probed.places)

    def halves(self) -> tuple[HeldOut, HeldOut]:
        """Every second row, or group of rows, to choose by, and the others to judge by."""
        order = np.arange(len(self.correct))
        groups = self.probed.samples.groups
        if groups is not None:
            order = np.unique(groups, return_inverse=True)[1]
        first, second = (self._rows(np.flatnonzero(order % 2 == half)) for half in (0, 1))
        return first, second

    def evidence(self, chosen: Sequence[int]) -> CalibrationData:
        """What thresholds depend on if exits stood at these places only, the end among them."""
        table, costs = self.probed.subset(chosen)
        correct = self.correct[:, list(chosen)]
        if self.probed.exit_rule.combination.has_memory:
            correct = table.labels == self.probed.samples.y[:, None]
        weight = self.probed.samples.calibration_weight
        assert weight is not None
        return CalibrationData(table.scores, correct, costs, weight)

    @property
    def stages(self) -> np.ndarray:
        """Cost of each stage in units of the plain network, shape (n_places,).

        The head of the end belongs to the last one, since the plain network runs it too.
        """
        stages = self.probed.stages.copy()
        stages[-1] += self.probed.heads[-1]
        return stages / self._unit

    @property
    def heads(self) -> np.ndarray:
        """What a row pays for an exit, head and decision, at all but the end; same units."""
        return (self.probed.heads[:-1] + self.probed.decisions[:-1]) / self._unit

    @property
    def _unit(self) -> float:
        """Cost of the plain network, which `exit_costs` divides by."""
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


def careful_thresholds(evidence: CalibrationData, max_drop: float) -> np.ndarray:
    """For each early exit alone, the lowest threshold that keeps the accuracy of the end.

    The rows whose score reaches a threshold would leave there. What that loses is the weight of
    those that are wrong there and right at the end, less that of those that are right there and
    wrong at the end, as a share of the weight of all rows.

    Returns
    -------
    thresholds : ndarray of shape (n_exits - 1,)
        Infinite where none loses at most `max_drop`.
    """
    thresholds = np.full(evidence.n_exits - 1, np.inf)
    right = evidence.correct.astype(np.float64)
    total = evidence.weight.sum()
    for exit_ in range(len(thresholds)):
        order = np.argsort(-evidence.scores[:, exit_], kind="stable")
        scores = evidence.scores[order, exit_]
        lost = evidence.weight[order] * (right[order, -1] - right[order, exit_])
        # Rows with equal scores leave together.
        is_last = np.append(scores[1:] < scores[:-1], True)
        allowed = np.flatnonzero(is_last & (np.cumsum(lost) / total <= max_drop + 1e-12))
        if len(allowed):
            everybody = allowed[-1] == len(scores) - 1
            thresholds[exit_] = 0.0 if everybody else scores[allowed[-1]]
    return thresholds


def reach(evidence: CalibrationData, thresholds: np.ndarray) -> np.ndarray:
    """Share of the rows that gets to each exit, shape (n_exits,)."""
    leaving = np.bincount(evidence.leave(thresholds), evidence.weight, evidence.n_exits)
    coming = leaving[::-1].cumsum(dtype=np.float64)[::-1]
    return np.asarray(coming / coming[0])
