"""Conversion of the parameter `exits` of the estimators to a placement object."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from sklearn.base import clone

from skearlyexit.placement._base import Placement
from skearlyexit.placement._cost_ratio import CostRatio
from skearlyexit.placement._cost_share import CostShare
from skearlyexit.placement._fixed import FixedExits


def resolve_placement(exits: Any) -> Placement:
    """Placement for the parameter `exits`: "auto", a number, names or indices, or a placement."""
    if isinstance(exits, Placement):
        placement = clone(exits)
        placement._validate_params()
        return placement
    if isinstance(exits, str) and exits == "auto":
        return CostRatio()
    if isinstance(exits, Integral):
        exits = CostShare(int(exits))
        exits._validate_params()
        return exits
    try:
        names = list(exits)
    except TypeError:
        raise TypeError(
            "The 'exits' parameter must be 'auto', a number, a sequence of names or indices of "
            f"blocks, or a placement object, not its class. Got {exits!r} instead."
        ) from None
    return FixedExits(names)
