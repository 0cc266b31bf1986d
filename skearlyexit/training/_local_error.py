"""Training of all stages together, each with the loss of its own exit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit._determinism._layers import PaddedLinear
from skearlyexit.training._loss import ExitLoss, Target
from skearlyexit.training._network import ExitView, MultiExitNetwork
from skearlyexit.training._phases import Phase, StagewiseTraining
from skearlyexit.training._trainer import Trainer
from skearlyexit.training._unlabeled import pair_error

ERRORS = {"decoupled", "feedback", "similarity"}


class LocalErrorTraining(StagewiseTraining):
    """Training of all stages together, each with the loss of its own exit.

    No gradient is propagated from one stage to the previous one.

    Parameters
    ----------
    error : {"decoupled", "feedback", "similarity"}, default="decoupled"
        Loss of a stage, and how its gradient is computed:

        - ``"decoupled"``: cross-entropy of the head.
        - ``"feedback"``: cross-entropy of the head, whose random initial weights are not trained.
          The gradient is propagated from the head to the stage by another fixed random matrix, with
          the same signs as the weights of the head. Requires heads with one linear layer.
        - ``"similarity"``: weighted sum of the cross-entropy of the head and of the mean squared
          difference between the similarities of the embeddings and those of the labels, over all
          pairs of samples in a batch. The similarity of two vectors is the cosine after the mean of
          each vector is subtracted. The embeddings of images are replaced by the standard
          deviations of their channels, if there are more than three channels.
    beta : float, default=0.9
        Weight of the difference of the similarities, in [0, 1]. The cross-entropy has the weight
        ``1 - beta``. Only used if `error` is ``"similarity"``.
    projected : bool, default=False
        Whether the one-hot encoded labels are multiplied by a random matrix of shape
        (n_classes, n_classes) before their similarities are computed. Only used if `error` is
        ``"similarity"``.

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
    stages_in_turn = False

    def __init__(
        self, error: str = "decoupled", *, beta: float = 0.9, projected: bool = False
    ) -> None:
        self.error = error
        self.beta = beta
        self.projected = projected

    def phases(
        self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer
    ) -> Iterator[Phase]:
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
        yield Phase(trainer, view, loss, "local errors")

    def obstacle_to_update(self) -> str:
        if self.error == "feedback" or (self.error == "similarity" and self.projected):
            return f"{self} requires the same random matrices in the entire training"
        return ""

    def obstacle_to_regression(self) -> str:
        return (
            "LocalErrorTraining('similarity') compares embeddings with classes"
            if self.error == "similarity"
            else ""
        )


class LocalView(ExitView):
    """View of a network in which no gradient is propagated from a stage to the previous one.

    Attributes
    ----------
    keep_embeddings : bool, default=False
        Whether the embeddings are returned after the logits.
    """

    keep_embeddings = False

    def forward(self, rows: Any) -> list[torch.Tensor]:
        if isinstance(rows, list):  # embeddings of an earlier stage: skorch converts tuples
            rows = tuple(rows)
        return super().forward(rows)

    def _branch(self, exit_: int, embedding: torch.Tensor, carry: Any) -> tuple[torch.Tensor, Any]:
        if isinstance(carry, tuple):
            return embedding, tuple(part.detach() for part in carry)
        return embedding, carry.detach()

    def _answers(self, embeddings: list[torch.Tensor]) -> list[torch.Tensor]:
        logits = super()._answers(embeddings)
        return [*logits, *embeddings] if self.keep_embeddings else logits


class FeedbackView(LocalView):
    """View of a network with fixed random heads and random matrices for their gradients.

    The matrices have the signs of the weights of the heads, but other magnitudes. With other signs,
    the stages would receive no useful gradient.

    Parameters
    ----------
    network : MultiExitNetwork
        Network to train.
    exits : sequence of int
        Indices of the exits.
    seed : int
        Seed of the matrices.

    Raises
    ------
    ValueError
        If a head does not have exactly one linear layer.
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
    """Forward hook of a linear layer, by which another matrix propagates its gradients."""

    def hook(layer: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        handed: torch.Tensor = _Feedback.apply(inputs[0], output.detach(), matrix)
        return handed

    return hook


def _feedback(head: torch.nn.Module, seed: int) -> torch.Tensor:
    """Random matrix with the shape and the signs of the weights of a linear head."""
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
            "LocalErrorTraining(error='feedback') propagates the error by one random matrix, and "
            f"needs linear heads. Got one with {len(linear)} linear layers. Give head='linear'."
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
    """Cross-entropy, and difference between the similarities of embeddings and of labels.

    The weight of a pair of samples is the product of their weights.

    Parameters
    ----------
    n_exits : int
        Number of exits.
    beta : float
        Weight of the difference of the similarities.
    seed : int or None
        Seed of the projection of the labels. If None, they are not projected.
    """

    def __init__(self, n_exits: int, beta: float, seed: int | None) -> None:
        super().__init__([1.0] * n_exits)
        self.beta, self.seed, self.n_exits = beta, seed, n_exits
        self.projection: torch.Tensor | None = None

    def forward(self, logits: Sequence[torch.Tensor], target: Target) -> torch.Tensor:
        """Compute the loss of a batch from the logits of all exits, followed by the embeddings."""
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
    """Similarities of the embeddings of a batch, for a loss; see `similarities`.

    Raises
    ------
    ValueError
        If an embedding has less than three values. After the mean is subtracted, two values have
        the same direction up to the sign, so the similarities have no gradient.
    """
    n_values = embedding[0].numel()
    if n_values < 3:
        raise ValueError(
            "Training with similarities between embeddings requires embeddings with at least 3 "
            f"values. Got an exit with embeddings of shape {tuple(embedding.shape[1:])}. Place it "
            "elsewhere, or train without similarities."
        )
    return similarities(embedding)


def similarities(vectors: torch.Tensor) -> torch.Tensor:
    """Cosines between vectors, of which each has its own mean subtracted, shape (n, n).

    Feature maps are replaced by the standard deviation of each channel over its positions. If there
    is a single position or there are at most three channels, all values are used instead, as in the
    code of the authors.
    """
    if vectors.ndim > 2:
        maps = vectors.flatten(2)
        spread = maps.shape[1] > 3 and maps.shape[2] > 1
        vectors = maps.std(dim=2, correction=0) if spread else maps.flatten(1)
    centered = vectors - vectors.mean(dim=1, keepdim=True)
    return F.normalize(centered, dim=1) @ F.normalize(centered, dim=1).T
