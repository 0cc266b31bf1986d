"""Training by several workers, each with a part of the network or of the samples."""

from skearlyexit.distributed._federated import FederatedTraining
from skearlyexit.distributed._report import TrainingReport, training_report
from skearlyexit.distributed._tiered import TieredTraining

__all__ = ["FederatedTraining", "TieredTraining", "TrainingReport", "training_report"]
