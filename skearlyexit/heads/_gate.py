"""Gates: how far the head at an exit is to be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skearlyexit.costs import CostInput
from skearlyexit.heads._base import PooledModule
from skearlyexit.heads._linear import LinearHead

_RECIPE = LinearHead()


def build_gate(embedding: torch.Tensor) -> PooledModule:
    """New module from embeddings like the given one to the logit of the gate, shape (n, 1)."""
    return _RECIPE.build(embedding, 1)


@dataclass
class FittedGate:
    """A trained gate.

    Attributes
    ----------
    model : torch.nn.Module
        From embeddings (n, ...) to logits (n, 1).
    """

    model: torch.nn.Module

    @classmethod
    def of(cls, module: Any) -> FittedGate:
        """The gate of a trained module, its normalization folded."""
        return cls(_RECIPE.fit(module).model)

    def predict(self, embedding: torch.Tensor) -> np.ndarray:
        """Share of trust in [0, 1] for each row, shape (n,), float64.

        Parameters
        ----------
        embedding : Tensor of shape (n, ...)
            n a multiple of 16, as for heads.
        """
        logits = self.model(embedding).to("cpu", torch.float64)
        return np.asarray(torch.sigmoid(logits).numpy()[:, 0])

    def part(self, embedding: torch.Tensor) -> CostInput:
        """Input of the measurement of its cost, on a few embeddings."""
        return CostInput(self.predict, embedding, self.model)

    def to(self, device: torch.device | str) -> None:
        """Move the module."""
        self.model.to(device)
