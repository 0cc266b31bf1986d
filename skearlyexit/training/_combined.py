"""Training of a weighted combination of the exits."""

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

RULES = {"free", "positive", "softmax", "mean", "additive", "max"}


class CombinedTraining(TrainingStrategy):
    """Training that minimizes the loss of a combination of the heads.

    At each exit, the outputs of the heads up to this exit are combined. The logits of the
    combination are a weighted sum of the log-probabilities predicted by the heads, with weights
    that are learned with the network. The combined probabilities are also used for prediction,
    unless another combination is given as the parameter `combine` of the estimator.

    Parameters
    ----------
    rule : {"free", "positive", "softmax", "mean", "additive", "max"}, default="softmax"
        Constraints on the weights of the heads:

        - ``"free"``: none.
        - ``"positive"``: positive.
        - ``"softmax"``: positive with the sum 1. At each exit, the weights of the heads up to this
          exit are divided by their sum.
        - ``"mean"``: equal, and not learned. They are divided by their sum as for ``"softmax"``.
        - ``"additive"``: all 1, and not learned. Each exit learns what the sum of the heads before
          it, which receives no gradient from its loss, leaves to be explained.
        - ``"max"``: no weights. The combination is the largest probability of each class.
    every_exit : bool, default=True
        Whether the mean of the losses at all exits is minimized. If False, it is the loss at the
        last exit only, and early exits may predict poorly.

    References
    ----------
    Kim, Lee, Lee, "Deeply-recursive convolutional network for image super-resolution", CVPR 2016.
    ``"mean"``, ``"max"``: Teerapittayanon, McDanel, Kung, "Distributed deep neural networks over
    the cloud, the edge and end devices", ICDCS 2017. ``"additive"``: Huang, Ash, Langford,
    Schapire, "Learning deep ResNet blocks sequentially using boosting theory", ICML 2018; Nitanda
    and Suzuki, "Functional gradient boosting based on residual network perception", ICML 2018.

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

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.rule == "additive" and not self.every_exit:
            raise ValueError(
                "CombinedTraining(rule='additive') needs every_exit=True: the loss of an exit "
                "trains its own head only."
            )

    def combination(self, n_classes: int, neural: Sequence[bool]) -> Combination:
        """Return the combination of the heads that is learned with the network.

        Parameters
        ----------
        n_classes : int
            Number of classes.
        neural : sequence of bool
            Whether each head is a neural network that is trained with the stages, rather than a
            scikit-learn estimator that is fitted afterwards.

        Returns
        -------
        combination : MaxCombination or WeightedCombination
            Combination before training.

        Raises
        ------
        ValueError
            If `rule` is ``"free"`` and a head is a scikit-learn estimator.
        """
        if self.rule == "free" and not all(neural):
            raise ValueError(
                "CombinedTraining(rule='free') may learn a negative weight for a head, which is "
                "not valid for the scikit-learn head that replaces it after the training. Give "
                "another rule, or a 'combine' other than 'trained'."
            )
        return MaxCombination() if self.rule == "max" else WeightedCombination([1.0] * len(neural))

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        if network.n_exits == 1:
            train_alone(network, trainer)
            return
        n_exits = network.n_exits
        network.adopt(Maximum() if self.rule == "max" else WeightedSum(n_exits, self.rule))
        weights = [1 / n_exits] * n_exits if self.every_exit else [0.0] * (n_exits - 1) + [1.0]
        trainer.fit(CombinedView(network), ExitLoss(weights), phase="combined")

    def obstacle_to_update(self) -> str:
        return ""

    def obstacle_to_regression(self) -> str:
        return "CombinedTraining learns to combine predicted probabilities"

    def obstacle_to_hinge(self) -> str:
        return self.obstacle_to_regression()


class CombinedView(ExitView):
    """View of a network whose outputs are the combined logits at each exit.

    Parameters
    ----------
    network : MultiExitNetwork
        Network with a combiner that maps a list of logits to a list of logits.
    """

    def __init__(self, network: MultiExitNetwork) -> None:
        super().__init__(network, range(network.n_exits))
        combiner: Any = network.combiner
        self.combiner = combiner.to(next(network.heads.parameters()))  # its precision and device

    def _answers(self, embeddings: list[torch.Tensor]) -> list[torch.Tensor]:
        answers: list[torch.Tensor] = self.combiner(super()._answers(embeddings))
        return answers


class WeightedSum(Combiner):
    """Weighted sum of the log-probabilities of the heads up to each exit.

    Parameters
    ----------
    n_exits : int
        Number of exits.
    rule : {"free", "positive", "softmax", "mean", "additive"}
        Constraints on the weights, as in `CombinedTraining`.

    Notes
    -----
    **Shape**: a list of logits (n, n_classes) to a list of logits (n, n_classes).
    """

    raw: torch.Tensor

    def __init__(self, n_exits: int, rule: str) -> None:
        super().__init__()
        self.rule = rule
        # The initial weights are equal, with the sum 1 unless they are fixed.
        positive = float(np.log(np.expm1(1 / n_exits)))
        start = {"free": 1 / n_exits, "positive": positive, "additive": 1.0}
        raw = torch.full((n_exits,), start.get(rule, 0.0))
        if rule in ("mean", "additive"):
            self.register_buffer("raw", raw)
        else:
            self.raw = torch.nn.Parameter(raw)

    @property
    def settings(self) -> tuple[Any, ...]:
        """Rule and number of exits."""
        return self.rule, len(self.raw)

    @property
    def normalized(self) -> bool:
        """Whether the weights up to each exit are divided by their sum."""
        return self.rule in ("softmax", "mean")

    def weights(self) -> torch.Tensor:
        """Weight of each exit, shape (n_exits,)."""
        if self.normalized:
            return torch.softmax(self.raw, dim=0)
        return F.softplus(self.raw) if self.rule == "positive" else self.raw

    def forward(self, logits: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        logs = torch.log_softmax(torch.stack(tuple(logits)), dim=2)
        if self.rule == "additive":
            return list(logs + (logs.cumsum(dim=0) - logs).detach())
        weights = self.weights()[:, None, None]
        sums = (weights * logs).cumsum(dim=0)
        return list(sums / weights.cumsum(dim=0) if self.normalized else sums)

    def fitted(self) -> Combination:
        weights = [float(each) for each in self.weights().detach().cpu()]
        return WeightedCombination(weights, normalize=self.normalized)


class Maximum(Combiner):
    """Largest probability of each class over the heads up to each exit.

    Notes
    -----
    **Shape**: a list of logits (n, n_classes) to a list of logits (n, n_classes).
    """

    def forward(self, logits: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        logs = torch.log_softmax(torch.stack(tuple(logits)), dim=2)
        return list(logs.cummax(dim=0).values)

    def fitted(self) -> Combination:
        return MaxCombination()
