"""Placements, which choose the exits among the candidates of a network."""

from skearlyexit.placement._adaptive import AdaptivePlacement
from skearlyexit.placement._base import Candidates, Placed, Placement, Probe, Probed
from skearlyexit.placement._cost_ratio import CostRatio
from skearlyexit.placement._cost_share import CostShare
from skearlyexit.placement._efficiency import EfficiencyTest
from skearlyexit.placement._exact import ExactPlacement
from skearlyexit.placement._fixed import FixedExits
from skearlyexit.placement._greedy import GreedyPlacement
from skearlyexit.placement._report import PlacementReport

__all__ = [
    "AdaptivePlacement",
    "Candidates",
    "CostRatio",
    "CostShare",
    "EfficiencyTest",
    "ExactPlacement",
    "FixedExits",
    "GreedyPlacement",
    "Placed",
    "Placement",
    "PlacementReport",
    "Probe",
    "Probed",
]
