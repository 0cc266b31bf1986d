"""Gates that weigh the exits, trained with them, for accuracy and for cost."""

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
    """Trains a gate at each exit, which tells how far the head there is to be trusted.

    The output is ``c_i = g_i p_i + (1 - g_i) c_(i+1)`` from the first exit on, of the heads'
    probabilities p and the gates g, where the last head stands for itself. Minimized are its loss,
    `cost_weight` times the mean cost of leaving at each exit by these chances, and the heads' own
    losses. With
    ``policy="gate"`` the gates are the scores. What is answered is the mixture of the heads so far,
    unless the estimator's `combine` asks for another rule.

    Parameters
    ----------
    cost_weight : float, default=0.1
        Price of the plain network, in nats of the loss.
    head_weight : float, default=1.0
        Weight of the mean of the heads' own losses. With 0, a head learns from the rows only that
        its gate trusts it with, and the gates from heads that have not learned yet.

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
    >>> bool((table.scores[:, :2] == table.gates[:, :2]).all())  # the gates are the scores
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
        """Train the network in place; see `TrainingStrategy.train`."""
        if network.n_exits == 1:
            train_alone(network, trainer)
            return
        network.adopt(GatedMixture())
        loss = GatedLoss(costs, self.cost_weight, self.head_weight)
        trainer.fit(GatedView(network), loss, phase="gated")

    def combination(self, n_classes: int, neural: Sequence[bool]) -> Combination:
        """The mixture; see `TrainingStrategy.combination`."""
        return GatedCombination()

    def obstacle_to_update(self) -> str:
        """Nothing; see `TrainingStrategy.obstacle_to_update`."""
        return ""


class GatedView(ExitView):
    """The network with its gates.

    Parameters
    ----------
    network : MultiExitNetwork
    detached : bool, default=False
        Whether the gates take the embeddings as they are, without a gradient to the stages.

    Notes
    -----
    **Shape**: rows (n, ...) to a list of logits (n, n_classes), one for each exit, and behind them
    the logits of the gates (n, n_exits - 1).
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
    """Loss of the gated output, and the price of its cost.

    Parameters
    ----------
    costs : ndarray of shape (n_exits,)
        Cumulative cost of each exit.
    cost_weight, head_weight : float
        As in `GatedTraining`.
    """

    def __init__(self, costs: np.ndarray, cost_weight: float, head_weight: float) -> None:
        super().__init__([1.0] * len(costs))
        self.costs = [float(cost) for cost in costs]
        self.cost_weight, self.head_weight = cost_weight, head_weight

    def forward(self, logits: Sequence[torch.Tensor], target: Target) -> torch.Tensor:
        """Loss of a batch: logits of all exits, and behind them those of the gates."""
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
    """Logarithm of the chance to leave at each exit, the last one taking all that is left.

    Parameters
    ----------
    gates : Tensor of shape (n, n_exits - 1)
        Logits.

    Returns
    -------
    chances : Tensor of shape (n, n_exits)
    """
    left = F.logsigmoid(-gates).cumsum(dim=1)
    before, end = F.pad(left, (1, 0)), gates.new_zeros(len(gates), 1)
    return before + torch.cat([F.logsigmoid(gates), end], dim=1)


class GatedMixture(Combiner):
    """The mixture by gates, which has no weights of its own."""

    def fitted(self) -> Combination:
        """The same as a rule for probabilities."""
        return GatedCombination()
