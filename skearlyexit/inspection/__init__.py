"""Displays of early-exit models, as those of scikit-learn."""

from skearlyexit.inspection._cost_accuracy import CostAccuracyDisplay
from skearlyexit.inspection._cost_error import CostErrorDisplay
from skearlyexit.inspection._embedding import EmbeddingDisplay
from skearlyexit.inspection._exit_distribution import ExitDistributionDisplay
from skearlyexit.inspection._extreme_samples import ExtremeSamplesDisplay
from skearlyexit.inspection._overthinking import OverthinkingDisplay
from skearlyexit.inspection._reliability import ReliabilityDisplay
from skearlyexit.inspection._runs import RunsDisplay
from skearlyexit.inspection._search import SearchDisplay

__all__ = [
    "CostAccuracyDisplay",
    "CostErrorDisplay",
    "EmbeddingDisplay",
    "ExitDistributionDisplay",
    "ExtremeSamplesDisplay",
    "OverthinkingDisplay",
    "ReliabilityDisplay",
    "RunsDisplay",
    "SearchDisplay",
]
