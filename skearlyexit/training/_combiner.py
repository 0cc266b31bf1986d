"""Training of a recurrent network that combines the exits."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from skearlyexit._determinism._random import isolated_random_state
from skearlyexit.combination import Combination
from skearlyexit.combination._recurrent import OutputReader, RecurrentCombination
from skearlyexit.training._alone import train_alone
from skearlyexit.training._base import TrainingStrategy
from skearlyexit.training._combined import CombinedView
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._network import Combiner, MultiExitNetwork
from skearlyexit.training._trainer import Trainer


class CombinerTraining(TrainingStrategy):
    """Training with a small recurrent network that combines the outputs of the heads.

    The outputs of the heads are the inputs of a gated recurrent unit, whose state is mapped to a
    correction of the logits at each exit. The sum of the losses of the corrected logits is
    minimized over the weights of the network, the heads and the recurrent unit. The corrected
    logits are also used for prediction, unless another combination is given as the parameter
    `combine` of the estimator.

    Parameters
    ----------
    hidden : int, default=16
        Size of the state of the recurrent unit, rounded up to a multiple of 16. The operations of
        the unit are included in the costs of the exits.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import CombinerTraining, EarlyExitClassifier, MLPBackbone
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"],
    ...     training=CombinerTraining(hidden=16), calibration=None, max_epochs=2, random_state=0)
    >>> print(clf.fit(X, y).cost_table_)
    exit    stage  head  decision  until here  of plain
    stem      512    32     1,570       2,114  101.6%
    block1    512    32     1,570       4,228  203.3%
    block3  1,024    32     1,568       6,852  329.4%
    in MACs per sample; the plain network costs 2,080
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden": [Interval(Integral, 1, None, closed="left")]
    }

    def __init__(self, hidden: int = 16) -> None:
        self.hidden = hidden

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
        combination : Combination
            Combination before training.

        Raises
        ------
        ValueError
            If a head is a scikit-learn estimator.
        """
        if not all(neural):
            raise ValueError(
                "CombinerTraining trains a recurrent network on the outputs of neural heads, which "
                "differ from those of the scikit-learn heads that replace them. Give neural heads, "
                "or a 'combine' other than 'trained'."
            )
        return Reader(n_classes, self.hidden, seed=0).fitted()

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        if network.n_exits == 1:
            train_alone(network, trainer)
            return
        seed = next(trainer.seeds) % 2**32
        assert network.n_classes is not None
        network.adopt(Reader(network.n_classes, self.hidden, seed))
        trainer.fit(CombinedView(network), ExitLoss([1.0] * network.n_exits), phase="combiner")

    def obstacle_to_update(self) -> str:
        return ""

    def obstacle_to_regression(self) -> str:
        return "CombinerTraining learns to correct predicted probabilities"

    def obstacle_to_hinge(self) -> str:
        return self.obstacle_to_regression()


class Reader(Combiner):
    """Combiner with an `OutputReader`.

    Parameters
    ----------
    n_classes, hidden : int
        As in `OutputReader`.
    seed : int
        Seed of the initial weights.

    Notes
    -----
    **Shape**: a list of logits (n, n_classes) to a list of logits (n, n_classes).
    """

    def __init__(self, n_classes: int, hidden: int, seed: int) -> None:
        super().__init__()
        with isolated_random_state(seed):
            self.reader = OutputReader(n_classes, hidden)

    @property
    def settings(self) -> tuple[Any, ...]:
        """Number of classes, and size of the hidden state."""
        return self.reader.n_classes, self.reader.hidden

    def forward(self, logits: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return self.reader.read(logits)

    def fitted(self) -> Combination:
        return RecurrentCombination(self.reader.cpu().eval())
