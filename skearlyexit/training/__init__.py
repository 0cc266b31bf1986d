"""How the weights are learned: one strategy a file, all driven by one trainer."""

from skearlyexit._random import isolated_random_state
from skearlyexit.training._base import TrainingStrategy
from skearlyexit.training._distillation import DistillationTraining
from skearlyexit.training._joint import JointTraining
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._memory import TrainingMemory
from skearlyexit.training._mixed import MixedTraining
from skearlyexit.training._network import ExitView, MultiExitNetwork
from skearlyexit.training._resolve import STRATEGIES, resolve_training
from skearlyexit.training._separate import SeparateTraining
from skearlyexit.training._trainer import OPTIMIZERS, SCHEDULES, Trainer, TrainingRows, to_rows

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "STRATEGIES",
    "DistillationTraining",
    "ExitLoss",
    "ExitView",
    "JointTraining",
    "MixedTraining",
    "MultiExitNetwork",
    "SeparateTraining",
    "Trainer",
    "TrainingMemory",
    "TrainingRows",
    "TrainingStrategy",
    "isolated_random_state",
    "resolve_training",
    "to_rows",
]
