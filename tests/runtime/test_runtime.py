"""Execution: slabs, carries of several tensors, memory."""

import copy
import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from skearlyexit import Budget, EarlyExitClassifier
from skearlyexit.backbones import Backbone, Block, Chain, PaddedLinear
from skearlyexit.runtime import _torch
from skearlyexit.runtime._driver import label_table, run, tabulate
from tests._data import blobs, quick, same

X, y, X_TEST, Y_TEST = blobs()


class TwoPaths(Block):
    """Carries its input along with its output; heads see their sum."""

    def __init__(self, first):
        super().__init__()
        self.first = first
        self.linear = PaddedLinear(16, 16)

    def forward(self, carry):
        kept, current = (carry, carry) if self.first else carry
        current = torch.relu(self.linear(current))
        return (kept, current), kept + current


class TwoPathsBackbone(Backbone):
    def build(self, X, n_classes):
        blocks = [PaddedLinear(X.shape[1], 16), TwoPaths(True), TwoPaths(False), TwoPaths(False)]
        return Chain(blocks, names=["stem", "a", "b", "c"])


def test_several_tensors_between_stages():
    clf = EarlyExitClassifier(
        TwoPathsBackbone(), exits=["a", "b"], max_epochs=8, calibration=None, random_state=0
    ).fit(X, y)
    assert clf.exit_names_ == ["a", "b", "c"]
    rows = X_TEST.astype(np.float32)
    thresholds = np.quantile(clf.exit_table(X_TEST).scores[:, :2], 0.5, axis=0)
    whole = run(clf.cascade_, rows, thresholds, with_probabilities=True)
    assert len(np.unique(whole.exits)) == 3
    for slab_rows in (16, 64):
        pieces = run(clf.cascade_, rows, thresholds, with_probabilities=True, slab_rows=slab_rows)
        assert same(pieces.probabilities, whole.probabilities)
    # By hand, without stages.
    with torch.no_grad():
        kept = clf.stages_[0].blocks[0](torch.from_numpy(rows))
        current = kept
        for stage in clf.stages_:
            current = torch.relu(stage.blocks[-1].linear(current))
        logits = clf.heads_[-1](kept + current)
    by_hand = torch.softmax(logits, 1).numpy()
    never = run(clf.cascade_, rows, np.full(2, np.inf), with_probabilities=True)
    np.testing.assert_allclose(never.probabilities, by_hand, atol=1e-6)


def test_the_network_is_the_one_that_torch_runs():
    clf = quick().fit(X, y)
    rows = torch.tensor(X_TEST, dtype=torch.float32)
    with torch.no_grad():
        for stage, head, expected in zip(
            clf.stages_, clf.heads_, clf.staged_predict_proba(X_TEST), strict=True
        ):
            rows, embedding = stage(rows)
            np.testing.assert_allclose(torch.softmax(head(embedding), 1), expected, atol=1e-6)


def test_no_more_than_a_slab_is_in_memory():
    clf = quick().fit(X, y)
    rows = np.tile(X_TEST, (10, 1)).astype(np.float32)
    sizes = []
    hooks = [
        stage.register_forward_hook(lambda module, args, output: sizes.append(len(output[0])))
        for stage in clf.stages_
    ]
    run(clf.cascade_, rows, np.full(2, np.inf), slab_rows=256)
    tabulate(clf.cascade_, rows, slab_rows=256)
    for hook in hooks:
        hook.remove()
    assert max(sizes) == 256


def test_what_is_kept_between_calls_has_the_thresholds_of_the_last_one():
    clf = quick(calibration=None, threshold=0.8).fit(X, y)
    _, expected = clf.predict(X_TEST, return_exits=True)
    last = clf.n_exits_ - 1
    thresholds = np.full(last, np.inf)
    for n_rows in (1, len(X_TEST)):
        rows = X_TEST[:n_rows]
        assert set(clf.predict(rows, threshold=thresholds, return_exits=True)[1]) == {last}
        thresholds[:] = 0
        assert set(clf.predict(rows, threshold=thresholds, return_exits=True)[1]) == {0}
        thresholds[:] = np.inf
        assert same(clf.predict(rows, return_exits=True)[1], expected[:n_rows])
    assert not pickle.loads(pickle.dumps(clf)).cascade_.compiled


def test_rows_come_back_in_their_order():
    clf = quick().fit(X, y)
    order = np.random.RandomState(0).permutation(len(X_TEST))
    labels, exits = clf.predict(X_TEST, threshold=0.6, return_exits=True)
    again = clf.predict(X_TEST[order], threshold=0.6, return_exits=True)
    assert same(again[0], labels[order])
    assert same(again[1], exits[order])


def test_lists_of_modules_and_own_classifiers():
    """A network that ends in one output per class keeps it as its last head, softmax or not."""
    for ending in ([], [nn.Softmax(dim=1)], [nn.LogSoftmax(dim=1)]):
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            modules = [nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)]
        plain = nn.Sequential(*modules, *ending)
        clf = quick(backbone=plain, exits=[1], training="separate").fit(X, y)
        with torch.no_grad():
            expected = plain(torch.tensor(X_TEST, dtype=torch.float32))
        if not ending:
            expected = torch.softmax(expected, 1)
        elif isinstance(ending[0], nn.LogSoftmax):
            expected = expected.exp()
        proba = clf.predict_proba(X_TEST, threshold=np.inf)
        np.testing.assert_allclose(proba, expected.numpy(), atol=1e-6)


def test_lazy_modules():
    with torch.random.fork_rng([]):
        module = nn.Sequential(nn.LazyLinear(32), nn.ReLU(), nn.LazyLinear(32), nn.ReLU())
    clf = quick(backbone=module, exits=[1]).fit(X, y)
    assert clf.embed(X_TEST).shape == (len(X_TEST), 32)
    assert clf.score(X_TEST, Y_TEST) > 0.4


def test_many_threads_may_predict_at_once():
    """Answers stay those of one thread, to the bit, and no limit of threads is left behind."""
    clf = quick(head=make_pipeline(PCA(5), LogisticRegression())).fit(X, y)
    expected = clf.predict_proba(X_TEST, threshold=0.6)
    with ThreadPoolExecutor(4) as pool:
        sizes = [1, 17, 100, 400] * 6
        found = list(pool.map(lambda n: clf.predict_proba(X_TEST[:n], threshold=0.6), sizes))
    assert all(same(answer, expected[:n]) for n, answer in zip(sizes, found, strict=True))
    # The test's own check of thread counts does the rest.


@cache
def many_classes():
    """Fitted, not to be changed, and its samples."""
    X, y = np.random.RandomState(0).randn(1200, 8).astype("float32"), np.arange(1200) % 400
    return quick(calibration=None, threshold=0.5, max_epochs=1).fit(X, y), X, y


class TestManyClasses:
    """Memory is bounded by the slab, and nothing else changes."""

    @pytest.mark.parametrize("step", ["predict", "calibrate", "partial_calibrate", "exit_report"])
    def test_peak(self, step, monkeypatch):
        clf, X, y = many_classes()
        clf = copy.copy(clf).calibrate(X[:300], y[:300], Budget(1.0))
        arguments = (X,) if step in ("predict", "partial_calibrate") else (X, y)
        monkeypatch.setattr(_torch, "SLAB_BYTES", 2**21)
        tracemalloc.start()
        try:
            getattr(clf, step)(*arguments)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < len(X) * 400 * 8  # the probabilities of all at one exit

    @pytest.mark.parametrize("policy", ["confidence", "patience"])
    @pytest.mark.parametrize("combine", [None, "geometric", "mean"])
    def test_labels_and_scores_are_those_of_the_table(self, policy, combine):
        X, y, X_new, _ = blobs()
        clf = quick(policy=policy, combine=combine, max_epochs=1).fit(X, y)
        table, small = (
            clf.exit_table(X_new),
            label_table(clf.cascade_.network, clf.cascade_.exit_rule, X_new, slab_rows=48),
        )
        assert same(small.labels, table.labels)
        assert same(small.scores, table.scores)
