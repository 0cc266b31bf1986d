"""From what a user may pass as `training` to a strategy."""

from __future__ import annotations

from sklearn.base import clone

from skearlyexit.training._auxiliary import AuxiliaryTraining
from skearlyexit.training._base import TrainingStrategy
from skearlyexit.training._combined import CombinedTraining
from skearlyexit.training._combiner import CombinerTraining
from skearlyexit.training._distillation import DistillationTraining
from skearlyexit.training._freeze_out import FreezeOutTraining
from skearlyexit.training._gated import GatedTraining
from skearlyexit.training._joint import JointTraining
from skearlyexit.training._layerwise import LayerwiseTraining
from skearlyexit.training._local_error import LocalErrorTraining
from skearlyexit.training._mixed import MixedTraining
from skearlyexit.training._separate import SeparateTraining

STRATEGIES: dict[str, type[TrainingStrategy]] = {
    "auxiliary": AuxiliaryTraining,
    "combined": CombinedTraining,
    "combiner": CombinerTraining,
    "distillation": DistillationTraining,
    "freeze_out": FreezeOutTraining,
    "gated": GatedTraining,
    "joint": JointTraining,
    "layerwise": LayerwiseTraining,
    "local_error": LocalErrorTraining,
    "mixed": MixedTraining,
    "separate": SeparateTraining,
}


def resolve_training(training: str | TrainingStrategy | None) -> TrainingStrategy:
    """Strategy for a name or an object; None is mixed."""
    if training is None:
        return MixedTraining()
    if isinstance(training, str):
        return STRATEGIES[training]()
    resolved: TrainingStrategy = clone(training)
    resolved._validate_params()
    return resolved
