"""A single sample has a path of its own, and gets the answers that it gets in a batch.

That they are the same to the last bit is held against all configurations in `tests.promises`.
"""

import copy
from functools import cache

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch.utils.data import TensorDataset

from skearlyexit import Budget, EarlyExitRegressor, MLPBackbone
from skearlyexit.heads._neural import NeuralExit
from skearlyexit.runtime._driver import run
from tests._data import blobs, quick, same

X, Y, X_TEST, _ = blobs()
X_TEST = X_TEST[:40].astype(np.float32)


@cache
def fitted():
    """Not to be changed."""
    return quick().fit(X, Y)


def thresholds_of(clf):
    return np.median(clf.exit_table(X_TEST).scores[:, :-1], axis=0)


def mapped(rows, folder):
    np.save(folder / "rows.npy", rows)
    return np.load(folder / "rows.npy", mmap_mode="r")


@pytest.mark.parametrize(
    "given",
    [
        lambda row, folder: csr_array(row),
        mapped,
        lambda row, folder: TensorDataset(torch.tensor(row)),
    ],
)
def test_a_sample_that_is_read_as_needed(given, tmp_path):
    clf = fitted()
    thresholds = thresholds_of(clf)
    expected, exits = clf.predict_proba(X_TEST, threshold=thresholds, return_exits=True)
    for i in range(4):
        row = given(X_TEST[i : i + 1], tmp_path)
        found, exit_ = clf.predict_proba(row, threshold=thresholds, return_exits=True)
        assert same(found, expected[i : i + 1])
        assert same(exit_, exits[i : i + 1])


def test_probabilities_are_returned_only_if_they_are_requested():
    clf = fitted()
    thresholds = thresholds_of(clf)
    assert run(clf.cascade_, X_TEST[:1], thresholds).probabilities is None
    assert run(clf.cascade_, X_TEST[:1], thresholds, with_probabilities=True).probabilities.shape
    reg = EarlyExitRegressor(
        MLPBackbone(2, width=16, hidden=16), exits=["stem"], max_epochs=2, random_state=0
    ).fit(X, X[:, :2])
    assert run(reg.cascade_, X_TEST[:1], reg.thresholds_).probabilities is None
    predicted = reg.predict(X_TEST)
    assert same(np.concatenate([reg.predict(row[None]) for row in X_TEST]), predicted)


class OwnOutputs(NeuralExit):
    """The exit rule sees other outputs than the probabilities of `predict_proba`."""

    def outputs(self, vectors):
        return self.predict_proba(vectors)[:, ::-1].copy()


class SinglePrecision(NeuralExit):
    """Writes its answers into memory that it keeps."""

    memory = np.empty((512, 4), dtype=np.float32)

    def predict_proba(self, vectors):
        found = self.memory[: len(vectors)]
        found[:] = torch.softmax(self.model.body(vectors), dim=1).numpy()
        return found


@pytest.mark.parametrize("kind", [OwnOutputs, SinglePrecision])
def test_heads_of_users(kind):
    clf = copy.deepcopy(fitted())
    heads = clf.cascade_.network.heads
    heads[:] = [kind(head.model, head.pooling) for head in heads]
    thresholds = thresholds_of(clf) * (1 + 1e-9)
    expected, exits = clf.predict_proba(X_TEST, threshold=thresholds, return_exits=True)
    labels = clf.predict(X_TEST, threshold=thresholds)
    assert same(labels, clf.classes_[expected.argmax(axis=1)])
    found = [clf.predict_proba(row[None], threshold=thresholds) for row in X_TEST]
    assert same(np.concatenate(found), expected)
    alone = [clf.predict(row[None], threshold=thresholds, return_exits=True) for row in X_TEST]
    assert same(np.concatenate([label for label, _ in alone]), labels)
    assert same(np.concatenate([exit_ for _, exit_ in alone]), exits)


def test_heads_at_which_no_sample_can_exit_do_not_run():
    clf = copy.deepcopy(fitted())
    calls = []
    for exit_, head in enumerate(clf.cascade_.network.heads):
        head.model.body.register_forward_hook(lambda *_, exit_=exit_: calls.append(exit_))
    clf.predict(X_TEST[:1], threshold=[2.0] * (clf.n_exits_ - 2) + [0.5])
    assert calls[0] == clf.n_exits_ - 2


def test_strict_budgets_hold_for_each_call():
    clf = quick(budget=0.9).fit(X, Y)
    for value in (1.0, clf.costs_[1], clf.costs_[0]):
        budget = Budget(float(value), strict=True)
        for row in X_TEST[:10]:
            _, exits = clf.predict(row[None], budget=budget, return_exits=True)
            assert clf.costs_[exits[0]] <= value * (1 + 1e-9)
