"""Operations per row of fitted scikit-learn estimators, by a stated count.

One comparison in a tree counts as one multiply-accumulate. Every other estimator is taken to use
each of its fitted numbers once per row: exact for linear models and perceptrons, for support
vectors the kernel's inner products, for neighbours a search by brute force.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    BaseEnsemble,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
)
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import BaseDecisionTree


@singledispatch
def estimator_macs(estimator: Any) -> float:
    """Operations that one row costs a fitted estimator.

    Parameters
    ----------
    estimator : fitted estimator
        A kind that the general rule does not fit gets a count of its own by
        ``estimator_macs.register``.

    Returns
    -------
    macs : float

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> estimator_macs(LogisticRegression(max_iter=1000).fit(X, y))
    15.0
    """
    count = 0.0
    for name, value in vars(estimator).items():
        if name.startswith("_") or not name.endswith("_"):
            continue
        for part in value if isinstance(value, list | tuple) else [value]:
            if isinstance(part, np.ndarray) and part.dtype.kind == "f":
                count += part.size
            elif hasattr(part, "get_params"):
                count += estimator_macs(part)
    return count


def _mean_path_length(tree: Any) -> float:
    """Comparisons that a training row meets on its way to its leaf, on average."""
    weights = tree.weighted_n_node_samples
    inner = tree.children_left >= 0
    return float(weights[inner].sum() / weights[0])


@estimator_macs.register(BaseDecisionTree)
def _(estimator: Any) -> float:
    return _mean_path_length(estimator.tree_)


@estimator_macs.register(BaseEnsemble)
def _(estimator: Any) -> float:
    # Each member answers with a vector of probabilities, and these are added up.
    n_added = len(estimator.estimators_) * len(estimator.classes_)
    return float(sum(estimator_macs(member) for member in estimator.estimators_) + n_added)


@estimator_macs.register(GradientBoostingClassifier)
def _(estimator: Any) -> float:
    trees = np.ravel(estimator.estimators_)
    return float(sum(_mean_path_length(tree.tree_) + 1 for tree in trees))


@estimator_macs.register(HistGradientBoostingClassifier)
def _(estimator: Any) -> float:
    count = 0.0
    for predictor in (tree for iteration in estimator._predictors for tree in iteration):
        nodes = predictor.nodes
        inner = nodes["is_leaf"] == 0
        count += float(nodes["count"][inner].sum() / nodes["count"][0]) + 1
    return count


@estimator_macs.register(KNeighborsClassifier)
@estimator_macs.register(RadiusNeighborsClassifier)
def _(estimator: Any) -> float:
    return float(estimator.n_samples_fit_ * estimator.n_features_in_)


@estimator_macs.register(StandardScaler)
def _(estimator: Any) -> float:
    return float(2 * estimator.n_features_in_)


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
    """Sum over the steps that are estimators, and not None or a word."""
    return float(sum(estimator_macs(step) for step in steps if hasattr(step, "fit")))


@estimator_macs.register(CalibratedClassifierCV)
def _(estimator: Any) -> float:
    return float(
        sum(
            estimator_macs(pair.estimator) + len(estimator.classes_)
            for pair in estimator.calibrated_classifiers_
        )
    )
