"""Networks whose stages share weights."""

import numpy as np
import torch
from torch import nn

from skearlyexit import RecurrentBackbone
from skearlyexit.backbones._stage import Stage
from skearlyexit.training import FreezeOutTraining, MultiExitNetwork
from skearlyexit.training._freeze_out import FreezingView
from tests._data import blobs, make, quick

X, y, X_NEW, Y_NEW = blobs()


def test_freeze_out_trains_them():
    def layers():
        shared = nn.Linear(24, 24)
        return [nn.Linear(13, 24), nn.ReLU(), shared, nn.ReLU(), shared, nn.ReLU()]

    clf = quick(
        backbone=make(layers),
        exits=[1, 3],
        training=FreezeOutTraining(0.3),
        calibration=None,
        max_epochs=25,
        lr=0.01,
    )
    table = clf.fit(X, y).exit_table(X_NEW)
    assert ((table.labels == Y_NEW[:, None]).mean(axis=0) > 0.5).all()
    shared = [stage.get_submodule("blocks.0") for stage in clf.stages_[1:]]
    assert torch.equal(shared[0].weight, shared[1].weight)
    series = np.random.default_rng(0).normal(size=(60, 2, 12)).astype(np.float32)
    clf.set_params(backbone=RecurrentBackbone(exits_along="time"), exits=2, max_epochs=2)
    assert clf.fit(series, np.arange(60) % 2).n_exits_ == 2


def test_freeze_out_stops_them_with_the_last_of_their_stages():
    shared, dropout = make(lambda: nn.Linear(4, 4)), nn.Dropout()
    blocks = [nn.Sequential(shared, dropout) for _ in range(2)]
    network = MultiExitNetwork([Stage([block]) for block in blocks], [nn.Flatten(), nn.Flatten()])
    view = FreezingView(network, [0.4, 1.0], scaled=False)
    assert view.groups() == [[], [shared.weight, shared.bias]]
    view.advance(0.5)
    view.train()
    dropped = []
    dropout.register_forward_hook(lambda module, *args: dropped.append(module.training))
    make(lambda: view(torch.ones(3, 4)))
    assert dropped == [False, True]
