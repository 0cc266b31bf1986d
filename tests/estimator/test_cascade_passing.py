"""Classifiers in a row that see what those before them predict."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from skearlyexit import CascadeClassifier, CascadeRegressor
from tests._data import blobs, same
from tests._estimators import Memorizing

X, y, X_TEST, Y_TEST = blobs()
GROUPS = np.arange(len(y)) % 50


def three(**params):
    estimators = [
        ("bayes", GaussianNB()),
        ("logistic", LogisticRegression(C=0.1, max_iter=500)),
        ("tree", DecisionTreeClassifier(max_depth=5, random_state=0)),
    ]
    defaults = {"pass_probabilities": True, "cost": [1, 4, 15], "random_state": 0}
    return CascadeClassifier(estimators, **{**defaults, **params})


class Columns(ClassifierMixin, BaseEstimator):
    """Notes the names of the features that it sees."""

    seen: list = []  # copies of an estimator note into the same list

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        self.seen.append((type(X), list(X.columns)))
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


def test_equal_to_estimators_fitted_by_hand():
    clf = three(calibration=None).fit(X, y, groups=GROUPS)
    seen, new = X, X_TEST
    options = {"groups": GROUPS, "cv": GroupKFold(5), "method": "predict_proba"}
    for (_, given), found in zip(clf.estimators, clf.staged_predict_proba(X_TEST), strict=True):
        expected = clone(given).fit(seen, y)
        np.testing.assert_allclose(found, expected.predict_proba(new), rtol=1e-6, atol=1e-9)
        seen = np.hstack([seen, cross_val_predict(given, seen, y, **options)])
        new = np.hstack([new, expected.predict_proba(new)])


def regressors(**params):
    estimators = [
        ("linear", Ridge()),
        ("tree", DecisionTreeRegressor(max_depth=3, random_state=0)),
        ("other", Ridge(alpha=10.0)),
    ]
    defaults = {"pass_predictions": True, "cost": [1, 4, 15], "random_state": 0}
    return CascadeRegressor(estimators, **{**defaults, "policy": "change", **params})


@pytest.mark.parametrize("targets", [X[:, 0] ** 2, X[:, :2] * [1.0, 300.0] + 7])
def test_regressors_equal_to_those_fitted_by_hand(targets):
    rows, new = X[:, 2:], X_TEST[:, 2:]
    reg = regressors(calibration=None).fit(rows, targets, groups=GROUPS)
    seen, seen_new = rows, new
    for (_, given), found in zip(reg.estimators, reg.staged_predict(new), strict=True):
        expected = clone(given).fit(seen, targets)
        np.testing.assert_allclose(found, expected.predict(seen_new), rtol=1e-6, atol=1e-9)
        held = cross_val_predict(given, seen, targets, groups=GROUPS, cv=GroupKFold(5))
        seen = np.column_stack([seen, held])
        seen_new = np.column_stack([seen_new, expected.predict(seen_new)])


def test_regressors_run_as_their_table_and_all_are_needed():
    rows, new = X[:, 1:], X_TEST[:, 1:]
    reg = regressors().fit(rows, X[:, 0] ** 2)
    assert reg.costs_.tolist() == [1 / 20, 5 / 20, 1.0]
    table = reg.exit_table(new)
    thresholds = [1.1, np.quantile(table.scores[:, 1], 0.5, method="nearest")]
    values, exits = reg.predict(new, threshold=thresholds, return_exits=True)
    assert set(exits) == {1, 2}
    assert same(values, table.predictions[np.arange(len(exits)), exits])
    assert same(reg.predict(new[:9], threshold=thresholds), values[:9])


def test_errors_name_the_parameter_of_regressors():
    frozen = FrozenEstimator(DecisionTreeRegressor(random_state=0).fit(X, y))
    with pytest.raises(ValueError, match=r"pass_predictions=True, only the first.*'tree'"):
        regressors().set_params(tree=frozen).fit(X, y)
    frame = pd.DataFrame(X, columns=[*"abcdefghijkl", "tree_0"])
    with pytest.raises(ValueError, match=r"pass_predictions=True, features.*\['tree_0'\]"):
        regressors().fit(frame, y)
    with pytest.raises(ValueError, match="pass_predictions=True needs estimators that are fitted"):
        CascadeRegressor.from_ensemble(None, [1], pass_predictions=True)


def test_probabilities_are_predicted_out_of_fold():
    rows = np.random.RandomState(0).randn(300, 3)
    estimators = [
        ("memory", Memorizing()),
        ("tree", DecisionTreeClassifier(max_depth=1, max_features=None)),
    ]
    clf = CascadeClassifier(
        estimators, pass_probabilities=True, cost=[1, 2], calibration=None, random_state=0
    )
    noisy = (rows[:, 0] + 0.1 * np.random.RandomState(1).randn(300) > 0).astype(int)
    clf.fit(rows, noisy)
    new = np.random.RandomState(2).randn(100, 3)
    # In fold, the first would seem to be always right; out of fold, it is always wrong.
    assert np.mean(clf.predict(new) == (new[:, 0] > 0)) > 0.9


def test_run_equals_table_batch_invariant():
    clf = three().fit(X, y)
    table = clf.exit_table(X_TEST)
    thresholds = np.quantile(table.scores[:, :2], 0.5, axis=0, method="nearest")
    found, exits = clf.predict_proba(X_TEST, threshold=thresholds, return_exits=True)
    assert len(np.unique(exits)) == 3
    assert same(exits, table.exits(thresholds))
    assert same(found, table.probabilities[np.arange(len(exits)), exits])
    assert same(clf.predict_proba(X_TEST[:9], threshold=thresholds), found[:9])


def test_what_the_last_estimator_needs_is_computed_and_costs():
    clf = three().fit(X, y)
    assert clf.costs_.tolist() == [1 / 20, 5 / 20, 1.0]
    *_, last = clf.staged_predict(X_TEST)
    assert same(clf.predict(X_TEST, threshold=np.inf), last)
    assert "the last estimator costs 20" in str(clf.cost_table_)


def test_the_first_may_be_frozen():
    bayes = GaussianNB().fit(X[:200], y[:200])
    clf = three().set_params(bayes=FrozenEstimator(bayes)).fit(X[200:], y[200:])
    assert same(next(clf.staged_predict(X_TEST)), bayes.predict(X_TEST))
    tree = FrozenEstimator(DecisionTreeClassifier().set_params(random_state=0).fit(X, y))
    with pytest.raises(ValueError, match=r"only the first estimator may be frozen.*'tree'"):
        three().set_params(tree=tree).fit(X, y)


@pytest.mark.parametrize("names", [list("abcdefghijklm"), range(13)])
def test_features_of_data_frames_have_names(names):
    frame = pd.DataFrame(X, columns=list(names))
    Columns.seen.clear()
    clf = three(cost=[1, 2, 3]).set_params(tree=Columns()).fit(frame, y)
    clf.predict(frame, threshold=0.7)
    added = [f"{name}_{label}" for name in ("bayes", "logistic") for label in range(4)]
    expected = [*names, *(added if names != range(13) else range(13, 21))]
    assert all(seen == (pd.DataFrame, expected) for seen in Columns.seen)


def test_other_containers():
    expected = three().fit(X, y).predict_proba(X_TEST, threshold=0.7)
    frames = three().fit(pl.DataFrame(X), y)
    np.testing.assert_allclose(
        frames.predict_proba(pl.DataFrame(X_TEST), threshold=0.7), expected, rtol=1e-6
    )
    rows, new = (sparse.csc_array(np.abs(each)) for each in (X, X_TEST))
    clf = three().set_params(bayes=MultinomialNB())
    dense = clone(clf).fit(rows.toarray(), y).predict_proba(new.toarray(), threshold=0.7)
    found = clf.fit(rows, y).predict_proba(new, threshold=0.7)
    np.testing.assert_allclose(found, dense, rtol=1e-3, atol=1e-6)


def test_texts_have_no_columns():
    texts = ["red", "blue"] * 30
    estimators = [(name, make_pipeline(CountVectorizer(), MultinomialNB())) for name in "ab"]
    clf = CascadeClassifier(estimators, pass_probabilities=True, random_state=0)
    with pytest.raises(ValueError, match=r"features in columns only.*pass_probabilities=False"):
        clf.fit(texts, [0, 1] * 30)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.from_pandas])
def test_columns_with_the_name_of_a_new_feature(make):
    names = [*"abcdefghijkl", "logistic_3"]
    frame = make(pd.DataFrame(X, columns=names))
    Columns.seen.clear()
    clf = three().set_params(bayes=Columns())
    with pytest.raises(ValueError, match=r"columns of X.*\['logistic_3'\].*Rename"):
        clf.fit(frame, y)
    assert not Columns.seen
    # The last estimator adds none.
    frame = make(pd.DataFrame(X, columns=[*names[:-1], "tree_0"]))
    three(calibration=None).fit(frame, y)
