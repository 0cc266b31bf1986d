"""What the samples of estimators in a row may be, and their number in a call."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch.utils.data import DataLoader

from skearlyexit import CascadeClassifier
from tests._cascades import three
from tests._data import Items, blobs, same

X, y, X_TEST, Y_TEST = blobs()


@pytest.mark.parametrize("make", [Items, lambda X, y: DataLoader(Items(X, y))])
def test_datasets_of_torch_are_refused(make):
    estimators = [("bayes", GaussianNB()), ("tree", DecisionTreeClassifier())]
    clf = CascadeClassifier(estimators, cost=[1, 2], threshold=0.7, random_state=0)
    message = r"X is a torch (Items|DataLoader).*Give an array, a data frame, a sparse matrix"
    for labels in (y, None):
        with pytest.raises(TypeError, match=message):
            clf.fit(make(X, y), labels)
    clf.fit(X, y)
    for call in (clf.predict, clf.exit_table, clf.partial_calibrate):
        with pytest.raises(TypeError, match=message):
            call(make(X, y))
    for call in (clf.score, clf.calibrate, clf.exit_report):
        with pytest.raises(TypeError, match=message):
            call(make(X, y), y)
    assert clf.predict(X).shape == np.shape(y)


class Counting(ClassifierMixin, BaseEstimator):
    """Notes the number of samples in each call, on which its answers depend."""

    sizes: list = []

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        self.sizes.append(len(X))
        positive = 1 / (1 + np.exp(-X[:, 0])) * (1 - 1e-9 * len(X))
        return np.column_stack([1 - positive, positive])

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


@pytest.mark.parametrize("frozen", [False, True])
def test_calls_of_any_size(frozen):
    given = [Counting().fit(X, y > 1) for _ in range(2)]
    estimators = [
        (name, FrozenEstimator(each) if frozen else each)
        for name, each in zip("ab", given, strict=True)
    ]
    for batch_invariant in (True, False):
        clf = CascadeClassifier(
            estimators,
            batch_invariant=batch_invariant,
            cost=[1, 2],
            threshold=0.7,
            random_state=0,
        )
        Counting.sizes.clear()
        clf.fit(X, y > 1)
        # It is not tested how answers depend on the number of samples.
        assert (4096 in Counting.sizes) == batch_invariant
        Counting.sizes.clear()
        _, exits = clf.predict(X_TEST[:50], return_exits=True)
        n_left = int(np.sum(exits == 1))
        assert 0 < n_left < 50
        assert Counting.sizes == ([256, 256] if batch_invariant else [50, n_left])
        table = clf.exit_table(X_TEST[:50])
        assert same(table.exits([0.7]), exits)


def test_members_in_calls_of_any_size():
    bagging = BaggingClassifier(Counting(), 2, random_state=0).fit(X, y > 1)
    clf = CascadeClassifier.from_ensemble(
        bagging, [1], batch_invariant=False, cost=[1, 1], threshold=0.7, random_state=0
    ).fit(X, y > 1)
    Counting.sizes.clear()
    _, exits = clf.predict(X_TEST[:50], return_exits=True)
    assert Counting.sizes == [50, int(np.sum(exits == 1))]


class TestKinds:
    frame = pd.DataFrame({"size": X[:, 0], "kind": np.array(["a", "b", "c", "d"])[y]})
    new = pd.DataFrame({"size": X_TEST[:, 0], "kind": np.array(["a", "b", "c", "d"])[Y_TEST]})

    def chain(self):
        columns = ColumnTransformer(
            [("kind", OneHotEncoder(), ["kind"]), ("size", StandardScaler(), ["size"])]
        )
        only_size = ColumnTransformer([("size", StandardScaler(), ["size"])])
        estimators = [
            ("size", make_pipeline(only_size, LogisticRegression())),
            ("all", make_pipeline(columns, LogisticRegression())),
        ]
        return CascadeClassifier(estimators, cost=[1, 2], random_state=0)

    def test_data_frames_reach_the_estimators(self):
        clf = self.chain().fit(self.frame, y)
        assert clf.feature_names_in_.tolist() == ["size", "kind"]
        assert clf.n_features_in_ == 2
        labels, exits = clf.predict(self.new, threshold=0.4, return_exits=True)
        assert 0 < exits.mean() < 1
        assert np.all(labels[exits == 1] == Y_TEST[exits == 1])
        with pytest.raises(ValueError, match="feature names"):
            clf.predict(self.new[["kind", "size"]])

    def test_polars(self):
        frames = self.chain().fit(self.frame, y)
        clf = self.chain().fit(pl.from_pandas(self.frame), y)
        found = clf.predict_proba(pl.from_pandas(self.new), threshold=0.4)
        np.testing.assert_allclose(found, frames.predict_proba(self.new, threshold=0.4))

    @pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.coo_array, sparse.csc_matrix])
    def test_sparse(self, kind):
        estimators = [("bayes", MultinomialNB()), ("logistic", LogisticRegression(max_iter=999))]
        rows, new = np.abs(X), np.abs(X_TEST)
        clf = CascadeClassifier(estimators, cost=[1, 2], random_state=0)
        expected = clone(clf).fit(rows, y).predict_proba(new, threshold=0.6)
        found = clf.fit(kind(rows), y).predict_proba(kind(new), threshold=0.6)
        np.testing.assert_allclose(found, expected, rtol=1e-4)

    def test_texts(self):
        words = np.array(["red", "green", "blue", "grey"])
        texts = [f"{words[label]} {words[(i * 7) % 4]}" for i, label in enumerate(y)]
        estimators = [
            ("short", make_pipeline(CountVectorizer(vocabulary=["red"]), MultinomialNB())),
            ("long", make_pipeline(CountVectorizer(), MultinomialNB())),
        ]
        clf = CascadeClassifier(estimators, cost=[1, 2], random_state=0).fit(texts, y)
        assert clf.predict(texts[:3], threshold=0.9).shape == (3,)
        with pytest.raises(ValueError, match=r"Got a single text, 'red green'; give \[X\]"):
            clf.predict("red green")
        assert not hasattr(clf, "n_features_in_")
        # Nothing is left of a fit on samples with features.
        again = self.chain().fit(self.frame, y).set_params(size=estimators[0][1], all="drop")
        again.set_params(cost=[1]).fit(texts, y)
        assert not hasattr(again, "n_features_in_")
        assert not hasattr(again, "feature_names_in_")
        assert again.predict(np.array(texts[:3])).shape == (3,)

    def test_parameters_of_estimators(self):
        clf = three()
        assert clf.get_params()["tree__max_depth"] == 7
        clf.set_params(tree__max_depth=2, bayes=MultinomialNB())
        assert clf.estimators[2][1].max_depth == 2
        assert isinstance(clf.estimators[0][1], MultinomialNB)
        grid = {
            "logistic__C": [0.1, 1.0],
            "threshold": [0.5, 0.9],
            "bayes": ["drop", DecisionTreeClassifier()],
        }
        search = GridSearchCV(three(calibration=None, cost="macs"), grid, cv=2, error_score="raise")
        assert len(search.fit(X, y).cv_results_["params"]) == 8

    def test_dropped(self):
        clf = three(cost=[4, 16], calibration=None).set_params(bayes="drop").fit(X, y)
        assert clf.exit_names_ == ["logistic", "tree"]

    def test_routing(self):
        weight = np.random.RandomState(0).rand(len(y))
        with sklearn.config_context(enable_metadata_routing=True):
            clf = three(threshold=0.8).set_fit_request(sample_weight=True)
            pipe = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), clf)
            found = pipe.fit(X, y, sample_weight=weight).predict_proba(X_TEST, threshold=0.6)
        rows = StandardScaler().fit(X)
        expected = three(threshold=0.8).fit(rows.transform(X), y, sample_weight=weight)
        assert same(found, expected.predict_proba(rows.transform(X_TEST), threshold=0.6))
