"""Workers with samples of their own learn what one machine learns from all of them."""

import sys
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping
from skorch.utils import noop

from skearlyexit._determinism._layers import CumulativeBatchNorm
from skearlyexit._determinism._random import RandomStream
from skearlyexit.distributed import FederatedTraining, _federated
from skearlyexit.distributed._backend import Backend, WorkerLostError
from skearlyexit.distributed._federated_worker import SourceForm, rows_of_source
from skearlyexit.distributed._meeting import Meeting, weighted_means
from skearlyexit.distributed._normalization import synchronize
from skearlyexit.distributed._ray_backend import RayBackend
from skearlyexit.training import DistillationTraining, JointTraining, LayerwiseTraining
from skearlyexit.training._rows import TrainingRows
from tests._tiny import COSTS, C, equal, rows_of, tiny, trainer, weights_of


class Called:
    """A call in a thread of its own, which may wait for others and is then left waiting."""

    def __init__(self, function, args):
        self.done = threading.Event()
        threading.Thread(target=self._run, args=(function, args), daemon=True).start()

    def _run(self, function, args):
        try:
            self.result = function(*args)
        except Exception as error:
            self.result = error
        self.done.set()


class Threads(Backend):
    """Workers in threads of this process."""

    meetings: list[Meeting] = []

    def __init__(self, start_timeout):
        pass

    def put(self, value):
        return value

    def start(self, options, kind, *args):
        return kind(*args)

    def await_started(self):
        pass

    def start_meeting(self, kind, n_workers):
        self.meetings.append(Noting(n_workers))
        return self.meetings[-1]

    def call(self, worker, method, n_results, *args):
        called = Called(getattr(worker, method), args)
        return [(called, i if n_results > 1 else None) for i in range(n_results)]

    def any_ready(self, calls):
        while True:
            for key, references in calls.items():
                if references[0][0].done.wait(0.001):
                    return key

    def get(self, reference):
        called, i = reference
        called.done.wait()
        if isinstance(called.result, Exception):
            raise called.result
        return called.result if i is None else called.result[i]

    def stop(self, worker):
        pass

    def close(self):
        pass


class Noting(Meeting):
    """Notes the shapes of all tensors."""

    def __init__(self, n_workers):
        super().__init__(n_workers)
        self.shapes = set()

    def mean(self, worker, weight, tensors):
        self.shapes |= {tuple(each.shape) for each in tensors}
        return super().mean(worker, weight, tensors)


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """Threads instead of processes, and no random numbers, which threads would have to share."""
    from contextlib import nullcontext

    monkeypatch.setattr(Threads, "meetings", [])
    monkeypatch.setattr(_federated, "RayBackend", Threads)
    monkeypatch.setattr(RandomStream, "continued", lambda stream: nullcontext())
    monkeypatch.setattr(torch, "randperm", lambda n, generator=None: torch.arange(n))


def trained(training, rows=None, validation=None, **options):
    network = tiny()
    network.n_classes = C
    on = trainer(rows, **options)
    on.validation = validation
    training.train(network, COSTS, on)
    return weights_of(network), on.history


def part(rows, chosen):
    weight = None if rows.weight is None else rows.weight[chosen]
    return TrainingRows(rows.X[chosen], rows.y[chosen], weight)


def close(first, second):
    return all(torch.allclose(first[name], second[name], rtol=1e-9, atol=1e-11) for name in first)


def federated(workers=2, **params):
    return FederatedTraining("joint", workers=workers, **params)


class TestOneMachine:
    """Two workers of 20 samples, and one machine whose batches are the union of theirs."""

    UNION = torch.tensor(
        [k * 20 + 4 * step + i for step in range(5) for k in (0, 1) for i in range(4)]
    )

    @pytest.mark.parametrize("optimizer", ["sgd", "adam"])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_averaged_gradients(self, optimizer, weighted):
        rows = rows_of(40, weighted)
        options = {"optimizer": optimizer, "gradient_clipping": 0.5, "weight_averaging": True}
        one, _ = trained(JointTraining(), part(rows, self.UNION), **options)
        several, _ = trained(federated(), rows, **options)
        assert close(one, several)

    def test_weights_after_each_step_of_gradient_descent(self):
        one, _ = trained(JointTraining(), part(rows_of(40), self.UNION))
        several, _ = trained(federated(average="weights", local_steps=1))
        assert close(one, several)

    def test_early_stopping(self):
        from skearlyexit.training._options import Patience

        options = {"patience": Patience(1), "lr": 2.0, "max_epochs": 30, "validation": rows_of(30)}
        one, history = trained(JointTraining(), part(rows_of(40), self.UNION), **options)
        several, entries = trained(federated(), rows_of(40), **options)
        assert len(history) < 30
        assert len(entries) == 2 * len(history)
        assert close(one, several)

    @pytest.mark.parametrize("training", [DistillationTraining(), LayerwiseTraining()])
    def test_other_trainings(self, training):
        one, history = trained(training, part(rows_of(40), self.UNION))
        several, entries = trained(FederatedTraining(training), rows_of(40))
        assert close(one, several)
        assert [each["phase"] for each in entries[::2]] == [each["phase"] for each in history]

    def test_one_worker(self):
        assert equal(trained(JointTraining())[0], trained(federated(1))[0])


class TestFederatedAveraging:
    def test_mean_by_number_of_samples_after_an_epoch_of_each(self):
        own, other = rows_of(40), rows_of(16)
        source = (other.X.numpy(), other.y.numpy())
        several, _ = trained(federated([lambda: source], average="weights"), own, max_epochs=1)
        # 56 samples make 7 steps.
        alone = [
            trained(JointTraining(), replace(rows, n_batches=7), max_epochs=1)[0]
            for rows in (own, other)
        ]
        mean = {name: (40 * alone[0][name] + 16 * alone[1][name]) / 56 for name in several}
        assert close(mean, several)

    def test_rounds(self):
        _, entries = trained(federated(average="weights", local_steps=2), max_epochs=1)
        size = 8 * sum(each.numel() for each in weights_of(tiny()).values())
        # After steps 2 and 4, and at the end of the 5 steps, which has the loss besides.
        assert entries[0]["bytes_sent"] == 3 * size + 8

    def test_weights_are_sent_once_at_the_end_of_a_full_round(self):
        _, entries = trained(federated(average="weights", local_steps=5), max_epochs=1)
        size = 8 * sum(each.numel() for each in weights_of(tiny()).values())
        assert entries[0]["bytes_sent"] == size + 8

    def test_running_statistics_are_averaged(self):
        network = normalized()
        federated(average="weights").train(network, COSTS, trainer())
        norm = network.stages[0].layer[1]
        assert norm.running_mean.abs().max() > 0
        assert norm.num_batches_tracked == 15


class Observed(torch.nn.Module):
    """Normalizes some of the samples only, by the statistics of these."""

    def __init__(self):
        super().__init__()
        self.norm = CumulativeBatchNorm(5).double()

    def forward(self, x):
        observed = x[:, 0] > 0
        normalized = torch.zeros_like(x)
        normalized[observed] = self.norm(x[observed])
        return normalized


def normalized(momentum=0.1, own=None):
    """The network with batch normalization, of vectors and of maps."""
    network = tiny()
    first, second, _ = network.stages
    norm = own() if own else torch.nn.BatchNorm1d(5, momentum=momentum)
    first.layer = torch.nn.Sequential(first.layer, norm.double())
    second.layer = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 5)), torch.nn.BatchNorm1d(1).double(), torch.nn.Flatten(1)
    )
    return network


class TestNormalization:
    @pytest.mark.parametrize(
        "params",
        [
            {"momentum": 0.1},
            {"momentum": None},
            {"own": partial(CumulativeBatchNorm, 5)},
            {"own": Observed},
        ],
    )
    def test_by_the_statistics_of_all_workers(self, params):
        rows = rows_of(40)
        # Of 24 and 16 samples, with batches of 6 and 4 of one of 10.
        order = [*range(24)], [*range(24, 40)]
        union = [i for s in range(4) for k, n in ((0, 6), (1, 4)) for i in order[k][n * s :][:n]]
        own, other = part(rows, order[0]), part(rows, order[1])
        one, several = normalized(**params), normalized(**params)
        several.n_classes = C
        JointTraining().train(one, COSTS, trainer(part(rows, union), batch_size=10))
        source = (other.X.numpy(), other.y.numpy())
        federated([lambda: source]).train(several, COSTS, trainer(own, batch_size=10))
        first, second = one.state_dict(), several.state_dict()
        assert first["stages.1.layer.1.num_batches_tracked"] == 12
        assert close(first, second)

    def test_other_layers_are_left_alone(self):
        class Own(torch.nn.BatchNorm1d):
            pass

        layer = Own(3)
        synchronize(torch.nn.Sequential(layer), lambda tensor: tensor, 1, lambda: 3)
        assert "forward" not in vars(layer)


class TestWhatIsSent:
    def test_gradients_only(self):
        _, entries = trained(federated([lambda: (np.zeros((20, 5)), np.zeros(20, int))]))
        (meeting,) = Threads.meetings
        assert meeting.shapes == {(5, 5), (5,), (C, 5), (C,), (1,)}  # weights, biases and the loss
        size = 8 * sum(each.numel() for each in weights_of(tiny()).values())
        own_samples = 40 * (5 * 8 + 8)
        sent = 8 * size + 8
        assert [each["bytes_sent"] for each in entries] == 6 * [sent]
        assert [each["bytes_received"] - sent for each in entries] == [own_samples, *5 * [0]]

    def test_validation_samples_stay(self):
        from skearlyexit.training._options import Patience

        trained(federated(), validation=rows_of(30), patience=Patience(5))
        assert Threads.meetings[0].shapes == {(5, 5), (5,), (C, 5), (C,), (1,)}


class Lost(Callback):
    """Loses a worker, once."""

    is_lost: list[bool] = []  # of the class, since attributes are those of the last checkpoint

    def __init__(self):
        self.is_lost.clear()

    def __deepcopy__(self, memo):
        return self

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if len(net.history) == 2 and not self.is_lost:
            self.is_lost.append(True)
            raise WorkerLostError("it was lost")


class TestLostWorkers:
    @pytest.mark.parametrize("params", [{}, {"average": "weights", "local_steps": 2}])
    def test_as_without_the_loss(self, params):
        options = {"weight_averaging": True, "optimizer": "adam"}
        whole, _ = trained(federated(**params), **options)
        lost, entries = trained(federated(**params), callbacks=[Lost()], **options)
        assert equal(whole, lost)
        assert sum(each["restarts"] for each in entries) == 1

    def test_while_it_reads_its_samples(self):
        readings = []

        def source():
            readings.append(1)
            if len(readings) == 1:
                raise WorkerLostError("it was lost")
            return np.zeros((20, 5)), np.zeros(20, int)

        _, entries = trained(federated([source]))
        assert sum(each["restarts"] for each in entries) == 1
        assert len(entries) == 6

    def test_too_often(self):
        with pytest.raises(RuntimeError, match="larger 'max_restarts'"):
            trained(federated(max_restarts=0), callbacks=[Lost()])


class EndOne(EarlyStopping):
    """Ends the training of the worker with 16 samples after an epoch."""

    def on_epoch_end(self, net, dataset_train=None, **kwargs):
        self.monitor, self.patience = "epoch", 1 if len(dataset_train) == 16 else -1
        super().on_epoch_end(net)


class TestCallbacksThatEndTheTraining:
    def test_by_the_loss_of_all_workers(self):
        rows = rows_of(40)
        stop = EarlyStopping("train_loss", patience=2, sink=noop)
        options = {"lr": 1.0, "max_epochs": 30, "callbacks": [stop]}
        one, history = trained(JointTraining(), part(rows, TestOneMachine.UNION), **options)
        several, entries = trained(federated(), rows, **options)
        assert 1 < len(history) < 30
        assert len(entries) == 2 * len(history)
        assert close(one, several)
        losses = [each["train_loss"] for each in entries[::2]]
        np.testing.assert_allclose(losses, [each["train_loss"] for each in history])

    def test_of_some_workers_only(self):
        source = rows_of(16).X.numpy(), rows_of(16).y.numpy()
        with pytest.raises(ValueError, match="ended the training in some workers"):
            trained(federated([lambda: source]), callbacks=[EndOne()])


class TestSources:
    FORM = SourceForm((5,), torch.float64, C)
    X, y = np.zeros((3, 5)), np.array([0, 3, 1])

    def test_function_and_file(self, tmp_path):
        np.savez(tmp_path / "own.npz", X=self.X, y=self.y)
        for source in (lambda: (self.X.tolist(), self.y), tmp_path / "own.npz"):
            rows = rows_of_source(source, self.FORM, "It")
            assert rows.X.dtype == torch.float64
            assert rows.y.tolist() == [0, 3, 1]

    @pytest.mark.parametrize("X", [np.zeros((3, 4)), np.full((3, 5), np.nan), np.zeros((0, 5))])
    def test_samples(self, X):
        with pytest.raises(ValueError, match=r"It must return finite samples X of shape"):
            rows_of_source(lambda: (X, self.y), self.FORM, "It")

    @pytest.mark.parametrize("y", [[0, 1], [0, 1, 4], [-1, 0, 0], [0.0, 1.0, 2.0], ["a", "b", "c"]])
    def test_classes(self, y):
        with pytest.raises(ValueError, match="integers from 0 to 3, of shape"):
            rows_of_source(lambda: (self.X, y), self.FORM, "It")

    def test_error_in_a_worker(self):
        with pytest.raises(ValueError, match="The source of worker 1 must return classes"):
            trained(federated([lambda: (self.X, self.y + 9)]))

    def test_sample_weights(self):
        with pytest.raises(ValueError, match="without sample weights"):
            trained(federated([lambda: None]), rows_of(40, weighted=True))

    def test_neither_function_nor_path(self):
        with pytest.raises(TypeError, match=r"must be a function or a path. Got 3 at 1"):
            trained(federated(["own.npz", 3]))

    def test_a_single_sample(self):
        with pytest.raises(ValueError, match="at least 2 training samples"):
            trained(federated([lambda: (self.X[:1], self.y[:1])]), batch_size=100)

    def test_too_few_samples(self):
        with pytest.raises(ValueError, match=r"an epoch has 6 steps.* Got one with 3 samples"):
            trained(federated([lambda: (self.X, self.y)]))


def test_ray_is_not_installed(monkeypatch):
    monkeypatch.setattr(_federated, "RayBackend", RayBackend)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'skearlyexit\[ray\]'\.$"):
        trained(federated())


class TestMean:
    def test_weights(self):
        a, b = torch.tensor([1.0, 2.0]), torch.tensor([5.0, 4.0])
        (mean,) = weighted_means([(3, [a]), (1, [b])])
        assert mean.tolist() == [2.0, 2.5]

    def test_equal_tensors_stay_as_they_are(self):
        a = torch.tensor([0.1, 0.7])
        (mean,) = weighted_means([(w, [a.clone()]) for w in (0.3, 0.1, 0.5)])
        assert torch.equal(mean, a)

    def test_a_weight_of_0_excludes_nan(self):
        (mean,) = weighted_means([(2, [torch.tensor([1.0])]), (0, [torch.tensor([np.nan])])])
        assert mean.tolist() == [1.0]
