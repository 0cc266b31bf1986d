"""From what a user may pass as `policy` to a policy object."""

from __future__ import annotations

from sklearn.base import clone

from skearlyexit.policies._base import Policy
from skearlyexit.policies._confidence import ConfidencePolicy
from skearlyexit.policies._cost_sensitive import CostSensitivePolicy
from skearlyexit.policies._entropy import EntropyPolicy
from skearlyexit.policies._gate import GatePolicy
from skearlyexit.policies._learned_confidence import LearnedConfidencePolicy
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


def resolve_policy(policy: str | Policy | None) -> Policy:
    """Policy object for a name or an object; None is confidence."""
    if policy is None:
        return ConfidencePolicy()
    if isinstance(policy, str):
        return POLICIES[policy]()
    resolved: Policy = clone(policy)
    resolved._validate_params()
    return resolved
