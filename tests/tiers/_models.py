"""Models that are fitted once for the tests of tiers."""

from functools import cache

import numpy as np

from skearlyexit import MLPBackbone, Threshold
from skearlyexit.tiers import ModelParts
from tests._data import blobs, quick

X, y, X_TEST, Y_TEST = blobs()
#: Of a model of four exits, with sizes and work of no special form.
PARTS = ModelParts(
    ["a", "b", "c", "d"],
    work=np.array([3.0, 5.0, 7.0, 11.0]),
    n_bytes=np.array([64.0, 32.0, 16.0, 8.0]),
)


@cache
def network():
    """Exits after block1, block2 and block3, of which each is passed on 32 numbers."""
    return quick(operating_point=Threshold(0.7)).fit(X, y)


def four_blocks(**params):
    options = {
        "backbone": MLPBackbone(4, width=16, hidden=16),
        "exits": ["stem", "block2"],
        "max_epochs": 2,
        "operating_point": Threshold(0.7),
    }
    return quick(**{**options, **params}).fit(X, y)
