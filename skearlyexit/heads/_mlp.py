"""A multi-layer perceptron as a head."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any, ClassVar

import torch

from skearlyexit._determinism._layers import PaddedLinear
from skearlyexit.heads._neural import NeuralHead


class MLPHead(NeuralHead):
    """Head that is a multi-layer perceptron with ReLU activations on the pooled embedding.

    Parameters
    ----------
    hidden : sequence of int, default=(64,)
        Number of units of each hidden layer.
    pooling : {"quarters", "average", "flatten"} or torch.nn.Module, default="quarters"
        Maps embeddings to vectors. ``"quarters"`` is `QuarterPooling`, ``"average"`` is
        `GlobalAveragePooling`, and ``"flatten"`` keeps all values. A torch module is copied and
        trained with the network, and its output is flattened.
    normalize : bool or None, default=None
        Whether batch normalization is applied to the vectors. None applies it if embeddings have
        more than one axis, such as those of images; see `NeuralHead`.

    Examples
    --------
    >>> import torch
    >>> from skearlyexit import MLPHead
    >>> module = MLPHead(hidden=(32, 16)).build(torch.zeros(2, 8), n_classes=3)
    >>> [layer.out_features for layer in module.body if hasattr(layer, "out_features")]
    [32, 16, 3]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **NeuralHead._parameter_constraints,
        "hidden": ["array-like"],
    }

    def __init__(
        self,
        hidden: Sequence[int] = (64,),
        *,
        pooling: str | torch.nn.Module = "quarters",
        normalize: bool | None = None,
    ) -> None:
        super().__init__(pooling=pooling, normalize=normalize)
        self.hidden = hidden

    def body(self, n_features: int, n_classes: int) -> torch.nn.Sequential:
        if not all(isinstance(width, Integral) and width > 0 for width in self.hidden):
            raise ValueError(
                "The 'hidden' parameter of MLPHead must hold positive integers. "
                f"Got {self.hidden!r} instead."
            )
        widths = [n_features, *self.hidden]
        layers: list[torch.nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [PaddedLinear(n_in, n_out), torch.nn.ReLU()]
        return torch.nn.Sequential(*layers, PaddedLinear(widths[-1], n_classes))
