"""Samples that wait for others between stages: full batches, and the same answers."""

from functools import cache

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import ConfidencePolicy, LinearHead
from skearlyexit._utils._not_finite import OutputsNotFiniteError
from skearlyexit.combination import OwnCombination
from skearlyexit.heads import FittedHead, Head
from skearlyexit.runtime._driver import label_table, run
from tests._data import blobs, quick, same

X, y, X_TEST, _ = blobs()
ROWS = X_TEST.astype(np.float32)


class Squared(ConfidencePolicy):
    """A policy that is derived from one which needs less than it does."""

    def step(self, state, probabilities, exit_=0):
        return (probabilities**2).sum(axis=1), None


class Halved(ConfidencePolicy):
    def judge(self, state, answer, exit_):
        return answer.probabilities.max(axis=1) / 2, None


class Reversed(OwnCombination):
    def step(self, state, probabilities, exit_=0):
        return probabilities[:, ::-1], None


class Turned(OwnCombination):
    def combine(self, state, output, exit_):
        return output.probabilities[:, ::-1], None


OPTIONS = {
    "default": {},
    "memory of the policy": {"policy": "patience"},
    "memory of the combination": {"combine": "mean"},
    "memory of both": {"combine": "product", "policy": "patience"},
    "memory that is learned": {"training": "combined"},
    "gates": {"training": "gated", "policy": "gate"},
    "temperatures": {"temperature_scaling": True},
    "derived policy": {"policy": Squared()},
    "policy derived by another method": {"policy": Halved()},
    "derived combination": {"combine": Reversed()},
    "combination derived by another method": {"combine": Turned()},
    "trees": {"head": DecisionTreeClassifier(max_depth=4)},
}


@cache
def fitted(name):
    return quick(**OPTIONS[name], max_epochs=2).fit(X, y)


def some_exit(table):
    """Thresholds with which some samples exit at an exit, if their scores differ."""
    lowest, highest = table.scores[:, :-1].min(axis=0), table.scores[:, :-1].max(axis=0)
    middle = np.median(table.scores[:, :-1], axis=0)
    return np.where(lowest < highest, np.where(middle > lowest, middle, highest), np.inf)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("slab_rows", [16, 48, 400, None])
def test_answers_do_not_depend_on_who_waits(name, slab_rows):
    clf = fitted(name)
    table = clf.exit_table(X_TEST)
    thresholds = some_exit(table)
    exits = table.exits(thresholds)
    assert len(np.unique(exits)) > 1
    at_exit = np.arange(len(exits)), exits
    for with_probabilities in (False, True):
        found = run(
            clf.cascade_,
            ROWS,
            thresholds,
            with_probabilities=with_probabilities,
            slab_rows=slab_rows,
        )
        assert same(found.exits, exits)
        assert same(found.labels, table.labels[at_exit])
    assert same(found.probabilities, table.probabilities[at_exit])
    small = label_table(clf.cascade_.network, clf.cascade_.exit_rule, ROWS, slab_rows=slab_rows)
    assert same(small.labels, table.labels)
    assert same(small.scores, table.scores)


def sizes_by_stage(clf, thresholds, slab_rows):
    sizes = [[] for _ in clf.stages_]
    hooks = [
        stage.register_forward_hook(lambda module, args, output, s=s: s.append(len(args[0])))
        for stage, s in zip(clf.stages_, sizes, strict=True)
    ]
    run(clf.cascade_, ROWS, thresholds, slab_rows=slab_rows)
    for hook in hooks:
        hook.remove()
    return sizes


def test_later_stages_run_on_full_batches():
    clf = fitted("default")
    table = clf.exit_table(X_TEST)
    thresholds = some_exit(table)
    exits = table.exits(thresholds)
    for stage, sizes in enumerate(sizes_by_stage(clf, thresholds, 64)):
        reached = np.count_nonzero(exits >= stage)
        assert sizes[:-1] == [64] * (len(sizes) - 1)
        assert 0 <= sum(sizes) - reached < 16


def test_all_samples_without_an_answer_are_named_in_order():
    clf = fitted("default")
    bad = ROWS.copy()
    bad[[7, 30, 399]] = np.nan
    with pytest.raises(OutputsNotFiniteError, match=r"for 3 samples, the first of them X\[7\]"):
        run(clf.cascade_, bad, np.full(2, np.inf), slab_rows=16)


class Half(FittedHead):
    """Fails at another class than the most probable one."""

    def predict_proba(self, vectors):
        probabilities = self.model.body(vectors).double().softmax(dim=1).numpy()
        found = np.zeros_like(probabilities)
        found[:, :2] = 1.0, -1.0
        return found

    def to(self, device):
        self.model.to(device)


class HalfHead(Head):
    is_neural = True

    def build(self, embedding, n_classes):
        return LinearHead().build(embedding, n_classes)

    def fit(self, module, *args, **options):
        return Half(module, module.pooling)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_a_head_of_the_user_with_a_negative_probability(method):
    clf = quick(head=HalfHead(), calibration=None, threshold=0.5, max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="outputs of exit 0 are NaN or negative for 400 samples"):
        getattr(clf, method)(X_TEST)
