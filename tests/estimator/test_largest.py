"""The largest probability alone, and a sample alone, are those of the softmax to the last bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skearlyexit._determinism import _softmax
from skearlyexit._determinism._softmax import largest_of_softmax, softmax, softmax_of_one
from tests._data import same

#: Ties, logits so close that their probabilities are rounded to the same, and extremes.
VALUES = [0.0, 1e-17, -1e-17, 1e-16, 3e-16, 1e-8, 1.0, 1.0 + 2**-23, -20.0, 700.0, -np.inf]


def assert_same(logits):
    probabilities = softmax(logits)
    labels, largest = largest_of_softmax(logits)
    assert same(labels, probabilities.argmax(axis=1))
    assert same(largest, probabilities.max(axis=1))
    for i in range(len(logits)):
        assert same(softmax_of_one(logits[i : i + 1]), probabilities[i : i + 1])


@given(
    st.sampled_from([np.float32, np.float64]).flatmap(
        lambda dtype: st.integers(1, 5).flatmap(
            lambda n: arrays(
                dtype,
                (16, n),
                elements=st.sampled_from(VALUES).map(lambda value: float(dtype(value))),
            )
        )
    )
)
def test_ties(logits):
    logits[:, 0] = np.maximum(logits[:, 0], -30.0)  # one must be finite
    assert_same(logits)
    assert_same(np.tile(logits, (_softmax.FEW // 16 + 1, 1)))


@pytest.mark.parametrize("n_classes", [2, 10, 255, 256, 257, 1000])
def test_many_classes_in_chunks(n_classes, monkeypatch):
    logits = np.random.RandomState(0).randn(160, n_classes).astype(np.float32)
    expected = softmax(logits)
    assert_same(logits)
    monkeypatch.setattr(_softmax, "CHUNK_VALUES", 1)
    assert same(softmax(logits), expected)
    assert_same(logits)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_has_no_largest(bad):
    logits = np.zeros((16, 3), dtype=np.float32)
    logits[4, 1] = bad
    with np.errstate(invalid="ignore"):
        found = largest_of_softmax(logits)[1]
    assert np.flatnonzero(np.isnan(found)).tolist() == [4]
