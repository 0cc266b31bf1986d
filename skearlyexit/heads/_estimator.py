"""Any scikit-learn classifier as a head, fitted on frozen embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from skearlyexit._determinism._classifier import BatchInvariantClassifier
from skearlyexit.costs import CostInput
from skearlyexit.heads._base import FittedHead, Head, PooledModule
from skearlyexit.heads._linear import LinearHead

_ADVICE = "Give a head with predict_proba, or policy='patience', which needs none."


@dataclass
class EstimatorExit(FittedHead):
    """A fitted scikit-learn classifier that answers.

    Attributes
    ----------
    steady : BatchInvariantClassifier
        What calls it.
    """

    steady: BatchInvariantClassifier

    def predict_proba(self, embedding: torch.Tensor) -> np.ndarray:
        """Probabilities of the estimator, or its labels as such; see `FittedHead.predict_proba`."""
        vectors = self.pooling(embedding).to("cpu", torch.float64).numpy()
        if np.isfinite(vectors.sum()):
            return self.steady.predict_proba(vectors)
        # Some estimators refuse a whole batch for one sample, others take NaN for a missing value.
        finite = np.isfinite(vectors).all(axis=1, keepdims=True)
        answers = self.steady.predict_proba(np.where(finite, vectors, 0.0))
        return np.where(finite, answers, np.nan)

    def part(self, embedding: torch.Tensor) -> CostInput:
        """Estimator and pooling; see `FittedHead.part`."""
        return CostInput(self.predict_proba, embedding, self.model, pooling=self.pooling)

    def to(self, device: torch.device | str) -> None:
        """Move the pooling; the estimator lives in main memory."""
        self.pooling.to(device)


class EstimatorHead(Head):
    """A scikit-learn classifier on the pooled, frozen embeddings.

    While the network is trained a linear head stands in its place. A classifier without
    `predict_proba` is calibrated by ``CalibratedClassifierCV(ensemble=False)`` if the policy needs
    probabilities; classes with a single row, which cannot be calibrated, are then left out of it
    with a warning. One whose `fit` takes no `sample_weight` is fitted on rows drawn by weight.

    Parameters
    ----------
    estimator : scikit-learn classifier or pipeline
        Cloned before use. Parameters `random_state` that are None are set from the seed of the
        fit; `n_jobs` is set to 1 after fitting, so that a prediction does not depend on how work
        is shared out.
    pooling : {"average", "flatten"} or torch.nn.Module, default="average"
        From embeddings to vectors; weights in it are learned with the stand-in.
    cross_fit : int, default=None
        Number of folds for cross-fitting the embeddings. A network has seen its training rows, and
        the embeddings that it gives them are easier to tell apart than those of new rows. With 3,
        three more networks are trained for every network (those of the calibration's folds are
        networks too), each on two thirds of its rows; the embeddings it gives to the other third
        are mapped to the coordinates of the final network, by least squares, and the classifier is
        fitted on these. Heads with the same number share those networks.

    Notes
    -----
    The classifier is fitted on the labels of the user, so that those are its ``classes_``, and
    parameters that name labels, such as `class_weight`, are as for the classifier alone. If its
    `fit` fails with them, since some classifiers take only 0, ..., n_classes - 1, it is fitted on
    the indices of the labels, and the keys of its `class_weight` are replaced by these; its
    ``classes_`` are then indices of ``classes_`` of the early-exit classifier.

    Cross-fitted embeddings were seen to make decision trees order rows better by how sure they are
    on two sets, and otherwise to be of no use and sometimes to lose accuracy; see the user guide.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skearlyexit import EarlyExitClassifier, EstimatorHead, MLPBackbone
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"],
    ...     head=EstimatorHead(DecisionTreeClassifier(max_depth=4)), calibration=None,
    ...     max_epochs=2, random_state=0).fit(X, y)
    >>> [type(head.model).__name__ for head in clf.cascade_.network.heads]
    ['DecisionTreeClassifier', 'DecisionTreeClassifier']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "cross_fit": [Interval(Integral, 2, None, closed="left"), None]
    }
    is_neural = False

    def __init__(
        self,
        estimator: Any,
        *,
        pooling: str | torch.nn.Module = "average",
        cross_fit: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.pooling = pooling
        self.cross_fit = cross_fit

    def build(self, embedding: torch.Tensor, n_classes: int) -> PooledModule:
        """Linear stand-in; see `Head.build`."""
        return LinearHead(pooling=self.pooling).build(embedding, n_classes)

    def fit(
        self,
        module: PooledModule,
        embeddings: np.ndarray | None,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        *,
        classes: np.ndarray,
        needs_probabilities: bool,
        seed: int,
    ) -> FittedHead:
        """Fit a clone of the estimator on the pooled embeddings; see `Head.fit`."""
        assert embeddings is not None
        try:
            steady = BatchInvariantClassifier.fit(
                self.estimator,
                embeddings,
                classes[y],
                sample_weight,
                classes=classes,
                needs_probabilities=needs_probabilities,
                seed=seed,
                advice=_ADVICE,
            )
        except Exception as error:
            error.add_note(
                f"This comes from fitting {type(self.estimator).__name__} as a head, on embeddings "
                f"of the network of shape {embeddings.shape} and not on X."
            )
            raise
        return EstimatorExit(steady.model, module.pooling, steady)
