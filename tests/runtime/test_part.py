"""Exits that run in parts, against predictions of the whole estimator."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import (
    CascadeClassifier,
    CNNBackbone,
    EarlyExitRegressor,
    ExitRouter,
    MLPBackbone,
)
from skearlyexit.runtime._part import OnTheWay, parts_of
from tests._data import blobs, digits, quick

X, y, X_TEST, _ = blobs()
ROWS = X_TEST.astype(np.float32)


def content_of(clf, rows):
    rows = clf._validate_rows(rows)
    return getattr(rows, "content", rows)


def through(parts, groups, thresholds, **options):
    """Labels, exits and probabilities of groups, the parts of which are pickled on the way."""
    found = [None] * len(groups)
    at = [(i, np.arange(len(rows)), OnTheWay(len(rows), rows)) for i, rows in enumerate(groups)]
    for part in map(pickle.loads, map(pickle.dumps, parts)):
        told = part([each for *_, each in at], thresholds, **options)
        onward = []
        for (i, rows, _), each in zip(at, told, strict=True):
            if found[i] is None:
                found[i] = each.answers
            else:
                found[i].labels[rows], found[i].exits[rows] = (
                    each.answers.labels,
                    each.answers.exits,
                )
                if each.answers.probabilities is not None:
                    found[i].probabilities[rows] = each.answers.probabilities
            if each.onward is not None:
                onward.append((i, rows[each.staying], pickle.loads(pickle.dumps(each.onward))))
        at = onward
        if not at:
            break
    assert not at
    return found


def in_groups(rows):
    stops = [1, 2, 9, 40, 57]
    return [rows[start:stop] for start, stop in zip([0, *stops], [*stops, len(rows)], strict=True)]


def check(clf, rows, divided, threshold):
    parts = parts_of(clf.cascade_, divided)
    thresholds = clf._point(threshold, None).thresholds
    found = through(parts, in_groups(content_of(clf, rows)), thresholds)
    labels, exits = clf.predict(rows, threshold=threshold, return_exits=True)
    labels_found = np.concatenate([each.labels for each in found])
    assert len(np.unique(exits)) > 1
    assert np.array_equal(clf._task.decoded(labels_found), labels)
    assert np.array_equal(np.concatenate([each.exits for each in found]), exits)
    if hasattr(clf, "predict_proba"):
        found = through(
            parts, in_groups(content_of(clf, rows)), thresholds, with_probabilities=True
        )
        probabilities = np.concatenate([each.probabilities for each in found])
        assert np.array_equal(probabilities, clf.predict_proba(rows, threshold=threshold))


def four_exits(**params):
    options = {
        "backbone": MLPBackbone(4, width=16, hidden=16),
        "exits": ["stem", "block1", "block2"],
        "max_epochs": 2,
    }
    return quick(**{**options, **params}).fit(X, y)


def medians(clf, rows=ROWS):
    """Thresholds that some samples reach at each exit."""
    return np.median(clf.exit_table(rows).scores[:, :-1], axis=0)


@pytest.mark.parametrize("divided", [[range(4)], [range(2), range(2, 4)]])
def test_networks(divided):
    clf = four_exits()
    first, _, third = medians(clf)
    check(clf, ROWS, divided, [first, np.inf, third])


@pytest.mark.parametrize(
    "params",
    [
        {"policy": "patience"},
        {"combine": "mean", "policy": "confidence"},
        {"temperature_scaling": True, "policy": "margin"},
        {"head": LogisticRegression(), "policy": "entropy"},
    ],
    ids=["memory of the policy", "memory of the combination", "temperatures", "estimators"],
)
def test_what_exits_remember_goes_with_the_samples(params):
    clf = four_exits(**params)
    # A half is one agreement of two.
    threshold = 0.5 if params.get("policy") == "patience" else medians(clf)
    check(clf, ROWS, [range(1), range(1, 3), range(3, 4)], threshold)


def test_maps_keep_their_layout():
    images, labels, test, _ = digits()
    images, test = (each.reshape(-1, 1, 8, 8)[:300] for each in (images, test))
    clf = quick(backbone=CNNBackbone((8, 16), n_blocks=1), exits=2, max_epochs=2)
    clf.fit(images, labels[:300])
    test = test.astype(np.float32)
    check(clf, test, [range(1), range(1, clf.n_exits_)], medians(clf, test))


def test_regressors():
    reg = EarlyExitRegressor(
        MLPBackbone(3, width=16, hidden=16), exits=2, max_epochs=2, random_state=0
    ).fit(X, X[:, 0] + y)
    check(reg, ROWS, [range(1), range(1, reg.n_exits_)], medians(reg))


def test_estimators_in_a_row_and_parts_of_a_forest():
    tree = DecisionTreeClassifier(max_depth=3, random_state=0)
    chain = CascadeClassifier([("tree", tree), ("linear", LogisticRegression())], random_state=0)
    check(chain.fit(X, y), X_TEST, [range(1), range(1, 2)], 0.7)
    forest = RandomForestClassifier(20, random_state=0).fit(X[:250], y[:250])
    clf = CascadeClassifier.from_ensemble(forest, sizes=[5, 10], random_state=0)
    check(clf.fit(X[250:], y[250:]), X_TEST, [range(1), range(1, 3)], 0.5)


def test_samples_that_go_on_are_answered_by_the_last_exit_of_a_part():
    clf = four_exits()
    table = clf.exit_table(ROWS)
    # No sample can exit at exit 1, whose head predict would not compute.
    part = parts_of(clf.cascade_, [range(2), range(2, 4)])[0]
    threshold = np.median(table.scores[:, 0])
    (found,) = part([OnTheWay(len(ROWS), ROWS)], np.array([threshold, np.inf, 0.6]))
    early = table.scores[:, 0] >= threshold
    assert np.array_equal(found.answers.exits, np.where(early, 0, 1))
    assert np.array_equal(found.answers.labels, np.where(early, *table.labels[:, :2].T))
    assert np.array_equal(found.staying, np.flatnonzero(~early))
    assert found.onward.n_samples == (~early).sum()


def test_a_part_holds_its_own_stages_only():
    clf = four_exits()
    first, second = parts_of(clf.cascade_, [range(2), range(2, 4)])
    whole = {id(each) for stage in clf.stages_ for each in stage.parameters()}
    held = [
        {id(each) for stage in part.network.stages for each in stage.parameters()} & whole
        for part in (first, second)
    ]
    assert held[0]
    assert held[1]
    assert not held[0] & held[1]
    with torch.inference_mode():
        assert len(pickle.dumps(first)) < len(pickle.dumps(clf.cascade_))


def test_a_router_needs_all_exits_together():
    clf = four_exits(router=ExitRouter())
    check(clf, ROWS, [range(4)], medians(clf))
    with pytest.raises(ValueError, match=r"fit it with router=None, or\s+keep all exits"):
        parts_of(clf.cascade_, [range(2), range(2, 4)])
