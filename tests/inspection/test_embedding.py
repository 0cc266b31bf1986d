"""The display of embeddings."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from skearlyexit.inspection import EmbeddingDisplay
from tests._data import blobs, with_costs
from tests.inspection._drawn import inside, labels_of

_, _, X_TEST, _ = blobs()


def test_embeddings_from_an_estimator(word_clf):
    display = EmbeddingDisplay.from_estimator(word_clf, X_TEST, exit=1, budget=0.7)
    _, exits = word_clf.predict(X_TEST, budget=0.7, return_exits=True)
    assert len(np.unique(exits)) > 1
    projection = PCA(2, random_state=0)
    expected = projection.fit_transform(word_clf.embed(X_TEST, 1))
    assert display.positions == pytest.approx(expected)
    for i, points in enumerate(display.points_):
        assert np.asarray(points.get_offsets()) == pytest.approx(expected[exits == i])
    assert display.ax_.get_title() == f"Embeddings at exit {word_clf.exit_names_[1]}"
    share = projection.explained_variance_ratio_[0]
    assert display.ax_.get_xlabel() == f"component 1 ({share:.0%} of the variance)"
    shares = [f"{name}: {np.mean(exits == i):.0%}" for i, name in enumerate(with_costs(word_clf))]
    assert labels_of(display) == shares
    named = EmbeddingDisplay.from_estimator(word_clf, X_TEST, exit=word_clf.exit_names_[-1])
    assert named.ax_.get_title().endswith(word_clf.exit_names_[-1])
    assert inside(display.legend_.get_texts(), display.figure_)


class Halved:
    """Projection with no fit and transform of its own, as t-SNE."""

    def get_params(self, deep=False):
        return {}

    def fit_transform(self, embeddings):
        self.fitted_ = True
        return embeddings[:, :3] / 2


def test_another_projection(word_clf):
    projection = Halved()
    display = EmbeddingDisplay.from_estimator(word_clf, X_TEST, projection=projection)
    assert display.positions == pytest.approx(word_clf.embed(X_TEST, 0)[:, :2] / 2)
    assert display.ax_.get_xlabel() == "component 1"
    assert not hasattr(projection, "fitted_")


def test_bad_embeddings(word_clf):
    exits = np.zeros(5, dtype=int)
    with pytest.raises(ValueError, match="both at least 2"):
        EmbeddingDisplay.from_predictions(np.zeros((5, 1)), exits, n_exits=2)
    with pytest.raises(TypeError, match="with fit_transform"):
        EmbeddingDisplay.from_predictions(np.eye(5), exits, n_exits=2, projection=max)
    with pytest.raises(ValueError, match="two columns at least"):
        EmbeddingDisplay.from_predictions(np.eye(5), exits, n_exits=2, projection=PCA(1))
    with pytest.raises(ValueError, match="'exits' must lie between 0 and 1"):
        EmbeddingDisplay.from_predictions(np.eye(5), exits + 2, n_exits=2)
    with pytest.raises(ValueError, match="'exits' must hold integers"):
        EmbeddingDisplay.from_predictions(np.eye(5), exits / 2, n_exits=2)
    with pytest.raises(ValueError, match="hold 2 names"):
        EmbeddingDisplay.from_predictions(np.eye(5), exits, n_exits=2, exit_names=["a"])
    with pytest.raises(ValueError, match="'exit' must be"):
        EmbeddingDisplay.from_estimator(word_clf, X_TEST, exit=9)
