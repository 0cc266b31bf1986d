"""From what a user may pass as `combine` to a combination object."""

from __future__ import annotations

from sklearn.base import clone

from skearlyexit.combination._base import Combination
from skearlyexit.combination._cost_weighted import CostWeightedCombination
from skearlyexit.combination._geometric import GeometricCombination
from skearlyexit.combination._mean import MeanCombination
from skearlyexit.combination._own import OwnCombination
from skearlyexit.combination._product import ProductCombination
from skearlyexit.combination._surest import SurestCombination

COMBINATIONS: dict[str, type[Combination]] = {
    "own": OwnCombination,
    "surest": SurestCombination,
    "mean": MeanCombination,
    "cost_weighted": CostWeightedCombination,
    "geometric": GeometricCombination,
    "product": ProductCombination,
}


def resolve_combination(combine: str | Combination | None) -> Combination:
    """Combination object for a name or an object; None is the exit's own answer."""
    if combine is None:
        return OwnCombination()
    if isinstance(combine, str):
        return COMBINATIONS[combine]()
    resolved: Combination = clone(combine)
    resolved._validate_params()
    return resolved
