"""Combinations, which compute predicted probabilities from the heads up to an exit."""

from skearlyexit.combination._base import Combination
from skearlyexit.combination._cost_weighted import CostWeightedCombination
from skearlyexit.combination._geometric import GeometricCombination
from skearlyexit.combination._max import MaxCombination
from skearlyexit.combination._mean import MeanCombination
from skearlyexit.combination._most_confident import MostConfidentCombination
from skearlyexit.combination._own import OwnCombination
from skearlyexit.combination._product import ProductCombination
from skearlyexit.combination._temperature import TemperatureScaling
from skearlyexit.combination._trained import TrainedCombination
from skearlyexit.combination._weighted import WeightedCombination

__all__ = [
    "Combination",
    "CostWeightedCombination",
    "GeometricCombination",
    "MaxCombination",
    "MeanCombination",
    "MostConfidentCombination",
    "OwnCombination",
    "ProductCombination",
    "TemperatureScaling",
    "TrainedCombination",
    "WeightedCombination",
]
