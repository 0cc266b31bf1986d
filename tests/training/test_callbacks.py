"""Callbacks of skorch: those that work, and those that are refused before training."""

from contextlib import suppress
from types import SimpleNamespace

import pytest
from skorch.callbacks import (
    BatchScoring,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    Freezer,
    LRScheduler,
    Unfreezer,
)
from skorch.history import History
from torch.nn import BatchNorm1d
from torch.optim.lr_scheduler import ReduceLROnPlateau

from skearlyexit.training._skorch import Stopping
from tests._data import blobs, quick

X, y, _, _ = blobs()
SCORING = [EpochScoring("accuracy"), ("accuracy", BatchScoring("accuracy")), EpochScoring]
MONITORS = [
    EarlyStopping(),
    EarlyStopping,
    ("stopping", EarlyStopping(patience=2)),
    Checkpoint(),
    Checkpoint(monitor="valid_loss"),
    LRScheduler("ReduceLROnPlateau", monitor="valid_loss"),
    LRScheduler(ReduceLROnPlateau, monitor="valid_loss"),
]


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("callback", SCORING)
def test_scores_of_one_prediction_are_refused(callback, method):
    clf = quick(callbacks=[callback])
    arguments = {"classes": range(4)} if method == "partial_fit" else {}
    with pytest.raises(ValueError, match=r"must not contain .*Scoring: .*'train_loss' and"):
        getattr(clf, method)(X, y, **arguments)
    with pytest.raises(ValueError, match="must not contain"):
        quick(callbacks=[callback], early_stopping=True).fit(X, y)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("callback", MONITORS)
def test_a_validation_loss_that_is_not_there(callback):
    with pytest.raises(ValueError, match=r"monitors 'valid_loss.*Set early_stopping=True, or"):
        quick(callbacks=[callback]).fit(X, y)


def test_what_can_be_monitored(tmp_path):
    callbacks = [
        EarlyStopping(patience=50),
        Checkpoint(dirname=tmp_path, f_history=None, f_criterion=None),
        LRScheduler(ReduceLROnPlateau, monitor="valid_loss"),
    ]
    clf = quick(callbacks=callbacks, early_stopping=True, calibration=None, max_epochs=2)
    assert "valid_loss" in clf.fit(X, y).history_[0]
    callbacks = [
        ("stopping", EarlyStopping("train_loss", patience=50)),
        LRScheduler("StepLR", monitor="valid_loss", step_size=1),
    ]
    clf.set_params(callbacks=callbacks, early_stopping=False)
    assert "train_loss" in clf.fit(X, y).history_[0]


@pytest.mark.parametrize("at", [1, 2])
def test_parameters_that_are_frozen_during_the_training_are_averaged(at):
    """The mean of a frozen parameter approaches it, and those of others go on."""
    callbacks = [Freezer("*stages.0*", at=at)]
    params = {"training": "joint", "calibration": None, "weight_averaging": True}
    few, more = (
        quick(**params, callbacks=callbacks, max_epochs=n, batch_size=20).fit(X, y) for n in (3, 9)
    )
    frozen, trained = ([next(clf.stages_[i].parameters()) for clf in (few, more)] for i in (0, 1))
    moved = [float((a - b).abs().max()) for a, b in (frozen, trained)]
    assert moved[0] < 0.5 * moved[1]


def test_parameters_that_are_unfrozen_during_the_training_are_trained():
    callbacks = [Freezer("*stages.0*", at=1), Unfreezer("*stages.0*", at=3)]
    params = {"training": "joint", "calibration": None, "max_epochs": 5}
    kept, trained = (quick(**params, callbacks=callbacks[:n]).fit(X, y).stages_[0] for n in (1, 2))
    different = [
        (a != b).any() for a, b in zip(kept.parameters(), trained.parameters(), strict=True)
    ]
    assert any(different)


def test_the_history_has_all_epochs_if_the_best_is_loaded(tmp_path):
    """The history of skorch is then that until the best epoch."""
    second = Checkpoint(monitor=_is_second, dirname=tmp_path, load_best=True)
    clf = quick(callbacks=[second], calibration=None, training="joint", max_epochs=4).fit(X, y)
    assert [epoch["epoch"] for epoch in clf.history_] == [1, 2, 3, 4]


def _is_second(net):
    return len(net.history) == 2


@pytest.mark.parametrize("first", [1.0, 0.0, -1.0, -1e4])
def test_early_stopping_with_losses_of_any_sign(first):
    """A higher loss is not taken for a lower one."""
    stopping = Stopping(patience=2)
    net = SimpleNamespace(history=History(), module_=BatchNorm1d(1), verbose=0)
    stopping.on_train_begin(net)
    ended = []
    for epoch, change in enumerate([0.0, 1e-5, 2e-5], start=1):
        net.history.new_epoch()
        net.history.record("epoch", epoch)
        net.history.record("valid_loss", first + change * abs(first or 1.0))
        with suppress(KeyboardInterrupt):
            stopping.on_epoch_end(net)
            continue
        ended.append(epoch)
    assert stopping.best_epoch_ == 1
    assert ended == [3]
