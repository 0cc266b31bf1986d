"""Trainings kept on disk: never another model, and never the same training twice."""

import numpy as np
import pytest
import torch
from joblib import Memory
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from skearlyexit import (
    Budget,
    EarlyExitClassifier,
    JointTraining,
    LayerwiseTraining,
    LocalErrorTraining,
    MLPBackbone,
    MLPHead,
)
from skearlyexit.experimental import BottleneckTraining, TargetTraining
from skearlyexit.heads import LinearHead
from skearlyexit.training import ExitLoss, ExitView, TrainingStrategy, _fingerprint
from tests._data import blobs, make, quick, same
from tests._trainings import Count, counting

X, y, X_NEW, Y_NEW = blobs()


@pytest.fixture
def counted(tmp_path):
    """A classifier with a memory, and a function that tells how many phases it has trained."""
    return counting(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Such a classifier, not to be changed, whose training is kept."""
    clf, count = counting(tmp_path_factory.mktemp("trained"), max_epochs=1)
    return clf.fit(X, y), count


def test_a_search_over_policies_and_operating_points_trains_once_per_fold(counted):
    clf, count = counted
    clf.set_params(calibration=0.3, threshold=None)
    grid = {
        "policy": ["confidence", "patience"],
        "operating_point": [Budget(0.9), None],
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
        params = {"training": training, "head": head, "max_epochs": 4, "early_stopping": True}
        return quick(memory=memory, **params).fit(X, y)

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
        {"max_epochs": 2},
        {"batch_size": 64},
        {"optimizer": "sgd"},
        {"lr_schedule": "constant"},
        {"weight_decay": 0.1},
        {"label_smoothing": 0.2},
        {"gradient_clipping": 0.5},
        {"weight_averaging": False},
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
def test_whatever_matters_trains_anew(trained, change):
    fitted, count = trained
    clf, before = clone(fitted), count()
    clf.set_params(**change).fit(X, y)
    known = count()
    assert known > before
    clf.fit(X, y)
    assert count() == known


@pytest.mark.parametrize(
    "training",
    [
        "combined",
        "gated",
        LayerwiseTraining(local="similarity"),
        LocalErrorTraining("feedback"),
        BottleneckTraining(information="discriminators"),
        TargetTraining(),
    ],
    ids=str,
)
def test_a_package_that_is_edited_is_read(counted, monkeypatch, training):
    """All code that a training uses has a key, and counts."""
    clf, count = counted
    clf.set_params(training=training, max_epochs=1).fit(X, y)
    known = count()
    monkeypatch.setattr(_fingerprint, "_FOLDERS", _fingerprint._FOLDERS[:-1])  # as not installed
    clf.fit(X, y)
    assert count() == 2 * known
    clf.fit(X, y)
    assert count() == 2 * known


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
