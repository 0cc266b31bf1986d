"""Counted operations of scikit-learn regressors."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.ensemble import (
    BaggingRegressor,
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
    StackingRegressor,
    VotingRegressor,
)
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, Ridge, SGDRegressor
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR, LinearSVR
from sklearn.tree import DecisionTreeRegressor

from skearlyexit.costs import UncountedError, estimator_macs
from skearlyexit.costs._estimators import CALL, SCALAR

X, y = load_diabetes(return_X_y=True)


@pytest.mark.parametrize(
    "model",
    [LinearRegression(), Ridge(), Lasso(), ElasticNet(), SGDRegressor(tol=1), LinearSVR(tol=1)],
)
def test_linear_ones_use_each_coefficient_once(model):
    for name in {"random_state"} & set(model.get_params()):
        model.set_params(**{name: 0})
    assert estimator_macs(model.fit(X, y)) == 11  # ten features and the intercept


def test_several_targets():
    two = np.column_stack([y, -y])
    assert estimator_macs(Ridge().fit(X, two)) == 22
    assert estimator_macs(MultiOutputRegressor(Ridge()).fit(X, two)) == 22


def test_sums_of_members():
    members = [("a", Ridge()), ("b", LinearRegression())]
    assert estimator_macs(VotingRegressor(members).fit(X, y)) == 22
    stack = StackingRegressor(members, Ridge(), cv=2).fit(X, y)
    assert estimator_macs(stack) == 22 + 3
    assert estimator_macs(make_pipeline(StandardScaler(), Ridge()).fit(X, y)) == 20 + 11


@pytest.mark.parametrize("n_targets", [1, 3])
@pytest.mark.parametrize(
    "forest",
    [
        RandomForestRegressor(5, max_depth=3, random_state=0),
        ExtraTreesRegressor(5, max_depth=3, random_state=0),
        BaggingRegressor(DecisionTreeRegressor(max_depth=3), 5, random_state=0),
    ],
)
def test_forests_call_their_members(forest, n_targets):
    forest.fit(X, y if n_targets == 1 else np.column_stack([y] * n_targets))
    paths = [estimator_macs(tree) for tree in forest.estimators_]
    # Each tree returns a value for each target, and these are summed.
    assert estimator_macs(forest) == pytest.approx(sum(paths) + 5 * (CALL + n_targets))


@pytest.mark.parametrize("kind", [GradientBoostingRegressor, HistGradientBoostingRegressor])
def test_boosting_adds_paths_of_trees(kind):
    few, many = (
        kind(max_depth=1, random_state=0, **{name: n}).fit(X, y)
        for n in (1, 10)
        for name in [
            "max_iter" if kind is HistGradientBoostingRegressor else "n_estimators",
        ]
    )
    assert estimator_macs(few) == SCALAR + 1
    assert estimator_macs(many) == 10 * (SCALAR + 1)


# SVR draws from numpy's generator.
@pytest.mark.changes("numpy random state")
def test_the_others():
    mlp = MLPRegressor(
        hidden_layer_sizes=[7], tol=1e9, max_iter=20, early_stopping=True, random_state=0
    ).fit(X, y)
    assert estimator_macs(mlp) == 10 * 7 + 7 + 7 + 1
    svr = SVR().fit(X, y)
    n_vectors = len(svr.support_)
    assert estimator_macs(svr) == n_vectors * (2 * 10 + SCALAR) + n_vectors
    near = KNeighborsRegressor(algorithm="brute").fit(X, y)
    assert estimator_macs(near) == X.size
    assert estimator_macs(DecisionTreeRegressor(max_depth=1, random_state=0).fit(X, y)) == SCALAR
    with pytest.raises(UncountedError):
        estimator_macs(KernelRidge().fit(X, y))
