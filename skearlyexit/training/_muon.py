"""Optimizer with orthogonalized steps for the weights of hidden layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import torch

from skearlyexit._determinism._layers import PaddedLinear
from skearlyexit.backbones import Block

MOMENTUM = 0.95

#: Coefficients of the quintic polynomial, and number of iterations. Three bring most singular
#: values near 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
N_ITERATIONS = 3


class Muon(torch.optim.AdamW):
    """Muon for some of the parameters, which are matrices, and AdamW for all others.

    The step of a matrix is the momentum of its gradients, orthogonalized by Newton-Schulz
    iterations and scaled such that the root mean square of its elements is about that of a step of
    AdamW. Learning rate and weight decay have the same meaning for both then. The kernel of a
    convolution is a matrix with a row for each output channel.

    Unlike `torch.optim.Muon`, it orthogonalizes in the precision of the parameters, all matrices of
    the same shape together, and supports kernels of convolutions.

    Parameters
    ----------
    params : iterable
        Parameters or groups of parameters.
    lr : float
        Learning rate.
    matrices : collection of torch.nn.Parameter
        Which of the parameters are matrices. At least two axes each.
    **options : dict
        Options of `torch.optim.AdamW`.

    References
    ----------
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. Scale: Liu et
    al., "Muon is scalable for LLM training", 2025. Tables: Gorishniy, Rubachev, Feoktistov,
    Babenko, "Benchmarking optimizers for MLPs in tabular deep learning", 2026.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        *,
        matrices: Collection[torch.nn.Parameter],
        **options: Any,
    ) -> None:
        super().__init__(params, lr=lr, **options)
        chosen = set(matrices)
        for group in self.param_groups:
            # Positions, since a state that is loaded has no parameters.
            group["matrices"] = [i for i, each in enumerate(group["params"]) if each in chosen]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform a step.

        Parameters
        ----------
        closure : callable, default=None
            Function that computes the gradients, and returns the loss.

        Returns
        -------
        loss : Tensor or None
            What `closure` returns.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        hidden: list[tuple[torch.Tensor, torch.Tensor]] = []
        for group in self.param_groups:
            chosen = [group["params"][i] for i in group["matrices"]]
            chosen = [each for each in chosen if each.grad is not None]
            self._step(chosen, group["lr"], group["weight_decay"])
            hidden += [(each, each.grad) for each in chosen]
        # AdamW passes over parameters without a gradient.
        for matrix, _ in hidden:
            matrix.grad = None
        super().step()
        for matrix, gradient in hidden:
            matrix.grad = gradient
        return loss

    def _step(self, matrices: list[torch.Tensor], lr: float, weight_decay: float) -> None:
        """Perform a step for some of the matrices."""
        if not matrices:
            return
        gradients: list[Any] = [each.grad for each in matrices]
        momenta = [self._momentum(each) for each in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        steps = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # as Nesterov
        torch._foreach_mul_(matrices, 1 - lr * weight_decay)
        of_shape: dict[tuple[int, ...], list[int]] = {}
        flat = [step.flatten(1) for step in steps]
        for i, each in enumerate(flat):
            of_shape.setdefault(each.shape, []).append(i)
        for shape, alike in of_shape.items():
            # Together, since a call takes longer than the operations for a small matrix.
            together = orthogonalized(torch.stack([flat[i] for i in alike]))
            for i, step in zip(alike, together.unbind(), strict=True):
                scale = 0.2 * math.sqrt(max(shape))
                matrices[i].add_(step.reshape(matrices[i].shape), alpha=-lr * scale)

    def _momentum(self, matrix: torch.Tensor) -> torch.Tensor:
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
            state["step"] = torch.tensor(0.0)  # which AdamW expects in a state that is loaded
        momentum: torch.Tensor = state["momentum"]
        return momentum


def orthogonalized(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices with the same singular vectors, whose larger singular values are near 1.

    Parameters
    ----------
    matrices : Tensor of shape (n, n_rows, n_columns)
        Any matrices.

    Returns
    -------
    orthogonalized : Tensor of shape (n, n_rows, n_columns)
        The result of Newton-Schulz iterations.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if is_tall else matrices
    norm = torch.linalg.vector_norm(wide, dim=(1, 2), keepdim=True)
    wide = wide / norm.clamp(min=1e-7)  # no singular value is larger than 1
    a, b, c = COEFFICIENTS
    for _ in range(N_ITERATIONS):
        gram = wide @ wide.mT
        square = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        wide = torch.baddbmm(wide, square, wide, beta=a)
    return wide.mT if is_tall else wide


def hidden_matrices(module: torch.nn.Module) -> set[torch.nn.Parameter]:
    """Weights of the linear and convolutional layers in the stages of a module.

    Those of convolutions in groups are left out: their kernels do not mix all channels.
    """
    found = set()
    for stage in module.modules():
        for part in stage.modules() if isinstance(stage, Block) else ():
            # Not by attribute, which would compute a parametrized weight.
            weight = part._parameters.get("weight")
            if weight is not None and weight.ndim >= 2 and _mixes_all(part):
                found.add(weight)
    return found


def _mixes_all(layer: torch.nn.Module) -> bool:
    """Whether the weight of a layer is a matrix, or kernel, from all inputs to each output."""
    if isinstance(layer, torch.nn.modules.conv._ConvNd):
        return layer.groups == 1 and not layer.transposed
    return isinstance(layer, torch.nn.Linear | PaddedLinear)
