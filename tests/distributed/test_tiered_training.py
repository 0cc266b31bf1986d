"""Tiers that are trained by workers of their own give the model of one process."""

import builtins
from functools import cache

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler

from skearlyexit import EarlyExitRegressor, LayerwiseTraining, LocalErrorTraining
from skearlyexit.distributed import TieredTraining, _tiered, training_report
from skearlyexit.distributed._backend import SequentialBackend, WorkerLostError
from skearlyexit.distributed._shipment import Shipment
from skearlyexit.training._rows import TrainingRows
from tests._data import digits, quick, same

X, Y = (part[:400] for part in digits()[:2])
STRATEGIES = {
    "layerwise": LayerwiseTraining(),
    "reconstruction": LayerwiseTraining(local="reconstruction"),
    "decoupled": LocalErrorTraining(),
    "feedback": LocalErrorTraining("feedback"),
    "similarity": LocalErrorTraining("similarity"),
}


def tiered(training, assignment=(0, 0, 1), **params):
    return TieredTraining(training, assignment=assignment, backend="sequential", **params)


def fitted(training, **params):
    defaults = {"calibration": None, "max_epochs": 4}
    return quick(training=training, **{**defaults, **params}).fit(X, Y)


def weights(clf):
    modules = [*clf.stages_, *clf.heads_]
    return np.concatenate([each.numpy().ravel() for part in modules for each in part.parameters()])


@cache
def in_one_process(name, **params):
    """Model that the same training gives in one process."""
    return fitted(STRATEGIES[name], **params)


class Losing(SequentialBackend):
    """Loses the results of some calls, and the workers that were called."""

    lost: tuple[int, ...] = ()

    def __init__(self):
        self.n_calls = 0

    def call(self, worker, method, n_results, *args):
        results = super().call(worker, method, n_results, *args)
        self.n_calls += 1
        if self.n_calls - 1 not in self.lost:
            return results
        vars(worker).clear()
        return ["lost"] * n_results

    def get(self, reference):
        if isinstance(reference, str) and reference == "lost":
            raise WorkerLostError("it was lost")
        return reference


def losing(monkeypatch, *lost):
    monkeypatch.setattr(Losing, "lost", lost)
    monkeypatch.setattr(_tiered, "SequentialBackend", Losing)


class TestSameModel:
    @pytest.mark.parametrize("assignment", [None, (0, 0, 1), (0, 1, 1), (0, 0, 0)])
    @pytest.mark.parametrize("name", ["layerwise", "decoupled"])
    def test_any_assignment(self, name, assignment):
        one, several = in_one_process(name), fitted(tiered(STRATEGIES[name], assignment))
        assert same(weights(one), weights(several))
        assert same(one.predict_proba(X), several.predict_proba(X))

    @pytest.mark.parametrize("name", ["reconstruction", "feedback", "similarity"])
    def test_any_loss(self, name):
        assert same(weights(in_one_process(name)), weights(fitted(tiered(STRATEGIES[name]))))

    @pytest.mark.parametrize("name", ["layerwise", "decoupled"])
    def test_averaged_weights_schedules_and_sample_weights(self, name):
        clf = quick(
            calibration=None,
            weight_averaging=True,
            lr_schedule="cosine",
            callbacks=[LRScheduler("StepLR", step_size=2)],
            max_epochs=4,
        )
        weight = np.linspace(0.1, 2, len(X))
        one = clf.set_params(training=STRATEGIES[name]).fit(X, Y, weight)
        first = weights(one)
        several = clf.set_params(training=tiered(STRATEGIES[name])).fit(X, Y, weight)
        assert same(first, weights(several))

    @pytest.mark.parametrize("name", ["layerwise", "decoupled"])
    def test_early_stopping(self, name):
        params = {"early_stopping": True, "n_iter_no_change": 2, "lr": 0.05, "max_epochs": 60}
        one = fitted(STRATEGIES[name], **params)
        several = fitted(tiered(STRATEGIES[name]), **params)
        assert len(one.history_) < 60  # it did stop
        assert same(weights(one), weights(several))

    def test_inputs_of_several_tensors(self):
        from tests._tiny import COSTS, equal, tiny, trainer, weights_of

        one, several = tiny(two_paths=True), tiny(two_paths=True)
        for name in ("layerwise", "decoupled"):
            STRATEGIES[name].train(one, COSTS, trainer())
            tiered(STRATEGIES[name]).train(several, COSTS, trainer())
            assert equal(weights_of(one), weights_of(several))

    def test_regression(self):
        fits = [
            EarlyExitRegressor(
                exits=2, training=each, calibration=None, max_epochs=2, random_state=0
            ).fit(X, Y)
            for each in ("layerwise", tiered("layerwise", None))
        ]
        assert same(fits[0].predict(X), fits[1].predict(X))

    @pytest.mark.parametrize("name", ["layerwise", "decoupled"])
    def test_calibrated_as_usual(self, name):
        one, several = (
            fitted(each, calibration=0.3, budget=0.6)
            for each in (STRATEGIES[name], tiered(STRATEGIES[name]))
        )
        assert same(one.thresholds_, several.thresholds_)
        assert several.cascade_.costs[0] < 1


class TestLostWorkers:
    # Calls: of the first worker, 2 stages with 4 epochs each, and then its embeddings.
    @pytest.mark.parametrize("lost", [(0,), (2, 6), (3, 4), (8,), (10, 11)])
    def test_layerwise_is_as_without_the_loss(self, monkeypatch, lost):
        losing(monkeypatch, *lost)
        clf = fitted(tiered("layerwise"), weight_averaging=True)
        assert same(weights(clf), weights(in_one_process("layerwise", weight_averaging=True)))
        assert training_report(clf).restarts.sum() == len(lost) - lost.count(8)

    @pytest.mark.parametrize("lost", [(0,), (3, 4), (7,)])
    def test_local_errors_are_as_without_the_loss(self, monkeypatch, lost):
        losing(monkeypatch, *lost)
        clf = fitted(tiered("local_error"), weight_averaging=True)
        assert same(weights(clf), weights(in_one_process("decoupled", weight_averaging=True)))
        assert training_report(clf).restarts.sum() == len(lost)

    def test_schedulers_of_the_user_continue(self, monkeypatch):
        params = {"callbacks": [LRScheduler("StepLR", step_size=1, gamma=0.5)]}
        whole = fitted("layerwise", **params)
        losing(monkeypatch, 3)
        assert same(weights(fitted(tiered("layerwise"), **params)), weights(whole))

    def test_dropout_continues(self, monkeypatch):
        from skearlyexit import MLPBackbone

        params = {"backbone": MLPBackbone(3, width=32, hidden=32, dropout=0.5)}
        whole = fitted("layerwise", **params)
        losing(monkeypatch, 3)
        assert same(weights(fitted(tiered("layerwise"), **params)), weights(whole))

    def test_a_worker_that_is_lost_too_often(self, monkeypatch):
        losing(monkeypatch, *range(2, 6))
        with pytest.raises(RuntimeError, match="worker 0 ended for the 3th time, after 2 epochs"):
            fitted(tiered("layerwise"))

    def test_callbacks_that_cannot_be_stored(self):
        clf = quick(callbacks=[LRScheduler("LambdaLR", lr_lambda=lambda epoch: 1.0)])
        with pytest.raises(TypeError, match="attributes can be"):
            clf.set_params(training=tiered("layerwise"), calibration=None).fit(X, Y)


class TestWhatIsSent:
    N_EPOCHS, WIDTH = 4, 32

    def test_layerwise_sends_each_embedding_once(self):
        report = training_report(fitted(tiered("layerwise")))
        labels = 8 * len(X)
        assert report.bytes_received.tolist() == [
            4 * X.size + labels,
            4 * self.WIDTH * len(X) + labels,
        ]
        assert report.bytes_sent.tolist() == [report.bytes_received[1], 0]

    def test_local_errors_send_them_in_every_epoch(self):
        report = training_report(fitted(tiered("local_error")))
        assert report.bytes_received[1] == self.N_EPOCHS * (4 * self.WIDTH + 8) * len(X)

    @pytest.mark.parametrize(("compression", "n_bytes"), [("float16", 64), ("int8", 32 + 8)])
    @pytest.mark.parametrize("name", ["layerwise", "decoupled"])
    def test_compression(self, name, compression, n_bytes):
        clf = fitted(tiered(STRATEGIES[name], compression=compression))
        times = 1 if name == "layerwise" else self.N_EPOCHS
        assert training_report(clf).bytes_received[1] == times * (n_bytes + 8) * len(X)
        near = in_one_process(name)
        assert not same(weights(near), weights(clf))
        np.testing.assert_allclose(weights(near), weights(clf), atol=0.05)

    def test_later_workers_see_neither_samples_nor_other_weights(self, monkeypatch):
        seen = []

        class Seeing(SequentialBackend):
            def start(self, options, kind, *args):
                seen.append(args)
                return super().start(options, kind, *args)

        monkeypatch.setattr(_tiered, "SequentialBackend", Seeing)
        fitted(tiered("layerwise"))
        job, samples, _ = seen[1]
        assert samples.train[0][0].shape == (len(X), self.WIDTH)
        assert job.network.n_exits == 1

    def test_a_checkpoint_has_one_mean_of_the_weights(self):
        training = tiered("local_error", (0, 0, 0))
        without, averaged = (
            fitted(training, weight_averaging=on).history_[0]["checkpoint_bytes"]
            for on in (False, True)
        )
        size = weights(in_one_process("decoupled")).nbytes
        assert averaged - without < 1.5 * size

    def test_bytes_of_validation_and_weights(self):
        rows = TrainingRows(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), torch.ones(4))
        both = Shipment.of_rows(rows, rows)
        assert both.n_bytes == 2 * 4 * (3 * 4 + 8 + 4)
        assert torch.equal(both.rows()[1].X, rows.X)

    def test_layerwise_workers_end_before_the_next_one_starts(self, monkeypatch):
        calls = []

        class Watching(SequentialBackend):
            def start(self, options, kind, *args):
                calls.append("start")
                return super().start(options, kind, *args)

            def stop(self, worker):
                calls.append("stop")

        monkeypatch.setattr(_tiered, "SequentialBackend", Watching)
        fitted(tiered("layerwise", None))
        assert calls == ["start", "stop", "start", "stop", "start"]


class TestBuffer:
    @pytest.mark.parametrize("max_buffered", [1, 3])
    def test_workers_train_at_the_same_time_and_none_is_too_far_ahead(
        self, monkeypatch, max_buffered
    ):
        begun, leads, n_running = [0, 0], [], []

        class Watching(SequentialBackend):
            def any_ready(self, calls):
                n_running.append(len(calls))
                return min(calls)  # the first worker is the fastest one

            def call(self, worker, method, n_results, *args):
                begun[worker.job.is_last] += 1
                leads.append(begun[0] - begun[1])
                return super().call(worker, method, n_results, *args)

        monkeypatch.setattr(_tiered, "SequentialBackend", Watching)
        fitted(tiered("local_error", max_buffered=max_buffered), max_epochs=8)
        assert max(leads) == max_buffered
        assert max(n_running) == 2
        assert begun == [8, 8]


class EndOneTier(Callback):
    """Ends the training of the tiers whose stages receive inputs of a width."""

    def __init__(self, width):
        self.width = width

    def on_batch_end(self, net, batch=None, **kwargs):
        self.rule = EarlyStopping("epoch", patience=1 if batch[0].shape[1] == self.width else -1)

    def on_epoch_end(self, net, **kwargs):
        self.rule.on_train_begin(net)
        self.rule.lower_is_better = True
        self.rule.dynamic_threshold_ = -np.inf
        self.rule.on_epoch_end(net)


class TestErrors:
    @pytest.mark.parametrize(("width", "worker"), [(64, 0), (32, 1)])
    def test_callbacks_that_end_the_training_of_a_tier(self, width, worker):
        with pytest.raises(ValueError, match=f"ended the training of worker {worker} after 1 ep"):
            fitted(tiered("local_error"), callbacks=[EndOneTier(width)])

    def test_callbacks_hold_the_original_print(self, monkeypatch):
        """Ray replaces `print` by a function of its own."""
        stop = EarlyStopping("train_loss", patience=100)
        monkeypatch.setattr(builtins, "print", lambda *values: None)
        clf = fitted(tiered("local_error"), callbacks=[stop])
        assert same(clf.predict_proba(X), fitted("local_error").predict_proba(X))

    @pytest.mark.parametrize("assignment", [[0, 1], [0, 2, 3], [1, 1, 2], [0, 1, 0], [[0, 0, 1]]])
    def test_assignment(self, assignment):
        with pytest.raises(ValueError, match="tier of each of the 3 exits"):
            fitted(tiered("layerwise", assignment))

    def test_memory(self, tmp_path):
        with pytest.raises(ValueError, match="memory=None"):
            fitted(tiered("layerwise"), memory=tmp_path)

    def test_unlabeled(self):
        clf = quick(training=tiered(LayerwiseTraining(local="similarity")), calibration=None)
        with pytest.raises(ValueError, match="X_unlabeled has no effect"):
            clf.fit(X, Y, X_unlabeled=X)

    def test_other_trainings(self):
        with pytest.raises(ValueError, match="'training' parameter of TieredTraining"):
            fitted(tiered("joint"))

    def test_options_of_workers(self):
        with pytest.raises(ValueError, match="one dict for each of the 2 workers"):
            fitted(tiered("layerwise", worker_options=[{}]))

    def test_reports_of_other_models(self):
        with pytest.raises(ValueError, match="training=LayerwiseTraining"):
            training_report(in_one_process("layerwise"))

    @pytest.mark.parametrize("name", ["layerwise", "decoupled"])
    def test_divergence(self, name):
        with pytest.raises(ValueError, match="diverged"):
            fitted(tiered(STRATEGIES[name]), lr=1e38, optimizer="sgd")

    def test_ray_is_not_installed(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "ray", None)
        with pytest.raises(ImportError, match=r"skearlyexit\[ray\].* backend='sequential'"):
            fitted(TieredTraining())
