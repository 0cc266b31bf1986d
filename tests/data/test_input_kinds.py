"""What X and y may be given as: every kind is answered like the plain array, or refused clearly."""

import copy

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.model_selection import cross_val_score
from sklearn.tree import DecisionTreeClassifier
from torch.utils.data import Dataset, Subset, TensorDataset

from skearlyexit import LayerwiseTraining
from tests._data import blobs, quick, same

X, y, X_NEW, Y_NEW = (part.astype(np.float32) if part.ndim > 1 else part for part in blobs())
X, y, X_NEW, Y_NEW = X[:200], y[:200], X_NEW[:50], Y_NEW[:50]
PARAMS = {"max_epochs": 2, "training": "joint", "exits": 2}


def read_only(rows):
    rows = rows.copy()
    rows.setflags(write=False)
    return rows


LAYOUTS = {
    "samples reversed": lambda rows: rows[::-1].copy()[::-1],
    "features reversed": lambda rows: rows[:, ::-1].copy()[:, ::-1],
    "Fortran order": np.asfortranarray,
    "big-endian": lambda rows: rows.astype(">f4"),
    "read-only": read_only,
    "every second": lambda rows: np.repeat(rows, 2, axis=0)[::2],
    "tensor": torch.tensor,
    "list of arrays": list,
    "list of doubles": lambda rows: list(torch.tensor(rows, dtype=torch.float64)),
    "list of tensors": lambda rows: list(torch.tensor(rows)),
    "array of arrays": lambda rows: np.array([None, *rows], dtype=object)[1:],
    "items of a dataset": lambda rows: [(row,) for row in torch.tensor(rows)],
    "labeled items": lambda rows: [(row, 3) for row in rows],
    "sparse matrix": scipy.sparse.csr_matrix,
    "sparse array": scipy.sparse.coo_array,
}


@pytest.fixture(scope="module")
def reference():
    return quick(**PARAMS).fit(X, y)


@pytest.mark.parametrize("name", LAYOUTS)
def test_fit_and_every_method_take_it(reference, name):
    rows, new = LAYOUTS[name](X), LAYOUTS[name](X_NEW)
    clf = quick(**PARAMS).fit(rows, y)
    assert same(clf.predict_proba(X_NEW), reference.predict_proba(X_NEW))
    assert same(reference.predict_proba(new), reference.predict_proba(X_NEW))
    assert same(reference.exit_table(new).scores, reference.exit_table(X_NEW).scores)
    assert same(reference.embed(new), reference.embed(X_NEW))
    assert reference.score(new, Y_NEW) == reference.score(X_NEW, Y_NEW)
    fast = copy.deepcopy(reference).set_params(runtime="onnx")
    for some in (1, len(X_NEW)):
        alone = new if some > 1 else LAYOUTS[name](X_NEW[:1])
        np.testing.assert_array_equal(fast.predict(alone), reference.predict(X_NEW[:some]))
    thresholds = clf.calibrate(new, Y_NEW).thresholds_
    assert same(thresholds, clf.calibrate(X_NEW, Y_NEW).thresholds_)


@pytest.mark.parametrize("name", ["features reversed", "list of arrays", "sparse matrix"])
def test_validation_and_further_rows(name):
    stopping = {**PARAMS, "max_epochs": 1, "early_stopping": True}
    new = LAYOUTS[name](X_NEW)
    found = quick(**stopping).fit(X, y, X_val=new, y_val=Y_NEW)
    wanted = quick(**stopping).fit(X, y, X_val=X_NEW, y_val=Y_NEW)
    assert found.history_[0]["valid_loss"] == wanted.history_[0]["valid_loss"]
    local = {**PARAMS, "training": LayerwiseTraining(local="similarity")}
    found = quick(**local).fit(X, y, X_unlabeled=new)
    assert same(
        found.predict_proba(X), quick(**local).fit(X, y, X_unlabeled=X_NEW).predict_proba(X)
    )


@pytest.mark.parametrize("name", ["samples reversed", "items of a dataset", "sparse array"])
def test_training_that_goes_on(name):
    params = {**PARAMS, "calibration": None}
    found = quick(**params).partial_fit(LAYOUTS[name](X), y, classes=range(4))
    wanted = quick(**params).partial_fit(X, y, classes=range(4))
    assert same(found.predict_proba(X_NEW), wanted.predict_proba(X_NEW))


def test_one_row_repeated():
    rows = np.broadcast_to(X[0], X.shape)  # of stride 0
    assert quick(**PARAMS).fit(rows, y).predict(rows).shape == y.shape


def test_one_channel_reversed():
    # A single entry keeps a negative stride in an array that is contiguous all the same.
    images = np.random.RandomState(0).rand(60, 1, 8, 8).astype(np.float32)[:, ::-1]
    labels = np.arange(60) % 2
    clf = quick(backbone=None, exits=1, max_epochs=1).fit(images, labels)
    assert same(clf.predict_proba(images), clf.predict_proba(images.copy()))


class Labeled(Dataset):
    def __len__(self):
        return len(y)

    def __getitem__(self, i):
        return X[i], int(y[i])


@pytest.mark.parametrize(
    "dataset", [TensorDataset(torch.tensor(X)), Labeled()], ids=["tensors", "own"]
)
def test_cross_validation_of_a_dataset_is_that_of_its_rows(dataset):
    clf = quick(**PARAMS)
    assert same(cross_val_score(clf, dataset, y, cv=2), cross_val_score(clf, X, y, cv=2))


def test_sparse_rows_are_read_some_at_a_time(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("all rows were made dense at once")

    rows = scipy.sparse.csr_array(X)
    monkeypatch.setattr(type(rows), "__array__", refuse, raising=False)
    clf = quick(**PARAMS, head=DecisionTreeClassifier(max_depth=3)).fit(rows, y)
    dense = quick(**PARAMS, head=DecisionTreeClassifier(max_depth=3)).fit(X, y)
    assert same(clf.predict_proba(rows), dense.predict_proba(X))


MISSING = X.astype(object)
MISSING[5, 2] = None


def objects(values):
    found = np.empty(len(values), dtype=object)
    found[:] = list(values)
    return found


class MaskedRows(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return np.ma.masked_array(X[i], mask=X[i] > 1), y[i]


DATES = pd.date_range("2020", periods=len(X)).to_numpy()
SPOILT = scipy.sparse.lil_array(X)
SPOILT[5, 2] = np.nan


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (pd.DataFrame({"a": X[:, 0], "when": DATES}), "dates or times in column 'when'"),
        (pd.DataFrame({"a": X[:, 0], "b": DATES - DATES[0]}), "dates or times in column 'b'"),
        (DATES[:, None], "dates or times in an array of dtype datetime64"),
        (DATES[:, None].astype("M8[D]").astype(object), "dates or times in an array of objects"),
        ([[1.0, day] for day in DATES], "dates or times in a list"),
        (pd.DataFrame({"a": X[:, 0], "b": objects(DATES)}), "dates or times in column 'b'"),
        (np.ma.masked_array(X, mask=X > 1), "X is an array with masked entries"),
        ([np.ma.masked_array(row, mask=row > 1) for row in X], "Item 0 of X is an array with mask"),
        ([np.array([day, day]) for day in DATES], "Item 0 of X must hold numbers. Got dates"),
        ([[[1.0, day], [2.0, day]] for day in DATES], "dates or times in a list"),
        (MaskedRows(), "Row 0 of X is an array with masked entries"),
        (MISSING, "NaN"),
        (np.array(3.0), "Expected 2D array, got scalar array"),
        ([*X[:7], X[7, :5], *X[8:]], r"item 0 has shape \(13,\), item 7 has shape \(5,\)"),
        (TensorDataset(torch.tensor(X), torch.tensor(y))[:], "slice of a TensorDataset.*Subset"),
        (TensorDataset(torch.tensor(X))[:], "slice of a TensorDataset.*Subset"),
        (SPOILT, "Row 5 of X contains NaN"),
        (scipy.sparse.coo_array(X[0]), "Expected 2D array"),
    ],
)
def test_rows_that_are_none(reference, rows, words):
    with pytest.raises(ValueError, match=f"(?s){words}"):
        quick(**PARAMS).fit(rows, y)
    with pytest.raises(ValueError, match=f"(?s){words}|features"):
        reference.predict(rows)


def test_a_dataset_with_other_labels_than_rows(reference):
    dataset = TensorDataset(torch.tensor(X))
    for rows in (dataset, Subset(dataset, range(7)), [(row,) for row in torch.tensor(X)]):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            quick(**PARAMS).fit(rows, y[:5])
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            reference.score(rows, y[:5])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, None, 1, 2], "y contains NaN or None: entry 1 is None"),
        ([0, 1, pd.NA, 2], "y contains NaN or None: entry 2 is <NA>"),
        (pd.Series([0, None, 1, 2], dtype="Int64"), "y contains NaN or None: entry 1 is <NA>"),
        (["a", np.nan, "b", "c"], "y contains NaN or None: entry 1 is nan"),
        ([0, 1, "a", 2], "y mixes strings.*entry 2 is 'a', entry 0 is 0"),
        ([0.0, 1.0, np.nan, 2.0], "NaN"),
    ],
    ids=str,
)
def test_labels_that_are_none(labels, words):
    clf = quick(**PARAMS, calibration=None).fit(X, y)
    before = clf.predict_proba(X_NEW)
    for method in (clf.fit, clf.partial_fit, clf.calibrate, clf.exit_report):
        with pytest.raises(ValueError, match=words):
            method(X[:4], labels)
    assert same(clf.predict_proba(X_NEW), before)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA], ids=str)
def test_groups_with_missing_entries(missing):
    groups = np.array([missing, *range(len(y) - 1)], dtype=object)
    with pytest.raises(ValueError, match="groups contains NaN or None: entry 0"):
        quick(**PARAMS).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="groups mixes strings"):
        quick(**PARAMS).fit(X, y, groups=["a", *range(len(y) - 1)])


def test_half_precision_of_torch():
    rows = torch.tensor(X).bfloat16()
    wanted = quick(**PARAMS).fit(rows.float().numpy(), y).predict_proba(X_NEW)
    for given in (rows, list(rows), TensorDataset(rows)):
        assert same(quick(**PARAMS).fit(given, y).predict_proba(X_NEW), wanted)


def test_a_tensor_with_a_gradient():
    rows = torch.tensor(X_NEW, requires_grad=True)
    clf = quick(**PARAMS).fit(X, y)
    assert same(clf.predict_proba(rows), clf.predict_proba(X_NEW))


@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
def test_labels_in_a_column():
    column = np.array(["a", "b"], dtype=object)[y % 2].reshape(-1, 1)
    expected = quick(**PARAMS).fit(X, column.ravel()).predict(X_NEW)
    for labels in (column, pd.DataFrame(column, columns=[None])):
        assert np.array_equal(quick(**PARAMS).fit(X, labels).predict(X_NEW), expected)
    column[3] = None
    for labels in (column, pd.DataFrame(column, columns=["kind"])):
        with pytest.raises(ValueError, match="y contains NaN or None: entry 3 is"):
            quick(**PARAMS).fit(X, labels)


def test_columns_of_one_name():
    frame = pd.DataFrame(X[:, :3], columns=["a", "b", "a"])
    frame["when"] = DATES
    with pytest.raises(ValueError, match="dates or times in column 'when'"):
        quick(**PARAMS).fit(frame, y)


def test_a_column_that_is_called_like_a_part_of_a_masked_array():
    frame = pd.DataFrame(X, columns=[f"feature {i}" for i in range(X.shape[1])])
    frame["_mask"] = X[:, 0] > 0
    assert quick(**PARAMS).fit(frame, y).n_features_in_ == X.shape[1] + 1
