"""Workers in processes of Ray."""

import os

import numpy as np
from skorch.callbacks import Callback

from skearlyexit.distributed import TieredTraining, training_report
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
