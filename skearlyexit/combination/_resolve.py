"""From what a user may pass as `combine` to a combination object."""

from __future__ import annotations

from sklearn.base import clone

from skearlyexit.combination._base import Combination
from skearlyexit.combination._cost_weighted import CostWeightedCombination
from skearlyexit.combination._geometric import GeometricCombination
from skearlyexit.combination._max import MaxCombination
from skearlyexit.combination._mean import MeanCombination
from skearlyexit.combination._most_confident import MostConfidentCombination
from skearlyexit.combination._own import OwnCombination
from skearlyexit.combination._product import ProductCombination

COMBINATIONS: dict[str, type[Combination]] = {
    "own": OwnCombination,
    "most_confident": MostConfidentCombination,
    "max": MaxCombination,
    "mean": MeanCombination,
    "cost_weighted": CostWeightedCombination,
    "geometric": GeometricCombination,
    "product": ProductCombination,
}


#: Asks for what training has learned to make of the heads.
TRAINED = "trained"


def resolve_combination(combine: str | Combination | None) -> Combination:
    """Combination object for a name or an object; None is the exit's own answer.

    So is ``"trained"``: what training has learned is applied to the heads' outputs before.
    """
    if combine is None or combine == TRAINED:
        return OwnCombination()
    if isinstance(combine, str):
        return COMBINATIONS[combine]()
    resolved: Combination = clone(combine)
    resolved._validate_params()
    return resolved
