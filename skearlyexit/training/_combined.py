"""One loss on one output that is combined of all exits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.utils._param_validation import StrOptions

from skearlyexit.combination import Combination, MaxCombination, WeightedCombination
from skearlyexit.training._alone import train_alone
from skearlyexit.training._base import TrainingStrategy
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._network import Combiner, ExitView, MultiExitNetwork
from skearlyexit.training._trainer import Trainer

RULES = {"free", "positive", "softmax", "mean", "max"}


class CombinedTraining(TrainingStrategy):
    """Minimizes the loss of one output that is combined of all exits.

    The output is a weighted sum of the logarithms of the exits' probabilities, whose weights are
    trained with the network, or a fixed rule. At an exit the same is done with the exits so far;
    this is what is answered there, unless the estimator's `combine` asks for another rule.

    Parameters
    ----------
    rule : {"free", "positive", "softmax", "mean", "max"}, default="softmax"
        ``"free"``: weights of any sign; ``"positive"``: none below 0; ``"softmax"``: positive, of
        the sum 1; ``"mean"``: equal and fixed. ``"max"`` takes the largest probability of each
        class instead. With ``"softmax"`` and ``"mean"`` the weights of the exits so far are scaled
        to the sum 1.
    every_exit : bool, default=True
        Whether the answer at every exit counts, each as much. If not, only the last one does, and
        those before it are of little use by themselves.

    References
    ----------
    Kim, Lee, Lee, "Deeply-recursive convolutional network for image super-resolution", CVPR 2016.
    ``"mean"``, ``"max"``: Teerapittayanon, McDanel, Kung, "Distributed deep neural networks over
    the cloud, the edge and end devices", ICDCS 2017.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import CombinedTraining, EarlyExitClassifier, MLPBackbone
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"],
    ...     training=CombinedTraining("mean"), calibration=None, max_epochs=2, random_state=0)
    >>> [(epoch["phase"], epoch["exits"]) for epoch in clf.fit(X, y).history_]
    [('combined', [0, 1, 2]), ('combined', [0, 1, 2])]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "rule": [StrOptions(RULES)],
        "every_exit": ["boolean"],
    }

    def __init__(self, rule: str = "softmax", *, every_exit: bool = True) -> None:
        self.rule = rule
        self.every_exit = every_exit

    def combination(self, n_classes: int, neural: Sequence[bool]) -> Combination:
        """The rule; see `TrainingStrategy.combination`."""
        if self.rule == "free" and not all(neural):
            raise ValueError(
                "CombinedTraining(rule='free') may give a head a negative weight, which is of no "
                "use with a scikit-learn head that takes its place. Give another rule, or a "
                "'combine' other than 'trained'."
            )
        return MaxCombination() if self.rule == "max" else WeightedCombination([1.0] * len(neural))

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        """Train the network in place; see `TrainingStrategy.train`."""
        if network.n_exits == 1:
            train_alone(network, trainer)
            return
        n_exits = network.n_exits
        network.adopt(Maximum() if self.rule == "max" else WeightedSum(n_exits, self.rule))
        weights = [1 / n_exits] * n_exits if self.every_exit else [0.0] * (n_exits - 1) + [1.0]
        trainer.fit(CombinedView(network), ExitLoss(weights), phase="combined")

    def obstacle_to_update(self) -> str:
        """Nothing; see `TrainingStrategy.obstacle_to_update`."""
        return ""


class CombinedView(ExitView):
    """The network, whose exits answer with what the combiner makes of those so far.

    Parameters
    ----------
    network : MultiExitNetwork
        With a combiner, from a list of logits to a list of logits.
    """

    def __init__(self, network: MultiExitNetwork) -> None:
        super().__init__(network, range(network.n_exits))
        combiner: Any = network.combiner
        self.combiner = combiner.to(next(network.heads.parameters()))  # its precision and device

    def _answers(self, embeddings: list[torch.Tensor]) -> list[torch.Tensor]:
        answers: list[torch.Tensor] = self.combiner(super()._answers(embeddings))
        return answers


class WeightedSum(Combiner):
    """Weighted sums of the logarithms of the exits' probabilities so far.

    Parameters
    ----------
    n_exits : int
    rule : {"free", "positive", "softmax", "mean"}

    Notes
    -----
    **Shape**: a list of logits (n, n_classes) to a list of logits (n, n_classes).
    """

    raw: torch.Tensor

    def __init__(self, n_exits: int, rule: str) -> None:
        super().__init__()
        self.rule = rule
        # All rules start as equal weights of the sum 1.
        start = {"free": 1 / n_exits, "positive": float(np.log(np.expm1(1 / n_exits)))}
        raw = torch.full((n_exits,), start.get(rule, 0.0))
        if rule == "mean":
            self.register_buffer("raw", raw)
        else:
            self.raw = torch.nn.Parameter(raw)

    @property
    def settings(self) -> tuple[Any, ...]:
        """Rule and number of exits."""
        return self.rule, len(self.raw)

    @property
    def normalized(self) -> bool:
        """Whether the weights so far are scaled to the sum 1."""
        return self.rule in ("softmax", "mean")

    def weights(self) -> torch.Tensor:
        """Weight of each exit, shape (n_exits,)."""
        if self.normalized:
            return torch.softmax(self.raw, dim=0)
        return F.softplus(self.raw) if self.rule == "positive" else self.raw

    def forward(self, logits: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        logs = torch.log_softmax(torch.stack(tuple(logits)), dim=2)
        weights = self.weights()[:, None, None]
        sums = (weights * logs).cumsum(dim=0)
        return list(sums / weights.cumsum(dim=0) if self.normalized else sums)

    def fitted(self) -> Combination:
        """The same as a rule for probabilities."""
        weights = [float(each) for each in self.weights().detach().cpu()]
        return WeightedCombination(weights, normalize=self.normalized)


class Maximum(Combiner):
    """Largest probability that any exit so far gives to each class.

    Notes
    -----
    **Shape**: a list of logits (n, n_classes) to a list of logits (n, n_classes).
    """

    def forward(self, logits: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        logs = torch.log_softmax(torch.stack(tuple(logits)), dim=2)
        return list(logs.cummax(dim=0).values)

    def fitted(self) -> Combination:
        """The same as a rule for probabilities."""
        return MaxCombination()
