"""Rows of mapped files and torch datasets: the same answers, and never all of them in memory."""

from functools import cache, partial

import numpy as np
import pytest
import torch
from sklearn.preprocessing import LabelEncoder
from sklearn.tree import DecisionTreeClassifier
from torch.utils.data import Subset, TensorDataset

from skearlyexit import (
    CNNBackbone,
    Conv1DBackbone,
    EarlyExitClassifier,
    EstimatorHead,
    ExactPlacement,
    GraphConvBackbone,
    LayerwiseTraining,
    MLPBackbone,
    TransformerBackbone,
    pad_series,
)
from skearlyexit._data import _chunks as chunks_module
from skearlyexit._data._streamed import StreamedRows, streamed
from skearlyexit._determinism._small_batches import N_TESTED
from skearlyexit._fitting._network_fitter import TRIAL_ROWS
from skearlyexit.runtime import _torch as runtime_module
from tests import _data
from tests._data import Items, blobs, make, same

X, y, X_NEW, Y_NEW = (part.astype(np.float32) if part.ndim > 1 else part for part in blobs())

quick = partial(_data.quick, max_epochs=2)


@pytest.fixture
def asked(monkeypatch):
    """Numbers of rows that were read at once, in blocks and slabs of 256 rows at most."""
    found = []
    read = StreamedRows._read

    def count(self, positions, out):
        found.append(len(positions))
        read(self, positions, out)

    monkeypatch.setattr(StreamedRows, "_read", count)
    monkeypatch.setattr(runtime_module, "SLAB_BYTES", 1)
    monkeypatch.setattr(chunks_module, "BLOCK_VALUES", 256 * X.shape[1])
    return found


def assert_alike(clf, rows, reference, array):
    """Both models, fitted in two ways, answer alike to the last bit."""
    assert same(clf.thresholds_, reference.thresholds_)
    assert same(clf.costs_, reference.costs_)
    assert clf.n_features_in_ == reference.n_features_in_
    for shown, expected in ((rows, array), (array, array), (rows[: len(array)], array)):
        found = clf.predict_proba(shown, return_exits=True)
        wanted = reference.predict_proba(expected, return_exits=True)
        assert same(found[0], wanted[0])
        assert same(found[1], wanted[1])


CONFIGURATIONS = {
    "neural": {},
    "folds": {"calibration": 3},
    "tree": {"head": DecisionTreeClassifier(max_depth=4)},
    "tree in folds": {"head": DecisionTreeClassifier(max_depth=4), "calibration": 2},
    "cross-fitted tree": {
        "head": EstimatorHead(DecisionTreeClassifier(max_depth=4), cross_fit=2),
    },
    "separate": {"training": "separate"},
    "layerwise": {"training": "layerwise"},
    "layerwise without cache": {"training": LayerwiseTraining(max_cache_bytes=1)},
    "distillation": {"training": "distillation"},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2},
    "odd batches": {"batch_size": 37, "early_stopping": True},
    "placement": {"exits": ExactPlacement(2), "calibration": 2},
    "class weights": {"class_weight": "balanced"},
    "one exit": {"exits": 1},
    "learned": {"policy": "learned", "temperature_scaling": True},
    "module": {"backbone": make(lambda: torch.nn.Sequential(
        torch.nn.Linear(13, 20), torch.nn.ReLU(), torch.nn.Linear(20, 16), torch.nn.ReLU())),
        "exits": 1,
    },
    "transformer": {
        "backbone": TransformerBackbone(n_blocks=2, width=16), "exits": 1},
    "graph": {"backbone": GraphConvBackbone(np.eye(13), n_hops=2, width=16), "exits": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_mapped_file_is_fitted_like_the_array(mapped, name):
    params = CONFIGURATIONS[name]
    reference = quick(**params).fit(X, y)
    clf = quick(**params).fit(mapped(X), y)
    assert_alike(clf, mapped(X_NEW), reference, X_NEW)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["f4", "f8", ">f4", "f2", "i2", "?"])
def test_numbers_of_other_kinds_are_converted_as_they_are_read(mapped, kind, dtype):
    rows, new = ((10 * part).astype(kind) for part in (X, X_NEW))
    params = {"dtype": dtype, "max_epochs": 1}
    clf = quick(**params).fit(mapped(rows), y)
    assert_alike(clf, mapped(new), quick(**params).fit(rows, y), new)


def test_more_than_a_block_is_summed_like_the_array(mapped, monkeypatch):
    monkeypatch.setattr(chunks_module, "BLOCK_VALUES", 100)
    wide = quick(dtype="float64").fit(mapped(X.astype(float)), y)
    assert_alike(wide, mapped(X_NEW), quick(dtype="float64").fit(X.astype(float), y), X_NEW)


def test_blocks_change_what_is_learned_by_rounding_only(monkeypatch):
    whole = chunks_module.channel_moments(X)
    assert same(whole[0], X.mean(axis=0, dtype=float, keepdims=True))
    assert same(whole[1], X.std(axis=0, dtype=float, keepdims=True))
    monkeypatch.setattr(chunks_module, "BLOCK_VALUES", 100)
    for found, expected in zip(chunks_module.channel_moments(X), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_other_layouts_of_a_file(mapped):
    reference = quick().fit(X, y)
    doubled = mapped(np.repeat(X, 2, axis=0))
    for rows in (mapped(X, order="F"), doubled[::2], doubled[1::2]):
        assert isinstance(rows, np.memmap)
        assert_alike(quick().fit(rows, y), mapped(X_NEW, order="F"), reference, X_NEW)


def test_images_and_masked_series(mapped, monkeypatch):
    monkeypatch.setattr(chunks_module, "BLOCK_VALUES", 500)
    images = np.pad(X, ((0, 0), (0, 3))).reshape(-1, 1, 4, 4)
    series = pad_series([row[None, : 5 + i % 9] for i, row in enumerate(X)])
    for rows, backbone in (
        (images, CNNBackbone((8,), n_blocks=1)),
        (images[:, 0], CNNBackbone((8,), n_blocks=1)),
        (series, Conv1DBackbone((8, 16), n_blocks=1, masked=True)),
    ):
        params = {"backbone": backbone, "exits": 1}
        clf = quick(**params).fit(mapped(rows), y)
        assert_alike(clf, mapped(rows[:90]), quick(**params).fit(rows, y), rows[:90])


def test_a_mask_that_is_none_is_found_behind_the_first_block(mapped, monkeypatch):
    monkeypatch.setattr(chunks_module, "BLOCK_VALUES", 500)
    series = pad_series([row[None] for row in X])
    series[321, -1, 2] = 0
    clf = quick(backbone=Conv1DBackbone((8,), n_blocks=1, masked=True), exits=1)
    with pytest.raises(ValueError, match="in 1 of 500 samples, the first of them in row 321"):
        clf.fit(mapped(series), y)


def test_weights_groups_and_validation_rows(mapped):
    weight = np.arange(len(y)) % 3 / 2  # a third of them 0
    arguments = {"sample_weight": weight, "groups": np.arange(len(y)) // 5}
    reference = quick(early_stopping=True).fit(X, y, **arguments, X_val=X_NEW, y_val=Y_NEW)
    validation = {"X_val": mapped(X_NEW), "y_val": Y_NEW}
    clf = quick(early_stopping=True).fit(mapped(X), y, **arguments, **validation)
    assert_alike(clf, mapped(X_NEW), reference, X_NEW)
    validation = {"X_val": Items(X_NEW, Y_NEW)}
    clf = quick(early_stopping=True).fit(Items(X, y), **arguments, **validation)
    assert same(clf.predict_proba(X_NEW), reference.predict_proba(X_NEW))


DATASETS = {
    "arrays": Items(X, y),
    "lists": Items([row.tolist() for row in X], y.tolist()),
    "tensors": TensorDataset(torch.tensor(X), torch.tensor(y)),
    "doubles": TensorDataset(torch.tensor(X, dtype=torch.float64), torch.tensor(y)[:, None]),
    "tracked": Items(torch.tensor(X, requires_grad=True), y),
    "a subset": Subset(Items(np.repeat(X, 2, axis=0), np.repeat(y, 2)), range(0, 2 * len(X), 2)),
}


@cache
def on_arrays(head):
    """Not to be changed."""
    return quick(head=head).fit(X, y)


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("head", [None, DecisionTreeClassifier(max_depth=4)], ids=str)
def test_a_dataset_is_fitted_like_the_array(name, head):
    if name == "lists":  # a list would be a row and its label
        dataset = Items([(np.array(row), label) for row, label in zip(X, y, strict=True)])
    else:
        dataset = DATASETS[name]
    reference = on_arrays(head)
    for clf in (quick(head=head).fit(dataset), quick(head=head).fit(dataset, y)):
        assert clf.n_features_in_ == 13
        assert same(clf.predict_proba(dataset), reference.predict_proba(X))
        assert same(clf.predict(dataset, threshold=0.5), reference.predict(X, threshold=0.5))


def test_labels_that_are_given_come_before_those_of_the_items():
    names = np.array(["a", "b", "c", "d"])
    clf = quick().fit(Items(X, np.zeros(len(y))), names[y])
    assert same(clf.predict_proba(X_NEW), quick().fit(X, y).predict_proba(X_NEW))
    clf = quick().fit(Items(X, names[y]))
    assert clf.classes_.tolist() == names.tolist()
    assert clf.score(Items(X_NEW), names[Y_NEW]) == clf.score(X_NEW, names[Y_NEW])


@pytest.mark.parametrize("kind", ["memmap", "dataset"])
def test_every_method_takes_them(mapped, kind):
    reference, clf = quick(budget=0.7).fit(X, y), quick(budget=0.7).fit(X, y)
    rows = mapped(X_NEW) if kind == "memmap" else Items(X_NEW, Y_NEW)
    labels = Y_NEW if kind == "memmap" else None
    assert clf.score(rows, labels) == reference.score(X_NEW, Y_NEW)
    assert str(clf.exit_report(rows, labels)) == str(reference.exit_report(X_NEW, Y_NEW))
    assert same(clf.exit_table(rows).scores, reference.exit_table(X_NEW).scores)
    for found, expected in zip(
        clf.staged_predict(rows), reference.staged_predict(X_NEW), strict=True
    ):
        assert same(found, expected)
    for exit_ in (0, -1):
        assert same(clf.embed(rows, exit_), reference.embed(X_NEW, exit_))
    assert same(clf.predict(rows, budget=0.5), reference.predict(X_NEW, budget=0.5))
    assert same(
        clf.calibrate(rows, labels).thresholds_, reference.calibrate(X_NEW, Y_NEW).thresholds_
    )
    assert same(
        clf.partial_calibrate(rows).thresholds_, reference.partial_calibrate(X_NEW).thresholds_
    )


def test_a_model_fitted_on_a_file_takes_arrays_and_the_other_way_round(mapped):
    clf = quick().fit(mapped(X), y)
    assert same(clf.predict_proba(X_NEW.astype(float)), clf.predict_proba(Items(X_NEW)))
    assert same(clf.predict_proba(X_NEW[:1]), clf.predict_proba(mapped(X_NEW[:1])))


@pytest.mark.parametrize("kind", ["memmap", "dataset"])
@pytest.mark.parametrize(
    "params",
    [
        {"head": EstimatorHead(DecisionTreeClassifier(max_depth=3), cross_fit=2)},
        {"calibration": 2, "training": "layerwise"},
        {"early_stopping": True, "training": "separate", "exits": ExactPlacement(2)},
    ],
    ids=["cross-fitted", "folds", "placement"],
)
def test_no_more_than_a_slab_is_read_at_once(mapped, asked, tmp_path, kind, params):
    # Three times as many rows as a slab, so that any part of the fit is more than one.
    rows, labels = np.tile(X, (3, 1)), np.tile(y, 3)
    given = mapped(rows) if kind == "memmap" else Items(rows, labels)
    clf = quick(**{"memory": tmp_path / "memory", **params})
    clf.fit(given, labels)
    for method in (clf.predict, clf.predict_proba, clf.exit_table, clf.embed):
        method(given)
    clf.exit_report(given, labels)
    assert max(asked) == 256


def test_every_row_is_drawn_once_an_epoch():
    drawn = []

    class Noted(Items):
        def __getitem__(self, i):
            drawn.append(i)
            return super().__getitem__(i)

    clf = quick(training="joint", exits=1, calibration=None, max_epochs=3)
    clf.fit(Noted(X), y)
    # The last are for a trial of the trained network, for the costs and for small batches.
    n_last = min(TRIAL_ROWS, len(X)) + 32 + min(N_TESTED, len(X))
    epochs = np.array(drawn[-3 * len(X) - n_last : -n_last]).reshape(3, -1)
    for epoch in epochs:
        assert sorted(epoch) == list(range(len(X)))
    assert not same(epochs[0], epochs[1])


@pytest.mark.parametrize("training", ["joint", "mixed", "layerwise"])
def test_trainings_are_kept_by_the_content_of_the_rows(mapped, tmp_path, training, capsys):
    clf = quick(training=training, memory=tmp_path / "memory", verbose=1)
    first = clf.fit(mapped(X), y).predict_proba(X_NEW)
    capsys.readouterr()
    # In another file, and as a dataset.
    for rows in (mapped(X), Items(X)):
        assert same(clf.fit(rows, y).predict_proba(X_NEW), first)
        assert " epochs on " not in capsys.readouterr().out
    moved = X.copy()
    moved[7, 3] += 1e-3
    clf.fit(mapped(moved), y)
    assert " epochs on " in capsys.readouterr().out


def test_labels_are_encoded_alike_in_the_scores():
    encoder = LabelEncoder().fit(["a", "b", "c", "d"])
    clf = quick().fit(Items(X, encoder.inverse_transform(y)))
    assert clf.score(Items(X_NEW, encoder.inverse_transform(Y_NEW))) == pytest.approx(
        (clf.predict(X_NEW) == encoder.inverse_transform(Y_NEW)).mean()
    )


def test_an_estimator_with_default_parameters_takes_a_file(mapped):
    clf = EarlyExitClassifier(max_epochs=2, random_state=0).fit(mapped(X), y)
    assert isinstance(clf.predict(mapped(X_NEW)), np.ndarray)
    assert make(lambda: MLPBackbone().build(streamed(mapped(X), "float32"), 4)).names


def test_partial_fit_goes_through_streamed_rows(mapped):
    params = {"training": "joint", "calibration": None, "batch_size": 64}
    kept = quick(**params).partial_fit(X, y, classes=np.unique(y)).partial_fit(X, y)
    first, second = mapped(X), Items(X, y)
    read = quick(**params).partial_fit(first, y, classes=np.unique(y)).partial_fit(second)
    assert same(read.predict_proba(X_NEW), kept.predict_proba(X_NEW))
    weight = np.arange(len(X)) % 3
    kept.partial_fit(X, y, sample_weight=weight)
    read.partial_fit(first, y, sample_weight=weight)
    assert same(read.predict_proba(mapped(X_NEW)), kept.predict_proba(X_NEW))


def test_rows_without_labels_may_be_streamed(mapped):
    params = {"training": LayerwiseTraining(local="reconstruction"), "calibration": None}
    kept = quick(**params).fit(X, y, X_unlabeled=X_NEW)
    read = quick(**params).fit(X, y, X_unlabeled=mapped(X_NEW))
    assert same(read.predict_proba(X_NEW), kept.predict_proba(X_NEW))
