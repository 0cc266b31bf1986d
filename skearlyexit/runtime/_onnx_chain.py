"""Estimators in a row as a network without layers, which is exported as any other."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator

from skearlyexit._cascade._cascade import FittedNetwork
from skearlyexit._cascade._chain import Alone, FittedChain, Link, OfColumns
from skearlyexit._onnx._graph import ExportError, Graph
from skearlyexit.heads._estimator import EstimatorExit, add_finite
from skearlyexit.runtime._onnx_parts import Adder, stage_adder


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
        kind=chain.kind,
    )


def not_alone(name: str) -> ExportError:
    """Error for an estimator that continues what others have computed, by its name."""
    return ExportError(
        f"The estimator {name!r} cannot be converted to ONNX, since it depends on what those "
        "before it have computed. This is so for parts of an ensemble, and with "
        "pass_probabilities=True or pass_predictions=True."
    )


def _alone(name: str, link: Link, n_features: int) -> tuple[np.ndarray, Alone]:
    """Columns of an estimator, and its link."""
    columns = np.arange(n_features)
    if isinstance(link, OfColumns):
        columns, link = link.columns, link.link
    if not isinstance(link, Alone):
        raise not_alone(name)
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


@stage_adder.register
def _(stage: _Columns, carry: torch.Tensor, what: str) -> Adder:
    """Without torch, which would take a second, and without a copy of all columns."""
    columns = stage.columns.numpy()
    if np.array_equal(columns, np.arange(carry.shape[1])):
        return lambda graph, rows: [*rows, *rows]
    return lambda graph, rows: [*rows, graph.op("Gather", *rows, graph.constant(columns), axis=1)]


@dataclass
class _Estimator(EstimatorExit):
    """Estimator in a row as a head."""

    name: str

    def onnx(self, graph: Graph, embedding: str, example: torch.Tensor) -> str:
        what = f"The estimator {self.name!r} ({type(self.steady.model).__name__})"
        with warnings.catch_warnings():
            # The samples on which it is compared have no feature names.
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            return add_finite(graph, embedding, self.steady, example.numpy(), what)
