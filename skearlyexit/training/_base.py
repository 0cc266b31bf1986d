"""Base class of training strategies."""

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
    """Base class of training strategies, which learn the weights of a network with exits.

    A subclass must define `train`.

    Attributes
    ----------
    keeps_given : bool, default=False
        Whether the weights of a network given by the user are not changed.
    learns_gates : bool, default=False
        Whether a gate is learned at each exit but the last. A gate is a linear layer whose output
        in [0, 1] is the learned probability that a sample that reaches the exit exits there.
    exits_train_stages : bool, default=True
        Whether the losses of early exits train the stages before them, too.
    uses_unlabeled : bool, default=False
        Whether samples without labels can be used, at least with some parameters.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.training import ExitLoss, ExitView, TrainingStrategy
    >>> class ByCost(TrainingStrategy):  # joint training, with losses weighted by cost
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
    exits_train_stages: ClassVar[bool] = True
    uses_unlabeled: ClassVar[bool] = False

    def takes_unlabeled(self) -> bool:
        """Whether samples without labels are used with the current parameters.

        Returns
        -------
        takes_unlabeled : bool
            True if they are used.
        """
        return self.uses_unlabeled

    @abstractmethod
    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        """Train the network in place.

        Parameters
        ----------
        network : MultiExitNetwork
            Network to train.
        costs : ndarray of shape (n_exits,)
            Cost of the backbone up to each exit, as a share of the cost of the entire backbone.
        trainer : Trainer
            Trainer that contains the training samples and minimizes losses on them.
        """

    def update(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        """Continue the training with more samples, in `partial_fit`.

        The default implementation calls `train`.

        Parameters
        ----------
        network : MultiExitNetwork
            Network to train.
        costs : ndarray of shape (n_exits,)
            Cost of the backbone up to each exit, as a share of the cost of the entire backbone.
        trainer : Trainer
            Trainer that contains the new samples and minimizes losses on them, in one epoch.
        """
        self.train(network, costs, trainer)

    def obstacle_to_update(self) -> str:
        """Return the reason why `partial_fit` is not supported.

        Returns
        -------
        reason : str
            Reason in words. Empty if `partial_fit` is supported.
        """
        return f"{type(self).__name__} trains in phases"

    def obstacle_to_classification(self) -> str:
        """Return the reason why classification is not supported.

        The default implementation returns an empty string.

        Returns
        -------
        reason : str
            Reason in words. Empty if classification is supported.
        """
        return ""

    def obstacle_to_regression(self) -> str:
        """Return the reason why a regression is not supported.

        The default implementation returns an empty string, since `ExitLoss` is that of the
        estimator.

        Returns
        -------
        reason : str
            Reason in words. Empty if regression is supported.
        """
        return ""

    def obstacle_to_hinge(self) -> str:
        """Return the reason why ``loss="squared_hinge"`` is not supported.

        The outputs of the heads are then margins, whose softmax is not trained to be the
        probability of a class. The default implementation returns an empty string, since `ExitLoss`
        is that of the estimator.

        Returns
        -------
        reason : str
            Reason in words. Empty if the loss is supported.
        """
        return ""

    def combination(self, n_classes: int, neural: Sequence[bool]) -> Combination | None:
        """Return the combination of the heads that is learned with the network.

        The default implementation returns None.

        Parameters
        ----------
        n_classes : int
            Number of classes.
        neural : sequence of bool
            Whether each head is a neural network that is trained with the stages, rather than a
            scikit-learn estimator that is fitted afterwards.

        Returns
        -------
        combination : Combination or None
            Combination before training. None if none is learned.

        Raises
        ------
        ValueError
            If the combination does not support these heads.
        """
        return None

    def remaining_exits(self, n_exits: int) -> Sequence[int]:
        """Return the exits that are not removed after the training.

        Parameters
        ----------
        n_exits : int
            Number of exits in the training, including the last one.

        Returns
        -------
        exits : sequence of int
            Indices of these exits in ascending order, including the last exit. All exits by
            default.
        """
        return range(n_exits)

    def for_trials(self) -> TrainingStrategy | None:
        """Return the strategy that trains heads at all candidates for a placement.

        Placements that are chosen by data compare the outputs of these heads. The heads must not
        influence the weights of the backbone.

        Returns
        -------
        training : TrainingStrategy or None
            Training strategy. None is `SeparateTraining`, the default.
        """
        return None
