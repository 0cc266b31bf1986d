"""Interrupts: always raised, never taken for the end of a training, and nothing left half done."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import GaussianNB
from skorch.callbacks import Callback, EarlyStopping
from threadpoolctl import ThreadpoolController
from torch import nn

from skearlyexit import list_exits
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit._determinism._threads import _Limit, on_single_blas_thread
from skearlyexit.training import SeparateTraining
from tests._data import blobs, make, quick, same

X, y, X_NEW, Y_NEW = blobs()

HOOKS = [
    "on_train_begin",
    "on_epoch_begin",
    "on_batch_begin",
    "on_grad_computed",
    "on_batch_end",
    "on_epoch_end",
    "on_train_end",
]


class Interrupting(Callback):
    """Raises an interrupt at one hook, in the second epoch or at the end."""

    active = True

    def __init__(self, hook):
        self.hook = hook

    def _interrupt(self, hook, net):
        if hook == self.hook and self.active and (len(net.history) == 2 or "train" in hook):
            raise KeyboardInterrupt


def _at(hook):
    return lambda self, net, *args, **kwargs: self._interrupt(hook, net)


for _hook in HOOKS:
    setattr(Interrupting, _hook, _at(_hook))


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("hook", HOOKS)
def test_an_interrupt_at_any_hook_is_raised(tmp_path, monkeypatch, hook, early_stopping):
    clf = quick(
        max_epochs=3,
        calibration=None,
        early_stopping=early_stopping,
        callbacks=[Interrupting(hook)],
    )
    monkeypatch.setattr(Interrupting, "active", False)
    before = clf.fit(X[:100], y[:100]).predict_proba(X_NEW)
    monkeypatch.setattr(Interrupting, "active", True)
    with pytest.raises(KeyboardInterrupt):
        clf.set_params(memory=tmp_path).fit(X[:100], y[:100])
    assert same(clf.predict_proba(X_NEW), before)
    assert not list(tmp_path.rglob("output.pkl"))
    monkeypatch.setattr(Interrupting, "active", False)
    assert len(clf.fit(X[:100], y[:100]).history_) == 3 * (
        1 + isinstance(clf.training, SeparateTraining)
    )


class Losing(Callback):
    """Records a loss that grows."""

    def on_epoch_end(self, net, **kwargs):
        net.history.record("growing", len(net.history))


def test_early_stopping_of_the_user_is_a_regular_end():
    stopping = EarlyStopping(monitor="growing", patience=2, sink=lambda *args: None)
    clf = quick(training="joint", calibration=None, callbacks=[Losing(), stopping]).fit(X, y)
    assert len(clf.history_) == 3


def _interrupt(*args):
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def interruptible():
    """Take interrupts as Python does, also where the process was started to ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_early_stopping_stops_is_raised():
    stopping = EarlyStopping(monitor="growing", patience=2, sink=_interrupt)
    clf = quick(training="joint", calibration=None, callbacks=[Losing(), stopping])
    with pytest.raises(KeyboardInterrupt):
        clf.set_params(verbose=2).fit(X, y)


def blas_threads():
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library.get_num_threads() for library in libraries]


@pytest.mark.parametrize("step", ["set", "lift"])
def test_an_interrupt_at_the_edge_of_the_limit_lifts_it(monkeypatch, step):
    before, done = blas_threads(), getattr(_Limit, step)
    interrupts = iter([True])

    def interrupted(self, call):
        # Within the first call, before or after its work.
        if step == "set":
            done(self, call)
        if next(interrupts, False):
            raise KeyboardInterrupt
        if step == "lift":
            done(self, call)

    monkeypatch.setattr(_Limit, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        on_single_blas_thread(lambda: None)
    assert blas_threads() == before


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer on this system")
def test_interrupts_in_predict_leave_the_limit_as_it_was():
    assert threading.current_thread() is threading.main_thread()
    clf = quick(head=GaussianNB(), calibration=None, threshold=0.8, max_epochs=1).fit(X, y)
    before, expected = blas_threads(), clf.predict(X_NEW)
    rng = np.random.RandomState(0)
    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    n_interrupts = 0
    try:
        for _ in range(20):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-4, 2e-2))
                clf.predict(X_NEW)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                n_interrupts += 1
            assert blas_threads() == before
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert n_interrupts
    assert same(clf.predict(X_NEW), expected)


class Interrupted(nn.Module):
    """A network during whose first trace the user presses Ctrl-C."""

    n_traces, went_on = 0, False

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(13, 8), nn.Linear(8, 4)

    def forward(self, rows):
        if type(rows) is not torch.Tensor:
            Interrupted.n_traces += 1
            if Interrupted.n_traces == 1:
                signal.raise_signal(signal.SIGINT)
                Interrupted.went_on = True
        return self.last(torch.relu(self.first(rows)))


def test_an_interrupt_while_a_network_is_traced():
    def pressed(number, frame):
        raise KeyboardInterrupt

    functions = nn.Module.__call__, nn.Module.__getattr__, torch.zeros, torch.arange
    module, handler = make(Interrupted), signal.signal(signal.SIGINT, pressed)
    try:
        with pytest.raises(KeyboardInterrupt):
            list_exits(module, X)
        assert signal.getsignal(signal.SIGINT) is pressed
    finally:
        signal.signal(signal.SIGINT, handler)
    assert (nn.Module.__call__, nn.Module.__getattr__, torch.zeros, torch.arange) == functions
    # It came once the trace had ended, and everything was put back.
    assert (Interrupted.n_traces, Interrupted.went_on) == (1, True)
    assert "first" in str(list_exits(module, X))


@pytest.mark.parametrize(
    "train",
    [lambda clf: clf.fit(X, y), lambda clf: clf.partial_fit(X, y, classes=np.unique(y))],
    ids=["fit", "partial_fit"],
)
def test_an_interrupt_before_a_turn_ends_ends_it(monkeypatch, train):
    """As one that comes when `__exit__` has been called, and has not begun."""
    done, calls = isolated_random_state.__exit__, []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        done(self, *args)

    clf = quick(calibration=None, training="joint", max_epochs=1)
    monkeypatch.setattr(isolated_random_state, "__exit__", interrupted)
    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        train(clf)
    monkeypatch.undo()
    assert torch.equal(torch.get_rng_state(), before)
    with ThreadPoolExecutor(1) as pool:  # where it would wait for ever
        pool.submit(clf.fit, X, y).result(timeout=60)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer on this system")
def test_interrupts_leave_the_errors_of_numpy_as_they_were():
    clf = quick(calibration=None, max_epochs=1).fit(X, y)
    before, handler = np.geterr(), signal.signal(signal.SIGALRM, signal.default_int_handler)
    rng = np.random.RandomState(0)
    try:
        for _ in range(1500):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 2e-4))
                clf._validate_rows(X_NEW)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                pass
            assert np.geterr() == before
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
