"""A small recurrent network that reads the exits, trained with them."""

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
    """Trains a small recurrent network, too, that reads what the exits say one after another.

    At every exit it gives the answer so far, and the losses of all answers are added. This is what
    is answered there, unless the estimator's `combine` asks for another rule.

    Parameters
    ----------
    hidden : int, default=16
        Width of the gated recurrent unit, rounded up to a multiple of 16. Its operations count
        among the costs of the exits.

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
        """A reader of that size; see `TrainingStrategy.combination`."""
        if not all(neural):
            raise ValueError(
                "CombinerTraining trains a network to read the neural heads, and would not know "
                "the scikit-learn heads that take their place. Give neural heads, or a 'combine' "
                "other than 'trained'."
            )
        return Reader(n_classes, self.hidden, seed=0).fitted()

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        """Train the network in place; see `TrainingStrategy.train`."""
        if network.n_exits == 1:
            train_alone(network, trainer)
            return
        seed = next(trainer.seeds) % 2**32
        assert network.n_classes is not None
        network.adopt(Reader(network.n_classes, self.hidden, seed))
        trainer.fit(CombinedView(network), ExitLoss([1.0] * network.n_exits), phase="combiner")

    def obstacle_to_update(self) -> str:
        """Nothing; see `TrainingStrategy.obstacle_to_update`."""
        return ""


class Reader(Combiner):
    """An `OutputReader` to be trained.

    Parameters
    ----------
    n_classes, hidden : int
        As in `OutputReader`.
    seed : int

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
        """Sizes."""
        return self.reader.n_classes, self.reader.hidden

    def forward(self, logits: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return self.reader.read(logits)

    def fitted(self) -> Combination:
        """The same as a rule for probabilities."""
        return RecurrentCombination(self.reader.cpu().eval())
