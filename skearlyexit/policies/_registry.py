"""Names of policies for the `policy` parameter of the estimators."""

from __future__ import annotations

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
from skearlyexit.policies._scheduled import ScheduledPolicy

POLICIES: dict[str, type[Policy]] = {
    "confidence": ConfidencePolicy,
    "entropy": EntropyPolicy,
    "margin": MarginPolicy,
    "patience": PatiencePolicy,
    "gate": GatePolicy,
    "learned": LearnedConfidencePolicy,
    "cost_sensitive": CostSensitivePolicy,
    "scheduled": ScheduledPolicy,
}

#: Those for regression.
REGRESSION_POLICIES: dict[str, type[Policy]] = {
    "change": ChangePolicy,
    "patience": TolerancePolicy,
    "learned": LearnedErrorPolicy,
}
