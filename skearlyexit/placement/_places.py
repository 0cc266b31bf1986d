"""Which places are worth a head on trial."""

from __future__ import annotations

import numpy as np

from skearlyexit.placement._base import Candidates


def places_to_probe(candidates: Candidates, max_candidates: int) -> list[int]:
    """At most `max_candidates` of the places where an exit may stand, the end among them.

    Of more, those are taken that are nearest above equal shares of the cost; where two shares are
    reached at the same place, the next one is taken instead, so that none of the number is lost.

    Returns
    -------
    places : list of int
        Ascending indices of blocks.

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
        # Rounding must not push a share that is reached exactly to the next place.
        first = np.searchsorted(cumulative, wanted * (1 - 1e-12), side="left")
        apart = np.maximum.accumulate(first - step) + step
        places = places[np.minimum(apart, len(places) - max_candidates + step)]
    return [int(place) for place in places]
