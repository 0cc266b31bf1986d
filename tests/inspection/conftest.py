"""Models that are drawn; pictures are drawn without a screen and closed."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

from skearlyexit import Budget
from tests._data import blobs, quick
from tests.inspection._drawn import WORDS


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def clf():
    """Fitted on labels that are numbers."""
    X, y, *_ = blobs()
    return quick(operating_point=Budget(0.8)).fit(X, y)


@pytest.fixture(scope="session")
def word_clf():
    """Fitted on labels that are words."""
    X, y, *_ = blobs()
    return quick(operating_point=Budget(0.8)).fit(X, WORDS[y])


@pytest.fixture(scope="session")
def truth():
    """Words that are the labels of the test samples."""
    return WORDS[blobs()[3]]
