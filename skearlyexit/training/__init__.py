"""Training strategies, which learn the weights of a network with exits."""

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
from skearlyexit.training._mixed import MixedTraining
from skearlyexit.training._network import ExitView, MultiExitNetwork, View
from skearlyexit.training._separate import SeparateTraining
from skearlyexit.training._trainer import Trainer

__all__ = [
    "AuxiliaryTraining",
    "CombinedTraining",
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
    "TrainingStrategy",
    "View",
]
