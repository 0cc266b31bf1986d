"""What a training strategy is."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
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
    uses_unlabelled : bool
        Whether it can learn from rows without labels.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}
    keeps_given: ClassVar[bool] = False
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
