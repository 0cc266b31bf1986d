"""What is no mask is refused wherever rows come in, and rows for validation before training."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from skearlyexit import (
    Conv1DBackbone,
    EarlyExitClassifier,
    LayerwiseTraining,
    MLPBackbone,
    RecurrentBackbone,
    TransformerBackbone,
    pad_series,
)
from tests._data import same

RNG = np.random.RandomState(0)
X = pad_series([RNG.randn(2, 4 + i % 5) for i in range(60)]).astype(np.float32)
y = np.arange(60) % 2
BACKBONES = [
    Conv1DBackbone((16,), n_blocks=1, masked=True),
    RecurrentBackbone(width=16, step=4, masked=True),
    TransformerBackbone(1, width=16, masked=True),
]
WRONG = {
    "all zero": np.zeros(8),
    "a half": np.array([1, 1, 0.5, 0, 0, 0, 0, 0]),
    "reversed": np.array([0, 0, 0, 0, 1, 1, 1, 1]),
    "sevens": np.full(8, 7),
    "a gap": np.array([1, 0, 1, 0, 0, 0, 0, 0]),
}


def never(parameters, lr):
    raise AssertionError("training started before the error was found")


def quick(backbone, **params):
    defaults = {"exits": 1, "training": "joint", "max_epochs": 1, "calibration": None}
    return EarlyExitClassifier(backbone, random_state=0, **{**defaults, **params})


def spoilt(mask, position=41):
    rows = X.copy()
    rows[position, -1] = mask
    return rows


def given(rows, kind, path):
    if kind == "memmap":
        np.save(path / "rows.npy", rows)
        return np.load(path / "rows.npy", mmap_mode="r")
    if kind == "dataset":
        return TensorDataset(torch.tensor(rows))
    return rows.astype(float) if kind == "doubles" else rows


@pytest.fixture(scope="module", params=BACKBONES, ids=lambda each: type(each).__name__)
def clf(request):
    return quick(request.param).fit(X, y)


@pytest.mark.parametrize("kind", ["array", "doubles", "memmap", "dataset"])
@pytest.mark.parametrize("name", WRONG)
def test_every_method_refuses_what_is_no_mask(clf, name, kind, tmp_path):
    rows = given(spoilt(WRONG[name]), kind, tmp_path)
    clf = pickle.loads(pickle.dumps(clf))
    before = clf.predict_proba(X)
    words = rf"{type(clf.backbone).__name__}\(masked=True\) takes the last channel of X.*in row 41"
    for method in (
        clf.predict,
        clf.predict_proba,
        clf.exit_table,
        clf.embed,
        lambda rows: clf.score(rows, y),
        lambda rows: clf.calibrate(rows, y),
        lambda rows: clf.exit_report(rows, y),
    ):
        with pytest.raises(ValueError, match=words):
            method(rows)
    with pytest.raises(ValueError, match="in 1 of 60 samples, the first of them in row 41"):
        clf.partial_fit(rows, y)
    assert same(clf.predict_proba(X), before)


@pytest.mark.parametrize("kind", ["array", "memmap", "dataset"])
@pytest.mark.parametrize("argument", ["X_val", "X_unlabeled"])
def test_further_rows_of_a_fit_are_checked_before_training(argument, kind, tmp_path):
    rows = {argument: given(spoilt(WRONG["a half"]), kind, tmp_path)}
    params = {"early_stopping": True}
    if argument == "X_unlabeled":
        params = {"training": LayerwiseTraining(local="similarity")}
    else:
        rows["y_val"] = y
    with pytest.raises(ValueError, match=f"last channel of {argument} for a mask.*in row 41"):
        quick(BACKBONES[0], optimizer=never, **params).fit(X, y, **rows)


@pytest.mark.parametrize("kind", ["memmap", "dataset"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_of_streamed_validation_rows_are_checked_before_training(value, kind, tmp_path):
    rows = spoilt(X[41, -1])
    rows[41, 0, 3] = value
    clf = quick(MLPBackbone(1, width=16, hidden=16), optimizer=never, early_stopping=True)
    with pytest.raises(ValueError, match=r"Row 41 of X_val contains (NaN|infinity)"):
        clf.fit(X, y, X_val=given(rows, kind, tmp_path), y_val=y)


def test_without_masks_any_channel_is_data():
    rows = spoilt(WRONG["sevens"])
    clf = quick(Conv1DBackbone((16,), n_blocks=1)).fit(X, y)
    assert clf.predict(rows).shape == y.shape
