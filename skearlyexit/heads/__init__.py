"""What predicts at an exit: neural heads, any scikit-learn classifier, and pooling before both."""

from skearlyexit.heads._alignment import align
from skearlyexit.heads._base import FittedHead, Head, NeuralHead, PooledModule
from skearlyexit.heads._estimator import EstimatorHead
from skearlyexit.heads._gate import FittedGate, build_gate
from skearlyexit.heads._linear import LinearHead
from skearlyexit.heads._mlp import MLPHead
from skearlyexit.heads._pooling import GlobalAveragePooling, resolve_pooling
from skearlyexit.heads._resolve import resolve_head, resolve_heads

__all__ = [
    "EstimatorHead",
    "FittedGate",
    "FittedHead",
    "GlobalAveragePooling",
    "Head",
    "LinearHead",
    "MLPHead",
    "NeuralHead",
    "PooledModule",
    "align",
    "build_gate",
    "resolve_head",
    "resolve_heads",
    "resolve_pooling",
]
