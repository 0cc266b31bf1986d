"""Running mean of the weights in a training phase."""

from __future__ import annotations

from typing import Any

import skorch
import torch
from skorch.callbacks import Callback

from skearlyexit.training._options import LEAST_HORIZON


class Averaging(Callback):
    """Callback that computes an exponential running mean of the weights, and keeps it in the end.

    The validation loss is that of the mean, and so are the weights after an epoch; the next epoch
    continues from the weights themselves. Besides the parameters, the running statistics of batch
    normalization are averaged. Parameters that are frozen when the training begins are left out,
    also if a callback unfreezes them.

    Parameters
    ----------
    n_steps : int
        Number of steps in an epoch. The weight of a step in the mean decreases by a factor of e in
        so many steps, at least `LEAST_HORIZON`, or in a tenth of all steps so far if these are
        fewer.

    References
    ----------
    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992. Izmailov,
    Podoprikhin, Garipov, Vetrov, Wilson, "Averaging weights leads to wider optima and better
    generalization", UAI 2018.
    """

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps

    def on_train_begin(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        self.step_ = 0
        current = averaged_tensors(net.module_.trained_part())
        # A callback of the user may freeze parameters later.
        self.names_ = [*current]
        self.mean_ = [tensor.clone() for tensor in current.values()]
        self.is_mean_ = False

    def on_epoch_begin(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        # A training that continues from a checkpoint has other tensors than the one before.
        current = tensors_by_name(net.module_.trained_part())
        self.current_ = [current[name].detach() for name in self.names_]
        self._exchange(mean=False)

    @torch.no_grad()
    def on_batch_end(self, net: skorch.NeuralNet, *, training: bool = False, **kwargs: Any) -> None:
        if not training:
            return
        self.step_ += 1
        # At most a tenth of the steps so far, since the first weights are random.
        horizon = min(max(self.n_steps, LEAST_HORIZON), self.step_ / 10)
        torch._foreach_lerp_(self.mean_, self.current_, 1 / max(1.0, horizon))

    def on_batch_begin(
        self, net: skorch.NeuralNet, *, training: bool = False, **kwargs: Any
    ) -> None:
        if not training:
            self._exchange(mean=True)

    def on_epoch_end(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        self._exchange(mean=True)
        del self.current_  # which a checkpoint would copy

    @torch.no_grad()
    def _exchange(self, *, mean: bool) -> None:
        """Put the mean into the network, or the weights themselves."""
        if mean is self.is_mean_:
            return
        other = [tensor.clone() for tensor in self.current_]
        torch._foreach_copy_(self.current_, self.mean_)
        self.mean_ = other
        self.is_mean_ = mean


def averaged_tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters that are trained, and running statistics of batch normalization, by name."""
    return {
        name: each.detach()
        for name, each in tensors_by_name(module).items()
        if each.requires_grad or not isinstance(each, torch.nn.Parameter)
    }


def tensors_by_name(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All parameters, and running statistics of batch normalization."""
    found: dict[str, torch.Tensor] = dict(module.named_parameters())
    for prefix, part in module.named_modules():
        if isinstance(part, torch.nn.modules.batchnorm._NormBase):
            for name in ("running_mean", "running_var"):
                if (each := getattr(part, name)) is not None:
                    found[f"{prefix}.{name}"] = each
    return found
