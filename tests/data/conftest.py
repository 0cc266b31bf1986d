"""Files of samples."""

import numpy as np
import pytest


@pytest.fixture
def mapped(tmp_path):
    """A function that writes an array to a file and maps it."""

    def write(array, order="C"):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.bin"
        found = np.memmap(path, array.dtype, "w+", shape=array.shape, order=order)
        found[...] = array
        found.flush()
        return np.memmap(path, array.dtype, "r", shape=array.shape, order=order)

    return write
