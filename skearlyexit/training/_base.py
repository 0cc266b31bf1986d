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
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}
    keeps_given: ClassVar[bool] = False

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
