"""Policies, which compute a score in [0, 1] from the outputs of the exits reached so far."""

from skearlyexit.policies._base import Policy
from skearlyexit.policies._change import ChangePolicy, TolerancePolicy
from skearlyexit.policies._confidence import ConfidencePolicy
from skearlyexit.policies._cost_sensitive import CostSensitivePolicy
from skearlyexit.policies._entropy import EntropyPolicy
from skearlyexit.policies._gate import GatePolicy
from skearlyexit.policies._learned_confidence import LearnedConfidencePolicy
from skearlyexit.policies._learned_error import LearnedErrorPolicy
from skearlyexit.policies._margin import MarginPolicy
from skearlyexit.policies._patience import PatiencePolicy
from skearlyexit.policies._regression import RegressionPolicy
from skearlyexit.policies._scheduled import ScheduledPolicy

__all__ = [
    "ChangePolicy",
    "ConfidencePolicy",
    "CostSensitivePolicy",
    "EntropyPolicy",
    "GatePolicy",
    "LearnedConfidencePolicy",
    "LearnedErrorPolicy",
    "MarginPolicy",
    "PatiencePolicy",
    "Policy",
    "RegressionPolicy",
    "ScheduledPolicy",
    "TolerancePolicy",
]
