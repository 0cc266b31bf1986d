"""Training of each stage by the information bottleneck."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit._determinism._layers import Standardize
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit.training import (
    ExitLoss,
    MultiExitNetwork,
    Trainer,
    TrainingStrategy,
)
from skearlyexit.training._alone import train_alone
from skearlyexit.training._cached import CACHE_BYTES
from skearlyexit.training._layerwise import StageView, stage_by_stage
from skearlyexit.training._loss import Target
from skearlyexit.training._rows import take, to_device

#: Number of samples from which the standard deviation of the untrained embeddings is estimated.
SPREAD_ROWS = 256


class BottleneckTraining(TrainingStrategy):
    """Stage-by-stage training with the information bottleneck objective.

    Each stage minimizes ``-I(Y; F) + beta * I(X; F)``, where I is the mutual information in nats, X
    the input, Y the label and F the pooled embedding with Gaussian noise. Noise is added since the
    embedding without noise is a deterministic function of X. It is added in training only.

    Parameters
    ----------
    beta : float, default=0.001
        Weight of I(X; F).
    information : {"head", "discriminators"}, default="head"
        Lower bound that replaces I(Y; F):

        - ``"head"``: entropy of Y minus the cross-entropy of the head, whose input is the embedding
          with noise.
        - ``"discriminators"``: bound of Donsker and Varadhan,
          ``sum over c of p(c) * (E[T_c | c] - log E[exp(T_c)])``. For each class c, T_c is an
          auxiliary network with one hidden layer that distinguishes embeddings of the class from
          those of all samples. The head is trained by cross-entropy on embeddings without noise,
          and its gradient does not reach the stage.
    noise : float, default=0.5
        Scale of the noise, relative to the standard deviation of the embeddings of the stage before
        its training.
    learn_noise : bool, default=False
        Whether the scale of the noise is learned for each feature of the embedding, with `noise` as
        its initial value.
    hidden : int, default=64
        Width of the hidden layer of the discriminators, which share it.
    max_cache_bytes : int, default=2**31
        Maximum memory, in bytes, for cached embeddings of the previous stage. If they need more,
        the stages before are computed in every epoch.

    See Also
    --------
    LayerwiseTraining : Stage-by-stage training with cross-entropy.

    Notes
    -----
    I(X; F) is replaced by an upper bound, the mean of ``KL(N(f, s**2) || N(m, v))``, where f is the
    embedding without noise, s the scale of the noise, and m and v the mean and variance of F over
    the batch. It is the sum over the features of ``log(1 + var(f) / s**2) / 2``.

    Each stage is trained for `max_epochs` epochs. A network with a single exit is trained by
    cross-entropy.

    References
    ----------
    Elad, Haviv, Blau, Michaeli, "Direct validation of the information bottleneck principle for
    deep nets", ICCV workshops 2019.

    Alemi et al., "Deep variational information bottleneck", ICLR 2017, for the bound of I(X; F) and
    for ``"head"``.

    Belghazi et al., "Mutual information neural estimation", ICML 2018, for ``"discriminators"``.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.experimental import BottleneckTraining
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"],
    ...     training=BottleneckTraining(beta=0.01), calibration=None, max_epochs=2, random_state=0)
    >>> [epoch["phase"] for epoch in clf.fit(X, y).history_]
    ['stage 0', 'stage 0', 'stage 1', 'stage 1', 'stage 2', 'stage 2']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "beta": [Interval(Real, 0, None, closed="left")],
        "information": [StrOptions({"head", "discriminators"})],
        "noise": [Interval(Real, 0, None, closed="neither")],
        "learn_noise": ["boolean"],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "max_cache_bytes": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        beta: float = 0.001,
        *,
        information: str = "head",
        noise: float = 0.5,
        learn_noise: bool = False,
        hidden: int = 64,
        max_cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.beta = beta
        self.information = information
        self.noise = noise
        self.learn_noise = learn_noise
        self.hidden = hidden
        self.max_cache_bytes = max_cache_bytes

    def obstacle_to_regression(self) -> str:
        return "BottleneckTraining discriminates between classes"

    def obstacle_to_hinge(self) -> str:
        return (
            "BottleneckTraining(information='head') needs the cross-entropy of the head"
            if self.information == "head"
            else ""
        )

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        if network.n_exits == 1:
            train_alone(network, trainer)
            return
        discriminated = self.information == "discriminators"
        for i, before, on_stage in stage_by_stage(network, trainer, self.max_cache_bytes):
            stage, head = network.stages[i], network.heads[i]
            vectors, logits = _few(before, stage, head, on_stage)
            channel = NoisyChannel(vectors, self.noise, learned=self.learn_noise)
            discriminators = None
            if discriminated:
                with isolated_random_state(next(trainer.seeds) % 2**32):
                    discriminators = _discriminators(vectors, logits.shape[1], self.hidden)
            view = BottleneckView(before, stage, head, channel, discriminators, exit_=i)
            on_stage.fit(
                view, BottleneckLoss(self.beta, discriminated=discriminated), phase=f"stage {i}"
            )


@torch.no_grad()
def _few(
    before: list[torch.nn.Module], stage: torch.nn.Module, head: Any, trainer: Trainer
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pooled embeddings and logits of some samples before training."""
    carry: Any = to_device(take(trainer.rows.X, slice(SPREAD_ROWS)), trainer.device)
    for each in [*before, stage]:
        carry, embedding = each.to(trainer.device).eval()(carry)
    vectors = head.to(trainer.device).eval().pooling(embedding)
    return vectors, head.body(vectors)


def _discriminators(vectors: torch.Tensor, n_classes: int, hidden: int) -> torch.nn.Module:
    """One network for each class, as outputs of a network with a common hidden layer."""
    return torch.nn.Sequential(
        torch.nn.Flatten(),
        # Pooled features may be small, and training on them is slow without standardization.
        Standardize(vectors.flatten(1).cpu().numpy()),
        torch.nn.Linear(vectors[0].numel(), hidden),
        torch.nn.ReLU(),
        torch.nn.Linear(hidden, n_classes),
    ).to(vectors)


class NoisyChannel(torch.nn.Module):
    """Add Gaussian noise in training.

    Parameters
    ----------
    vectors : Tensor of shape (n, ...)
        Embeddings before training.
    noise : float
        Scale of the noise, relative to the standard deviation of the embeddings.
    learned : bool
        Whether the scale is learned for each feature of the embedding.

    Notes
    -----
    **Shape**: (n, ...) to the same.
    """

    def __init__(self, vectors: torch.Tensor, noise: float, *, learned: bool) -> None:
        super().__init__()
        flat = vectors.flatten(1)
        spread = float((flat - flat.mean(dim=0)).square().mean().sqrt())
        start = math.log(noise * (spread or 1.0))
        self.log_scale = torch.nn.Parameter(
            torch.full_like(vectors[0], start), requires_grad=learned
        )

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return vectors
        return vectors + self.log_scale.exp() * torch.randn_like(vectors)


class BottleneckView(StageView):
    """A stage, its head, the noise between them, and discriminators of the classes.

    Parameters
    ----------
    before, stage : as in `StageView`
    head : PooledModule
    channel : NoisyChannel
    discriminators : torch.nn.Module or None
    exit_ : int

    Notes
    -----
    **Shape**: input of the first stage to a list of the logits (n, n_classes), the pooled
    embeddings without noise (n, ...), the logarithms of the scales of the noise (...), and the
    outputs of the discriminators (n, n_classes), if there are any.
    """

    def __init__(
        self,
        before: list[torch.nn.Module],
        stage: torch.nn.Module,
        head: torch.nn.Module,
        channel: NoisyChannel,
        discriminators: torch.nn.Module | None,
        *,
        exit_: int,
    ) -> None:
        others = [] if discriminators is None else [discriminators]
        super().__init__(before, stage, head, channel, *others, exit_=exit_)

    def forward(self, carry: Any) -> list[torch.Tensor]:
        _, embedding = self._through(carry)
        parts: list[Any] = list(self.learning)
        _, head, channel, *discriminators = parts
        vectors = head.pooling(embedding)
        noisy = channel(vectors)
        logits = head.body(vectors.detach() if discriminators else noisy)
        return [logits, vectors, channel.log_scale, *(each(noisy) for each in discriminators)]


class BottleneckLoss(ExitLoss):
    """Cross-entropy of the head, and the bounds of I(Y; F) and I(X; F).

    Parameters
    ----------
    beta : float
    discriminated : bool
        Whether I(Y; F) is bounded by discriminators instead of the head.
    """

    def __init__(self, beta: float, *, discriminated: bool) -> None:
        super().__init__([1.0])
        self.beta, self.discriminated = beta, discriminated

    def forward(self, outputs: Sequence[torch.Tensor], target: Target) -> torch.Tensor:
        """Loss of a batch, from the outputs of `BottleneckView` and the labels."""
        logits, vectors, log_scale, *discriminators = outputs
        y = target[0]
        weight = target[1] if len(target) > 1 else torch.ones_like(vectors.flatten(1)[:, 0])
        # The entropy of the labels, the difference of cross-entropy and bound, is constant.
        loss = super().forward([logits], target)
        if self.discriminated:
            loss = loss - about_labels(discriminators[0], y, weight)
        return loss + self.beta * about_rows(vectors, log_scale, weight)


def about_rows(
    vectors: torch.Tensor, log_scale: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Upper bound of I(X; F), in nats, times the mean weight.

    Parameters
    ----------
    vectors : Tensor of shape (n, ...)
        Embeddings without noise.
    log_scale : Tensor of shape (...)
        Logarithm of the standard deviation of the noise.
    weight : Tensor of shape (n,)
    """
    flat = vectors.flatten(1)
    shares = (weight / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny))[:, None]
    variance = (shares * (flat - (shares * flat).sum(dim=0)).square()).sum(dim=0)
    nats = 0.5 * torch.log1p(variance * torch.exp(-2 * log_scale.flatten()))
    return weight.mean() * nats.sum()


def about_labels(outputs: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Lower bound of I(Y; F) by Donsker and Varadhan, in nats, times the mean weight.

    Parameters
    ----------
    outputs : Tensor of shape (n, n_classes)
        Output of the discriminator of each class.
    y : Tensor of shape (n,)
    weight : Tensor of shape (n,)
    """
    total = weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
    of_class = torch.zeros_like(outputs[0]).index_add_(0, y, weight) / total
    own = outputs.gather(1, y[:, None])[:, 0]
    # Differences from the largest output, so that no exponential is infinite.
    largest = outputs.detach().amax(dim=0)
    mean = (weight[:, None] * torch.exp(outputs - largest)).sum(dim=0) / total
    log_mean = largest + torch.log(mean.clamp_min(torch.finfo(outputs.dtype).tiny))
    return weight.mean() * ((weight * own).sum() / total - of_class @ log_mean)
