"""Export of classifiers in a row to an ONNX file, and predictions from it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import Budget, CascadeClassifier
from skearlyexit.runtime import ExportError, OnnxCascade
from tests._data import blobs, same

pytest.importorskip("onnxruntime")

X, y, X_TEST, Y_TEST = blobs()
# Values that are the same in single precision.
X, X_TEST = (each.astype(np.float32).astype(np.float64) for each in (X, X_TEST))
NAMES = np.array(["a", "b", "c", "d"])[y]


def two(first=None, last=None, **params):
    estimators = [
        ("first", first or make_pipeline(StandardScaler(), LogisticRegression())),
        ("last", last or RandomForestClassifier(20, max_depth=6)),
    ]
    defaults = {"cost": [1, 9], "random_state": 0, "threshold": 0.8, "calibration": 0.3}
    return CascadeClassifier(estimators, **{**defaults, **params})


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
