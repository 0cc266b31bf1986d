"""Where the exits stand."""

from skearlyexit.placement._base import Candidates, Placement
from skearlyexit.placement._cost_share import CostShare
from skearlyexit.placement._fixed import FixedExits
from skearlyexit.placement._resolve import resolve_placement

__all__ = ["Candidates", "CostShare", "FixedExits", "Placement", "resolve_placement"]
