"""Predictors predict what their classifier predicts, and check little.

That it is the same to the last bit is held against all configurations in `tests.promises`.
"""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from skearlyexit import (
    Budget,
    CascadeClassifier,
    CNNBackbone,
    EarlyExitClassifier,
    TransformerBackbone,
)
from tests._data import blobs, digits, quick, same

X, Y, X_TEST, _ = blobs()
X_TEST = X_TEST.astype(np.float32)


@cache
def fitted_once():
    return quick().fit(X, Y)


@pytest.fixture
def clf():
    return copy.copy(fitted_once())


def sizes_seen(clf, **options):
    """Sizes of the batches of all stages for one sample, by hooks that the predictor copies."""
    sizes = []
    hooks = [
        stage.register_forward_hook(lambda module, args, output: sizes.append(len(args[0])))
        for stage in clf.stages_
    ]
    predictor = clf.to_predictor(threshold=np.inf, **options)
    for hook in hooks:
        hook.remove()
    predictor.predict(X_TEST[:1])
    return sizes


def test_only_the_real_samples_are_computed_without_padding(clf):
    assert sizes_seen(clf) == [16] * clf.n_exits_
    assert sizes_seen(clf, batch_invariant=False) == [1] * clf.n_exits_


def test_images():
    X, y, X_test, _ = digits()
    backbone = CNNBackbone((5, 9), n_blocks=1, image_shape=(8, 8))
    clf = quick(backbone=backbone, exits=2).fit(X, y)
    X_test = X_test[:20].astype(np.float32)
    expected = clf.predict_proba(X_test, threshold=0.3)
    predictor = clf.to_predictor(threshold=0.3)
    alone = np.concatenate([predictor.predict_proba(row[None]) for row in X_test])
    assert same(alone, expected)
    predictor = clf.to_predictor(threshold=0.3, batch_invariant=False)
    np.testing.assert_allclose(predictor.predict_proba(X_test), expected, atol=1e-5)


def test_labels_are_those_of_the_classifier():
    names = np.array(["ham", "spam", "eggs", "bacon"])
    clf = quick().fit(X, names[Y])
    assert same(clf.to_predictor().predict(X_TEST), clf.predict(X_TEST))


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
@pytest.mark.parametrize("asked", [{}, {"threshold": 0.7}, {"budget": 0.9}])
def test_operating_points_of_both_runtimes(clf, runtime, asked):
    clf.set_params(runtime=runtime)
    labels, exits = clf.predict(X_TEST, return_exits=True, **asked)
    found, found_exits = clf.to_predictor(**asked).predict(X_TEST, return_exits=True)
    assert same(found, labels)
    assert same(found_exits, exits)
    probabilities = clf.predict_proba(X_TEST, **asked)
    assert same(clf.to_predictor(**asked).predict_proba(X_TEST), probabilities)


def test_a_strict_budget_holds_for_each_call(clf):
    budget = Budget(0.8, strict=True)
    labels, exits = clf.predict(X_TEST, budget=budget, return_exits=True)
    found, found_exits = clf.to_predictor(budget=budget).predict(X_TEST, return_exits=True)
    assert same(found, labels)
    assert same(found_exits, exits)
    assert clf.costs_[found_exits].mean() <= 0.8
    clf.set_params(runtime="onnx")
    with pytest.raises(ValueError, match="A strict budget requires the scores"):
        clf.to_predictor(budget=budget)


def test_batch_invariant_is_true_false_or_none(clf):
    with pytest.raises(ValueError, match="'batch_invariant' must be True, False or None; got 'no'"):
        clf.to_predictor(batch_invariant="no")


def test_onnx_runtime_is_not_batch_invariant(clf):
    clf.set_params(runtime="onnx")
    assert same(
        clf.to_predictor(batch_invariant=False).predict(X_TEST), clf.to_predictor().predict(X_TEST)
    )
    with pytest.raises(ValueError, match="'batch_invariant' must be None or False"):
        clf.to_predictor(batch_invariant=True)


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_later_changes_of_the_classifier_do_not_matter(runtime):
    clf = quick(training="joint", threshold=0.7, calibration=None, runtime=runtime).fit(X, Y)
    predictor = clf.to_predictor()
    probabilities, exits = predictor.predict_proba(X_TEST, return_exits=True)
    clf.partial_fit(X[:50], Y[:50])
    clf.thresholds_ = np.zeros(clf.n_exits_ - 1)
    clf.classes_[:] = 0
    for stage in clf.stages_:
        for weight in stage.parameters():
            weight.data.zero_()
    found, found_exits = predictor.predict_proba(X_TEST, return_exits=True)
    assert same(found, probabilities)
    assert same(found_exits, exits)
    assert len(set(predictor.predict(X_TEST))) > 1


def test_it_cannot_be_changed(clf):
    predictor = clf.to_predictor(threshold=0.5)
    with pytest.raises(AttributeError, match="cannot assign"):
        predictor.thresholds_ = np.zeros(1)
    with pytest.raises(ValueError, match="read-only"):
        predictor.thresholds_[:] = 0
    labels = predictor.predict(X_TEST)
    labels[:] = 0
    assert same(predictor.predict(X_TEST), clf.predict(X_TEST, threshold=0.5))


def test_threads_and_pickles(clf):
    predictor = clf.to_predictor(threshold=0.5)
    expected = predictor.predict_proba(X_TEST)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: predictor.predict_proba(X_TEST[i : i + 1]), range(100)))
    assert same(np.concatenate(found), expected[:100])
    restored = pickle.loads(pickle.dumps(predictor))
    assert same(restored.predict_proba(X_TEST), expected)


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (X_TEST[0], r"shape \(n_samples, .*X\[None\] is a single sample"),
        (X_TEST[:, 1:], r"X must be of shape \(n_samples, "),
        (X_TEST[:0], "with at least one sample"),
        (np.full((2, X.shape[1]), "a"), "X must hold real numbers"),
        (np.where(np.arange(len(X_TEST))[:, None] == 3, np.nan, X_TEST), r"the first of them X\[3"),
        (np.full((2, X.shape[1]), 1e300), "infinity in precision float32"),
    ],
)
def test_wrong_samples_are_refused(clf, runtime, wrong, message):
    predictor = clf.set_params(runtime=runtime).to_predictor()
    for method in (predictor.predict, predictor.predict_proba):
        with pytest.raises(ValueError, match=message):
            method(wrong)


def test_other_arrays_are_converted(clf):
    predictor = clf.to_predictor()
    expected = predictor.predict_proba(X_TEST)
    for rows in (X_TEST.tolist(), X_TEST.astype(np.float64), np.asfortranarray(X_TEST)):
        assert same(predictor.predict_proba(rows), expected)


def test_features_have_to_be_in_order():
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    predictor = quick().fit(frame, Y).to_predictor()
    assert same(predictor.predict(frame), predictor.predict(X.astype(np.float32)))
    with pytest.raises(ValueError, match="X must have the features of fit in the same order"):
        predictor.predict(frame[frame.columns[::-1]])


def test_the_network_checks_its_input():
    series, mask = X[:, None, :12], np.ones((len(X), 1, 12))
    rows = np.concatenate([series, mask], axis=1)
    backbone = TransformerBackbone(1, width=16, hidden=16, masked=True)
    clf = quick(backbone=backbone, exits=["stem"], calibration=None, threshold=0.5, max_epochs=1)
    predictor = clf.fit(rows, Y).to_predictor()
    wrong = np.zeros((1, 2, 12))
    with pytest.raises(ValueError, match="takes the last channel of X for a mask") as expected:
        clf.predict(wrong)
    with pytest.raises(ValueError) as found:
        predictor.predict(wrong)
    assert str(found.value) == str(expected.value)


def test_a_runtime_that_is_set_after_fit_is_checked(clf):
    clf.set_params(runtime="ONNX")
    for call in (lambda: clf.predict(X_TEST), clf.to_predictor):
        with pytest.raises(ValueError, match=r"must be 'torch' or 'onnx'\. Got 'ONNX' instead"):
            call()


def test_arguments_are_checked(clf):
    with pytest.raises(ValueError, match="At most one of 'threshold' and 'budget'"):
        clf.to_predictor(threshold=0.5, budget=0.5)
    with pytest.raises(ValueError, match="not fitted"):
        EarlyExitClassifier().to_predictor()


FRAME = pd.DataFrame(X_TEST, columns=[f"x{i}" for i in range(X.shape[1])])
TEXTS = [" ".join(f"{'abcd'[y]}{i % 7}" for i in range(k % 5 + 1)) for k, y in enumerate(Y)]
FOREST = RandomForestClassifier(20, random_state=0).fit(X[:300], Y[:300])
BOOSTING = HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(X[:300], Y[:300])


def in_a_row(*estimators):
    named = [(f"n{i}", each) for i, each in enumerate(estimators)]
    return CascadeClassifier(named, cost=[1, 9], random_state=0, calibration=0.3)


#: Cascades, the samples that they are fitted on, and those that are predicted.
CASCADES = {
    "arrays": (in_a_row(LogisticRegression(max_iter=999), SVC()), X, X_TEST),
    "frames": (
        in_a_row(LogisticRegression(max_iter=999), RandomForestClassifier(5)),
        pd.DataFrame(X, columns=FRAME.columns),
        FRAME,
    ),
    "texts": (
        in_a_row(
            make_pipeline(CountVectorizer(ngram_range=(1, 1)), MultinomialNB()),
            make_pipeline(CountVectorizer(ngram_range=(1, 2)), MultinomialNB()),
        ),
        TEXTS,
        TEXTS[:50],
    ),
    "forest": (
        CascadeClassifier.from_ensemble(FOREST, [5], cost=[1, 9], random_state=0),
        X,
        X_TEST,
    ),
    "boosting": (
        CascadeClassifier.from_ensemble(BOOSTING, [2], cost=[1, 9], random_state=0),
        X,
        X_TEST,
    ),
}


@pytest.mark.parametrize("name", CASCADES)
def test_cascades_predict_the_same_to_the_last_bit(name):
    clf, rows, new = CASCADES[name]
    if name == "arrays":
        clf.set_params(policy="patience")  # since SVC has no probabilities
    clf.fit(rows, Y)
    threshold = float(np.median(clf.exit_table(new).scores[:, 0]))
    expected, exits = clf.predict_proba(new, threshold=threshold, return_exits=True)
    predictor = clf.to_predictor(threshold=threshold)
    for found in (predictor, pickle.loads(pickle.dumps(predictor))):
        assert same(found.predict_proba(new), expected)
        assert same(found.predict(new, return_exits=True)[1], exits)
        for i in range(9):
            assert same(found.predict_proba(new[i : i + 1]), expected[i : i + 1])
    # A copy, which nothing changes that is done to the cascade.
    clf.thresholds_[:] = np.inf
    clf.classes_[:] = clf.classes_[0]
    assert same(predictor.predict_proba(new), expected)
    assert len(set(predictor.predict(new))) > 1


def test_cascades_are_given_the_features_of_fit():
    clf, rows, _ = CASCADES["frames"]
    predictor = clf.fit(rows, Y).to_predictor()
    with pytest.raises(ValueError, match="X must have the features of fit in the same order"):
        predictor.predict(FRAME[FRAME.columns[::-1]])
    for wrong in (X_TEST[:, 1:], X_TEST[0], X_TEST[:, 1:].tolist(), tuple(X_TEST[0])):
        with pytest.raises(ValueError, match=r"X must be of shape \(n_samples, 13\). Got "):
            predictor.predict(wrong)
    with pytest.raises(ValueError, match="minimum of 1 is required"):
        predictor.predict(X_TEST[:0])
