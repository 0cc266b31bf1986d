"""What a training strategy is."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from skearlyexit.training._network import MultiExitNetwork
from skearlyexit.training._trainer import Trainer


class TrainingStrategy(BaseEstimator, metaclass=ABCMeta):
    """Way of learning the weights of a network with exits.

    Attributes
    ----------
    keeps_given : bool
        Whether it leaves weights alone that came from the user.
    has_gates : bool
        Whether it learns a gate at each exit but the last.
    combines : bool
        Whether it learns what to make of the heads together.
    drops_exits : bool
        Whether only the last exit is there to stay.
    updates : bool
        Whether it can go on with some more rows, all parts of the network at once.
    uses_unlabelled : bool
        Whether it can learn from rows without labels.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}
    keeps_given: ClassVar[bool] = False
    has_gates: ClassVar[bool] = False
    combines: ClassVar[bool] = False
    drops_exits: ClassVar[bool] = False
    updates: ClassVar[bool] = False
    uses_unlabelled: ClassVar[bool] = False

    def takes_unlabelled(self) -> bool:
        """Whether it learns from rows without labels with the parameters that it has."""
        return self.uses_unlabelled

    @abstractmethod
    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        """Train the network in place.

        Parameters
        ----------
        network : MultiExitNetwork
        costs : ndarray of shape (n_exits,)
            Cumulative cost of each exit as a share of the backbone's.
        trainer : Trainer
            Holds the rows and minimises losses on them.
        """

    def update(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        """Train on, if `updates`; takes what `train` takes."""
        self.train(network, costs, trainer)

    def check_combined(self, neural: Sequence[bool]) -> None:
        """Raise a ValueError if what it makes of the heads cannot be used with them.

        Parameters
        ----------
        neural : sequence of bool
            For each exit, whether the head that is trained with the network is the one that
            answers.
        """
