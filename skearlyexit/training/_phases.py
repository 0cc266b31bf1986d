"""Base class of training strategies that say what their phases are, without running them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skearlyexit.training._base import TrainingStrategy
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._network import MultiExitNetwork, View
from skearlyexit.training._trainer import Trainer


@dataclass(frozen=True)
class Phase:
    """Phase of a training that has not run yet.

    Attributes
    ----------
    trainer : Trainer
        Trainer with the samples, or with embeddings of them.
    view : View
        View that is trained.
    loss : ExitLoss
        Loss that is minimized.
    name : str
        Name of the phase in the history.
    share : float, default=1.0
        Number of epochs, as a share of those of the trainer.
    """

    trainer: Trainer
    view: View
    loss: ExitLoss
    name: str
    share: float = 1.0


class PhasedTraining(TrainingStrategy):
    """Base class of strategies that are defined by their phases, which others may run.

    A subclass must define `phases`.
    """

    @abstractmethod
    def phases(
        self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer
    ) -> Iterator[Phase]:
        """Iterate over the phases. Each must have ended before the next one is requested.

        Parameters
        ----------
        network : MultiExitNetwork
            Network to train, or a part of it.
        costs : ndarray of shape (n_exits,)
            Cost of the backbone up to each exit, as a share of the cost of the entire backbone.
        trainer : Trainer
            Trainer that contains the training samples.

        Yields
        ------
        phase : Phase
            The next phase.
        """

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        for phase in self.phases(network, costs, trainer):
            phase.trainer.fit(phase.view, phase.loss, share=phase.share, phase=phase.name)


class StagewiseTraining(PhasedTraining):
    """Base class of strategies that propagate no gradient from one stage to the previous one.

    A part of the network can then be trained by itself, on embeddings. A subclass must define
    `phases` and `stages_in_turn`.

    Attributes
    ----------
    stages_in_turn : bool
        Whether a stage is trained after the training of the previous one has ended, rather than at
        the same time.
    """

    stages_in_turn: ClassVar[bool]
