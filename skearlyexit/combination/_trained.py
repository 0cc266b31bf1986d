"""The combination that training has learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from skearlyexit.combination._base import Combination, CombinationLearner
from skearlyexit.combination._own import OwnCombination


class TrainedCombination(OwnCombination):
    """Probabilities as combined by what the training has learned.

    The network itself applies it, before any temperature.

    Parameters
    ----------
    required : bool, default=True
        Whether a training that learns no combination is refused. If it is not, the probabilities
        are those of the head at the exit.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import CombinedTraining, EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.combination import TrainedCombination
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"],
    ...     training=CombinedTraining("mean"), combine=TrainedCombination(), calibration=None,
    ...     max_epochs=2, random_state=0)
    >>> clf.fit(X, y).cascade_.network.combiner.weights
    [0.3333333432674408, 0.3333333432674408, 0.3333333432674408]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {"required": ["boolean"]}

    def __init__(self, required: bool = True) -> None:
        self.required = required

    def of_training(
        self, training: CombinationLearner, n_classes: int, neural: Sequence[bool]
    ) -> Combination | None:
        """The one that the training learns; see `Combination.of_training`."""
        learned = training.combination(n_classes, neural)
        if learned is None and self.required:
            raise ValueError(
                "combine='trained' is the combination of the heads that training has learned, and "
                f"{type(training).__name__} learns none. Give training='combined', 'combiner' or "
                "'gated', or another 'combine'."
            )
        return learned
