"""What a process of its own shows. It imports torch, which takes seconds: one for all tests."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

KEY = textwrap.dedent(
    """
    import torch
    from skearlyexit.training._fingerprint import fingerprint

    class Net(torch.nn.Module):
        sizes = {"a", "b", "c"}

        def forward(self, x):
            return x in {"some", "strings", "in", "a", "set"}

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = Net()
        net.linear, net.tags = torch.nn.Linear(2, 2), {"x", "y", "z"}
    without_order = {**dict.fromkeys("abcdefgh", 1), 2: 3, (4,): 5}
    key = fingerprint([net, lambda x: x, without_order])
    """
)
PROGRAM = """
import json
import sys

exec(sys.argv[1])

from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier
from skearlyexit import CascadeClassifier

X, y = load_iris(return_X_y=True)
boosting = HistGradientBoostingClassifier(max_iter=3, random_state=0).fit(X, y)
CascadeClassifier.from_ensemble(boosting, [1], cost=[1, 2], random_state=0).fit(X, y)
print(json.dumps({"key": key, "modules": list(sys.modules)}))
"""


@pytest.fixture(scope="module")
def other():
    """Names of the modules, and a key, in a process that fits a cascade of boosting."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, KEY],
        # Another order of the elements of sets than here, unless this process happens to have it.
        env={
            **os.environ,
            "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_keys_of_trainings_are_the_same(other):
    names = {"__name__": "__main__"}
    exec(KEY, names)
    assert other["key"] == names["key"]


def test_packages_are_imported_only_for_their_ensembles(other):
    assert "sklearn.ensemble" in other["modules"]
    assert not {"lightgbm", "xgboost"} & set(other["modules"])
