"""Predictions for more samples than fit in memory, by Ray Data."""

from skearlyexit.bulk._dataset import predict_dataset
from skearlyexit.bulk._files import predict_files

__all__ = ["predict_dataset", "predict_files"]
