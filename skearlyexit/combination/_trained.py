"""Combination that is learned by the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from skearlyexit.combination._base import Combination, CombinationLearner
from skearlyexit.combination._own import OwnCombination


class TrainedCombination(OwnCombination):
    """Combination that is learned with the network by the training.

    `CombinedTraining`, `CombinerTraining` and `GatedTraining` learn combinations. The learned
    combination is a part of the network and is applied before temperature scaling.

    Parameters
    ----------
    required : bool, default=True
        Whether an error is raised if the training learns no combination. If False, the
        probabilities are then those predicted by the head at the exit.

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
        """Return the combination that the training learns.

        Parameters
        ----------
        training : TrainingStrategy
            Training of the network.
        n_classes : int
            Number of classes.
        neural : sequence of bool
            Whether each head is a neural network that is trained with the stages, rather than a
            scikit-learn estimator that is fitted afterwards.

        Returns
        -------
        combination : Combination or None
            Combination that the training learns, not fitted. None if it learns none.

        Raises
        ------
        ValueError
            If `required` is True and the training learns no combination, or if its combination does
            not support these heads.
        """
        learned = training.combination(n_classes, neural)
        if learned is None and self.required:
            raise ValueError(
                "combine='trained' uses the combination that the training learns, but "
                f"{type(training).__name__} learns none. Give training='combined', 'combiner' or "
                "'gated', or another 'combine'."
            )
        return learned
