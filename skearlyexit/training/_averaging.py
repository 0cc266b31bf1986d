"""Running mean of the weights in a training phase."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import skorch
import torch
from skorch.callbacks import Callback
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

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
    n_renewing : int, default=0
        Number of batches, the last ones of an epoch, from which the statistics of batch
        normalization are computed anew for the mean. With 0, they are averaged.

    References
    ----------
    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992. Izmailov,
    Podoprikhin, Garipov, Vetrov, Wilson, "Averaging weights leads to wider optima and better
    generalization", UAI 2018.
    """

    def __init__(self, n_steps: int, n_renewing: int = 0) -> None:
        self.n_steps = n_steps
        self.n_renewing = n_renewing

    def on_train_begin(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        self.step_ = 0
        self.recent_: deque[Any] = deque(maxlen=self.n_renewing)
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
        self, net: skorch.NeuralNet, batch: Any = None, *, training: bool = False, **kwargs: Any
    ) -> None:
        if training:
            self.recent_.append(batch)
        else:
            self._take_mean(net)

    def on_epoch_end(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        self._take_mean(net)
        self.recent_.clear()
        del self.current_  # which a checkpoint would copy

    def _take_mean(self, net: skorch.NeuralNet) -> None:
        """Put the mean into the network after the last step of an epoch."""
        if self.is_mean_:
            return
        self._exchange(mean=True)
        if self.recent_:
            self._renew(net)

    @torch.no_grad()
    def _renew(self, net: skorch.NeuralNet) -> None:
        """Compute the statistics of batch normalization anew."""
        was_training = net.module_.training
        net.module_.train()
        try:
            # Those of frozen layers are kept, and so are all with a single sample.
            norms = [norm for norm in norms_of(net.module_.trained_part()) if norm.training]
            if norms:
                with statistics_of_batches(norms):
                    for batch in self.recent_:
                        net.infer(batch[0])
        finally:
            net.module_.train(was_training)

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


def norms_of(module: torch.nn.Module) -> list[Any]:
    """Layers of batch normalization with running statistics."""
    parts = module.modules()
    return [p for p in parts if isinstance(p, _BatchNorm) and p.running_mean is not None]


@contextmanager
def statistics_of_batches(norms: Sequence[Any]) -> Iterator[None]:
    """Context in which running statistics are the mean of those of the batches so far.

    A layer through which no batch passes, such as one that is skipped at random, keeps its own.
    """
    before = [
        (n.momentum, n.running_mean.clone(), n.running_var.clone(), n.num_batches_tracked.clone())
        for n in norms
    ]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        yield
    finally:
        for norm, (momentum, mean, variance, n_batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if not norm.num_batches_tracked:
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(variance)
            norm.num_batches_tracked.copy_(n_batches)


def tensors_by_name(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All parameters, and running statistics of batch normalization."""
    found: dict[str, torch.Tensor] = dict(module.named_parameters())
    for prefix, part in module.named_modules():
        if isinstance(part, _NormBase):
            for name in ("running_mean", "running_var"):
                if (each := getattr(part, name)) is not None:
                    found[f"{prefix}.{name}"] = each
    return found
