"""Training of the backbone, followed by the heads on the frozen backbone."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from skearlyexit.training._base import TrainingStrategy
from skearlyexit.training._cached import view_of_heads
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._network import ExitView, MultiExitNetwork
from skearlyexit.training._trainer import Trainer


class SeparateTraining(TrainingStrategy):
    """Training of the backbone with its last head, followed by the other heads.

    The backbone is frozen in the second phase, so the heads do not influence each other. If the
    embeddings take at most 2 GiB, they are computed only once. A backbone with weights given by the
    user is not trained, nor is its own classifier.

    Parameters
    ----------
    backbone_share : float, default=0.5
        Share of the epochs of the first phase, between 0 and 1 (exclusive). Ignored if only one of
        the phases is required.

    References
    ----------
    Kaya, Hong, Dumitras, "Shallow-deep networks", ICML 2019; Venkataramani et al., "Scalable-effort
    classifiers for energy-efficient machine learning", DAC 2015.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone, SeparateTraining
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"],
    ...     training=SeparateTraining(0.5), calibration=None, max_epochs=4, random_state=0)
    >>> [epoch["phase"] for epoch in clf.fit(X, y).history_]
    ['backbone', 'backbone', 'heads', 'heads']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "backbone_share": [Interval(Real, 0, 1, closed="neither")]
    }
    keeps_given = True
    exits_train_stages = False

    def __init__(self, backbone_share: float = 0.5) -> None:
        self.backbone_share = backbone_share

    def for_trials(self) -> SeparateTraining:
        return self

    def train(self, network: MultiExitNetwork, costs: np.ndarray, trainer: Trainer) -> None:
        last = network.n_exits - 1
        share = self.backbone_share
        # Of a head that is replaced by an estimator, only the pooling is used.
        heads: Any = network.heads
        untrained = {
            i
            for i, head in enumerate(heads)
            if i not in network.stand_ins or len(head.pooling.state_dict())
        }
        if network.given:
            share = 0.0
            if network.given_head:
                untrained.discard(last)
        else:
            # If there are no heads to train, all epochs are those of the first phase.
            share = share if untrained - {last} else 1.0
            untrained.discard(last)
            trainer.fit(ExitView(network, [last]), ExitLoss([1.0]), share=share, phase="backbone")
        if untrained:
            view, trainer = view_of_heads(network, sorted(untrained), trainer)
            loss = ExitLoss([1.0] * len(untrained))
            trainer.fit(view, loss, share=1.0 - share, phase="heads")
