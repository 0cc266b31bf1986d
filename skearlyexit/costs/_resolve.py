"""From what a user may pass as `cost` to a cost object."""

from __future__ import annotations

from sklearn.base import clone

from skearlyexit.costs._base import Cost
from skearlyexit.costs._bytes import BytesCost
from skearlyexit.costs._macs import MACsCost
from skearlyexit.costs._seconds import SecondsCost

COSTS: dict[str, type[Cost]] = {"bytes": BytesCost, "macs": MACsCost, "seconds": SecondsCost}


def resolve_cost(cost: str | Cost) -> Cost:
    """Cost for a name or a cost object, which is copied."""
    resolved = COSTS[cost]() if isinstance(cost, str) else clone(cost)
    resolved._validate_params()
    return resolved
