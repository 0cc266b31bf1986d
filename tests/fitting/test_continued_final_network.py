"""Final networks whose training continues that of the last fold."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skorch.callbacks import EarlyStopping
from skorch.history import History
from torch.nn import BatchNorm1d

from skearlyexit import JointTraining, LayerwiseTraining, MixedTraining
from skearlyexit._fitting import _fit
from skearlyexit.training._skorch import Stopping, n_without_improvement
from tests._data import blobs, quick

X, y, X_test, _ = blobs()
CONTINUED, ANEW = 0, 10**9


def probabilities(monkeypatch, continued_from, **params):
    monkeypatch.setattr(_fit, "CONTINUED_FROM", continued_from)
    params = {"early_stopping": True, "calibration": 2, "batch_size": 100, **params}
    return quick(**params).fit(X, y).predict_proba(X_test, threshold=2.0)


@pytest.mark.parametrize("training", ["joint", MixedTraining(0.5), LayerwiseTraining()], ids=str)
def test_a_fold_that_the_number_of_epochs_ended_is_not_continued(monkeypatch, training):
    """After further steps it would be more confident than the folds of the thresholds."""
    anew, continued = (
        probabilities(monkeypatch, each, training=training, max_epochs=3, n_iter_no_change=10)
        for each in (ANEW, CONTINUED)
    )
    assert np.array_equal(anew, continued)


class _Elsewhere(JointTraining):
    """Training of which only the history becomes known, as of processes of their own."""

    def train(self, network, costs, trainer):
        other = replace(trainer, history=[], stopped=[])
        super().train(network, costs, other)
        trainer.history.extend(other.history)


def test_a_fold_that_was_trained_elsewhere_is_not_continued(monkeypatch):
    anew, continued = (
        probabilities(monkeypatch, each, training=_Elsewhere(), max_epochs=3, n_iter_no_change=10)
        for each in (ANEW, CONTINUED)
    )
    assert np.array_equal(anew, continued)


def test_a_fold_that_stopped_early_is_continued(monkeypatch):
    anew, continued = (
        probabilities(monkeypatch, each, max_epochs=60, n_iter_no_change=2, lr=0.02)
        for each in (ANEW, CONTINUED)
    )
    assert not np.array_equal(anew, continued)


def test_a_fold_that_a_callback_ended_is_not_continued(monkeypatch):
    callbacks = [EarlyStopping("train_loss", patience=1, threshold=10.0)]
    anew, continued = (
        probabilities(monkeypatch, each, max_epochs=60, callbacks=callbacks)
        for each in (ANEW, CONTINUED)
    )
    assert np.array_equal(anew, continued)


@given(st.lists(st.sampled_from([-2.0, -1.0, -1 - 1e-5, 0.0, 1.0, 1 - 1e-5, 2.0]), min_size=1))
def test_epochs_without_improvement_are_those_of_early_stopping(losses):
    stopping = Stopping(patience=len(losses) + 1)
    net = SimpleNamespace(history=History(), module_=BatchNorm1d(1), verbose=0)
    stopping.on_train_begin(net)
    for epoch, loss in enumerate(losses, start=1):
        net.history.new_epoch()
        net.history.record("epoch", epoch)
        net.history.record("valid_loss", loss)
        stopping.on_epoch_end(net)
    assert n_without_improvement(losses) == stopping.misses_
