"""Cumulative costs of exits, from the costs of stages, heads and decisions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


def exit_costs(stages: ArrayLike, heads: ArrayLike, decisions: ArrayLike = 0.0) -> np.ndarray:
    """Compute the cumulative cost of each exit, in units of the cost of the plain network.

    The cost of exit i is the sum of the costs of all stages, heads and decisions up to i. The plain
    network is the network with its last head and no other exit. The last exit costs more than 1 if
    earlier heads have a cost.

    Parameters
    ----------
    stages, heads : array-like of shape (n_exits,)
        Cost per sample of each stage alone and of each head alone, in the same unit.
    decisions : float or array-like of shape (n_exits,), default=0.0
        Cost per sample of the decision at each exit: the computation from the outputs of the heads
        to a prediction and its score. At the last exit only the combination and the temperature are
        computed, and by default nothing. A number applies to every exit but the last.

    Returns
    -------
    costs : ndarray of shape (n_exits,)
        Cumulative costs, in ascending order.

    Examples
    --------
    >>> exit_costs([40.0, 50.0], [10.0, 10.0])
    array([0.5, 1.1])
    """
    stages = np.asarray(stages, dtype=np.float64)
    heads = np.asarray(heads, dtype=np.float64)
    decided = np.asarray(decisions, dtype=np.float64)
    if not decided.ndim:
        decided = np.append(np.full(len(stages) - 1, decided), 0.0)
    plain = stages.sum() + heads[-1]
    return np.cumsum(stages + heads + decided) / (plain if plain > 0 else 1.0)


@dataclass(frozen=True)
class RoutedCosts:
    """Costs of the exits, and what a sample saves that skips some of them.

    Attributes
    ----------
    cumulative : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each exit if none is skipped; see `exit_costs`.
    savings : ndarray of shape (n_exits,)
        Cost of the head and the decision of each exit, which a sample that skips the exit saves.
    """

    cumulative: np.ndarray
    savings: np.ndarray

    @classmethod
    def of(cls, stages: np.ndarray, heads: np.ndarray, decisions: np.ndarray) -> RoutedCosts:
        """Make it from the costs of all parts, arrays of shape (n_exits,) in the same unit."""
        plain = float(stages.sum() + heads[-1])
        savings = (heads + decisions) / (plain if plain > 0 else 1.0)
        return cls(exit_costs(stages, heads, decisions), savings)
