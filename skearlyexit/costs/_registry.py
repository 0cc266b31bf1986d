"""Names of the costs."""

from __future__ import annotations

from skearlyexit.costs._base import Cost
from skearlyexit.costs._bytes import BytesCost
from skearlyexit.costs._macs import MACsCost
from skearlyexit.costs._seconds import SecondsCost

COSTS: dict[str, type[Cost]] = {"bytes": BytesCost, "macs": MACsCost, "seconds": SecondsCost}
