"""When a row leaves: from the outputs of the exits passed so far to a score in [0, 1]."""

from skearlyexit.policies._base import Policy
from skearlyexit.policies._confidence import ConfidencePolicy
from skearlyexit.policies._entropy import EntropyPolicy
from skearlyexit.policies._margin import MarginPolicy
from skearlyexit.policies._patience import PatiencePolicy
from skearlyexit.policies._resolve import POLICIES, resolve_policy

__all__ = [
    "POLICIES",
    "ConfidencePolicy",
    "EntropyPolicy",
    "MarginPolicy",
    "PatiencePolicy",
    "Policy",
    "resolve_policy",
]
