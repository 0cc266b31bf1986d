"""Estimators in a row in ONNX Runtime: as a file, and as the runtime of a cascade."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from skearlyexit import Budget, CascadeClassifier, CascadeRegressor
from skearlyexit._data._given import GivenRows
from skearlyexit._determinism._estimator import _moments
from skearlyexit.policies import ConfidencePolicy
from skearlyexit.runtime import ExportError, OnnxCascade
from tests._data import blobs, same
from tests._values import check_values

pytest.importorskip("onnxruntime")

X, y, X_TEST, Y_TEST = blobs()
# Values that are the same in single precision.
X, X_TEST = (each.astype(np.float32).astype(np.float64) for each in (X, X_TEST))
NAMES = np.array(["a", "b", "c", "d"])[y]
VALUES = X[:, 0] ** 2 + 30 * np.tanh(X[:, 1])


def two(first=None, last=None, **params):
    estimators = [
        (
            "first",
            make_pipeline(StandardScaler(), LogisticRegression()) if first is None else first,
        ),
        ("last", RandomForestClassifier(20, max_depth=6) if last is None else last),
    ]
    defaults = {"cost": [1, 9], "random_state": 0, "threshold": 0.8, "calibration": 0.3}
    return CascadeClassifier(estimators, **{**defaults, **params})


def regressors(first=None, last=None, **params):
    estimators = [
        ("first", first or Ridge()),
        ("second", DecisionTreeRegressor(max_depth=4)),
        ("last", last or RandomForestRegressor(10, max_depth=6)),
    ]
    defaults = {"cost": [1, 2, 9], "random_state": 0, "calibration": 0.3}
    return CascadeRegressor(estimators, **{**defaults, **params})


def exported(clf, folder, **params):
    clf.to_onnx(folder / "cascade.onnx", **params)
    return OnnxCascade(folder / "cascade.onnx")


def check(clf, folder, rows=X_TEST, **params):
    """Compare all answers, but those that are decided by an error in single precision."""
    cascade = exported(clf, folder)
    expected, exits = clf.predict_proba(rows, return_exits=True, **params)
    found, found_exits = cascade.predict_proba(rows, return_exits=True, **params)
    assert 0 < exits.mean() < 1
    same_exit = exits == found_exits
    assert same_exit.mean() > 0.99
    np.testing.assert_allclose(found[same_exit], expected[same_exit], atol=1e-4)
    close = np.abs(np.sort(expected)[:, -1] - np.sort(expected)[:, -2]) < 1e-4
    labels = cascade.predict(rows, **params)
    assert np.all((labels == clf.predict(rows, **params)) | close | ~same_exit)
    return cascade


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"policy": "margin", "temperature_scaling": True},
        {"policy": "entropy", "combine": "mean"},
        {"last": HistGradientBoostingClassifier(max_iter=10)},
        {"columns": {"first": [7, 2, 4]}},
        {"train_share": 0.5},
    ],
)
def test_predictions(params, tmp_path):
    cascade = check(two(**params).fit(X, NAMES), tmp_path)
    assert cascade.exit_names_ == ["first", "last"]
    assert cascade.classes_.tolist() == list("abcd")


def test_frozen_estimators_of_labels_in_any_order(tmp_path):
    first = LogisticRegression(max_iter=999).fit(X[:300], NAMES[:300])
    order = [2, 0, 3, 1]
    first.classes_, first.coef_, first.intercept_ = (
        each[order] for each in (first.classes_, first.coef_, first.intercept_)
    )
    last = RandomForestClassifier(20, random_state=0).fit(X[:300], NAMES[:300])
    clf = two(FrozenEstimator(first), FrozenEstimator(last)).fit(X[300:], NAMES[300:])
    cascade = check(clf, tmp_path)
    assert same(cascade.predict(X_TEST, threshold=0), first.predict(X_TEST))


def test_a_class_that_an_estimator_does_not_know(tmp_path):
    # The last is fitted on the hard samples, none of which is of this class.
    easy = X + 100 * (y == 3)[:, None]
    clf = two(train_share=0.3, calibration=None, threshold=0.7).fit(easy, NAMES)
    assert clf.estimators_[1].classes_.tolist() == list("abc")
    check(clf, tmp_path, X_TEST + 100 * (Y_TEST == 3)[:, None])


def test_data_frames(tmp_path):
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(13)])
    clf = two(columns={"first": ["x1", "x5"]}, threshold=0.5).fit(frame, y)
    new = pd.DataFrame(X_TEST, columns=frame.columns)
    cascade = check(clf, tmp_path, new)
    with pytest.raises(ValueError, match="features of fit in the same order"):
        cascade.predict(new.iloc[:, ::-1])


def test_operating_points(tmp_path):
    clf = two(threshold=None, budget=0.5).fit(X, y)
    cascade = exported(clf, tmp_path)
    assert same(cascade.costs_, clf.costs_)
    assert same(cascade.thresholds_, clf.thresholds_)
    check(clf, tmp_path, budget=0.3)
    assert exported(clf, tmp_path, threshold=0.6).thresholds_.tolist() == [0.6]
    single = exported(clf, tmp_path, threshold=0.6, single_sample=True)
    assert same(single.predict(X_TEST), clf.predict(X_TEST, threshold=0.6))
    with pytest.raises(ValueError, match="strict budget cannot be exported"):
        clf.to_onnx(tmp_path / "cascade.onnx", budget=Budget(0.5, strict=True))


def test_missing_values_are_refused(tmp_path):
    last = HistGradientBoostingClassifier(max_iter=5)
    clf = two(HistGradientBoostingClassifier(max_iter=2), last).fit(X, y)
    rows = X_TEST[:5].copy()
    rows[2, 3] = np.nan
    assert clf.predict(rows).shape == (5,)
    with pytest.raises(ValueError, match="NaN"):
        exported(clf, tmp_path).predict(rows)


class Unknown(ClassifierMixin, BaseEstimator):
    """Classifier that skl2onnx does not know."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


@pytest.mark.parametrize(
    "model",
    [
        LinearDiscriminantAnalysis(),  # whose decision function skl2onnx doubles for two classes
        KNeighborsClassifier(weights="distance"),
        CalibratedClassifierCV(GaussianNB(), method="isotonic", cv=3),
    ],
    ids=str,
)
def test_conversions_that_are_wrong_near_the_samples_only(model, tmp_path):
    """Standard normal samples are so far from those of this table that probabilities are 0 or 1."""
    X, y = load_breast_cancer(return_X_y=True)
    clf = two(GaussianNB(), model, calibration=None).fit(X, y)
    with pytest.raises(ExportError, match=r"'last' .* predictions for 76 random samples differ"):
        clf.to_onnx(tmp_path / "cascade.onnx")


def test_moments_of_sparse_samples_are_computed_without_a_dense_array(monkeypatch):
    rows = scipy.sparse.random_array((300, 50), density=0.1, format="csr", rng=0)
    some = rows[np.linspace(0, 299, 256).astype(int)].toarray()
    monkeypatch.setattr(scipy.sparse.csr_array, "toarray", None)
    mean, deviation = _moments(GivenRows(rows))
    np.testing.assert_allclose(mean, some.mean(axis=0))
    np.testing.assert_allclose(deviation, some.std(axis=0))


@pytest.mark.parametrize("n_trees", [18, 20, 22, 36])
def test_sums_of_a_forest_are_not_below_0(n_trees):
    X, y = load_breast_cancer(return_X_y=True)
    forest = RandomForestClassifier(n_trees, random_state=0)
    clf = two(GaussianNB(), forest, calibration=None, threshold=2.0).fit(X[::2], y[::2])
    rows = X.astype(np.float32).astype(np.float64)
    expected = clf.predict_proba(rows)
    found = clf.set_params(runtime="onnx").predict_proba(rows)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.min() >= 0


def test_masked_samples_are_refused():
    clf = two().fit(X, y)
    masked = np.ma.array(X_TEST, mask=X_TEST > 2)
    fast = copy.deepcopy(clf).set_params(runtime="onnx")
    for each in (clf, clf.to_predictor(), fast, fast.to_predictor()):
        with pytest.raises(ValueError, match="X is an array with masked entries"):
            each.predict(masked)


def test_what_cannot_be_converted(tmp_path):
    path = tmp_path / "cascade.onnx"
    with pytest.raises(ExportError, match=r"The estimator 'last' \(Unknown\) cannot be converted"):
        two(last=Unknown()).fit(X, y).to_onnx(path)
    forest = RandomForestClassifier(9, random_state=0).fit(X[:300], y[:300])
    parts = CascadeClassifier.from_ensemble(forest, [3], cost=[1, 2], random_state=0)
    passing = two(pass_probabilities=True)
    for clf in (parts, passing):
        with pytest.raises(ExportError, match="depends on what those before it have computed"):
            clf.fit(X[300:], y[300:]).to_onnx(path)
    texts = [(name, make_pipeline(CountVectorizer(), MultinomialNB())) for name in "ab"]
    clf = CascadeClassifier(texts, cost=[1, 2], random_state=0)
    with pytest.raises(ExportError, match="samples without columns, such as texts"):
        clf.fit(["red", "blue"] * 30, [0, 1] * 30).to_onnx(path)
    named = ColumnTransformer([("number", "passthrough", ["x"])])
    clf = two(first=make_pipeline(named, DecisionTreeClassifier(max_depth=2)))
    frame = pd.DataFrame({"x": X[:, 0], "z": X[:, 1]})
    with pytest.raises(ExportError, match=r"The estimator 'first' \(Pipeline\)"):
        clf.fit(frame, y).to_onnx(path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("params", "targets"),
    [
        ({}, VALUES),
        (
            {
                "last": HistGradientBoostingRegressor(max_iter=10),
                "columns": {"first": [7, 0, 4]},
                "combine": "cost_weighted",
                "policy": "change",
            },
            VALUES,
        ),
        # The conversion of the last returns one column.
        (
            {"last": MLPRegressor(hidden_layer_sizes=(8,), tol=1e9, n_iter_no_change=2)},
            np.column_stack([VALUES, 1e4 * X[:, 2]]),
        ),
    ],
    ids=["default", "columns", "two targets"],
)
def test_regressors(params, targets, tmp_path):
    reg = regressors(**params).fit(X, targets)
    cascade = exported(reg, tmp_path)
    check_values(reg, cascade.predict, X_TEST)
    assert same(cascade.costs_, reg.costs_)
    assert cascade.exit_names_ == ["first", "second", "last"]


def test_values_that_single_precision_cannot_hold_are_an_error():
    reg = regressors(runtime="onnx", threshold=np.inf, last=Ridge()).fit(X, 1e3 * VALUES)
    rows = X_TEST[:9].copy()
    rows[[2, 5]] = 1e38
    with pytest.raises(ValueError, match=r"infinite for 2 samples, .* X\[2\]"):
        reg.predict(rows)


@pytest.fixture(scope="module")
def both():
    """A classifier on data frames, and a copy that ONNX Runtime executes."""
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(13)])
    clf = two(threshold=None, budget=0.5).fit(frame, NAMES)
    return clf, copy.deepcopy(clf).set_params(runtime="onnx")


FRAME = pd.DataFrame(X_TEST, columns=[f"x{i}" for i in range(13)])


@pytest.mark.parametrize("asked", [{}, {"threshold": 0.7}, {"budget": 0.9}, {"threshold": np.inf}])
def test_as_the_runtime(both, asked):
    clf, fast = both
    labels, exits = clf.predict(FRAME, return_exits=True, **asked)
    found = fast.predict(FRAME, return_exits=True, **asked)
    assert same(found[0], labels)
    assert same(found[1], exits)
    expected = clf.predict_proba(FRAME, **asked)
    np.testing.assert_allclose(fast.predict_proba(FRAME, **asked), expected, atol=1e-5)
    predictor = fast.to_predictor(**asked)
    single, exit_ = predictor.predict(X_TEST[:1], return_exits=True)
    assert same(single, labels[:1])
    assert same(exit_, exits[:1])
    found = predictor.predict_proba(X_TEST)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert same(predictor.classes_, clf.classes_)


def test_what_is_compiled_is_kept_but_not_stored(both):
    clf, fast = both
    fast.predict(FRAME)
    session = fast.cascade_.compiled["onnx"]
    fast.predict(FRAME)
    assert fast.cascade_.compiled["onnx"] is session
    assert not pickle.loads(pickle.dumps(fast)).cascade_.compiled
    assert not copy.deepcopy(fast).cascade_.compiled
    # Reports and calibration call the estimators.
    assert same(fast.exit_table(FRAME).scores, clf.exit_table(FRAME).scores)


def test_samples_and_budgets_that_onnx_runtime_does_not_support(both):
    _, fast = both
    with pytest.raises(ValueError, match="Set runtime='sklearn'"):
        fast.predict(FRAME, budget=Budget(0.9, strict=True))
    with pytest.raises(ValueError, match="Set runtime='sklearn'"):
        fast.to_predictor(budget=Budget(0.9, strict=True))
    missing, large = FRAME.copy(), FRAME.copy()
    missing.iloc[3, 2], large.iloc[3, 2] = np.nan, 1e300
    with pytest.raises(ValueError, match="contains NaN"):
        fast.predict(missing)
    with pytest.raises(ValueError, match=r"too large for dtype\('float32'\)"):
        fast.predict(large)
    with pytest.raises(ValueError, match="in the same order"):
        fast.predict(FRAME.iloc[:, ::-1])
    with pytest.raises(ValueError, match="in the same order"):
        fast.to_predictor().predict(FRAME.iloc[:, ::-1])


class Untrained(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        raise AssertionError("a training was begun")


class Halved(ConfidencePolicy):
    def step(self, state, probabilities, exit_=0):
        score, state = super().step(state, probabilities, exit_)
        return score / 2, state


TEXTS = np.array(["red", "blue"] * 250)
WITH_A_GAP = np.where(np.arange(X.size).reshape(X.shape) == 7, np.nan, X)


@pytest.mark.parametrize(
    ("params", "rows", "message"),
    [
        ({"policy": Halved()}, X, "Halved cannot be converted .* the default runtime"),
        ({"pass_probabilities": True}, X, "'last' .* depends on what those before it"),
        ({}, TEXTS, "samples without columns, such as texts"),
        ({}, WITH_A_GAP, "contains NaN"),
    ],
    ids=["policy", "pass_probabilities", "texts", "missing"],
)
def test_a_runtime_is_refused_before_training(params, rows, message):
    clf = two(Untrained(), Untrained(), runtime="onnx", **params)
    with pytest.raises(ValueError, match=message):
        clf.fit(rows, y)


def test_the_runtime_of_parts_of_an_ensemble_is_refused():
    forest = RandomForestClassifier(9, random_state=0).fit(X[:300], y[:300])
    parts = CascadeClassifier.from_ensemble(forest, [3], random_state=0, runtime="onnx")
    with pytest.raises(ExportError, match=r"'3' .* depends on what those before it"):
        parts.fit(X[300:], y[300:])
