"""Where workers average tensors, and the callback that takes those of a training there."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import skorch
import torch
from skorch.callbacks import Callback

from skearlyexit.training._averaging import averaged_tensors


class Averages(Protocol):
    """What averages the tensors of all workers, possibly in another process."""

    @property
    def n_workers(self) -> int: ...

    def mean(
        self, worker: int, weight: float, tensors: list[torch.Tensor]
    ) -> list[torch.Tensor]: ...


class Meeting:
    """Averages the tensors of several workers, each of which waits for the others.

    Parameters
    ----------
    n_workers : int
        Number of workers. Each calls `mean` equally often, from a thread of its own.
    """

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers
        self._changed = threading.Condition()
        self._given: dict[int, tuple[float, list[torch.Tensor]]] = {}
        self._n_ended = 0
        self._mean: list[torch.Tensor] = []

    def mean(self, worker: int, weight: float, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """Compute the weighted mean of the tensors of all workers.

        Parameters
        ----------
        worker : int
            Number of the worker.
        weight : float
            Weight of its tensors, of at least 0. The sum over the workers is positive.
        tensors : list of Tensor
            Tensors of this worker.

        Returns
        -------
        means : list of Tensor
            Mean of each. It does not depend on the order in which the workers arrive.
        """
        with self._changed:
            self._given[worker] = weight, tensors
            meeting = self._n_ended
            if len(self._given) == self.n_workers:
                self._mean = weighted_means([self._given[k] for k in sorted(self._given)])
                self._given = {}
                self._n_ended += 1
                self._changed.notify_all()
            # No mean is replaced before all have it: the next meeting waits for every worker.
            self._changed.wait_for(lambda: self._n_ended > meeting)
            return self._mean


def weighted_means(
    given: Sequence[tuple[float, Sequence[torch.Tensor]]],
) -> list[torch.Tensor]:
    """Weighted mean of each tensor, summed in double precision."""
    total = math.fsum(weight for weight, _ in given)
    columns = zip(*(tensors for _, tensors in given), strict=True)
    weights = [weight / total for weight, _ in given]
    return [_mean(column, weights) for column in columns]


def _mean(column: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    if all(torch.equal(part, column[0]) for part in column[1:]):
        return column[0]
    # A weight of 0 excludes values that are not finite.
    parts = [w * part.double() for w, part in zip(weights, column, strict=True) if w]
    return torch.stack(parts).sum(dim=0).to(column[0].dtype)


class Exchange(Callback):
    """Callback that replaces gradients or weights by their mean over all workers.

    Only these, statistics of batch normalization, the losses of each epoch and numbers of samples
    are sent.

    Parameters
    ----------
    averages : Averages
        What computes the mean.
    worker : int
        Number of the worker.
    n_rows, n_validation : int
        Number of its training and validation samples.
    local_steps : int, inf or None
        Number of steps after which weights are averaged. They also are at the end of each epoch,
        and with infinity only then. None averages the gradients of each step.
    has_validation : bool
        Whether any worker has validation samples.

    Attributes
    ----------
    n_bytes : int
        Bytes that were sent, and as many received, since it was set to 0.
    n_batch : int
        Number of samples of the batch.
    """

    def __init__(
        self,
        averages: Averages,
        worker: int,
        n_rows: int,
        n_validation: int,
        *,
        local_steps: float | None,
        has_validation: bool,
    ) -> None:
        self.averages, self.worker = averages, worker
        self.n_rows, self.n_validation = n_rows, n_validation
        self.local_steps, self.has_validation = local_steps, has_validation
        self.n_bytes = 0

    def on_epoch_begin(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        self._n_steps = 0
        self._has_ended = False

    def on_grad_computed(self, net: skorch.NeuralNet, named_parameters: Any, **kwargs: Any) -> None:
        if self.local_steps is None:
            found = [each.grad for each in net.module_.trainable() if each.grad is not None]
            self._average(found, self.n_batch)

    def on_batch_begin(
        self, net: skorch.NeuralNet, batch: Any = None, *, training: bool = False, **kwargs: Any
    ) -> None:
        # The loss is a mean over the samples with labels of a batch.
        self.n_batch = len(batch[1][0])
        if not training:
            self._end_round(net)

    def on_batch_end(self, net: skorch.NeuralNet, *, training: bool = False, **kwargs: Any) -> None:
        self._n_steps += training
        if training and self.local_steps and self._n_steps % self.local_steps == 0:
            self._average(_trained_values(net), self.n_rows)

    def on_epoch_end(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        self._end_round(net)
        # Callbacks that stop the training or change the learning rate decide in all workers alike.
        self._average_loss(net, "train_loss", self.n_rows)
        if self.has_validation:
            self._average_loss(net, "valid_loss", self.n_validation)

    def _average_loss(self, net: skorch.NeuralNet, name: str, weight: float) -> None:
        loss = torch.tensor([net.history[-1].get(name, math.nan)], dtype=torch.float64)
        self._average([loss], weight)
        net.history.record(name, float(loss))

    def _end_round(self, net: skorch.NeuralNet) -> None:
        """Average the weights after the last step of an epoch, before the validation."""
        # After a full round they are averaged already.
        if self.local_steps and not self._has_ended and self._n_steps % self.local_steps:
            self._average(_trained_values(net), self.n_rows)
        self._has_ended = True

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """Mean of a tensor over all workers, with equal weights."""
        result = tensor.clone()
        self._average([result], 1.0)
        return result

    @torch.no_grad()
    def _average(self, tensors: Sequence[torch.Tensor], weight: float) -> None:
        sent = [tensor.detach().cpu() for tensor in tensors]
        self.n_bytes += sum(each.numel() * each.element_size() for each in sent)
        means = self.averages.mean(self.worker, weight, sent)
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean)


def _trained_values(net: skorch.NeuralNet) -> list[torch.Tensor]:
    """Parameters that are trained, and running statistics."""
    return [*averaged_tensors(net.module_.trained_part()).values()]
