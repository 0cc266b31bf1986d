"""What a placement is, and what it may look at."""

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
    """The places where an exit may stand: after each block of the backbone.

    Attributes
    ----------
    names : list of str
        Names of the blocks.
    costs : ndarray of shape (n_blocks,)
        Cost per row of each block alone, links to other machines included.
    aliases : dict of str to int
        Further names of blocks, by index.
    natural : list of bool or None
        For each block, whether an exit may stand there that was not asked for by name; None: after
        every block.
    obstacles : dict of str to str
        Names after which no exit can stand, and why.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.placement import Candidates
    >>> candidates = Candidates(["stem", "relu", "block"], np.array([40.0, 0.0, 60.0]))
    >>> candidates.cumulative
    array([ 40.,  40., 100.])
    >>> candidates.places  # of those reached at the same cost, the last
    array([1, 2])
    """

    names: list[str]
    costs: np.ndarray
    aliases: dict[str, int] = field(default_factory=dict)
    natural: list[bool] | None = None
    obstacles: dict[str, str] = field(default_factory=dict)

    @property
    def cumulative(self) -> np.ndarray:
        """Cost of the network up to and with each block, shape (n_blocks,)."""
        return np.cumsum(self.costs)

    @property
    def places(self) -> np.ndarray:
        """Ascending indices of the blocks among which an automatic placement chooses.

        The natural ones, and of several that are reached at the same cost the last, since what
        follows an exit for free belongs before it. The end of the network is the last.
        """
        end = len(self.names) - 1
        natural = np.arange(end + 1) if self.natural is None else np.flatnonzero(self.natural)
        natural = np.union1d(natural, [end])
        cost = self.cumulative[natural]
        return natural[np.append(cost[1:] > cost[:-1], True)]


@dataclass(frozen=True)
class Probed:
    """Heads at many places of one frozen network, judged on rows that none of it was fitted on.

    Attributes
    ----------
    places : ndarray of shape (n_places,)
        Ascending indices of blocks; the last is the end of the network.
    samples : Samples
        Held-out samples, with the outputs of the head at each place; their classes, groups and
        weights in calibration.
    table : ExitTable
        What is answered at each place if there are exits at all of them.
    stages : ndarray of shape (n_places,)
        Cost per row from each place's predecessor to it, heads not counted.
    heads : ndarray of shape (n_places,)
        Cost per row of each head alone.
    decisions : ndarray of shape (n_places,)
        Cost per row of what is made of each head's output.
    exit_rule : ExitRule
        What makes answers and scores of the heads' outputs.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, FixedExits, MLPBackbone
    >>> from skearlyexit.placement import Placement
    >>> class Asking(Placement):  # asks three places, and prints what it is told
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
        """Whether each place is right, shape (n_samples, n_places)."""
        return np.asarray(self.table.labels == self.samples.y[:, None])

    def subset(self, chosen: Sequence[int]) -> tuple[ExitTable, np.ndarray]:
        """Exit table and cumulative costs if exits stood at some of the places only.

        Parameters
        ----------
        chosen : sequence of int
            Ascending positions in `places`, the last one included.

        Returns
        -------
        table : ExitTable
            With the answers and scores that come of these exits only.
        costs : ndarray of shape (n_chosen,)
            As `skearlyexit.costs.exit_costs` gives them.
        """
        chosen = list(chosen)
        table = ExitTable(self.table.probabilities[:, chosen], self.table.scores[:, chosen])
        if self.exit_rule.has_memory:
            table = self.exit_rule.tabulate(self.samples.X.exits(chosen), chosen)
        stages = np.diff(np.cumsum(self.stages)[chosen], prepend=0.0)
        costs = exit_costs(stages, self.heads[chosen], self.decisions[chosen])
        return table, costs


#: Called with ascending indices of blocks, the last block among them.
Probe = Callable[[Sequence[int]], Probed]


@dataclass(frozen=True)
class Placed:
    """Where the exits are to stand.

    Attributes
    ----------
    ends : list of int
        Ascending indices of the blocks after which an exit stands, the last block among them.
    report : PlacementReport
        What spoke for and against each candidate.

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


class Placement(BaseEstimator, metaclass=ABCMeta):
    """Rule that chooses the exits.

    Attributes
    ----------
    needs_probe : bool
        Whether it asks what heads at some places would answer. Rows are then held out for that.

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
    ...             np.ones(len(ends), dtype=bool), ["every second place"] * len(ends))
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

    @abstractmethod
    def place(self, candidates: Candidates, probe: Probe | None = None) -> Placed:
        """Choose the exits.

        Parameters
        ----------
        candidates : Candidates
        probe : callable or None, default=None
            ``probe(places)`` trains heads there and returns `Probed`; given if `needs_probe`.

        Returns
        -------
        placed : Placed
        """
