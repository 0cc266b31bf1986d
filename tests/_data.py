"""Small data sets and configurations that many tests share."""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits, make_classification

from skearlyexit import EarlyExitClassifier, MLPBackbone


@cache
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:1000], y[:1000], X[1000:], y[1000:]


@cache
def blobs(n_features=13, n_classes=4):
    X, y = make_classification(
        900, n_features, n_informative=7, n_redundant=0, n_classes=n_classes, random_state=0
    )
    return X[:500], y[:500], X[500:], y[500:]


def quick(**params):
    """A small classifier that trains in a tenth of a second."""
    defaults = {
        "backbone": MLPBackbone(3, width=32, hidden=32),
        "exits": 3,
        "max_epochs": 6,
        "calibration": 0.3,
        "random_state": 0,
    }
    return EarlyExitClassifier(**{**defaults, **params})


def same(first, second):
    """Whether two arrays are equal to the last bit."""
    return first.shape == second.shape and np.array_equal(first, second)


def make(build, seed=0):
    """What `build()` returns, with weights drawn from a seed and no trace left."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return build()
