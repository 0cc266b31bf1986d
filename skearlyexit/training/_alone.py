"""Training of a network with one exit, for strategies that require several."""

from __future__ import annotations

from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._network import ExitView, MultiExitNetwork
from skearlyexit.training._trainer import Trainer


def train_alone(network: MultiExitNetwork, trainer: Trainer) -> None:
    """Minimize the loss of the only exit, as joint training does.

    Parameters
    ----------
    network : MultiExitNetwork
        Network with one exit.
    trainer : Trainer
        Trainer with the training samples.
    """
    trainer.fit(ExitView(network, [0]), ExitLoss([1.0]), phase="joint")
