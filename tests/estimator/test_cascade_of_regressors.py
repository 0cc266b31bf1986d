"""The members of an ensemble of regressors in a row."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingRegressor,
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from skearlyexit import CascadeClassifier, CascadeRegressor
from skearlyexit.costs import estimator_macs
from tests._data import same

X, Y = make_friedman1(500, noise=0.5, random_state=0)
X_NEW, Y_NEW = make_friedman1(300, noise=0.5, random_state=1)
TWO = np.column_stack([Y, 3 - Y])
N = 20


def lightgbm(**params):
    kind = pytest.importorskip("lightgbm").LGBMRegressor
    return kind(n_estimators=N, n_jobs=2, verbose=-1, **params)


def xgboost(**params):
    kind = pytest.importorskip("xgboost").XGBRegressor
    return kind(n_estimators=N, n_jobs=2, max_depth=3, **params)


def histograms(**params):
    return HistGradientBoostingRegressor(max_iter=N, early_stopping=False, random_state=0, **params)


def bagging(*args, **params):
    return BaggingRegressor(*args, n_estimators=N, max_features=0.5, random_state=0, **params)


#: A function that makes an ensemble, and the targets that it is fitted on.
ENSEMBLES = {
    "forest": (lambda: RandomForestRegressor(N, random_state=0), Y),
    "forest of two targets": (lambda: RandomForestRegressor(N, random_state=0), TWO),
    "extra trees": (lambda: ExtraTreesRegressor(N, random_state=0), Y),
    "bagging": (bagging, Y),
    "bagging of linear models": (lambda: bagging(LinearRegression()), TWO),
    "trees": (lambda: GradientBoostingRegressor(n_estimators=N, random_state=0), Y),
    "trees from zero": (
        lambda: GradientBoostingRegressor(
            loss="huber", init="zero", n_estimators=N, random_state=0
        ),
        Y,
    ),
    "histograms": (histograms, Y),
    "logarithms": (lambda: histograms(loss="poisson"), Y),
    "lightgbm": (lightgbm, Y),
    "lightgbm, logarithms": (lambda: lightgbm(objective="tweedie"), Y),
    "lightgbm, roots": (lambda: lightgbm(reg_sqrt=True), TWO[:, 1]),
    "xgboost": (xgboost, Y),
    "xgboost, logarithms": (lambda: xgboost(objective="count:poisson"), Y),
    "xgboost, two quantiles": (
        lambda: xgboost(objective="reg:quantileerror", quantile_alpha=[0.1, 0.9]),
        Y,
    ),
    "xgboost of two targets": (xgboost, TWO),
}


def cascade(ensemble, y=Y, **params):
    defaults = {"cost": [3, 5, 12], "random_state": 0, "threshold": 0.6, "policy": "change"}
    reg = CascadeRegressor.from_ensemble(ensemble, [3, 8], **{**defaults, **params})
    return reg.fit(X[300:], y[300:])


def fitted(name):
    make, y = ENSEMBLES[name]
    return make().fit(X[:300], y[:300]), y


def staged(ensemble, stop):
    """Values after some members, as the library itself or the sum by hand predicts them."""
    kind = type(ensemble).__name__
    if kind == "LGBMRegressor":
        return ensemble.predict(X_NEW, num_iteration=stop)
    if kind == "XGBRegressor":
        return ensemble.predict(X_NEW, iteration_range=(0, stop))
    if hasattr(ensemble, "staged_predict"):
        return list(ensemble.staged_predict(X_NEW))[stop - 1]
    columns = getattr(ensemble, "estimators_features_", [slice(None)] * N)
    members = zip(ensemble.estimators_[:stop], columns, strict=False)
    return np.mean([member.predict(X_NEW[:, some]) for member, some in members], axis=0)


@pytest.mark.parametrize("name", ENSEMBLES)
def test_every_exit_predicts_as_its_members(name):
    ensemble, y = fitted(name)
    if "quantiles" in name:
        y = TWO  # of which both are predicted
    before = pickle.dumps(ensemble)
    reg = cascade(ensemble, y)
    assert pickle.dumps(ensemble) == before
    assert reg.exit_names_ == ["3", "8", "20"]
    for found, stop in zip(reg.staged_predict(X_NEW), (3, 8, N), strict=True):
        np.testing.assert_allclose(found, staged(ensemble, stop), rtol=1e-5)
    last = reg.predict(X_NEW, threshold=np.inf)
    whole = clone_in_one_job(ensemble).predict(X_NEW)
    if name.startswith("lightgbm"):
        np.testing.assert_allclose(last, whole, rtol=1e-13)
    elif "linear" in name:
        np.testing.assert_allclose(last, whole, rtol=1e-12)  # BLAS depends on the batch
    else:
        assert same(last, whole)
    # In any batch, also after it was pickled.
    table = reg.exit_table(X_NEW)
    # No sample exits at the first exit, at which nothing has changed yet.
    thresholds = [1.1, np.quantile(table.scores[:, 1], 0.5, method="nearest")]
    values, exits = reg.predict(X_NEW, threshold=thresholds, return_exits=True)
    assert 0 < np.mean(exits == 1) < 1
    assert same(exits, table.exits(thresholds))
    assert same(values, table.predictions[np.arange(len(exits)), exits])
    twin = pickle.loads(pickle.dumps(reg))
    assert same(twin.predict(X_NEW[5:12], threshold=thresholds), values[5:12])


def clone_in_one_job(ensemble):
    """Copy of a fitted ensemble that predicts in a single job."""
    copied = pickle.loads(pickle.dumps(ensemble))
    return copied.set_params(n_jobs=1) if "n_jobs" in copied.get_params() else copied


def test_no_member_is_called_twice_or_for_samples_that_have_exited(monkeypatch):
    forest, _ = fitted("forest")
    reg = cascade(forest)
    asked = []
    own = DecisionTreeRegressor.predict

    def counted(self, X, check_input=True):
        asked.append((self.random_state, len(X)))
        return own(self, X, check_input)

    monkeypatch.setattr(DecisionTreeRegressor, "predict", counted)
    _, exits = reg.predict(X_NEW, threshold=[0, 0.6], return_exits=True)
    assert len(asked) == 3
    asked.clear()
    _, exits = reg.predict(X_NEW, threshold=[2, 0.6], return_exits=True)
    n_last = np.sum(exits == 2)
    assert 0 < n_last < len(X_NEW)
    trees = [tree.random_state for tree in forest.estimators_]
    assert asked == list(zip(trees, np.repeat([300, 300, n_last], [3, 5, 12]), strict=True))


@pytest.mark.parametrize("name", ["forest", "forest of two targets", "trees", "histograms"])
def test_operations_are_those_of_the_ensemble(name):
    ensemble, y = fitted(name)
    reg = cascade(ensemble, y, cost="macs")
    assert reg.cost_table_.plain == pytest.approx(estimator_macs(ensemble))
    assert cascade(ensemble, y).costs_.tolist() == [3 / 20, 8 / 20, 1.0]


def test_ensembles_that_are_refused():
    forest, _ = fitted("forest")
    with pytest.raises(TypeError, match=r"HistGradientBoostingRegressor, LGBM.*Got RandomForestCl"):
        CascadeRegressor.from_ensemble(RandomForestClassifier(), [3])
    with pytest.raises(TypeError, match=r"LGBMClassifier or XGBClassifier. Got RandomForestRegr"):
        CascadeClassifier.from_ensemble(forest, [3])
    with pytest.raises(TypeError, match="Got AdaBoostRegressor"):
        CascadeRegressor.from_ensemble(AdaBoostRegressor(), [3])
    with pytest.raises(ValueError, match=r"RandomForestRegressor\) predicts 1 target.*y holds 2"):
        cascade(forest, TWO)
    unit = (Y - Y.min()) / np.ptp(Y)
    other = lightgbm(objective="cross_entropy").fit(X, unit)
    with pytest.raises(ValueError, match=r"objective='regression'.*Got 'cross_entropy'"):
        CascadeRegressor.from_ensemble(other, [3])


def test_an_ensemble_with_other_members_is_refused():
    forest, _ = fitted("forest")
    reg = CascadeRegressor.from_ensemble(forest, [3], cost=[1, 2], random_state=0)
    forest.set_params(n_estimators=9).fit(X[:300], Y[:300])
    with pytest.raises(ValueError, match="has 9 members, and had 20"):
        clone(reg).fit(X, Y)
