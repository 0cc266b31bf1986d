"""Heads that take other labels than those of the user."""

import pickle

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from skearlyexit import EstimatorHead, LearnedConfidencePolicy
from skearlyexit._determinism._classifier import BatchInvariantClassifier, encode_class_weight
from tests._data import blobs, quick, same
from tests._estimators import OfOutputs, OnlyIndices

X, y, X_TEST, Y_TEST = blobs()
NAMES = np.array(["rose", "lily", "tulip", "fern"])
LABELS = {"str": NAMES, "object": NAMES.astype(object), "int": np.array([7, -2, 40, 3])}


def steady(estimator, y, classes, weight=None):
    return BatchInvariantClassifier.fit(
        estimator, X, y, weight, classes=classes, needs_probabilities=True, seed=0, advice=""
    )


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_a_head_that_only_takes_indices(labels):
    clf = quick(head=OnlyIndices(), max_epochs=3).fit(X, labels[y])
    assert clf.score(X_TEST, labels[Y_TEST]) > 0.4
    assert set(clf.predict(X_TEST)) <= set(labels)
    assert all(head.classes_.tolist() == [0, 1, 2, 3] for head in clf.heads_)
    # The network does not see labels: other names, the same answers.
    sorted_labels = np.argsort(np.argsort(labels))
    plain = quick(head=OnlyIndices(), max_epochs=3).fit(X, sorted_labels[y])
    assert same(clf.predict_proba(X_TEST), plain.predict_proba(X_TEST))
    restored = pickle.loads(pickle.dumps(clf))
    assert same(restored.exit_table(X_TEST).scores, clf.exit_table(X_TEST).scores)


@pytest.mark.parametrize(
    "head",
    [
        EstimatorHead(OnlyIndices(), cross_fit=2),
        make_pipeline(StandardScaler(), OnlyIndices()),
        CalibratedClassifierCV(OnlyIndices(), cv=2),
        GridSearchCV(OnlyIndices(), {"class_weight": [None]}, cv=2),
    ],
    ids=["cross-fitted", "pipeline", "calibrated", "search"],
)
def test_such_a_head_within_another(head):
    clf = quick(head=head, max_epochs=2).fit(X, NAMES[y])
    assert set(clf.predict(X_TEST)) <= set(NAMES)
    assert clf.score(X_TEST, NAMES[Y_TEST], threshold=np.inf) > 0.4


def test_such_a_policy():
    policy = LearnedConfidencePolicy(OnlyIndices())
    clf = quick(head=OnlyIndices(), policy=policy).fit(X, NAMES[y])
    labels, exits = clf.predict(X_TEST, threshold=0.6, return_exits=True)
    table = clf.exit_table(X_TEST)
    assert np.array_equal(table.exits([0.6, 0.6]), exits)
    assert np.array_equal(clf.classes_[table.labels[np.arange(len(exits)), exits]], labels)
    assert len(set(exits)) > 1


def test_labels_are_those_of_the_user_where_the_head_takes_them():
    clf = quick(head=LogisticRegression(max_iter=500)).fit(X, NAMES[y])
    assert all(head.classes_.tolist() == sorted(NAMES) for head in clf.heads_)


def test_class_weights_are_by_label():
    """Of the user, whether the head takes the labels or only indices."""
    weights = {"rose": 1.0, "lily": 1e-9, "tulip": 5.0, "fern": 1.0}
    classes = np.sort(NAMES)
    plain = LogisticRegression(max_iter=500, class_weight=weights).fit(X, NAMES[y])
    bayes = GaussianNB().fit(X, NAMES[y], compute_sample_weight(weights, NAMES[y]))
    for model, alike in (
        (plain, plain),
        (OnlyIndices(weights), bayes),
        (make_pipeline(OnlyIndices(weights)), bayes),
    ):
        expected = alike.predict_proba(X_TEST)
        found = steady(model, NAMES[y], classes).predict_proba(X_TEST)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert found[:, list(classes).index("lily")].max() < 1e-3


def test_class_weights_are_translated_at_any_depth():
    weights, index = {"a": 1.0, "b": 2.0, "z": 3.0}, {0: 1.0, 1: 2.0}
    forest = RandomForestClassifier(class_weight=weights)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), forest),
        [{"randomforestclassifier__class_weight": [weights, "balanced", None]}],
    )
    found = encode_class_weight(
        CalibratedClassifierCV(search), np.array(["a", "b", "z"]), np.array([0, 1])
    )
    assert found.estimator.estimator[-1].class_weight == index
    (grid,) = found.estimator.param_grid
    assert grid == {"randomforestclassifier__class_weight": [index, "balanced", None]}


@pytest.mark.parametrize("weights", [{"rose": 1.0, "typo": 5.0}, {0: 1.0, 1: 5.0}])
def test_class_weights_of_labels_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="are not in class_weight"):
        steady(LogisticRegression(class_weight=weights), NAMES[y], np.sort(NAMES))


def test_other_parameters_that_name_labels_stay_valid():
    names = np.where(y == 0, "spam", "ham")
    base = LogisticRegression(max_iter=500)
    head = FixedThresholdClassifier(base, threshold=0.99, pos_label="spam")
    found = steady(head, names, np.array(["ham", "spam"])).model.predict(X)
    assert np.array_equal(found == "spam", base.fit(X, names).predict_proba(X)[:, 1] >= 0.99)


def test_a_class_that_is_absent():
    present = y != 1
    head = BatchInvariantClassifier.fit(
        OnlyIndices(),
        X[present],
        NAMES[y][present],
        None,
        classes=np.sort(NAMES),
        needs_probabilities=True,
        seed=0,
        advice="",
    )
    found = head.predict_proba(X_TEST)
    absent = list(np.sort(NAMES)).index(NAMES[1])
    assert np.all(found[:, absent] == 0)
    expected = GaussianNB().fit(X[present], NAMES[y][present])
    assert np.array_equal(np.sort(NAMES)[found.argmax(axis=1)], expected.predict(X_TEST))


def test_the_error_is_the_first_one():
    class Broken(OnlyIndices):
        def fit(self, X, y, sample_weight=None):
            raise RuntimeError(f"no {y.dtype.kind}")

    with pytest.raises(RuntimeError, match="no U"):
        quick(head=Broken()).fit(X, NAMES[y])


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (OfOutputs(lambda X, k: np.ones((len(X), k)), [8, 9]), r"classes_ are \[8, 9\].*must set"),
        (OfOutputs(lambda X, k: np.ones((len(X), k)), [1, 1]), r"classes_ are \[1, 1\].*must set"),
        (OfOutputs(lambda X, k: np.ones((len(X), k + 1))), r"one column for each of its 4 classes"),
        (OfOutputs(lambda X, k: np.ones(len(X))), r"one column for each.*an array of shape"),
    ],
)
def test_wrong_classes(head, words):
    with pytest.raises(ValueError, match=f"(?s){words}"):
        quick(head=head).fit(X, y)


def test_an_estimator_that_cannot_take_embeddings_is_named():
    with pytest.raises(ValueError, match="Negative values") as caught:
        quick(head=MultinomialNB()).fit(X, y)
    assert "fitting MultinomialNB as a head, on embeddings" in caught.value.__notes__[0]
