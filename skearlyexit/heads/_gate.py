"""Gates, which predict the probability that a sample that reaches an exit exits there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skearlyexit._onnx._convert import insert_module
from skearlyexit._onnx._graph import Graph
from skearlyexit.costs import CostInput
from skearlyexit.heads._base import PooledModule
from skearlyexit.heads._linear import LinearHead

_RECIPE = LinearHead()


def build_gate(embedding: torch.Tensor) -> PooledModule:
    """Build a module that maps embeddings of this shape to the logit of the gate, shape (n, 1)."""
    return _RECIPE.build(embedding, 1)


@dataclass
class FittedGate:
    """A trained gate.

    Attributes
    ----------
    model : torch.nn.Module
        Maps embeddings (n, ...) to logits (n, 1).
    """

    model: torch.nn.Module

    @classmethod
    def of(cls, module: Any) -> FittedGate:
        """Gate from a trained module, with the normalization merged into its first layer."""
        return cls(_RECIPE.fit(module).model)

    def predict(self, embedding: torch.Tensor) -> np.ndarray:
        """Predict the output of the gate, a number in [0, 1] for each sample.

        Parameters
        ----------
        embedding : Tensor of shape (n, ...)
            Embeddings, whose number is a multiple of 16, as for heads.

        Returns
        -------
        gate : ndarray of shape (n,), float64
        """
        logits = self.model(embedding).to("cpu", torch.float64)
        return np.asarray(torch.sigmoid(logits).numpy()[:, 0])

    def onnx(self, graph: Graph, embedding: str, example: torch.Tensor) -> str:
        """Add this gate to a graph in the ONNX format; see `FittedHead.onnx`."""
        (logits,) = insert_module(graph, [embedding], self.model, example, "A gate")
        gate = graph.op("Sigmoid", graph.cast(logits, np.float64))
        return graph.op("Squeeze", gate, graph.constant([1]))

    def cost_input(self, embedding: torch.Tensor) -> CostInput:
        """Input of the measurement of the cost of this gate, with a few embeddings."""
        return CostInput(self.predict, embedding, self.model)

    def to(self, device: torch.device | str) -> None:
        """Move the module to a device."""
        self.model.to(device)
