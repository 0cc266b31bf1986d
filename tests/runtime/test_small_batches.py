"""Batches of few samples are padded only as far as the results require."""

import pickle
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from skearlyexit import CNNBackbone, EstimatorHead, LinearHead, MLPHead
from skearlyexit._determinism import _small_batches
from skearlyexit._determinism._small_batches import N_TESTED, padded_size, smallest_batch
from skearlyexit.heads import QuarterPooling
from skearlyexit.heads._neural import NeuralExit
from tests._data import digits, make, quick, same
from tests._padded import Padded

X, y, X_TEST, _ = digits()
X, y, X_TEST = X[:200], y[:200], X_TEST[:60].astype(np.float32)


@given(n_rows=st.integers(1, 1000), smallest=st.sampled_from([1, 2, 4, 8, 16]))
def test_sizes_are_those_that_are_tested(n_rows, smallest):
    size = padded_size(n_rows, smallest)
    assert size >= max(n_rows, smallest)
    assert size in (1, 2, 4, 8) or size % 16 == 0
    assert size < max(2 * n_rows, n_rows + 16, smallest + 1)


@pytest.mark.parametrize("smallest", [1, 2, 4, 8, 16])
def test_the_last_bits_decide(smallest):
    rows = make(lambda: torch.randn(N_TESTED, 3))

    def off_in_small_batches(parts):
        first, second = parts
        off = len(first) < smallest
        # A single value of a single sample of all, as rounding may change it.
        chosen = (first[:, 0] == rows[-1, 0]) & off
        bits = torch.where(chosen, torch.finfo(torch.float32).eps, 0.0)
        return (first, (first.numpy(), second * (1 + bits[:, None])))

    assert smallest_batch(off_in_small_batches, (rows, rows)) == smallest


def fit_to_images(**params):
    backbone = CNNBackbone((5, 9), n_blocks=1, image_shape=(8, 8))
    return quick(backbone=backbone, exits=2, max_epochs=2, **params).fit(X, y)


@cache
def of_images():
    return fit_to_images()


def assert_alone_as_together(clf, rows):
    """The answers where half of the rows leave at the first exit."""
    threshold = np.median(clf.exit_table(rows).scores[:, 0])
    together = clf.predict_proba(rows, threshold=threshold)
    alone = [clf.predict_proba(row[None], threshold=threshold) for row in rows]
    assert same(together, np.concatenate(alone))


def sizes_seen(clf, X):
    """Sizes of the batches of all stages in a prediction without early exits."""
    sizes = []
    hooks = [
        stage.register_forward_hook(lambda module, args, output: sizes.append(len(args[0])))
        for stage in clf.stages_
    ]
    clf.predict(X, threshold=np.inf)
    for hook in hooks:
        hook.remove()
    return sizes


def test_a_single_image_is_not_padded():
    clf = of_images()
    assert sizes_seen(clf, X_TEST[:1]) == [1, 1]
    assert sizes_seen(clf, X_TEST[:3]) == [4, 4]
    assert sizes_seen(clf, X_TEST[:17]) == [32, 32]


def pooled(clf, X):
    """Numbers of samples that the poolings of all heads see when all exits are computed."""
    sizes = []
    hooks = [
        head.pooling.register_forward_hook(lambda module, args, output: sizes.append(len(args[0])))
        for head in clf.cascade_.network.heads
    ]
    clf.exit_table(X)
    for hook in hooks:
        hook.remove()
    return sizes


@pytest.mark.parametrize("head", ["linear", "mlp", DecisionTreeClassifier(max_depth=4)])
@pytest.mark.parametrize("pooling", ["quarters", "average", "flatten"])
def test_heads_pool_no_copies_of_a_sample(head, pooling):
    heads = {"linear": LinearHead, "mlp": MLPHead}
    head = heads[head](pooling=pooling) if head in heads else EstimatorHead(head, pooling=pooling)
    clf = fit_to_images(head=head)
    assert pooled(clf, X_TEST[:1]) == [1, 1]
    assert pooled(clf, X_TEST[:3]) == [4, 4]
    assert_alone_as_together(clf, X_TEST)


def test_poolings_with_weights_are_padded():
    pooling = make(lambda: nn.Sequential(nn.Conv2d(16, 3, 3), nn.Flatten(), nn.LazyLinear(16)))
    clf = fit_to_images(head=LinearHead(pooling=pooling))
    assert pooled(clf, X_TEST[:1]) == [16, 16]
    assert_alone_as_together(clf, X_TEST)


class Rows(nn.Module):
    """A pooling that needs the axes of a map in their order in memory."""

    def forward(self, maps):
        return maps.view(len(maps), -1)


class Inherited(QuarterPooling):
    """A pooling of the user that is derived from one of ours."""

    def forward(self, maps):
        return super().forward(maps.view(maps.shape))


def test_derived_poolings_see_the_axes_in_order():
    own, ours = (
        fit_to_images(head=LinearHead(pooling=pooling)) for pooling in (Inherited(), "quarters")
    )
    assert own.score(X, y) == ours.score(X, y)
    maps = make(lambda: torch.randn(16, 16, 8, 8)).to(memory_format=torch.channels_last)
    head = NeuralExit(nn.Identity(), Rows())
    assert same(head.pool(maps).numpy(), maps.flatten(1).numpy())


@pytest.mark.parametrize("training", ["joint", "separate"])
@pytest.mark.parametrize("head", [LinearHead(), EstimatorHead(DecisionTreeClassifier(max_depth=4))])
def test_poolings_of_the_user_see_the_axes_in_order(head, training):
    own, flat = (
        fit_to_images(head=clone(head).set_params(pooling=pooling), training=training)
        for pooling in (Rows(), "flatten")
    )
    maps = own.stages_[0](torch.tensor(X_TEST))[1]
    assert not maps.is_contiguous()  # but for the conversion, `view` would raise an error
    assert same(own.predict_proba(X_TEST), flat.predict_proba(X_TEST))
    assert same(own.embed(X_TEST, exit=0), flat.embed(X_TEST, exit=0))


def test_a_model_from_a_machine_with_other_kernels_is_padded(monkeypatch):
    clf = of_images()
    expected = clf.predict_proba(X_TEST[:5], threshold=np.inf)
    stored = pickle.dumps(clf)
    assert sizes_seen(pickle.loads(stored), X_TEST[:1]) == [1, 1]
    monkeypatch.setattr(_small_batches, "_kernels", lambda: ("another release", "other"))
    restored = pickle.loads(stored)
    assert sizes_seen(restored, X_TEST[:1]) == [16, 16]
    assert pooled(restored, X_TEST[:1]) == [16, 16]
    assert same(restored.predict_proba(X_TEST[:5], threshold=np.inf), expected)


@pytest.mark.parametrize("zeros", [slice(300), np.linspace(0, 399, N_TESTED).astype(int)])
def test_rows_that_are_alike_show_nothing(zeros):
    """For zeros, every kernel returns the bias of a linear layer."""
    X, y, X_test, _ = digits()
    X, y = X[:400].copy(), y[:400]
    X[zeros] = 0  # at the beginning, or in all rows of the test
    # With a further axis, since stages of vectors are not tested.
    X, X_test = X[:, None], X_test[:60, None].astype(np.float32)
    backbone = make(lambda: Padded([nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32)]))
    clf = quick(backbone=backbone, exits=[1]).fit(X, y)
    assert_alone_as_together(clf, X_test)


def test_stages_that_depend_on_the_size_of_the_batch_are_padded():
    class Counted(nn.Module):
        """Rounds differently in batches of fewer than 4 samples."""

        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(1, 16, 3)

        def forward(self, rows):
            out = self.convolution(torch.nn.functional.pad(rows, (0,) * 7 + (-len(rows) % 16,)))
            return out[: len(rows)] * (1 + (len(rows) < 4) * torch.finfo(torch.float32).eps)

    backbone = make(lambda: Padded([Counted(), nn.ReLU(), nn.Conv2d(16, 16, 3)]))
    clf = quick(backbone=backbone, exits=[1], max_epochs=2).fit(X.reshape(-1, 1, 8, 8), y)
    rows = X_TEST.reshape(-1, 1, 8, 8)
    assert sizes_seen(clf, rows[:1])[0] == 4
    assert_alone_as_together(clf, rows)
