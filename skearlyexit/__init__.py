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
from skearlyexit.calibration import (
    AccuracyDrop,
    Budget,
    ConformalRiskControl,
    RiskControl,
    TargetAccuracy,
    Threshold,
)
from skearlyexit.combination import (
    CostWeightedCombination,
    GeometricCombination,
    MeanCombination,
    OwnCombination,
    ProductCombination,
    SurestCombination,
)
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
from skearlyexit.policies import (
    ConfidencePolicy,
    CostSensitivePolicy,
    EntropyPolicy,
    LearnedConfidencePolicy,
    MarginPolicy,
    PatiencePolicy,
    ScheduledPolicy,
)
from skearlyexit.training import (
    DistillationTraining,
    JointTraining,
    MixedTraining,
    SeparateTraining,
)

__all__ = [
    "AccuracyDrop",
    "AdaptivePlacement",
    "Budget",
    "BytesCost",
    "CNNBackbone",
    "ConfidencePolicy",
    "ConformalRiskControl",
    "Conv1DBackbone",
    "CostSensitivePolicy",
    "CostShare",
    "CostWeightedCombination",
    "DistillationTraining",
    "EarlyExitClassifier",
    "EfficiencyTest",
    "EntropyPolicy",
    "EstimatorHead",
    "ExactPlacement",
    "ExitTable",
    "FixedExits",
    "GeometricCombination",
    "GivenCost",
    "GraphConvBackbone",
    "GreedyPlacement",
    "JointTraining",
    "LearnedConfidencePolicy",
    "LinearHead",
    "Link",
    "MACsCost",
    "MLPBackbone",
    "MLPHead",
    "MarginPolicy",
    "MeanCombination",
    "MixedTraining",
    "OwnCombination",
    "PatiencePolicy",
    "ProductCombination",
    "RecurrentBackbone",
    "RiskControl",
    "ScheduledPolicy",
    "SecondsCost",
    "SeparateTraining",
    "SequentialBackbone",
    "SurestCombination",
    "TargetAccuracy",
    "Threshold",
    "TracedBackbone",
    "TransformerBackbone",
    "__version__",
    "list_exits",
    "pad_series",
]
