"""Costs of stages, heads and decisions put together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def exit_costs(stages: ArrayLike, heads: ArrayLike, decisions: ArrayLike = 0.0) -> np.ndarray:
    """Cumulative cost of leaving at each exit, in units of the plain backbone.

    A row that leaves at exit i has paid every stage, every head and every decision up to i. The
    unit is the backbone with its last head and no other exit, so the last exit costs a little more
    than 1.

    Parameters
    ----------
    stages, heads : array-like of shape (n_exits,)
        Cost per row of each stage alone and of each head alone, in any unit.
    decisions : float or array-like of shape (n_exits,), default=0.0
        Cost per row of what is made of the head's output at each exit, the answer and whether to
        leave. A number is that of every exit but the last, where nothing is left to decide.

    Returns
    -------
    costs : ndarray of shape (n_exits,)
        Increasing; ``costs[0]`` is the least that a row can cost.

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
