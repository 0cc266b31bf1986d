"""What tests of trainings share."""

from skorch.callbacks import Callback

from skearlyexit import CNNBackbone
from tests._data import digits, quick, same


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
    X, y, X_test, y_test = (part[:400] for part in digits())
    params = {
        "backbone": CNNBackbone((6, 12), n_blocks=1, image_shape=(8, 8)),
        "exits": 2,
        "training": training,
        "batch_size": 64,
        "lr": 0.01,
    }
    clf = quick(**params).fit(X, y)
    assert clf.score(X_test, y_test) > 0.5  # of ten classes
    for _ in range(2):
        other = quick(**params, memory=folder).fit(X, y)
        assert same(other.exit_table(X_test).scores, clf.exit_table(X_test).scores)
