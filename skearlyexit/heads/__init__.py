"""Heads, which predict at the exits: torch modules and scikit-learn estimators."""

from skearlyexit.heads._base import FittedHead, Head, RegressionExit
from skearlyexit.heads._estimator import EstimatorHead
from skearlyexit.heads._linear import LinearHead
from skearlyexit.heads._mlp import MLPHead
from skearlyexit.heads._neural import NeuralHead
from skearlyexit.heads._pooling import GlobalAveragePooling, QuarterPooling

__all__ = [
    "EstimatorHead",
    "FittedHead",
    "GlobalAveragePooling",
    "Head",
    "LinearHead",
    "MLPHead",
    "NeuralHead",
    "QuarterPooling",
    "RegressionExit",
]
