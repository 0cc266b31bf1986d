"""Selection of the candidates at which heads are trained for a placement."""

from __future__ import annotations

import numpy as np

from skearlyexit.placement._base import Candidates


def places_to_probe(candidates: Candidates, max_candidates: int) -> list[int]:
    """Select at most `max_candidates` candidates, including the end of the network.

    If there are more, those are selected at which the cost first reaches equal shares of the total.
    If two shares are reached at the same candidate, the next one is selected, too, which keeps the
    number.

    Parameters
    ----------
    candidates : Candidates
    max_candidates : int

    Returns
    -------
    places : list of int
        Indices of blocks, in ascending order.

    Examples
    --------
    >>> places_to_probe(Candidates(list("abcdef"), np.array([1.0, 1, 1, 1, 10, 1])), 3)
    [3, 4, 5]
    """
    places = candidates.places
    if len(places) > max_candidates:
        cumulative = candidates.cumulative[places]
        step = np.arange(max_candidates)
        wanted = (step + 1) / max_candidates * cumulative[-1]
        # A share that is reached exactly must not be moved to the next candidate by rounding.
        first = np.searchsorted(cumulative, wanted * (1 - 1e-12), side="left")
        apart = np.maximum.accumulate(first - step) + step
        places = places[np.minimum(apart, len(places) - max_candidates + step)]
    return [int(place) for place in places]
