"""Threads and forks: nothing waits for ever, and nothing is left behind in any of them."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from threadpoolctl import ThreadpoolController

from skearlyexit import EarlyExitClassifier, MLPBackbone
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit._determinism._threads import on_single_blas_thread
from tests._data import blobs, quick, same

X, y, X_NEW, Y_NEW = blobs()


def blas_threads():
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library.get_num_threads() for library in libraries]


def run(*functions, timeout=20):
    """Results of functions that run in threads at the same time."""
    pool = ThreadPoolExecutor(len(functions))
    try:
        return [each.result(timeout) for each in [pool.submit(each) for each in functions]]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def repeated(function):
    """Call a function again and again in another thread."""
    done = threading.Event()

    def repeat():
        while not done.is_set():
            function()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def succeeds_in_child(function, timeout=20):
    """Whether a function returns True in a forked process."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if function() else 2
        finally:
            os._exit(code)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
class TestForks:
    def test_children_of_a_process_that_predicts_predict(self):
        clf = quick(head=GaussianNB(), threshold=0.8, calibration=None).fit(X, y)
        expected, before = clf.predict(X_NEW[:32]), blas_threads()
        with repeated(lambda: clf.predict(X_NEW)):
            for _ in range(4):
                assert succeeds_in_child(
                    lambda: (
                        blas_threads() == before
                        and same(clf.predict(X_NEW[:32]), expected)
                        and blas_threads() == before
                    )
                )
        assert blas_threads() == before

    def test_children_of_a_process_that_fits_fit(self):
        clf, other = (quick(max_epochs=1, calibration=None, head=GaussianNB()) for _ in range(2))
        expected = clf.fit(X, y).predict_proba(X_NEW)
        with repeated(lambda: other.fit(X, y)):
            for _ in range(2):
                assert succeeds_in_child(lambda: same(clf.fit(X, y).predict_proba(X_NEW), expected))

    def test_a_fork_within_the_limit_keeps_it_to_its_end(self):
        before = blas_threads()

        def child():
            return on_single_blas_thread(lambda: set(blas_threads())) == {1}

        def forked():
            within = set(blas_threads()) == {1}
            return within and succeeds_in_child(lambda: within and child())

        assert on_single_blas_thread(forked)
        assert blas_threads() == before


class Threaded(ClassifierMixin, BaseEstimator):
    """Asks classifiers with exits in threads of its own."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        small = quick(max_epochs=1, calibration=None, threshold=0.5, head=GaussianNB())
        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(clone(small).fit, X, y) for _ in range(2)]
            self.parts_ = [job.result(20) for job in jobs]
        return self

    def predict_proba(self, X):
        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(part.predict_proba, X) for part in self.parts_]
            return np.mean([job.result(20) for job in jobs], axis=0)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class Drawing(ClassifierMixin, BaseEstimator):
    """Draws its answer from the process-wide generators, while other threads run."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        draws = []
        for _ in range(20):
            time.sleep(0.001)
            draws.append(np.random.rand(len(self.classes_)) + torch.rand(1).item())
        self.answer_ = np.mean(draws, axis=0) / np.sum(np.mean(draws, axis=0))
        return self

    def predict_proba(self, X):
        return np.tile(self.answer_, (len(X), 1))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class TestThreads:
    def test_heads_that_fit_and_predict_in_threads(self):
        clf = quick(max_epochs=1, head=[Threaded(), "linear", "linear"], threshold=0.5)
        first, second = run(
            lambda: clf.fit(X, y).predict_proba(X_NEW),
            lambda: clone(clf).fit(X, y).predict_proba(X_NEW),
        )
        assert same(first, second)

    def test_a_search_over_classifiers_with_exits_is_a_head(self):
        inner = EarlyExitClassifier(
            MLPBackbone(1, width=16, hidden=16), exits=1, max_epochs=1, calibration=None
        )
        search = GridSearchCV(inner, {"lr": [0.001, 0.01]}, cv=2, n_jobs=2)
        clf = quick(
            max_epochs=1, calibration=None, head=["linear", search, "linear"], threshold=0.5
        )

        def fit():
            with joblib.parallel_config(backend="threading"):
                return clf.fit(X, y).predict_proba(X_NEW)

        (first,) = run(fit)
        search.n_jobs = 1
        assert same(first, clf.fit(X, y).predict_proba(X_NEW))

    def test_heads_that_draw_in_threads_draw_the_same(self):
        clf = quick(
            backbone=MLPBackbone(3, width=32, hidden=32, dropout=0.2),
            head=Drawing(),
            max_epochs=2,
            calibration=None,
            threshold=0.5,
        )

        def fits():
            return [clone(clf).fit(X, y).predict_proba(X_NEW) for _ in range(2)]

        expected = clf.fit(X, y).predict_proba(X_NEW)
        assert all(same(each, expected) for part in run(fits, fits, fits) for each in part)

    def test_a_turn_is_restored_though_threads_outlive_it(self):
        before = torch.get_rng_state()
        inside, go_on = threading.Event(), threading.Event()

        def draw():
            with isolated_random_state(1):
                inside.set()
                go_on.wait(20)

        with isolated_random_state(0, shared=True):
            thread = threading.Thread(target=draw)
            thread.start()
            assert inside.wait(20)
        go_on.set()
        thread.join()
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_limit_lasts_as_long_as_anyone_needs_it(self):
        before = blas_threads()
        first_is_in, first_is_out = threading.Event(), threading.Event()

        def first():
            on_single_blas_thread(lambda: first_is_in.set() or time.sleep(0.05))
            first_is_out.set()

        def second():
            def wait():
                first_is_in.wait(20)
                first_is_out.wait(20)
                return blas_threads()

            return on_single_blas_thread(wait)

        assert set(run(first, second)[1]) == {1}
        assert blas_threads() == before
