"""Rows that are read as they are needed: how they are indexed, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeClassifier
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from skearlyexit import LayerwiseTraining
from skearlyexit._data._streamed import streamed
from tests._data import Items, blobs, quick, same

X, y, X_NEW, Y_NEW = (part.astype(np.float32) if part.ndim > 1 else part for part in blobs())


class Endless(IterableDataset):
    def __iter__(self):
        yield from X


class Unsized(Dataset):
    def __getitem__(self, i):
        return X[i]


class Itemless(Dataset):
    def __len__(self):
        return 3


def changed(position, value):
    rows = X.copy()
    rows[position, 3] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "labels", "error", "words"),
    [
        (Endless(), y, TypeError, r"IterableDataset \(Endless\).*no length.*map-style Dataset"),
        (Unsized(), y, TypeError, r"Dataset \(Unsized\) without a length.*map-style"),
        (Itemless(), y, TypeError, r"Dataset \(Itemless\) without .* items.*map-style"),
        (DataLoader(Items(X, y)), y, TypeError, "DataLoader.*Give the loader's Dataset"),
        (
            Items(X),
            None,
            ValueError,
            r"y is None.*no labels: item 0 is a ndarray.*\(sample, label\)",
        ),
        (TensorDataset(torch.tensor(X)), None, ValueError, "no labels: item 0 is a tuple"),
        (Items(X, torch.tensor(X)), None, ValueError, r"label of row 0.*shape \(13,\)"),
        (Items(X), y[:5], ValueError, "inconsistent numbers of samples"),
        (Items(X), np.where(y == 0, np.nan, y), ValueError, "Input y contains NaN"),
        (Items(X[:0]), y[:0], ValueError, r"0 sample\(s\)"),
        (Items(X[:, 0]), y, ValueError, "(?s)at least one axis.*Expected 2D array"),
        (Items(X[:, :0]), y, ValueError, "at least one axis"),
        (Items(["a"] * len(y)), y, TypeError, "Row 0 of X must be.*real numbers. Got str"),
        (Items(X * 1j), y, TypeError, "Row 0 of X.*real numbers"),
        (Items(torch.tensor(X) * 1j), y, TypeError, "Row 0 of X.*real numbers"),
        (Items([*X[:9], X[9, :5], *X[10:]]), y, ValueError, r"Row 9 .* \(5,\).*row 0 .*\(13,\)"),
        (Items(changed(7, np.nan)), y, ValueError, "Row 7 of X contains NaN"),
        (Items(changed(7, np.inf)), y, ValueError, "Row 7 of X contains infinity"),
        (Items(X.astype(float) * 1e300), y, ValueError, r"too large for dtype\('float32'\)"),
    ],
)
def test_datasets_that_are_no_rows(rows, labels, error, words):
    with pytest.raises(error, match=words):
        quick().fit(rows, labels)


@pytest.mark.parametrize(
    ("rows", "labels", "error", "words"),
    [
        (changed(321, np.nan), y, ValueError, "Row 321 of X contains NaN"),
        (changed(321, -np.inf), y, ValueError, "Row 321 of X contains infinity"),
        (X.astype(float) * 1e300, y, ValueError, r"too large for dtype\('float32'\)"),
        (X[:, 0], y, ValueError, "Expected 2D array"),
        (X * 1j, y, ValueError, "real numbers.*complex"),
        (X.astype("S4"), y, ValueError, r"real numbers.*S4"),
        (X, y[:5], ValueError, "inconsistent numbers of samples"),
        (X, None, ValueError, "requires y to be passed"),
    ],
)
def test_files_that_are_no_rows(mapped, rows, labels, error, words):
    with pytest.raises(error, match=words):
        quick().fit(mapped(rows), labels)


def test_other_rows_than_in_fit_are_refused(mapped):
    clf = quick().fit(X, y)
    for rows in (mapped(X_NEW[:, :5]), Items(X_NEW[:, :5])):
        with pytest.raises(ValueError, match=r"X has 5 features, but .* expecting 13"):
            clf.predict(rows)
    with pytest.raises(ValueError, match=r"samples of shape \(13, 2\), but .* on .* \(13,\)"):
        clf.predict(mapped(np.stack([X_NEW, X_NEW], axis=2)))
    with pytest.raises(ValueError, match="Row 5 of X contains NaN"):
        clf.predict(mapped(changed(5, np.nan)))
    with pytest.raises(TypeError, match="IterableDataset"):
        clf.predict(Endless())


def test_a_row_is_told_by_its_place_in_the_file(mapped):
    weight = np.ones(len(y))
    weight[:100] = 0
    with pytest.raises(ValueError, match="Row 321 of X"):
        quick(head=DecisionTreeClassifier()).fit(mapped(changed(321, np.nan)), y, weight)
    # What is left out is not read.
    quick().fit(mapped(changed(50, np.nan)), y, weight)


def test_a_failed_fit_leaves_the_model_as_it_was(mapped):
    clf = quick().fit(mapped(X), y)
    before = clf.predict_proba(X_NEW)
    with pytest.raises(ValueError, match="Row 7"):
        clf.fit(mapped(changed(7, np.nan)[:, :5]), y)
    assert same(clf.predict_proba(X_NEW), before)


def test_large_numbers_whose_sum_is_none_are_taken(mapped):
    rows = np.full((4, 3), 2e38, dtype=np.float32)
    assert same(streamed(mapped(rows), "float32")[:], rows)


NUMBERS = np.arange(60, dtype=np.float64).reshape(20, 3)

BOUND = st.none() | st.integers(-25, 25)

STEP = st.none() | st.integers(-4, 4).filter(bool)

SLICES = st.builds(slice, BOUND, BOUND, STEP)


def chosen_from(n):
    """What some rows out of `n` may be asked for by."""
    integers = st.integers(-n, n - 1) if n else st.nothing()
    return st.one_of(
        SLICES,
        st.lists(integers, max_size=12 if n else 0).map(
            lambda index: np.array(index, dtype=np.intp)
        ),
        st.lists(st.booleans(), min_size=n, max_size=n).map(lambda mask: np.array(mask, bool)),
    )


@pytest.fixture(scope="module", params=["memmap", "dataset"])
def numbers(request, tmp_path_factory):
    """Rows of `NUMBERS`, read from where they are kept."""
    if request.param == "dataset":
        return Items(NUMBERS)
    path = tmp_path_factory.mktemp("rows") / "rows.bin"
    NUMBERS.tofile(path)
    return np.memmap(path, "f8", "r", shape=NUMBERS.shape)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(["float32", "float64"]))
def test_indexing_is_that_of_an_array(numbers, dtype, data):
    rows, expected = streamed(numbers, dtype), NUMBERS.astype(dtype)
    for _ in range(data.draw(st.integers(0, 2))):
        index = data.draw(chosen_from(len(expected)))
        rows, expected = rows.take(index), expected[index]
        assert (rows.shape, len(rows), rows.ndim) == (expected.shape, len(expected), 2)
    index = data.draw(chosen_from(len(expected)))
    found = rows[index]
    assert type(found) is np.ndarray
    assert found.dtype == dtype
    assert found.flags.c_contiguous
    assert found.flags.owndata
    assert same(found, expected[index])
    if not isinstance(index, slice) and index.dtype != bool:
        assert same(rows.tensor(torch.from_numpy(index)).numpy(), expected[index])


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize(
    "index", [np.array([20]), np.array([-21, 3]), np.array([0.5]), np.zeros(19, bool), 3]
)
def test_no_row_is_made_up(index, taken):
    rows = streamed(Items(NUMBERS), "float32")
    rows = rows.take(np.arange(20)) if taken else rows
    with pytest.raises(IndexError):
        rows[index]


def test_all_rows_are_never_made_an_array():
    with pytest.raises(TypeError, match="read as they are needed"):
        np.asarray(streamed(Items(NUMBERS), "float32"))


@pytest.mark.parametrize("argument", ["X_val", "X_unlabeled"])
def test_rows_that_are_no_numbers_are_told_by_the_name_of_the_argument(mapped, argument):
    rows = X_NEW.copy()
    rows[7, 2] = np.nan
    params = {
        "X_val": {"training": "joint", "early_stopping": True},
        "X_unlabeled": {"training": LayerwiseTraining(local="similarity")},
    }[argument]
    given = {argument: mapped(rows)} | ({"y_val": Y_NEW} if argument == "X_val" else {})
    with pytest.raises(ValueError, match=f"Row 7 of {argument} contains NaN"):
        quick(**params).fit(X, y, **given)


@pytest.mark.parametrize("method", ["score", "calibrate", "exit_report"])
def test_rows_in_memory_need_labels(method):
    clf = quick(training="joint").fit(X, y)
    with pytest.raises(ValueError, match="requires y to be passed, unless X is a torch Dataset"):
        getattr(clf, method)(X)
