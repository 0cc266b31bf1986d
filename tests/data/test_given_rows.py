"""Samples that are handed on as they are given."""

import tracemalloc

import numpy as np
import pytest

from skearlyexit._data._given import GivenRows

SLICES = [slice(3, 7), slice(None, None, -1), slice(-4, None), slice(0, None, 3), slice(5, 99)]


@pytest.mark.parametrize("chosen", SLICES)
def test_slices(chosen):
    rows = np.arange(20)
    assert GivenRows(rows)[chosen].content.tolist() == rows[chosen].tolist()
    taken = GivenRows(rows)[np.arange(19, -1, -1)][chosen]
    assert taken.content.tolist() == rows[::-1][chosen].tolist()


def test_a_slice_takes_memory_for_its_own_samples_only():
    rows = GivenRows(np.zeros(1_000_000, dtype=np.int8))
    tracemalloc.start()
    part = rows[10:20]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(part) == 10
    assert peak < 100_000
