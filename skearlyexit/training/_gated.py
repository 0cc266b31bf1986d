"""Training of a mixture of the heads that is weighted by gates."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.utils._param_validation import Interval

from skearlyexit.combination import Combination
from skearlyexit.combination._gated import GatedCombination
from skearlyexit.training._alone import train_alone
from skearlyexit.training._base import TrainingStrategy
from skearlyexit.training._loss import ExitLoss, Target
from skearlyexit.training._network import Combiner, ExitView, MultiExitNetwork
from skearlyexit.training._trainer import Trainer


class GatedTraining(TrainingStrategy):
    """Training of a mixture of the heads that is weighted by learned gates.

    A gate is a linear layer whose output in [0, 1] is the learned probability that a sample that
    reaches the exit exits there. There is one at each exit but the last. The output of the network
    is the expected prediction c_0 of the recursion ``c_i = g_i * p_i + (1 - g_i) * c_(i+1)``, where
    p_i are the probabilities predicted by head i and g_i is the output of gate i. At the last exit,
    c_i is p_i.

    The training minimizes the sum of three terms: the log loss of this output, `cost_weight` times
    the expected cost, and `head_weight` times the mean of the losses of the heads. For prediction,
    the mixture of the heads up to the exit is used, unless another combination is given as the
    parameter `combine` of the estimator. With ``policy="gate"``, the outputs of the gates are the
    scores.

    Parameters
    ----------
    cost_weight : float, default=0.1
        Weight of the expected cost, which is the cost of the backbone up to the exit as a share of
        the cost of the entire backbone. A larger weight lets more samples exit early.
    head_weight : float, default=1.0
        Weight of the mean of the losses of the heads. With 0, a head learns mainly from the samples
        for which its gate is large, and the gates depend on heads that are not trained yet.

    References
    ----------
    Scardapane, Comminiello, Scarpiniti, Baccarelli, Uncini, "Differentiable branching in deep
    networks for fast inference", ICASSP 2020.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, GatedTraining, MLPBackbone
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"], policy="gate",
    ...     training=GatedTraining(0.2), calibration=None, max_epochs=2, random_state=0)
    >>> table = clf.fit(X, y).exit_table(X)
    >>> table.gates.shape
    (200, 3)
    >>> bool((table.scores[:, :2] == table.gates[:, :2]).all())  # scores are outputs of the gates
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "cost_weight": [Interval(Real, 0, None, closed="left")],
        "head_weight": [Interval(Real, 0, None, closed="left")],
    }
    learns_gates: ClassVar[bool] = True

    def __init__(self, cost_weight: float = 0.1, *, head_weight: float = 1.0) -> None:
        self.cost_weight = cost_weight
        self.head_weight = head_weight

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        if network.n_exits == 1:
            train_alone(network, trainer)
            return
        network.adopt(GatedMixture())
        loss = GatedLoss(costs, self.cost_weight, self.head_weight)
        trainer.fit(GatedView(network), loss, phase="gated")

    def combination(self, n_classes: int, neural: Sequence[bool]) -> Combination:
        return GatedCombination()

    def obstacle_to_update(self) -> str:
        return ""

    def obstacle_to_regression(self) -> str:
        return "GatedTraining minimizes the log loss of a mixture of predicted probabilities"

    def obstacle_to_hinge(self) -> str:
        return self.obstacle_to_regression()


class GatedView(ExitView):
    """View of a network with its gates.

    Parameters
    ----------
    network : MultiExitNetwork
        Network with gates.
    detached : bool, default=False
        Whether the stages receive no gradient from the gates.

    Notes
    -----
    **Shape**: inputs (n, ...) to a list of the logits (n, n_classes) of each exit and, as the last
    item, the logits of the gates (n, n_exits - 1).
    """

    def __init__(self, network: MultiExitNetwork, *, detached: bool = False) -> None:
        super().__init__(network, range(network.n_exits))
        self.gates = network.gates
        self.detached = detached

    def _answers(self, embeddings: list[torch.Tensor]) -> list[torch.Tensor]:
        gates = [
            gate(embedding.detach() if self.detached else embedding)
            for gate, embedding in zip(self.gates, embeddings, strict=False)
        ]
        return [*super()._answers(embeddings), torch.cat(gates, dim=1)]


class GatedLoss(ExitLoss):
    """Loss of the mixture that is weighted by the gates, plus its expected cost.

    Parameters
    ----------
    costs : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each exit.
    cost_weight, head_weight : float
        As in `GatedTraining`.
    """

    def __init__(self, costs: np.ndarray, cost_weight: float, head_weight: float) -> None:
        super().__init__([1.0] * len(costs))
        self.costs = [float(cost) for cost in costs]
        self.cost_weight, self.head_weight = cost_weight, head_weight

    def forward(self, logits: Sequence[torch.Tensor], target: Target) -> torch.Tensor:
        """Compute the loss of a batch from the logits of all exits and, last, of the gates."""
        *answers, gates = logits
        own = self.exit_losses(answers, target)
        chances = leaving_chances(gates)
        stacked = torch.log_softmax(torch.stack(answers), dim=2)
        mixed = torch.logsumexp(chances.T[:, :, None] + stacked, dim=0)
        y, *sample_weight = target
        costs = chances.exp() @ gates.new_tensor(self.costs)
        rows = F.nll_loss(mixed, y, reduction="none") + self.cost_weight * costs
        if sample_weight:
            rows = rows * sample_weight[0]
        return rows.mean() + self.head_weight * own.mean()


def leaving_chances(gates: torch.Tensor) -> torch.Tensor:
    """Log-probability of exiting at each exit.

    Parameters
    ----------
    gates : Tensor of shape (n, n_exits - 1)
        Logits of the gates.

    Returns
    -------
    chances : Tensor of shape (n, n_exits)
        Logarithms of probabilities whose sum over the exits is 1.
    """
    left = F.logsigmoid(-gates).cumsum(dim=1)
    before, end = F.pad(left, (1, 0)), gates.new_zeros(len(gates), 1)
    return before + torch.cat([F.logsigmoid(gates), end], dim=1)


class GatedMixture(Combiner):
    """Combiner for the mixture that is weighted by the gates. It has no weights."""

    def fitted(self) -> Combination:
        return GatedCombination()
