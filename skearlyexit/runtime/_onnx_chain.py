"""Estimators in a row as a network without layers, which is exported as any other."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator

from skearlyexit._cascade._cascade import FittedNetwork
from skearlyexit._cascade._chain import Alone, FittedChain, Link, OfColumns
from skearlyexit._onnx._graph import ExportError, Graph
from skearlyexit.calibration import CalibratedPoint
from skearlyexit.heads._estimator import EstimatorExit, add_finite_classifier
from skearlyexit.runtime._onnx import Description, write


def write_chain(fitted: Any, point: CalibratedPoint, path: str | os.PathLike[str]) -> None:
    """Convert estimators in a row and write them to a file.

    Parameters
    ----------
    fitted : CascadeClassifier
        Fitted classifier.
    point : CalibratedPoint
        Operating point whose thresholds are the default.
    path : str or path-like
        Path of the file.

    Raises
    ------
    ExportError, FileNotFoundError, ImportError, ValueError
        As in `CascadeClassifier.to_onnx`.
    """
    n_features = getattr(fitted, "n_features_in_", None)
    if n_features is None:
        raise ExportError(
            "The cascade cannot be converted to ONNX, since it was fitted on samples without "
            "columns, such as texts. Fit it on an array or a data frame of numbers."
        )
    description, cascade = Description.of(fitted, (n_features,), point), fitted.cascade_
    network = as_network(cascade.network, fitted.exit_names_, n_features)
    write(replace(cascade, network=network), description, path)


def as_network(chain: FittedChain, names: list[str], n_features: int) -> FittedNetwork:
    """Network whose stages hand on the samples, and whose heads are the estimators.

    Parameters
    ----------
    chain : FittedChain
        Fitted estimators.
    names : list of str
        Names of the estimators.
    n_features : int
        Number of features of a sample.

    Returns
    -------
    network : FittedNetwork
        Network for samples in single precision.

    Raises
    ------
    ExportError
        If an estimator continues what another one has computed.
    """
    columns, heads = [], []
    for name, link in zip(names, chain.links, strict=True):
        own, alone = _alone(name, link, n_features)
        columns.append(own)
        heads.append(_Estimator(alone.model, torch.nn.Identity(), _unwrapped(alone), name))
    return FittedNetwork(
        stages=[_Columns(own) for own in columns],
        heads=list(heads),
        gates=[],
        combiner=None,
        n_classes=chain.n_classes,
        row_bytes=n_features * np.dtype(np.float32).itemsize,
        device="cpu",
        dtype=torch.float32,
    )


def _alone(name: str, link: Link, n_features: int) -> tuple[np.ndarray, Alone]:
    """Columns of an estimator, and its link."""
    columns = np.arange(n_features)
    if isinstance(link, OfColumns):
        columns, link = link.columns, link.link
    if not isinstance(link, Alone):
        raise ExportError(
            f"The estimator {name!r} cannot be converted to ONNX, since it depends on what those "
            "before it have computed. This is so for parts of an ensemble and with "
            "pass_probabilities=True."
        )
    return columns, link


def _unwrapped(alone: Alone) -> Any:
    """What calls the estimator, which is no longer frozen."""
    model = alone.model
    return replace(
        alone.steady, model=model.estimator if isinstance(model, FrozenEstimator) else model
    )


class _Columns(torch.nn.Module):
    """Stage that hands on all columns, and gives some to its head."""

    columns: torch.Tensor

    def __init__(self, columns: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("columns", torch.as_tensor(columns, dtype=torch.int64))

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return rows, rows.index_select(1, self.columns)


@dataclass
class _Estimator(EstimatorExit):
    """Estimator in a row as a head."""

    name: str

    def onnx(self, graph: Graph, embedding: str, example: torch.Tensor) -> str:
        what = f"The estimator {self.name!r} ({type(self.steady.model).__name__})"
        with warnings.catch_warnings():
            # The samples on which it is compared have no feature names.
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            return add_finite_classifier(graph, embedding, self.steady, example.numpy(), what)
