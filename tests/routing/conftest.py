"""Models with a router, fitted once."""

import pytest

from skearlyexit import ExitRouter, LinearHead, MLPHead
from tests._data import blobs, quick
from tests.routing._routed import three

X, y, *_ = blobs()


@pytest.fixture(scope="session")
def chain():
    return three().fit(X, y)


@pytest.fixture(scope="session")
def network():
    return quick(
        exits=["stem", "block1"],
        head=[LinearHead(), MLPHead([48]), LinearHead()],
        router=ExitRouter(),
        calibration=2,
    ).fit(X, y)
