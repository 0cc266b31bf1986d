"""Early-exit neural networks behind the scikit-learn interface."""

from skearlyexit._classifier import EarlyExitClassifier
from skearlyexit._table import ExitTable
from skearlyexit._version import __version__
from skearlyexit.backbones import (
    CNNBackbone,
    Conv1DBackbone,
    GraphConvBackbone,
    MLPBackbone,
    RecurrentBackbone,
    SequentialBackbone,
    TracedBackbone,
    TransformerBackbone,
    list_exits,
    pad_series,
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
    "Conv1DBackbone",
    "CostShare",
    "EarlyExitClassifier",
    "EfficiencyTest",
    "EntropyPolicy",
    "EstimatorHead",
    "ExactPlacement",
    "ExitTable",
    "FixedExits",
    "GivenCost",
    "GraphConvBackbone",
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
    "RecurrentBackbone",
    "RiskControl",
    "SecondsCost",
    "SeparateTraining",
    "SequentialBackbone",
    "Threshold",
    "TracedBackbone",
    "TransformerBackbone",
    "__version__",
    "list_exits",
    "pad_series",
]
