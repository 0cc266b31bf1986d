"""Features far from zero, which single precision cannot tell apart, such as times in seconds."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.tree import DecisionTreeClassifier
from torch import nn
from torch.utils.data import TensorDataset

from skearlyexit import (
    CNNBackbone,
    Conv1DBackbone,
    GraphConvBackbone,
    LayerwiseTraining,
    MLPBackbone,
    RecurrentBackbone,
    TransformerBackbone,
    pad_series,
)
from skearlyexit._data import _chunks as chunks_module
from tests._data import blobs, make, quick, same

X, y, X_NEW, Y_NEW = blobs()
X, y, X_NEW, Y_NEW = X[:200], y[:200], X_NEW[:100], Y_NEW[:100]
# Feature 0 stays near 0; of the others single precision keeps 8 apart, or 512.
FAR = np.append(0.0, np.tile([1.7e9, -1e8], 6))
PARAMS = {"max_epochs": 3, "training": "joint", "exits": 2, "calibration": 0.3}


@pytest.fixture(scope="module")
def near():
    return quick(**PARAMS).fit(X, y)


@pytest.fixture(scope="module")
def far():
    return quick(**PARAMS).fit(X + FAR, y)


def assert_alike(clf, rows, reference, array, atol=0.01):
    """The same but for what double precision rounds, and what training makes of it."""
    found, expected = clf.predict_proba(rows), reference.predict_proba(array)
    np.testing.assert_allclose(found, expected, atol=atol)


def test_nothing_is_lost(near, far):
    assert_alike(far, X_NEW + FAR, near, X_NEW)
    assert far.score(X_NEW + FAR, Y_NEW) == near.score(X_NEW, Y_NEW)
    np.testing.assert_allclose(far.embed(X_NEW + FAR), near.embed(X_NEW), atol=0.01)


def test_integers():
    # In steps of a thousandth, at 1e11.
    rows, new = (np.round(1000 * part).astype(np.int64) for part in (X, X_NEW))
    shift = 100_000_000_000
    found = quick(**PARAMS).fit(rows + shift, y)
    assert_alike(found, new + shift, quick(**PARAMS).fit(rows, y), new)


@pytest.mark.parametrize("kind", ["memmap", "tensors", "sparse"])
def test_rows_that_are_read_as_they_are_needed(far, kind, tmp_path, monkeypatch):
    def given(rows):
        if kind == "sparse":
            return scipy.sparse.csr_array(rows)
        if kind == "tensors":
            return TensorDataset(torch.tensor(rows))
        np.save(tmp_path / f"{len(rows)}.npy", rows)
        return np.load(tmp_path / f"{len(rows)}.npy", mmap_mode="r")

    clf = quick(**PARAMS).fit(given(X + FAR), y)
    wanted = far.predict_proba(X_NEW + FAR)
    assert same(clf.predict_proba(given(X_NEW + FAR)), wanted)
    assert same(clf.predict_proba(X_NEW + FAR), wanted)
    monkeypatch.setattr(chunks_module, "BLOCK_VALUES", 500)
    with pytest.raises(ValueError, match=r"too large for dtype\('float32'\)"):
        clf.predict(given(np.where(X_NEW > 3, 1e300, X_NEW)))


def test_answers_do_not_depend_on_the_rows_beside(far):
    rows = X_NEW + FAR
    probabilities, exits = far.predict_proba(rows, threshold=0.6, return_exits=True)
    order = np.random.RandomState(0).permutation(len(rows))
    assert same(far.predict_proba(rows[order], threshold=0.6), probabilities[order])
    for i in range(3):
        assert same(far.predict_proba(rows[i : i + 1], threshold=0.6), probabilities[i : i + 1])
    assert same(far.exit_table(rows).exits(np.array([0.6])), exits)
    assert same(pickle.loads(pickle.dumps(far)).predict_proba(rows, threshold=0.6), probabilities)


def test_layouts_and_memory_order(far):
    rows = X + FAR
    for laid_out in (np.asfortranarray(rows), rows[:, ::-1].copy()[:, ::-1], list(rows)):
        clf = quick(**PARAMS).fit(laid_out, y)
        assert same(clf.predict_proba(X_NEW + FAR), far.predict_proba(X_NEW + FAR))


SERIES = np.stack([X, X[:, ::-1]], axis=1)  # two channels of 13 points
MASKED = pad_series([rows[:, : 8 + i % 6] for i, rows in enumerate(SERIES)])
SHIFT = np.array([1.7e9, -1e8])[:, None]
MASK_SHIFT = np.array([1.7e9, -1e8, 0])[:, None]
IMAGES = np.resize(X, (200, 3, 4, 5))
BACKBONES = {
    "transformer": (X, FAR, TransformerBackbone(1, width=16)),
    "graph": (X, np.full(13, 1.7e9), GraphConvBackbone(np.eye(13), n_hops=1, width=16)),
    "images": (IMAGES, np.array([1.7e9, -1e8, 0])[:, None, None], CNNBackbone((16,), n_blocks=1)),
    "convolution": (SERIES, SHIFT, Conv1DBackbone((16,), n_blocks=1)),
    "masked convolution": (MASKED, MASK_SHIFT, Conv1DBackbone((16,), n_blocks=1, masked=True)),
    "recurrent": (SERIES, SHIFT, RecurrentBackbone(width=16, step=7)),
    "masked recurrent": (MASKED, MASK_SHIFT, RecurrentBackbone(width=16, step=7, masked=True)),
    "layers": (MASKED, MASK_SHIFT,
               RecurrentBackbone(width=16, n_layers=2, exits_along="layers", masked=True)),
    "masked transformer": (MASKED, MASK_SHIFT, TransformerBackbone(1, width=16, masked=True)),
    "a callable": (X, FAR, lambda shape, n: MLPBackbone(1, width=16, hidden=16)),
}  # fmt: skip


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_that_standardizes(name):
    rows, shift, backbone = BACKBONES[name]
    params = {**PARAMS, "backbone": backbone, "exits": [0], "max_epochs": 1}
    near = quick(**params).fit(rows, y)
    far = quick(**params).fit(rows + shift, y)
    assert_alike(far, rows[:50] + shift, near, rows[:50])


TRAININGS = [
    {"training": name}
    for name in (
        "separate", "mixed", "distillation", "combined", "gated", "local_error", "freeze_out"
    )
] + [
    {"training": LayerwiseTraining(local="reconstruction")},
    {"training": LayerwiseTraining(local="similarity", max_cache_bytes=1)},
    {"head": DecisionTreeClassifier(max_depth=3)},
    {"early_stopping": True, "class_weight": "balanced"},
    {"calibration": 2, "policy": "learned"},
]  # fmt: skip


@pytest.mark.parametrize("params", TRAININGS, ids=str)
def test_every_training(params):
    params = {**PARAMS, "max_epochs": 2, **params}
    clf = quick(**params).fit(X + FAR, y)
    near = quick(**params).fit(X, y)
    assert clf.cascade_.network.stages[0].blocks[0][3].weight.dtype == torch.float32
    assert np.mean(clf.predict(X_NEW + FAR) == near.predict(X_NEW)) > 0.9


def test_training_that_goes_on():
    params = {**PARAMS, "calibration": None}
    near, far = quick(**params), quick(**params)
    for rows in (slice(100), slice(100, 150), slice(150, 200)):
        near.partial_fit(X[rows], y[rows], classes=range(4))
        far.partial_fit(X[rows] + FAR, y[rows], classes=range(4))
    assert_alike(far, X_NEW + FAR, near, X_NEW)
    # Rows that came near 0 at first, and far from it later, and the other way round.
    before = copy.deepcopy(far)
    before.partial_fit(X[:50].astype(np.float32), y[:50])
    near.set_params(warm_start=True, max_epochs=1).fit(X[::-1], y[::-1])
    far.set_params(warm_start=True, max_epochs=1).fit((X + FAR)[::-1], y[::-1])
    assert_alike(far, X_NEW + FAR, near, X_NEW)


def test_validation_rows_are_told_apart():
    params = {**PARAMS, "early_stopping": True, "max_epochs": 2}
    losses = [
        quick(**params).fit(X + shift, y, X_val=X_NEW + shift, y_val=Y_NEW).history_[-1]
        for shift in (0, FAR)
    ]
    assert losses[1]["valid_loss"] == pytest.approx(losses[0]["valid_loss"], rel=1e-3)


def test_what_single_precision_holds_is_read_in_it():
    ones = np.column_stack([X, np.ones(len(X)), np.zeros(len(X)), np.full(len(X), 0.1)])
    for rows in (X, ones, X.astype(np.float32) + FAR.astype(np.float32), np.abs(X).astype(int)):
        clf = quick(**PARAMS).fit(rows, y)
        assert clf.cascade_.network.dtype == torch.float32
        assert clf.predict(rows[:5]).shape == (5,)


OWN = {**PARAMS, "exits": 1}


class TestNetworksOfTheUser:
    @staticmethod
    def net():
        return make(lambda: nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 16)))

    def test_get_rows_in_their_precision_with_a_warning(self):
        with pytest.warns(UserWarning, match="values of 12 features of X.*feature 1,"):
            clf = quick(**OWN, backbone=self.net()).fit(X + FAR, y)
        assert clf.cascade_.network.dtype == torch.float32
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            quick(**OWN, backbone=self.net(), dtype="float64").fit(X + FAR, y)
            constant = np.column_stack([X[:, :12], np.full(len(X), 0.1)])
            quick(**OWN, backbone=self.net()).fit(constant, y)
            wide = quick(**OWN, backbone=self.net()).fit(X, y)
        narrow = quick(**OWN, backbone=self.net()).fit(X.astype(np.float32), y)
        assert same(wide.predict_proba(X_NEW), narrow.predict_proba(X_NEW))
