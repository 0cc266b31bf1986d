"""Trainings kept on disk: never another model, and never the same training twice."""

import functools
import importlib
import math
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from joblib import Memory, parallel_config
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from skorch.callbacks import Callback

from skearlyexit import (
    AccuracyDrop,
    Budget,
    EarlyExitClassifier,
    JointTraining,
    MLPBackbone,
    MLPHead,
)
from skearlyexit.heads import LinearHead
from skearlyexit.training import ExitLoss, ExitView, TrainingStrategy
from skearlyexit.training._fingerprint import fingerprint
from tests._data import blobs, make, quick, same


class Count(Callback):
    """Leaves a mark in a file for every phase that is really trained."""

    def __init__(self, path):
        self.path = str(path)

    def on_train_begin(self, net, **kwargs):
        with open(self.path, "a") as file:
            file.write("|")


@pytest.fixture
def counted(tmp_path):
    """A classifier with a memory, and a function that tells how many phases it has trained."""
    path = tmp_path / "count"

    def count():
        return len(path.read_text()) if path.exists() else 0

    clf = quick(
        training="joint",
        calibration=None,
        threshold=0.9,
        memory=tmp_path / "memory",
        callbacks=[Count(path)],
    )
    return clf, count


X, y, X_NEW, Y_NEW = blobs()

HEADS = ["linear", DecisionTreeClassifier(max_depth=3), KNeighborsClassifier(5)]


@pytest.mark.parametrize(
    ("backend", "n_jobs"), [("loky", 1), ("loky", 2), ("threading", 2)], ids=str
)
def test_a_search_over_heads_trains_the_network_once_per_fold(counted, backend, n_jobs):
    clf, count = counted
    search = GridSearchCV(clf, {"head": HEADS}, cv=2, n_jobs=n_jobs, refit=False)
    with parallel_config(backend=backend):
        scores = search.fit(X, y).cv_results_["mean_test_score"]
    assert count() == 2
    forgetful = GridSearchCV(clf.set_params(memory=None), {"head": HEADS}, cv=2, refit=False)
    assert same(scores, forgetful.fit(X, y).cv_results_["mean_test_score"])
    assert count() == 2 + 2 * len(HEADS)


def test_a_search_over_policies_and_operating_points_trains_once_per_fold(counted):
    clf, count = counted
    clf.set_params(calibration=0.3, threshold=None)
    grid = {
        "policy": ["confidence", "patience"],
        "operating_point": [Budget(0.9), AccuracyDrop(0.01), None],
    }
    GridSearchCV(clf, grid, cv=2, refit=False).fit(X, y)
    assert count() == 2


@pytest.mark.parametrize(
    ("training", "head"),
    [("joint", "mlp"), ("separate", None), ("mixed", None), ("separate", LogisticRegression())],
    ids=str,
)
def test_what_is_read_answers_like_what_was_trained(tmp_path, training, head):
    def fit(memory):
        return quick(training=training, head=head, memory=memory, early_stopping=True).fit(X, y)

    fitted = [fit(None), fit(str(tmp_path)), fit(Memory(tmp_path, verbose=0))]
    for clf in fitted[1:]:
        assert same(clf.predict_proba(X_NEW), fitted[0].predict_proba(X_NEW))
        assert same(clf.thresholds_, fitted[0].thresholds_)
        assert [entry["train_loss"] for entry in clf.history_] == [
            entry["train_loss"] for entry in fitted[0].history_
        ]
    # Each has weights of its own.
    with torch.no_grad():
        next(fitted[1].stages_[0].parameters()).zero_()
    assert same(fitted[2].predict_proba(X_NEW), fitted[0].predict_proba(X_NEW))
    assert same(fit(tmp_path).predict_proba(X_NEW), fitted[0].predict_proba(X_NEW))


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.004},
        {"max_epochs": 5},
        {"batch_size": 64},
        {"optimizer": "sgd"},
        {"lr_schedule": "constant"},
        {"random_state": 1},
        {"training": JointTraining(0.5)},
        {"training": JointTraining("ramp")},
        {"training": "mixed"},
        {"backbone": MLPBackbone(3, width=32, hidden=32, dropout=0.1)},
        {"exits": 2},
        {"exits": ["stem", "block1"]},
        {"head": "mlp"},
        {"dtype": "float64"},
        {"class_weight": {0: 2.0}},
        {"early_stopping": True},
        {"optimizer": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr)},
    ],
    ids=lambda change: "-".join(change),
)
def test_whatever_matters_trains_anew(counted, change):
    clf, count = counted
    clf.fit(X, y)
    assert count() == 1
    clf.set_params(**change).fit(X, y)
    assert count() > 1
    known = count()
    clf.fit(X, y)
    assert count() == known


def test_other_rows_labels_and_weights_train_anew(counted):
    clf, count = counted
    clf.fit(X, y)
    moved = X.copy()
    moved[7, 3] += 1e-3
    clf.fit(moved, y)
    assert count() == 2
    relabeled = y.copy()
    relabeled[7] = (y[7] + 1) % 4
    clf.fit(X, relabeled)
    assert count() == 3
    clf.fit(X, y, sample_weight=np.where(np.arange(len(y)) == 7, 2.0, 1.0))
    assert count() == 4
    clf.fit(X, y)
    assert count() == 4


def test_neural_heads_on_a_frozen_backbone_share_its_training(counted):
    clf, count = counted
    clf.set_params(training="separate")
    for head in (["linear"] * 3, [MLPHead(), "linear", "linear"], [MLPHead((8,))] * 2 + ["linear"]):
        clf.set_params(head=head).fit(X, y)
    assert count() == 1 + 3


def network(activation):
    """A class that a user might define twice under one name."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(13, 16)

        def forward(self, x):
            return activation(self.linear(x))

    return [make(Net), make(lambda: torch.nn.Linear(16, 16)), make(lambda: torch.nn.Linear(16, 4))]


def test_code_of_the_user_counts(counted):
    clf, count = counted
    clf.set_params(exits=[0])
    clf.set_params(backbone=network(torch.relu)).fit(X, y)
    clf.set_params(backbone=network(torch.relu)).fit(X, y)
    assert count() == 1
    clf.set_params(backbone=network(torch.tanh)).fit(X, y)
    assert count() == 2


@pytest.mark.changes("numpy random state")
def test_nothing_is_kept_without_a_seed(counted, tmp_path):
    clf, count = counted
    clf.set_params(random_state=None)
    with pytest.warns(UserWarning, match="no effect with random_state=None"):
        clf.fit(X, y)
    with pytest.warns(UserWarning, match="no effect with random_state=None"):
        clf.fit(X, y)
    assert count() == 2
    assert not (tmp_path / "memory").exists()


def test_a_memory_without_a_place_keeps_nothing(counted):
    clf, count = counted
    clf.set_params(memory=Memory(None))
    clf.fit(X, y).fit(X, y)
    assert count() == 2


def test_a_cleared_memory_has_forgotten(counted, tmp_path):
    clf, count = counted
    memory = Memory(tmp_path / "memory", verbose=0)
    clf.set_params(memory=memory).fit(X, y)
    memory.clear(warn=False)
    clf.fit(X, y)
    assert count() == 2


def test_verbose_tells_what_is_read(counted, capsys):
    clf, _ = counted
    clf.set_params(verbose=1).fit(X, y)
    assert "from memory" not in capsys.readouterr().out
    clf.fit(X, y)
    assert capsys.readouterr().out == "[skearlyexit] joint: from memory\n"


def test_what_has_no_key_is_refused(counted, tmp_path):
    clf, _ = counted
    with open(tmp_path / "log", "w") as file:
        callback = Count(tmp_path / "count")
        callback.file = file
        with pytest.raises(ValueError, match=r"'memory'.*TextIOWrapper"):
            clf.set_params(callbacks=[callback]).fit(X, y)
        assert not hasattr(clf, "cascade_")


@pytest.mark.parametrize("memory", [3, {"folder": "x"}], ids=str)
def test_other_things_are_no_memory(memory):
    with pytest.raises(ValueError, match="'memory' parameter of EarlyExitClassifier"):
        EarlyExitClassifier(memory=memory).fit(X, y)


class Interrupting(Callback):
    """Interrupts the program in the middle of the second epoch, once."""

    done = False

    def on_batch_end(self, net, training=False, **kwargs):
        if training and len(net.history) == 2 and not Interrupting.done:
            Interrupting.done = True
            raise KeyboardInterrupt


def test_an_interrupted_training_is_not_kept(tmp_path):
    clf = quick(calibration=None, training="joint", memory=tmp_path, callbacks=[Interrupting()])
    Interrupting.done = False
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    assert not hasattr(clf, "cascade_")
    clf.fit(X, y)
    assert len(clf.history_) == clf.max_epochs


class Counting(torch.nn.Module):
    """Learns more than tensors."""

    mean = 0.0

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * float(x.detach().mean())
        return x - self.mean


def test_a_network_that_learns_more_than_tensors_is_trained_each_time(counted):
    clf, count = counted
    layers = make(lambda: [torch.nn.Linear(13, 16), Counting(), torch.nn.Linear(16, 4)])
    clf.set_params(backbone=layers, exits=[0], head=LinearHead(normalize=False))
    first = clf.fit(X, y).predict_proba(X_NEW)
    with pytest.warns(UserWarning, match="no effect on this network"):
        assert same(clf.fit(X, y).predict_proba(X_NEW), first)
    assert count() == 2


def test_phases_of_one_name_have_seeds_of_their_own(tmp_path):
    seeds = []

    class Thrice(TrainingStrategy):
        def train(self, network, costs, trainer):
            for _ in range(3):
                view = ExitView(network, [network.n_exits - 1])
                trainer.remaining(0.3).fit(view, ExitLoss([1.0]))

    class Draw(Callback):
        def on_train_begin(self, net, **kwargs):
            seeds.append(torch.initial_seed())

    quick(training=Thrice(), calibration=None, callbacks=[Draw()]).fit(X, y)
    assert len(set(seeds)) == 3


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="'memory' parameter of EarlyExitClassifier must be a fol"):
        quick(memory=tmp_path / "file").fit(X, y)


@pytest.mark.parametrize(
    "wrap",
    [torch.nn.utils.parametrizations.weight_norm, torch.nn.utils.parametrizations.spectral_norm],
)
def test_parametrized_layers_are_kept(counted, wrap):
    clf, count = counted
    layers = make(lambda: [wrap(torch.nn.Linear(13, 16)), torch.nn.Linear(16, 4)])
    clf.set_params(backbone=layers, exits=[0])
    first = clf.fit(X, y).predict_proba(X_NEW)
    assert same(clf.fit(X, y).predict_proba(X_NEW), first)
    assert count() == 1


def test_hooks_do_not_matter_by_their_number(counted):
    clf, count = counted

    def hook(module, inputs, output):
        return output + 1

    for _ in range(2):
        first = make(lambda: torch.nn.Linear(13, 16))
        first.register_forward_hook(hook)
        clf.set_params(backbone=[first, make(lambda: torch.nn.Linear(16, 4))], exits=[0])
        clf.fit(X, y)
    assert count() == 1


def chain(*layers):
    return make(lambda: torch.nn.Sequential(*(layer() for layer in layers)))


def test_keys_of_equal_values_are_equal():
    def build():
        return chain(
            lambda: torch.nn.Linear(3, 4),
            lambda: torch.nn.BatchNorm1d(4),
            lambda: torch.nn.LSTM(4, 5),
            lambda: torch.nn.Linear(5, 2, dtype=torch.bfloat16),
        )

    assert fingerprint(build()) == fingerprint(build())
    assert fingerprint(lambda x: x + 1) == fingerprint(lambda x: x + 1)
    assert fingerprint([frozenset("abc")]) == fingerprint([frozenset("cba")])


def test_keys_of_different_values_differ():
    base = chain(lambda: torch.nn.Linear(3, 3), torch.nn.ReLU)
    other_number = chain(lambda: torch.nn.Linear(3, 3), torch.nn.ReLU)
    with torch.no_grad():
        other_number[0].bias[1] += 1e-7
    frozen = chain(lambda: torch.nn.Linear(3, 3), torch.nn.ReLU)
    frozen[0].weight.requires_grad_(False)
    other_setting = chain(lambda: torch.nn.Linear(3, 3), lambda: torch.nn.ReLU(inplace=True))
    shared = torch.nn.ReLU()
    values = [
        base,
        other_number,
        frozen,
        other_setting,
        chain(torch.nn.ReLU, lambda: torch.nn.Linear(3, 3)),
        torch.nn.ModuleDict({"a": shared, "b": shared}),
        torch.nn.ModuleDict({"b": shared, "a": shared}),
        torch.zeros(2),
        torch.zeros(2, dtype=torch.float64),
        torch.zeros(1, 2),
        np.zeros(2, dtype=np.float32),
        torch.zeros(2).requires_grad_(),
        lambda x: x + 1,
        lambda x: x + 2,
        lambda x, y=1: x + 1,
    ]
    assert len({fingerprint(value) for value in values}) == len(values)


def test_keys_see_constants_and_closures():
    def add(amount):
        return lambda x: x + amount

    assert fingerprint(add(1)) == fingerprint(add(1))
    assert fingerprint(add(1)) != fingerprint(add(2))
    code = "def f(x):\n    return x * SCALE\n"
    first, second = {"SCALE": 2, "__name__": "__main__"}, {"SCALE": 3, "__name__": "__main__"}
    exec(code, first)
    exec(code, second)
    assert fingerprint(first["f"]) != fingerprint(second["f"])


USED = [
    torch.relu,
    torch.tanh,
    torch.nn.ReLU(),
    torch.nn.Tanh(),
    torch.nn.ReLU,
    {"lr": 1},
    {"lr": 2},
    [1],
    [2],
    np.arange(2),
    np.arange(3),
    torch.zeros(2),
    torch.ones(2),
    np.float32(1),
    np.float32(2),
    functools.partial(max, 1),
    functools.partial(max, 2),
    range(2),
    range(3),
    frozenset({1}),
    frozenset({2}),
    math,
    functools,
]


def test_keys_see_whatever_code_uses():
    def user(value):
        names = {"USED": value, "__name__": "__main__"}
        exec("def f(x):\n    return USED(x)\n", names)
        return names["f"]

    assert len({fingerprint(user(value)) for value in USED}) == len(USED)
    assert [fingerprint(user(value)) for value in USED] == [fingerprint(user(v)) for v in USED]


def test_keys_see_what_classes_hold():
    def classes(value):
        return type("Net", (), {"used": value, "__module__": "__main__"})

    assert len({fingerprint(classes(value)) for value in USED}) == len(USED)

    def cached(amount):
        class Net:
            @functools.cached_property
            def first(self):
                return amount

            @functools.lru_cache  # noqa: B019
            def second(self):
                return amount

            @property
            def third(self):
                return amount

        return Net

    assert fingerprint(cached(1)) == fingerprint(cached(1))
    assert fingerprint(cached(1)) != fingerprint(cached(2))


def test_attributes_are_no_globals():
    def build(scale):
        names = {"scale": scale, "__name__": "__main__"}
        exec("def f(self, x):\n    return self.scale * x\n", names)
        return names["f"]

    assert fingerprint(build(1)) == fingerprint(build(2))


def test_keys_see_through_modules_of_the_user(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    keys = set()
    for factor in (2, 3):
        (tmp_path / "own_helper.py").write_text(f"def scale(x):\n    return {factor} * x\n")
        monkeypatch.delitem(sys.modules, "own_helper", raising=False)
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        own_helper = importlib.import_module("own_helper")
        names = {"own_helper": own_helper, "__name__": "__main__"}
        exec("def f(x):\n    return own_helper.scale(x)\n", names)
        keys.add(fingerprint(names["f"]))
    monkeypatch.delitem(sys.modules, "own_helper")
    assert len(keys) == 2


def test_a_function_may_refer_to_itself():
    def build(step):
        def countdown(n):
            return 0 if n <= 0 else countdown(n - step)

        return countdown

    assert fingerprint(build(1)) == fingerprint(build(1))
    assert fingerprint(build(1)) != fingerprint(build(2))


def test_keys_are_the_same_in_every_process():
    program = textwrap.dedent(
        """
        import torch
        from skearlyexit.training._fingerprint import fingerprint

        class Net(torch.nn.Module):
            sizes = {"a", "b", "c"}

            def forward(self, x):
                return x in {"some", "strings", "in", "a", "set"}

        torch.manual_seed(0)
        net = Net()
        net.linear, net.tags = torch.nn.Linear(2, 2), {"x", "y", "z"}
        print(fingerprint([net, lambda x: x]))
        """
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(2)
    }
    assert len(keys) == 1
