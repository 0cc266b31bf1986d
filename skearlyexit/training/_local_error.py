"""Every stage learns from its own exit only, all of them in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit._determinism._layers import PaddedLinear
from skearlyexit.training._base import TrainingStrategy
from skearlyexit.training._loss import ExitLoss, Target
from skearlyexit.training._network import ExitView, MultiExitNetwork
from skearlyexit.training._trainer import Trainer
from skearlyexit.training._unlabeled import pair_error

ERRORS = {"decoupled", "feedback", "similarity"}


class LocalErrorTraining(TrainingStrategy):
    """Trains all stages at once, each by the error of its own exit; no gradient crosses a stage.

    Parameters
    ----------
    error : {"decoupled", "feedback", "similarity"}, default="decoupled"
        ``"decoupled"``: cross-entropy of the exit's head. ``"feedback"``: the head stays the random
        projection that it starts as, and its linear layer hands the error back to the stage through
        another fixed random matrix, of the same signs, instead of its own transpose; heads have to
        be linear.
        ``"similarity"``: cross-entropy, and how far similarities between the embeddings of a batch
        are from those between its labels.
    beta : float, default=0.9
        Share of the loss that ``"similarity"`` gives to similarities.
    projected : bool, default=False
        Whether ``"similarity"`` compares with labels that are projected at random to as many
        numbers as there are classes, so that the stage need not know the classes apart.

    References
    ----------
    ``"decoupled"``: Belilovsky, Eickenberg, Oyallon, "Decoupled greedy learning of CNNs", ICML
    2020. ``"feedback"``: Mostafa, Ramesh, Cauwenberghs, "Deep supervised learning using local
    errors", Frontiers in Neuroscience 2018. ``"similarity"``: Nokland and Eidnes, "Training neural
    networks with local error signals", ICML 2019.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, LocalErrorTraining, MLPBackbone
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"],
    ...     training=LocalErrorTraining("similarity"), calibration=None, max_epochs=2,
    ...     random_state=0)
    >>> [(epoch["phase"], epoch["exits"]) for epoch in clf.fit(X, y).history_]
    [('local errors', [0, 1, 2]), ('local errors', [0, 1, 2])]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "error": [StrOptions(ERRORS)],
        "beta": [Interval(Real, 0, 1, closed="both")],
        "projected": ["boolean"],
    }

    def __init__(
        self, error: str = "decoupled", *, beta: float = 0.9, projected: bool = False
    ) -> None:
        self.error = error
        self.beta = beta
        self.projected = projected

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        """Train the network in place; see `TrainingStrategy.train`."""
        exits = range(network.n_exits)
        seed = next(trainer.seeds) % 2**32
        view: LocalView
        loss: ExitLoss = ExitLoss([1.0] * len(exits))
        if self.error == "feedback":
            view = FeedbackView(network, exits, seed)
        else:
            view = LocalView(network, exits)
        if self.error == "similarity":
            view.keep_embeddings = True
            loss = SimilarityLoss(len(exits), self.beta, seed if self.projected else None)
        trainer.fit(view, loss, phase="local errors")

    def obstacle_to_update(self) -> str:
        """Random matrices that a training keeps; see `TrainingStrategy.obstacle_to_update`."""
        if self.error == "feedback" or (self.error == "similarity" and self.projected):
            return f"{self} draws matrices that are the same in all of a training"
        return ""


class LocalView(ExitView):
    """The network with stopped gradients between stages.

    Attributes
    ----------
    keep_embeddings : bool
        Whether the embeddings are handed out behind the logits.
    """

    keep_embeddings = False

    def _branch(self, exit_: int, embedding: torch.Tensor, carry: Any) -> tuple[torch.Tensor, Any]:
        if isinstance(carry, tuple):
            return embedding, tuple(part.detach() for part in carry)
        return embedding, carry.detach()

    def _answers(self, embeddings: list[torch.Tensor]) -> list[torch.Tensor]:
        logits = super()._answers(embeddings)
        return [*logits, *embeddings] if self.keep_embeddings else logits


class FeedbackView(LocalView):
    """Fixed random heads whose errors reach the stages through other fixed random matrices.

    Those have the signs of the heads' own weights and magnitudes of their own: with signs of their
    own, too, an error says nothing of where to go.

    Parameters
    ----------
    network : MultiExitNetwork
    exits : sequence of int
    seed : int
        Of the matrices.

    Raises
    ------
    ValueError
        If a head is not linear.
    """

    def __init__(self, network: MultiExitNetwork, exits: Sequence[int], seed: int) -> None:
        super().__init__(network, exits)
        self.heads.requires_grad_(False)
        self.feedback = torch.nn.Module()
        for i in self.exits:
            self.feedback.register_buffer(str(i), _feedback(self.heads[str(i)], seed + i))

    def _answers(self, embeddings: list[torch.Tensor]) -> list[torch.Tensor]:
        hooks = [
            _linear_layer(head).register_forward_hook(_handing_back(self.feedback.get_buffer(i)))
            for i, head in self.heads.items()
        ]
        try:
            return super()._answers(embeddings)
        finally:
            for hook in hooks:
                hook.remove()


def _handing_back(matrix: torch.Tensor) -> Callable[..., torch.Tensor]:
    """Hook of a linear layer that hands its errors back through another matrix."""

    def hook(layer: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        handed: torch.Tensor = _Feedback.apply(inputs[0], output.detach(), matrix)
        return handed

    return hook


def _feedback(head: torch.nn.Module, seed: int) -> torch.Tensor:
    """Random matrix from errors to vectors, of the signs of a linear head's weights."""
    linear = _linear_layer(head)
    weight = linear.weight.detach()[:, : linear.in_features]
    generator = torch.Generator().manual_seed(seed)
    magnitude = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
    return weight.sign() * magnitude.to(weight) / weight.shape[1] ** 0.5


def _linear_layer(head: torch.nn.Module) -> Any:
    """The one linear layer of a head."""
    linear = [part for part in head.modules() if isinstance(part, torch.nn.Linear | PaddedLinear)]
    if len(linear) != 1:
        raise ValueError(
            "LocalErrorTraining(error='feedback') hands errors back through one random matrix, and "
            f"needs linear heads. Got one with {len(linear)} linear layers; give head='linear'."
        )
    return linear[0]


class _Feedback(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, vectors: torch.Tensor, answer: torch.Tensor, matrix: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(matrix)
        ctx.dtype = vectors.dtype
        return answer.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (matrix,) = ctx.saved_tensors
        return (gradient.to(matrix.dtype) @ matrix).to(ctx.dtype), None, None


class SimilarityLoss(ExitLoss):
    """Cross-entropy, and how far similarities of embeddings are from those of labels.

    A pair of rows weighs the product of their weights.

    Parameters
    ----------
    n_exits : int
    beta : float
    seed : int or None
        Of the projection of the labels; None compares the labels themselves.
    """

    def __init__(self, n_exits: int, beta: float, seed: int | None) -> None:
        super().__init__([1.0] * n_exits)
        self.beta, self.seed, self.n_exits = beta, seed, n_exits
        self.projection: torch.Tensor | None = None

    def forward(self, logits: Sequence[torch.Tensor], target: Target) -> torch.Tensor:
        """Loss of a batch: logits of all exits, and behind them their embeddings."""
        answers, embeddings = logits[: self.n_exits], logits[self.n_exits :]
        crossed = super().forward(answers, target)
        if not self.training:
            return crossed
        wanted = similarities(self._labels(target[0], answers[0]))
        weight = target[1] if len(target) > 1 else None
        made = map(embedding_similarities, embeddings)
        missed = sum(pair_error(each, wanted, weight) for each in made)
        return (1 - self.beta) * crossed + self.beta * missed

    def _labels(self, y: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Labels as vectors, shape (n, n_classes)."""
        one_hot = F.one_hot(y, logits.shape[1]).to(logits.dtype)
        if self.seed is None:
            return one_hot
        if self.projection is None:
            generator = torch.Generator().manual_seed(self.seed)
            shape = logits.shape[1], logits.shape[1]
            self.projection = torch.randn(shape, generator=generator).to(logits)
        return one_hot @ self.projection


def embedding_similarities(embedding: torch.Tensor) -> torch.Tensor:
    """Similarities of the embeddings of a batch, to learn from; see `similarities`.

    Raises
    ------
    ValueError
        If an embedding has at most two values. Less their mean they have one direction at most, so
        that the similarities have no gradient.
    """
    n_values = embedding[0].numel()
    if n_values < 3:
        raise ValueError(
            "Similarities between embeddings can be learned from only if each has at least 3 "
            f"values. Got an exit whose embeddings are of shape {tuple(embedding.shape[1:])}; put "
            "it elsewhere, or train without similarities."
        )
    return similarities(embedding)


def similarities(vectors: torch.Tensor) -> torch.Tensor:
    """Cosines between rows, each row less its own mean, shape (n, n).

    Of a map of features, what is compared is the spread of each channel over its positions. A map
    with one position has no spread, and one with at most three channels too few numbers; of these,
    all values are compared, as in the authors' own code.
    """
    if vectors.ndim > 2:
        maps = vectors.flatten(2)
        spread = maps.shape[1] > 3 and maps.shape[2] > 1
        vectors = maps.std(dim=2, correction=0) if spread else maps.flatten(1)
    centered = vectors - vectors.mean(dim=1, keepdim=True)
    return F.normalize(centered, dim=1) @ F.normalize(centered, dim=1).T
