"""Names of combinations for the `combine` parameter of the estimators."""

from __future__ import annotations

from skearlyexit.combination._base import Combination
from skearlyexit.combination._cost_weighted import CostWeightedCombination
from skearlyexit.combination._geometric import GeometricCombination
from skearlyexit.combination._max import MaxCombination
from skearlyexit.combination._mean import MeanCombination
from skearlyexit.combination._most_confident import MostConfidentCombination
from skearlyexit.combination._own import OwnCombination
from skearlyexit.combination._product import ProductCombination
from skearlyexit.combination._trained import TrainedCombination

#: The combination that the training learns, if it learns one.
DEFAULT = TrainedCombination(required=False)

COMBINATIONS: dict[str, type[Combination]] = {
    "own": OwnCombination,
    "most_confident": MostConfidentCombination,
    "max": MaxCombination,
    "mean": MeanCombination,
    "cost_weighted": CostWeightedCombination,
    "geometric": GeometricCombination,
    "product": ProductCombination,
    "trained": TrainedCombination,
}
