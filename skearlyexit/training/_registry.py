"""Names of training strategies for the `training` parameter of the estimators."""

from __future__ import annotations

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


def check_unlabeled(strategy: TrainingStrategy) -> None:
    """Check that a strategy uses samples without labels.

    Parameters
    ----------
    strategy : TrainingStrategy
        Training strategy.

    Raises
    ------
    ValueError
        If the strategy does not use them with its current parameters.
    """
    if strategy.takes_unlabeled():
        return
    able = sorted(kind.__name__ for kind in STRATEGIES.values() if kind.uses_unlabeled)
    hint = " with these parameters" if strategy.uses_unlabeled else ""
    raise ValueError(
        f"X_unlabeled has no effect on {strategy}, which uses only samples with labels{hint}. "
        "Remove X_unlabeled, or give a 'training' that uses samples without labels, with the "
        f"parameters that this requires: {', '.join(able)}."
    )
