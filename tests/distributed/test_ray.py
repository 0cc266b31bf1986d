"""Workers in processes of Ray."""

import os

import numpy as np
import pytest
from skorch.callbacks import Callback

from skearlyexit import MLPBackbone
from skearlyexit.distributed import FederatedTraining, TieredTraining, training_report
from skearlyexit.distributed._backend import WorkerLostError
from skearlyexit.distributed._ray_backend import RayBackend
from tests._data import digits, quick, same

X, Y = (part[:400] for part in digits()[:2])


class EndProcess(Callback):
    """Ends the process that trains on inputs of a width, in one epoch, once."""

    def __init__(self, note, width, epoch):
        self.note, self.width, self.epoch = note, width, epoch

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        here = batch[0].shape[1] == self.width and len(net.history) == self.epoch
        if here and not os.path.exists(self.note):
            open(self.note, "w").close()
            os._exit(1)


def weights(clf):
    modules = [*clf.stages_, *clf.heads_]
    return np.concatenate([each.numpy().ravel() for part in modules for each in part.parameters()])


def test_local_errors_with_a_process_that_ends(ray_cluster, tmp_path):
    clf = quick(training="local_error", calibration=None, max_epochs=4, weight_averaging=True)
    one = weights(clf.fit(X, Y))
    clf.set_params(
        training=TieredTraining("local_error", assignment=[0, 0, 1], worker_options=[{}, {}]),
        callbacks=[EndProcess(str(tmp_path / "ended"), 32, 3)],
    )
    assert same(one, weights(clf.fit(X, Y)))
    assert training_report(clf).restarts.tolist() == [0, 1]


def standardized_by(X):
    """`MLPBackbone.build` with the standardization of all samples."""
    build = MLPBackbone.build
    return lambda backbone, few, n_outputs: build(backbone, X, n_outputs)


def test_samples_that_stay_with_their_workers(ray_cluster, tmp_path, monkeypatch):
    own, other = X[:150] / 16, X[150:] / 16
    np.savez(tmp_path / "other.npz", X=other, y=Y[150:])
    # In double precision and in one batch, only the rounding of sums differs.
    clf = quick(
        backbone=MLPBackbone(2, width=32, hidden=32, dropout=0.0),
        exits=["stem"],
        calibration=None,
        dtype="float64",
        batch_size=len(X),
        optimizer="sgd",
    )
    monkeypatch.setattr(MLPBackbone, "build", standardized_by(X / 16))
    one = weights(clf.set_params(training="joint").fit(X / 16, Y))
    clf.set_params(training=FederatedTraining("joint", workers=[str(tmp_path / "other.npz")]))
    np.testing.assert_allclose(weights(clf.fit(own, Y[:150])), one, rtol=1e-7, atol=1e-9)
    report = training_report(clf)
    assert report.bytes_sent[0] == report.bytes_sent[1] > 6 * one.nbytes
    assert report.bytes_received[1] == report.bytes_sent[1]


@pytest.mark.parametrize("name", ["OutOfMemoryError", "NodeDiedError", "RayActorError"])
def test_workers_that_are_lost_in_any_way(ray_cluster, monkeypatch, name):
    error = getattr(ray_cluster.exceptions, name)

    def lost(reference):
        raise error() if name == "RayActorError" else error("of Ray")

    with RayBackend(60) as backend:
        monkeypatch.setattr(ray_cluster, "get", lost)
        with pytest.raises(WorkerLostError):
            backend.get("a reference")


@pytest.mark.parametrize(
    "training",
    [
        FederatedTraining("joint", worker_options=[{"num_cpus": 6}] * 2, start_timeout=1),
        TieredTraining(
            "local_error",
            assignment=[0, 0, 1],
            worker_options=[{"num_cpus": 6}] * 2,
            start_timeout=1,
        ),
        TieredTraining(assignment=[0, 0, 1], worker_options=[{"num_cpus": 9}, {}], start_timeout=1),
    ],
)
def test_workers_for_which_there_are_no_resources(ray_cluster, training):
    clf = quick(training=training, calibration=None)
    n_cpus = training.worker_options[0]["num_cpus"]
    with pytest.raises(RuntimeError, match=rf"'num_cpus': {n_cpus}.*{{'CPU': 8") as found:
        clf.fit(X, Y)
    assert "not started within 1 second" in str(found.value)

    # Neither a worker that was placed nor one that was not is left.
    @ray_cluster.remote(num_cpus=8)
    def all_of_them():
        return True

    assert ray_cluster.get(all_of_them.remote(), timeout=60)


def test_errors_are_those_of_the_worker(ray_cluster):
    class Failing:
        def fail(self):
            raise ValueError("of the worker")

    with RayBackend(60) as backend:
        (result,) = backend.call(backend.start({}, Failing), "fail", 1)
        with pytest.raises(ValueError, match=r"^of the worker$"):
            backend.get(result)
