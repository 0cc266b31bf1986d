"""Softmax of heads: against scipy, and bitwise the same with any other samples."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax as reference

from skearlyexit._determinism import _softmax
from skearlyexit._determinism._layers import GROUP
from skearlyexit._determinism._softmax import softmax

#: Samples of a chunk in these tests.
CHUNK = 512


def in_chunks(n_classes):
    return patch.object(_softmax, "CHUNK_VALUES", CHUNK * n_classes)


def logits_of(n_samples, n_classes, seed, dtype=np.float32):
    return (10 * np.random.RandomState(seed).randn(n_samples, n_classes)).astype(dtype)


@pytest.mark.parametrize("n_classes", [1, 2, 3, 26, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reference(n_classes, dtype):
    logits = logits_of(CHUNK + 16, n_classes, 0, dtype)
    with in_chunks(n_classes):
        probabilities = softmax(logits)
    assert probabilities.dtype == np.float64
    assert probabilities.flags.c_contiguous
    np.testing.assert_allclose(probabilities, reference(logits.astype(float), axis=1), rtol=1e-13)


@given(
    st.integers(2, 40),
    st.integers(1, 2 * CHUNK // GROUP + 1),
    st.integers(0, 2**16),
    st.integers(0, 2**16),
)
def test_no_sample_depends_on_others(n_classes, n_groups, seed, shift):
    logits = logits_of(2 * CHUNK + GROUP, n_classes, seed)
    order = np.random.RandomState(shift).permutation(len(logits))[: GROUP * n_groups]
    with in_chunks(n_classes):
        assert softmax(logits[order]).tobytes() == softmax(logits)[order].tobytes()


def test_large_and_infinite_logits():
    logits = np.array([[1e4, 0.0], [-np.inf, -1e4], [-1e4, -1e4]])
    np.testing.assert_array_equal(softmax(logits), [[1, 0], [0, 1], [0.5, 0.5]])


def test_invalid_logits_are_nan_without_a_warning():
    with np.errstate(all="raise"):
        assert np.isnan(softmax(np.array([[np.nan, 0.0], [1.0, 2.0]]))[0]).all()
