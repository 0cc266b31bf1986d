"""How the weights are learned: one strategy a file, all driven by one trainer."""

from skearlyexit._determinism._random import isolated_random_state
from skearlyexit.training._acceleration import check_mixed_precision
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
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._memory import TrainingMemory
from skearlyexit.training._mixed import MixedTraining
from skearlyexit.training._network import Combiner, ExitView, MultiExitNetwork, View
from skearlyexit.training._resolve import STRATEGIES, check_unlabeled, resolve_training
from skearlyexit.training._rows import TrainingRows, to_rows
from skearlyexit.training._separate import SeparateTraining
from skearlyexit.training._trainer import OPTIMIZERS, SCHEDULES, Trainer, to_main_memory

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "STRATEGIES",
    "AuxiliaryTraining",
    "CombinedTraining",
    "Combiner",
    "CombinerTraining",
    "DistillationTraining",
    "ExitLoss",
    "ExitView",
    "FreezeOutTraining",
    "GatedTraining",
    "JointTraining",
    "LayerwiseTraining",
    "LocalErrorTraining",
    "MixedTraining",
    "MultiExitNetwork",
    "SeparateTraining",
    "Trainer",
    "TrainingMemory",
    "TrainingRows",
    "TrainingStrategy",
    "View",
    "check_mixed_precision",
    "check_unlabeled",
    "isolated_random_state",
    "resolve_training",
    "to_main_memory",
    "to_rows",
]
