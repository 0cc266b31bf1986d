"""Early-exit neural networks behind the scikit-learn interface."""

from skearlyexit._classifier import EarlyExitClassifier
from skearlyexit._table import ExitTable
from skearlyexit._version import __version__
from skearlyexit.backbones import (
    CNNBackbone,
    MLPBackbone,
    SequentialBackbone,
    TracedBackbone,
    list_exits,
)
from skearlyexit.calibration import AccuracyDrop, Budget, RiskControl, Threshold
from skearlyexit.costs import BytesCost, GivenCost, Link, MACsCost, SecondsCost
from skearlyexit.heads import EstimatorHead, LinearHead, MLPHead
from skearlyexit.placement import (
    AdaptivePlacement,
    CostShare,
    EfficiencyTest,
    ExactPlacement,
    FixedExits,
    GreedyPlacement,
)
from skearlyexit.policies import ConfidencePolicy, EntropyPolicy, MarginPolicy, PatiencePolicy
from skearlyexit.training import JointTraining, MixedTraining, SeparateTraining

__all__ = [
    "AccuracyDrop",
    "AdaptivePlacement",
    "Budget",
    "BytesCost",
    "CNNBackbone",
    "ConfidencePolicy",
    "CostShare",
    "EarlyExitClassifier",
    "EfficiencyTest",
    "EntropyPolicy",
    "EstimatorHead",
    "ExactPlacement",
    "ExitTable",
    "FixedExits",
    "GivenCost",
    "GreedyPlacement",
    "JointTraining",
    "LinearHead",
    "Link",
    "MACsCost",
    "MLPBackbone",
    "MLPHead",
    "MarginPolicy",
    "MixedTraining",
    "PatiencePolicy",
    "RiskControl",
    "SecondsCost",
    "SeparateTraining",
    "SequentialBackbone",
    "Threshold",
    "TracedBackbone",
    "__version__",
    "list_exits",
]
