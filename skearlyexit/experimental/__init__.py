"""Experimental methods, which may be changed or removed without notice."""

from skearlyexit.experimental._bottleneck_training import BottleneckTraining
from skearlyexit.experimental._reinforced_policy import ReinforcedPolicy
from skearlyexit.experimental._reinforced_training import ReinforcedTraining
from skearlyexit.experimental._target_training import TargetTraining

__all__ = ["BottleneckTraining", "ReinforcedPolicy", "ReinforcedTraining", "TargetTraining"]
