"""Heads fitted on embeddings of rows that the network has not seen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import MLPBackbone
from skearlyexit.heads import EstimatorHead
from skearlyexit.heads._alignment import align
from tests._data import blobs, quick, same


class Recorder(ClassifierMixin, BaseEstimator):
    """Keeps what it is fitted on."""

    def fit(self, X, y):
        self.X_, self.y_ = X, y
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def test_cross_fitted_embeddings_are_those_of_rows_not_seen():
    X, y, X_new, _ = blobs()
    backbone = MLPBackbone(3, width=32, hidden=64)
    fixed = {"backbone": backbone, "calibration": None, "training": "joint", "max_epochs": 30}
    head = EstimatorHead(Recorder(), cross_fit=3)
    clf = quick(head=["linear", head, EstimatorHead(Recorder())], **fixed).fit(X, y)
    # The network is the same, and so are the heads beside.
    plain = quick(head=["linear", *[EstimatorHead(Recorder())] * 2], **fixed).fit(X, y)
    assert same(clf.embed(X_new), plain.embed(X_new))
    assert same(clf.heads_[2].X_, plain.heads_[2].X_)
    assert same(clf.heads_[2].y_, y)
    seen, unseen = plain.heads_[1].X_, clf.heads_[1].X_
    assert same(seen, clf.embed(X, exit=1))
    assert same(clf.heads_[1].y_, y)
    # In the same coordinates: column by column they go together,
    together = [np.corrcoef(seen[:, i], unseen[:, i])[0, 1] for i in range(seen.shape[1])]
    assert np.median(together) > 0.5
    # but classes are no easier to tell apart than for new rows, as for rows seen they are.
    judge = make_pipeline(StandardScaler(), KNeighborsClassifier(15))
    on_seen = cross_val_score(judge, seen, y, cv=5).mean()
    on_unseen = cross_val_score(judge, unseen, y, cv=5).mean()
    on_new = judge.fit(seen, y).score(clf.embed(X_new, exit=1), blobs()[3])
    assert on_seen > on_new + 0.05
    assert 0.65 < on_unseen < on_new + 0.02


def test_heads_that_cross_fit_alike_share_the_networks(tmp_path):
    X, y, *_ = blobs()
    head = EstimatorHead(DecisionTreeClassifier(max_depth=3), cross_fit=4)
    clf = quick(head=[head, "linear", head], calibration=None, training="joint", memory=tmp_path)
    clf.fit(X, y)
    assert len(list(tmp_path.rglob("output.pkl"))) == 1 + 4


def test_cross_fitting_respects_groups_and_says_what_it_needs():
    X, y, *_ = blobs()
    clf = quick(head=EstimatorHead(Recorder(), cross_fit=3), calibration=None)
    with pytest.raises(ValueError, match=r"cross_fit=3 needs at least 3 samples, or two groups"):
        clf.fit(X, y, groups=np.zeros(len(y)))
    with pytest.raises(ValueError, match="'cross_fit' parameter of EstimatorHead"):
        quick(head=EstimatorHead(Recorder(), cross_fit=1)).fit(X, y)


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_alignment_undoes_affine_maps(seed, width):
    rng = np.random.RandomState(seed)
    first = rng.normal(size=(200, width))
    mixing = rng.normal(size=(width, width)) + 3 * np.eye(width)
    second = first @ mixing + rng.normal(size=width)
    aligned = align(first[:100], second[:100], first[100:])
    np.testing.assert_allclose(aligned, second[100:], atol=2e-2)
