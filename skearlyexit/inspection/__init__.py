"""How an early-exit model looks: displays in the manner of scikit-learn."""

from skearlyexit.inspection._cost_accuracy import CostAccuracyDisplay
from skearlyexit.inspection._exit_distribution import ExitDistributionDisplay

__all__ = ["CostAccuracyDisplay", "ExitDistributionDisplay"]
