"""What tests of trainings share."""

import numpy as np
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier
from skorch.callbacks import Callback

from skearlyexit import CNNBackbone, MLPBackbone
from tests._data import blobs, digits, quick, same


class Count(Callback):
    """Leaves a mark in a file for every phase that is really trained."""

    def __init__(self, path):
        self.path = str(path)

    def on_train_begin(self, net, **kwargs):
        with open(self.path, "a") as file:
            file.write("|")


def counting(folder, **params):
    """A classifier with a memory, and a function that tells how many phases it has trained."""
    path = folder / "count"

    def count():
        return len(path.read_text()) if path.exists() else 0

    defaults = {
        "training": "joint",
        "calibration": None,
        "threshold": 0.9,
        "memory": folder / "memory",
        "callbacks": [Count(path)],
    }
    return quick(**{**defaults, **params}), count


def check_images_and_memory(training, folder):
    """A network for images learns, and is the same with a memory and read from it."""
    X, y, X_test, y_test = (part[:240] for part in digits())
    params = {
        "backbone": CNNBackbone((6, 12), n_blocks=1, image_shape=(8, 8)),
        "exits": 2,
        "training": training,
        "batch_size": 48,
        "lr": 0.015,
        "optimizer": "adamw",  # Muon does not get far in thirty steps
    }
    clf = quick(**params).fit(X, y)
    assert clf.score(X_test, y_test) > 0.5  # of ten classes
    for _ in range(2):
        other = quick(**params, memory=folder).fit(X, y)
        assert same(other.exit_table(X_test).scores, clf.exit_table(X_test).scores)


def searched(backend):
    """Scores of each fold of a search with a backend of joblib, shape (n_candidates, n_folds)."""
    X, y, *_ = blobs()
    grid = [
        {"head": ["linear"], "training": ["joint"]},
        {"head": [DecisionTreeClassifier(max_depth=3)], "training": ["separate"]},
    ]
    estimator = quick(
        backbone=MLPBackbone(2, width=16, hidden=16, dropout=0.3),
        exits=2,
        max_epochs=2,
        calibration=None,
        threshold=0.5,
    )
    with parallel_config(backend=backend, n_jobs=2):
        search = GridSearchCV(estimator, grid, cv=2, refit=False).fit(X[:200], y[:200])
    return np.column_stack([search.cv_results_[f"split{fold}_test_score"] for fold in range(2)])
