"""Callbacks of skorch: those that work, and those that are refused before training."""

import pytest
from skorch.callbacks import (
    BatchScoring,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    LRScheduler,
)
from torch.optim.lr_scheduler import ReduceLROnPlateau

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
