"""The cost of each exit: counted, measured, or given by the user."""

from skearlyexit.costs._base import Cost
from skearlyexit.costs._bytes import BytesCost
from skearlyexit.costs._compose import exit_costs
from skearlyexit.costs._estimators import UncountedError, estimator_macs
from skearlyexit.costs._given import GivenCost
from skearlyexit.costs._links import Link
from skearlyexit.costs._macs import MACsCost
from skearlyexit.costs._parts import CostInput, CostMeasurement
from skearlyexit.costs._seconds import SecondsCost
from skearlyexit.costs._table import CostTable

__all__ = [
    "BytesCost",
    "Cost",
    "CostInput",
    "CostMeasurement",
    "CostTable",
    "GivenCost",
    "Link",
    "MACsCost",
    "SecondsCost",
    "UncountedError",
    "estimator_macs",
    "exit_costs",
]
