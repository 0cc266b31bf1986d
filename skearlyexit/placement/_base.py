"""Base class of placements, and their input and output."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._exit_table import ExitTable
from skearlyexit.costs import exit_costs
from skearlyexit.placement._report import PlacementReport


@dataclass(frozen=True)
class Candidates:
    """Candidates for exits of a network.

    A candidate is a position at which an exit can be placed. There is one after each block of the
    backbone.

    Parameters
    ----------
    names : list of str
        Names of the blocks.
    costs : ndarray of shape (n_blocks,)
        Cost per sample of each block alone, including transfers between machines.
    aliases : dict of str to int, default={}
        Alternative names of blocks, with the index of the block that each refers to.
    natural : list of bool or None, default=None
        Whether an automatic placement may place an exit after each block. None allows an exit after
        every block.
    obstacles : dict of str to str, default={}
        Names of modules after which no exit can be placed, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.placement import Candidates
    >>> candidates = Candidates(["stem", "relu", "block"], np.array([40.0, 0.0, 60.0]))
    >>> candidates.cumulative
    array([ 40.,  40., 100.])
    >>> candidates.places  # without the first block, since the second adds no cost
    array([1, 2])
    """

    names: list[str]
    costs: np.ndarray
    aliases: dict[str, int] = field(default_factory=dict)
    natural: list[bool] | None = None
    obstacles: dict[str, str] = field(default_factory=dict)

    @property
    def cumulative(self) -> np.ndarray:
        """Cost from the input to the end of each block, shape (n_blocks,)."""
        return np.cumsum(self.costs)

    @property
    def places(self) -> np.ndarray:
        """Indices of the blocks among which an automatic placement chooses, in ascending order.

        They are those for which `natural` is True. If blocks without a cost follow a block, the
        last of them replaces it. The last block of the network is always included.
        """
        end = len(self.names) - 1
        natural = np.arange(end + 1) if self.natural is None else np.flatnonzero(self.natural)
        natural = np.union1d(natural, [end])
        cost = self.cumulative[natural]
        return natural[np.append(cost[1:] > cost[:-1], True)]


@dataclass(frozen=True)
class Probed:
    """Outputs and costs of heads at several candidates, for held-out samples.

    A `Probe` returns it. The backbone is trained alone, and then a head at each candidate.

    Attributes
    ----------
    places : ndarray of shape (n_candidates,)
        Indices of the blocks after which there are heads, in ascending order. The last one is the
        last block of the network.
    samples : Samples
        Held-out samples: `y`, indices of the sorted labels; `calibration_weight`; `groups` or
        None; and `X`, the outputs of the heads, with `probabilities` of shape (n_samples,
        n_candidates, n_classes).
    table : ExitTable
        Predictions and scores with exits at all of these candidates.
    stages : ndarray of shape (n_candidates,)
        Cost per sample from the previous candidate to each one, without heads.
    heads : ndarray of shape (n_candidates,)
        Cost per sample of each head alone.
    decisions : ndarray of shape (n_candidates,)
        Cost per sample of the decision at each candidate: the computation from the outputs of the
        heads to a prediction and its score.
    exit_rule : ExitRule
        Computes predictions and scores from the outputs of the heads.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, FixedExits, MLPBackbone
    >>> from skearlyexit.placement import Placement
    >>> class Asking(Placement):  # trial heads at three candidates; prints shapes of the result
    ...     needs_probe = True
    ...     def place(self, candidates, probe=None):
    ...         probed = probe([0, 1, 2])
    ...         print(probed.places, len(probed.samples), probed.correct.shape)
    ...         return FixedExits([0]).place(candidates)
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=Asking(), calibration=None, max_epochs=1,
    ...     random_state=0).fit(X, y)
    [0 1 2] 40 (40, 3)
    """

    places: np.ndarray
    samples: Samples
    table: ExitTable
    stages: np.ndarray
    heads: np.ndarray
    decisions: np.ndarray
    exit_rule: ExitRule

    @property
    def correct(self) -> np.ndarray:
        """Whether the prediction at each candidate is correct, shape (n_samples, n_candidates)."""
        return np.asarray(self.table.labels == self.samples.y[:, None])

    def subset(self, chosen: Sequence[int]) -> tuple[ExitTable, np.ndarray]:
        """Compute the exit table and the costs with exits at some of the candidates only.

        Parameters
        ----------
        chosen : sequence of int
            Positions in `places`, in ascending order, including the last one.

        Returns
        -------
        table : ExitTable
            Predictions and scores with these exits.
        costs : ndarray of shape (n_chosen,)
            Cumulative costs of these exits; see `skearlyexit.costs.exit_costs`.
        """
        chosen = list(chosen)
        table = ExitTable(self.table.probabilities[:, chosen], self.table.scores[:, chosen])
        if self.exit_rule.has_memory:
            table = self.exit_rule.tabulate(self.samples.X.select(chosen), chosen)
        stages = np.diff(np.cumsum(self.stages)[chosen], prepend=0.0)
        costs = exit_costs(stages, self.heads[chosen], self.decisions[chosen])
        return table, costs


#: Function that trains trial heads after some blocks and evaluates them on held-out samples. It is
#: called with the indices of the blocks in ascending order, including the last block.
Probe = Callable[[Sequence[int]], Probed]


@dataclass(frozen=True)
class Placed:
    """Result of a placement.

    Parameters
    ----------
    ends : list of int
        Indices of the blocks after which exits are placed, in ascending order, including the last
        block.
    report : PlacementReport
        Reasons for and against each candidate.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.placement import Candidates, CostShare
    >>> placed = CostShare(2).place(Candidates(["stem", "a", "b", "c"], np.ones(4)))
    >>> placed.ends, placed.report.chosen
    ([1, 3], array([False,  True, False,  True]))
    """

    ends: list[int]
    report: PlacementReport


def placed_at(
    kept: Sequence[int],
    places: Sequence[int] | np.ndarray,
    candidates: Candidates,
    method: str,
    reasons: list[str],
    figures: dict[str, np.ndarray] | None = None,
) -> Placed:
    """Result of a placement that has chosen among some candidates.

    Parameters
    ----------
    kept : sequence of int
        Positions in `places` of the exits, in ascending order, including the last one.
    places : sequence of int
        Indices of the blocks among which it has chosen, in ascending order, including the last
        block.
    candidates : Candidates
        All candidates.
    method, reasons, figures
        As in `PlacementReport`, for the blocks of `places`.
    """
    places = np.asarray(places)
    cumulative = candidates.cumulative
    report = PlacementReport(
        method,
        [candidates.names[i] for i in places],
        cumulative[places] / max(cumulative[-1], 1e-300),
        np.isin(np.arange(len(places)), list(kept)),
        reasons,
        figures or {},
    )
    return Placed(places[list(kept)].tolist(), report)


class Placement(BaseEstimator, metaclass=ABCMeta):
    """Base class of placements, which choose the exits among the candidates.

    A subclass must define `place`.

    Attributes
    ----------
    needs_probe : bool, default=False
        Whether `place` needs the outputs of heads at some candidates. Samples are then held out for
        this purpose.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.placement import Placed, Placement, PlacementReport
    >>> class EverySecond(Placement):
    ...     def place(self, candidates, probe=None):
    ...         ends = candidates.places[::-2][::-1].tolist()
    ...         report = PlacementReport(
    ...             "EverySecond()", [candidates.names[i] for i in ends],
    ...             candidates.cumulative[ends] / candidates.cumulative[-1],
    ...             np.ones(len(ends), dtype=bool), ["every second one"] * len(ends))
    ...         return Placed(ends, report)
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(4, width=16, hidden=16), exits=EverySecond(), calibration=None,
    ...     max_epochs=1, random_state=0)
    >>> clf.fit(X, y).exit_names_
    ['stem', 'block2', 'block4']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}
    needs_probe: ClassVar[bool] = False

    def obstacle_to_classification(self) -> str:
        """Return the reason why classification is not supported.

        The default implementation returns an empty string.

        Returns
        -------
        reason : str
            Reason in words. Empty if classification is supported.
        """
        return ""

    def obstacle_to_regression(self) -> str:
        """Return the reason why regression is not supported.

        The default implementation returns an empty string, unless `needs_probe` is True.

        Returns
        -------
        reason : str
            Reason in words. Empty if regression is supported.
        """
        return "it compares accuracies; give exits by number or name" if self.needs_probe else ""

    @abstractmethod
    def place(self, candidates: Candidates, probe: Probe | None = None) -> Placed:
        """Choose the exits.

        Parameters
        ----------
        candidates : Candidates
            Candidates for exits.
        probe : callable or None, default=None
            Function ``probe(places)`` that trains trial heads after the blocks with these indices,
            and returns their outputs as a `Probed`. It is given if `needs_probe` is True.

        Returns
        -------
        placed : Placed
            The chosen exits, and a report.

        Raises
        ------
        ValueError
            If the parameters of the placement do not fit the candidates.
        """
