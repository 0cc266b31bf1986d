"""Stage, head and policy costs put together."""

from __future__ import annotations

import numpy as np


def exit_costs(
    stage_macs: np.ndarray, head_macs: np.ndarray, policy_macs: float = 0.0
) -> np.ndarray:
    """Cumulative cost of leaving at each exit, in units of the plain backbone.

    A row that leaves at exit i has paid every stage and every head up to i, and the policy at
    every exit but the last, where nothing is left to decide. The unit is the backbone with its
    last head and no other exit, so the last exit costs a little more than 1.

    Parameters
    ----------
    stage_macs, head_macs : array-like of shape (n_exits,)
        Multiply-accumulates per row of each stage alone and of each head alone.
    policy_macs : float, default=0.0
        Operations per row of one decision.

    Returns
    -------
    costs : ndarray of shape (n_exits,)
        Increasing; ``costs[0]`` is the least that a row can cost.

    Examples
    --------
    >>> exit_costs([40.0, 50.0], [10.0, 10.0])
    array([0.5, 1.1])
    """
    stages = np.asarray(stage_macs, dtype=np.float64)
    heads = np.asarray(head_macs, dtype=np.float64)
    decisions = np.full(len(stages), float(policy_macs))
    decisions[-1] = 0.0
    plain = stages.sum() + heads[-1]
    return np.cumsum(stages + heads + decisions) / max(plain, 1.0)
