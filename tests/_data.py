"""Small data sets and configurations that many tests share."""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits, make_classification
from torch.utils.data import Dataset

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
        # Dropout takes a tenth of a step.
        "backbone": MLPBackbone(3, width=32, hidden=32, dropout=0.0),
        "exits": 3,
        "max_epochs": 6,
        # Two steps an epoch, not four, which take all the time.
        "batch_size": 256,
        "lr": 0.005,
        "early_stopping": False,
        "calibration": 0.3,
        "random_state": 0,
    }
    return EarlyExitClassifier(**{**defaults, **params})


def with_costs(clf):
    """Names of the exits of a classifier as displays show them."""
    return [f"{name} ({cost:.2g})" for name, cost in zip(clf.exit_names_, clf.costs_, strict=True)]


def same(first, second):
    """Whether two arrays are equal to the last bit."""
    return first.shape == second.shape and np.array_equal(first, second)


def make(build, seed=0):
    """What `build()` returns, with weights drawn from a seed and no trace left."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return build()


class Items(Dataset):
    """Rows with labels, or without."""

    def __init__(self, rows, labels=None):
        self.rows, self.labels = rows, labels

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i] if self.labels is None else (self.rows[i], self.labels[i])
