"""Models whose exits are on several machines: latency, bytes, energy and price."""

from skearlyexit.tiers._choice import PlanChoice, RankedPlan, choose_plan
from skearlyexit.tiers._parts import ModelParts, ViewParts
from skearlyexit.tiers._plan import TierPlan
from skearlyexit.tiers._report import TierReport
from skearlyexit.tiers._simulation import TierSimulation
from skearlyexit.tiers._tier import Tier

__all__ = [
    "ModelParts",
    "PlanChoice",
    "RankedPlan",
    "Tier",
    "TierPlan",
    "TierReport",
    "TierSimulation",
    "ViewParts",
    "choose_plan",
]
