"""Early-exit neural networks behind the scikit-learn interface."""

from skearlyexit._classifier import EarlyExitClassifier
from skearlyexit._table import ExitTable
from skearlyexit._version import __version__
from skearlyexit.backbones import CNNBackbone, MLPBackbone, SequentialBackbone
from skearlyexit.calibration import AccuracyDrop, Budget, RiskControl, Threshold
from skearlyexit.heads import EstimatorHead, LinearHead, MLPHead
from skearlyexit.placement import CostShare, FixedExits
from skearlyexit.policies import ConfidencePolicy, EntropyPolicy, MarginPolicy, PatiencePolicy
from skearlyexit.training import JointTraining, MixedTraining, SeparateTraining

__all__ = [
    "AccuracyDrop",
    "Budget",
    "CNNBackbone",
    "ConfidencePolicy",
    "CostShare",
    "EarlyExitClassifier",
    "EntropyPolicy",
    "EstimatorHead",
    "ExitTable",
    "FixedExits",
    "JointTraining",
    "LinearHead",
    "MLPBackbone",
    "MLPHead",
    "MarginPolicy",
    "MixedTraining",
    "PatiencePolicy",
    "RiskControl",
    "SeparateTraining",
    "SequentialBackbone",
    "Threshold",
    "__version__",
]
