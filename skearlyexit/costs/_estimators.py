"""Number of operations per sample of fitted scikit-learn estimators.

Linear models and perceptrons use each of their fitted numbers once. Support vector machines need
one inner product or distance for each support vector, and one product for each dual coefficient.
Neighbors by brute force need one distance for each training sample. Operations that processors do
not vectorize, comparisons in trees and exponentials in kernels, count as `SCALAR`. Each call of a
member of an ensemble counts as `CALL`.

There is no count for estimators whose time differs from it by more than a factor of 10 at some
sizes, such as Gaussian naive Bayes, which makes passes over temporary arrays. They are timed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    BaseEnsemble,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.feature_selection import SelectorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    ElasticNet,
    ElasticNetCV,
    HuberRegressor,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    PassiveAggressiveClassifier,
    Perceptron,
    QuantileRegressor,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.model_selection._search import BaseSearchCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR, NuSVC, NuSVR
from sklearn.tree import BaseDecisionTree

#: Number of MACs in the time of a comparison in a tree, or of an exponential.
SCALAR = 50.0
#: Number of MACs in the time per sample of a call of a member of an ensemble. A call takes about
#: 0.1 ms, for 256 samples. Both were measured by benchmarks/estimator_costs.py.
CALL = 5000.0


class UncountedError(TypeError):
    """Exception for estimators whose operations cannot be counted.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skearlyexit.costs import UncountedError, estimator_macs
    >>> X, y = load_iris(return_X_y=True)
    >>> try:
    ...     estimator_macs(GaussianNB().fit(X, y))
    ... except UncountedError as error:
    ...     print(error)
    There is no count of operations for GaussianNB.
    """


@singledispatch
def estimator_macs(estimator: Any) -> float:
    """Count the operations that a prediction for one sample takes.

    This is a `functools.singledispatch` function. Counts for further classes of estimators can be
    registered with ``estimator_macs.register``.

    Parameters
    ----------
    estimator : fitted estimator
        A scikit-learn classifier, regressor, transformer or pipeline.

    Returns
    -------
    macs : float
        Number of multiply-accumulate operations (MACs). Other operations are converted by the time
        that they take.

    Raises
    ------
    UncountedError
        If there is no count for the estimator, or for one that it consists of.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> estimator_macs(LogisticRegression(max_iter=1000).fit(X, y))
    15.0
    """
    raise UncountedError(f"There is no count of operations for {type(estimator).__name__}.")


_LINEAR = (
    ElasticNet,
    ElasticNetCV,
    HuberRegressor,
    LinearDiscriminantAnalysis,
    LinearRegression,
    LinearSVC,
    LinearSVR,
    LogisticRegression,
    LogisticRegressionCV,
    PassiveAggressiveClassifier,
    Perceptron,
    QuantileRegressor,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
)


def _linear(estimator: Any) -> float:
    return float(np.size(estimator.coef_) + np.size(estimator.intercept_))


for _kind in _LINEAR:
    estimator_macs.register(_kind, _linear)


@estimator_macs.register(MLPClassifier)
@estimator_macs.register(MLPRegressor)
def _(estimator: Any) -> float:
    return float(sum(part.size for part in (*estimator.coefs_, *estimator.intercepts_)))


@estimator_macs.register(SVC)
@estimator_macs.register(NuSVC)
@estimator_macs.register(SVR)
@estimator_macs.register(NuSVR)
def _(estimator: Any) -> float:
    # The linear kernel too is evaluated with every support vector.
    per_feature, per_vector = _KERNELS.get(estimator.kernel, (None, 0.0))
    if per_feature is None:
        raise UncountedError(
            f"There is no count of operations for the kernel {estimator.kernel!r} of "
            f"{type(estimator).__name__}."
        )
    n_vectors = estimator.n_support_.sum()
    kernel = n_vectors * (per_feature * estimator.n_features_in_ + per_vector)
    # Each support vector has one coefficient for every pair of classes that includes its own, and
    # a single one in regression.
    return float(kernel + estimator.dual_coef_.size)


#: Operations of kernels for each feature of a support vector, and further ones for each vector.
_KERNELS: dict[Any, tuple[float, float]] = {
    "linear": (1.0, 0.0),
    "poly": (1.0, 0.0),
    "rbf": (2.0, SCALAR),
    "sigmoid": (1.0, SCALAR),
}


@estimator_macs.register(ComplementNB)
@estimator_macs.register(MultinomialNB)
def _(estimator: Any) -> float:
    return float(estimator.feature_log_prob_.size)


@estimator_macs.register(QuadraticDiscriminantAnalysis)
def _(estimator: Any) -> float:
    return float(sum(rotation.size for rotation in estimator.rotations_))


@estimator_macs.register(DummyClassifier)
@estimator_macs.register(DummyRegressor)
@estimator_macs.register(SelectorMixin)
def _(estimator: Any) -> float:
    return 0.0


@estimator_macs.register(PCA)
@estimator_macs.register(TruncatedSVD)
def _(estimator: Any) -> float:
    return float(estimator.components_.size)


@estimator_macs.register(MaxAbsScaler)
def _(estimator: Any) -> float:
    return float(estimator.n_features_in_)


@estimator_macs.register(MinMaxScaler)
@estimator_macs.register(Normalizer)
@estimator_macs.register(RobustScaler)
@estimator_macs.register(StandardScaler)
def _(estimator: Any) -> float:
    return float(2 * estimator.n_features_in_)


@estimator_macs.register(VotingClassifier)
@estimator_macs.register(VotingRegressor)
@estimator_macs.register(MultiOutputRegressor)
def _(estimator: Any) -> float:
    return _sum_of(estimator.estimators_)


@estimator_macs.register(StackingClassifier)
@estimator_macs.register(StackingRegressor)
def _(estimator: Any) -> float:
    return _sum_of([*estimator.estimators_, estimator.final_estimator_])


@estimator_macs.register(FrozenEstimator)
def _(estimator: Any) -> float:
    return estimator_macs(estimator.estimator)


@estimator_macs.register(BaseSearchCV)
def _(estimator: Any) -> float:
    return estimator_macs(estimator.best_estimator_)


@estimator_macs.register(FixedThresholdClassifier)
@estimator_macs.register(TunedThresholdClassifierCV)
def _(estimator: Any) -> float:
    return estimator_macs(estimator.estimator_)


def _mean_path(tree: Any) -> float:
    """Mean number of operations from the root of a tree to the leaf of a training sample."""
    weights = tree.weighted_n_node_samples
    inner = tree.children_left >= 0
    return SCALAR * float(weights[inner].sum() / weights[0])


@estimator_macs.register(BaseDecisionTree)
def _(estimator: Any) -> float:
    return _mean_path(estimator.tree_)


@estimator_macs.register(BaseEnsemble)
@estimator_macs.register(OneVsRestClassifier)
@estimator_macs.register(OneVsOneClassifier)
@estimator_macs.register(OutputCodeClassifier)
def _(estimator: Any) -> float:
    return _sum_of(estimator.estimators_) + len(estimator.estimators_) * per_member(estimator)


def per_member(ensemble: Any) -> float:
    """Operations for each member of an ensemble in addition to its own, per sample.

    A member returns a value for each class or target, and these are summed.
    """
    if hasattr(ensemble, "classes_"):
        return CALL + len(ensemble.classes_)
    return float(CALL + getattr(ensemble.estimators_[0], "n_outputs_", 1))


@estimator_macs.register(CalibratedClassifierCV)
def _(estimator: Any) -> float:
    # Each class is calibrated by a call of its own.
    pairs = estimator.calibrated_classifiers_
    per_pair = len(estimator.classes_) * (CALL + SCALAR)
    return _sum_of(pair.estimator for pair in pairs) + len(pairs) * per_pair


@estimator_macs.register(GradientBoostingClassifier)
@estimator_macs.register(GradientBoostingRegressor)
def _(estimator: Any) -> float:
    trees = np.ravel(estimator.estimators_)
    return float(sum(_mean_path(tree.tree_) + 1 for tree in trees))


@estimator_macs.register(HistGradientBoostingClassifier)
@estimator_macs.register(HistGradientBoostingRegressor)
def _(estimator: Any) -> float:
    trees = [tree for iteration in estimator._predictors for tree in iteration]
    return float(sum(estimator_macs(tree) + 1 for tree in trees))


@estimator_macs.register(TreePredictor)
def _(estimator: Any) -> float:
    nodes = estimator.nodes
    inner = nodes["is_leaf"] == 0
    return SCALAR * float(nodes["count"][inner].sum() / nodes["count"][0])


@estimator_macs.register(KNeighborsClassifier)
@estimator_macs.register(KNeighborsRegressor)
@estimator_macs.register(RadiusNeighborsClassifier)
@estimator_macs.register(RadiusNeighborsRegressor)
def _(estimator: Any) -> float:
    if estimator._fit_method != "brute":
        raise UncountedError(
            f"There is no count of operations for the {estimator._fit_method!r} search of "
            f"{type(estimator).__name__}."
        )
    return float(estimator.n_samples_fit_ * estimator.n_features_in_)


@estimator_macs.register(Pipeline)
def _(estimator: Any) -> float:
    return _sum_of(step for _, step in estimator.steps)


@estimator_macs.register(FeatureUnion)
def _(estimator: Any) -> float:
    return _sum_of(step for _, step in estimator.transformer_list)


@estimator_macs.register(ColumnTransformer)
def _(estimator: Any) -> float:
    return _sum_of(step for _, step, _ in estimator.transformers_)


def _sum_of(steps: Iterable[Any]) -> float:
    """Sum over the steps that are estimators, rather than None or a string."""
    return float(sum(estimator_macs(step) for step in steps if hasattr(step, "fit")))
