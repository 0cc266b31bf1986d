"""What a training strategy is."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from skearlyexit.combination import Combination
from skearlyexit.training._network import MultiExitNetwork
from skearlyexit.training._trainer import Trainer


class TrainingStrategy(BaseEstimator, metaclass=ABCMeta):
    """Way of learning the weights of a network with exits.

    Attributes
    ----------
    keeps_given : bool
        Whether it leaves weights alone that came from the user.
    learns_gates : bool
        Whether it learns a gate at each exit but the last.
    uses_unlabeled : bool
        Whether it can learn from rows without labels.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.training import ExitLoss, ExitView, TrainingStrategy
    >>> class ByCost(TrainingStrategy):  # joint training in which an exit weighs what it costs
    ...     def train(self, network, costs, trainer):
    ...         view = ExitView(network, range(network.n_exits))
    ...         trainer.fit(view, ExitLoss(costs.tolist()), phase="by cost")
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], training=ByCost(),
    ...     calibration=None, max_epochs=2, random_state=0)
    >>> [(epoch["phase"], epoch["exits"]) for epoch in clf.fit(X, y).history_]
    [('by cost', [0, 1]), ('by cost', [0, 1])]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}
    keeps_given: ClassVar[bool] = False
    learns_gates: ClassVar[bool] = False
    uses_unlabeled: ClassVar[bool] = False

    def takes_unlabeled(self) -> bool:
        """Whether it learns from rows without labels with the parameters that it has."""
        return self.uses_unlabeled

    @abstractmethod
    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        """Train the network in place.

        Parameters
        ----------
        network : MultiExitNetwork
        costs : ndarray of shape (n_exits,)
            Cumulative cost of each exit as a share of the backbone's.
        trainer : Trainer
            Holds the rows and minimizes losses on them.
        """

    def update(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        """Train on by some more rows; takes what `train` takes."""
        self.train(network, costs, trainer)

    def obstacle_to_update(self) -> str:
        """Why it cannot go on with some rows at a time; empty if it can."""
        return f"{type(self).__name__} goes through phases"

    def combination(self, n_classes: int, neural: Sequence[bool]) -> Combination | None:
        """Combination of the heads that it learns, before it has learned; None for none.

        Parameters
        ----------
        n_classes : int
        neural : sequence of bool
            For each exit, whether the head that is trained with the network is kept, and not
            replaced by a scikit-learn estimator.

        Raises
        ------
        ValueError
            If the combination cannot be used with these heads.
        """
        return None

    def remaining_exits(self, n_exits: int) -> Sequence[int]:
        """Exits that are kept after the training, ascending, the last exit among them."""
        return range(n_exits)

    def for_trials(self) -> TrainingStrategy | None:
        """Training of the heads by which a placement judges candidates.

        It has to leave the backbone as it is without them. None is `SeparateTraining`.
        """
        return None
