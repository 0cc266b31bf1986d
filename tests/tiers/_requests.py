"""Requests that are run through a plan, whose exits and arrivals are given."""

import numpy as np

from skearlyexit.tiers._simulation import Faults, simulated
from tests.tiers._models import PARTS


def run(plan, exits, arrivals, parts=PARTS, loss=0.0, n_retries=0, outages=None, gains=None):
    """The simulation, one sample for each request; all answers are correct unless given."""
    exits = np.asarray(exits)
    return simulated(
        plan,
        parts,
        exits,
        np.arange(len(exits)),
        np.asarray(arrivals, dtype=float),
        Faults.of(plan, loss, n_retries, outages),
        np.ones((len(exits), parts.n_exits)) if gains is None else gains,
        np.random.RandomState(0),
    )
