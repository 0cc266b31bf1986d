"""A row's answer depends on nothing but the row: networks of which this is not true are refused."""

import numpy as np
import pytest
import torch
from torch import nn

from skearlyexit import SequentialBackbone
from skearlyexit.backbones import Backbone
from skearlyexit.backbones._chain import Chain
from tests._data import blobs, make, quick

X, y, X_NEW, Y_NEW = blobs()


class Attending(nn.Module):
    """Attention along the axis that torch takes by default, here that of the rows."""

    def __init__(self, **params):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(13, 1, 16, dropout=0.0, **params)

    def forward(self, x):
        return self.layer(x[:, None]).flatten(1)


class Remembering(nn.Module):
    """Adds what it has seen in the call before."""

    def __init__(self):
        super().__init__()
        self.last = 0.0

    def forward(self, x):
        output = x + self.last
        self.last = x.detach().mean()
        return output


class Reusing(nn.Module):
    """Returns the same memory in every call, as far as it is large enough."""

    def __init__(self):
        super().__init__()
        self.memory = torch.empty(4096, 13)

    def forward(self, x):
        if torch.is_grad_enabled():
            return x * 2
        return torch.mul(x, 2, out=self.memory[: len(x)])


class Noisy(nn.Module):
    """Draws at random, also in evaluation mode."""

    def forward(self, x):
        return x + torch.randn_like(x)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


MIXING = {
    "attention": Attending,
    "batch statistics": lambda: nn.BatchNorm1d(13, track_running_stats=False),
    "softmax over rows": lambda: nn.Softmax(dim=0),
}
UNSTEADY = {"memory": Remembering, "random numbers": Noisy}


class Own(Backbone):
    """A backbone that a user has written."""

    def __init__(self, blocks):
        self.blocks = blocks

    def build(self, X, n_classes):
        return Chain([*self.blocks], names=[str(i) for i in range(len(self.blocks))])


@pytest.mark.parametrize("kind", [list, SequentialBackbone, Own])
@pytest.mark.parametrize("mixing", MIXING)
def test_mixed_rows_are_refused(mixing, kind):
    blocks = make(lambda: [nn.Linear(13, 13), MIXING[mixing](), nn.Linear(13, 16)])
    with pytest.raises(ValueError, match="Block '1' of the backbone mixes samples"):
        quick(backbone=kind(blocks), exits=[0]).fit(X, y)


@pytest.mark.parametrize("mixing", MIXING)
def test_the_first_rows_may_be_equal(mixing):
    rows = X.copy()
    rows[:10] = 0
    blocks = make(lambda: [nn.Linear(13, 13), MIXING[mixing](), nn.Linear(13, 16)])
    with pytest.raises(ValueError, match="mixes samples"):
        quick(backbone=blocks, exits=[0]).fit(rows, y)


@pytest.mark.parametrize("kind", [list, SequentialBackbone, Own])
@pytest.mark.parametrize("unsteady", UNSTEADY)
def test_other_answers_in_other_calls_are_refused(unsteady, kind):
    blocks = make(lambda: [nn.Linear(13, 13), UNSTEADY[unsteady](), nn.Linear(13, 16)])
    with pytest.raises(ValueError, match="Block '1' of the backbone does not return the same"):
        quick(backbone=kind(blocks), exits=[0]).fit(X, y)


def test_outputs_that_are_overwritten_are_refused():
    blocks = make(lambda: [nn.Linear(13, 13), Reusing(), nn.Linear(13, 16)])
    with pytest.raises(ValueError, match="Block '1' of the backbone returns the same memory"):
        quick(backbone=blocks, exits=[0]).fit(X, y)


def test_attention_within_rows_is_taken():
    blocks = make(lambda: [nn.Linear(13, 13), Attending(batch_first=True), nn.Linear(13, 16)])
    clf = quick(backbone=blocks, exits=[0], max_epochs=1).fit(X, y)
    alone = np.vstack([clf.predict_proba(row[None]) for row in X_NEW[:5]])
    np.testing.assert_allclose(clf.predict_proba(X_NEW[:5]), alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "scale"),
    [
        (torch.sin, 1e4),  # of large numbers: rounding is amplified, and nothing is mixed
        (lambda x: x > 0, 1.0),
        (lambda x: (x * 10).long(), 1.0),
    ],
    ids=["sine", "booleans", "integers"],
)
def test_functions_of_each_row_are_taken(function, scale):
    def build():
        last = nn.Identity() if function is torch.sin else Function(torch.Tensor.float)
        return [nn.Linear(13, 13), Function(function), last, nn.Linear(13, 16)]

    clf = quick(backbone=make(build), exits=[0], max_epochs=1).fit(X * scale, y)
    assert clf.n_exits_ == 2


class Squeezing(nn.Module):
    """It pools images, and removes the axis of the samples if there is a single one."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Linear(16, 10)

    def forward(self, images):
        return self.second(self.first(images).relu().mean((2, 3), keepdim=True).squeeze())


def test_a_network_that_loses_the_axis_of_a_single_sample_is_refused():
    images = np.random.default_rng(0).random((60, 1, 6, 6), dtype=np.float32)
    clf = quick(backbone=make(Squeezing), exits=1, calibration=None, max_epochs=1)
    with pytest.raises(
        ValueError, match=r"turned 1 samples into .*\(16,\).* flatten\(1\) does not"
    ):
        clf.fit(images, np.arange(60) % 10)
