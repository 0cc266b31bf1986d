"""What networks do in training only: traced or a chain, it is done, or refused."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from skearlyexit import TracedBackbone
from skearlyexit._determinism._random import isolated_random_state
from tests._data import blobs, make, quick

X, y, X_NEW, Y_NEW = blobs()
ROWS = torch.tensor(X[:6])


class Inner(nn.Module):
    """A block in which a test does something of its own."""

    def __init__(self, change):
        super().__init__()
        self.linear, self.norm = nn.Linear(13, 13), nn.BatchNorm1d(13)
        self.change = change
        self.n_calls, self.rng = 0, np.random.default_rng(0)

    def forward(self, x):
        if self.change is drop_by_counter:
            self.n_calls += 1
        return self.change(self, self.norm(self.linear(x)))


class Net(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.inner, self.outer = Inner(change), nn.Linear(13, 4)

    def forward(self, x):
        return self.outer(self.inner(x).relu())


def network_of(module):
    return TracedBackbone(module).build(X, 4)


def in_training(network, n_calls=40):
    """What the stages give in many calls in training mode."""
    (stage,) = network.cut([network.names.index("inner")])
    stage.train()
    with isolated_random_state(0):
        return [stage(ROWS)[1].detach() for _ in range(n_calls)]


def drop_by_python(module, x):
    return x * 0 if module.training and random.random() < 0.1 else x


def drop_by_numpy(module, x):
    return x * 0 if module.training and np.random.rand() < 0.1 else x


def drop_by_counter(module, x):
    return x * 0 if module.training and module.n_calls % 10 == 0 else x


def drop_by_own_generator(module, x):
    return x * 0 if module.training and module.rng.random() < 0.1 else x


@pytest.mark.parametrize(
    "change", [drop_by_python, drop_by_numpy, drop_by_counter, drop_by_own_generator]
)
def test_numbers_that_are_not_torchs_are_drawn_in_every_call(change):
    network = network_of(make(partial(Net, change)).double())
    dropped = [bool((output == 0).all()) for output in in_training(network)]
    assert 0 < sum(dropped) < len(dropped)
    assert "between calls" in network.obstacles["inner.linear"]
    clf = quick(backbone=TracedBackbone(make(partial(Net, change))), exits=["inner"])
    assert clf.fit(X, y).n_exits_ == 2


def test_numbers_of_a_generator_of_its_own():
    def noisy(module, x):
        return x + (rng.random() if module.training else 0.0)

    rng = np.random.default_rng(0)
    outputs = in_training(network_of(make(partial(Net, noisy)).double()), 3)
    assert not torch.equal(outputs[0], outputs[1])


def test_the_whole_that_is_not_the_same_twice_is_refused():
    class Own(Net):
        def forward(self, x):
            return super().forward(x) * (random.random() if self.training else 1.0)

    with pytest.raises(ValueError, match="own forward does something else each time"):
        network_of(make(partial(Own, lambda module, x: x)))


class KeepsStatistics(Net):
    """Fine-tuned with frozen statistics, as is done with pretrained networks."""

    def train(self, mode=True):
        super().train(mode)
        self.inner.norm.eval()
        return self


class Freezes(KeepsStatistics):
    def train(self, mode=True):
        super().train(mode)
        for parameter in self.inner.norm.parameters():
            parameter.requires_grad = not mode
        return self


def keeps_statistics(chain, mode=True):
    nn.Module.train(chain, mode)
    chain[1].eval()
    return chain


@pytest.mark.parametrize("training", ["joint", "layerwise"])
def test_a_train_of_its_own_is_followed(training):
    module = make(partial(KeepsStatistics, lambda module, x: x))
    clf = quick(backbone=TracedBackbone(module), exits=["inner"], training=training).fit(X, y)
    norms = [m for stage in clf.stages_ for m in stage.modules() if isinstance(m, nn.BatchNorm1d)]
    assert norms
    assert all(int(norm.num_batches_tracked) == 0 for norm in norms)
    assert not torch.equal(norms[0].weight, module.inner.norm.weight)


def test_what_a_train_of_its_own_freezes_stays():
    module = make(partial(Freezes, lambda module, x: x))
    clf = quick(backbone=TracedBackbone(module), exits=["inner"], training="joint").fit(X, y)
    (norm,) = (m for m in clf.stages_[0].modules() if isinstance(m, nn.BatchNorm1d))
    (linear,) = (m for m in clf.stages_[0].modules() if isinstance(m, nn.Linear))
    assert torch.equal(norm.weight, module.inner.norm.weight)
    assert not torch.equal(linear.weight, module.inner.linear.weight)


def test_a_chain_with_a_train_of_its_own_is_refused():
    class Chain(nn.Sequential):
        train = keeps_statistics

    chain = make(lambda: Chain(nn.Linear(13, 13), nn.BatchNorm1d(13), nn.Linear(13, 4)))
    with pytest.raises(ValueError, match="or a train"):
        quick(backbone=chain, exits=[1]).fit(X, y)
    clf = quick(backbone=TracedBackbone(chain), exits=["1"]).fit(X, y)
    (norm,) = (m for m in clf.stages_[0].modules() if isinstance(m, nn.BatchNorm1d))
    assert int(norm.num_batches_tracked) == 0


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward"])
def test_hooks_are_called(kind):
    calls = []
    module = make(partial(Net, lambda module, x: x))
    getattr(module.inner, f"register_{kind}_hook")(lambda *args: calls.append(kind))
    quick(backbone=TracedBackbone(module), exits=["inner"], max_epochs=2).fit(X, y)
    assert len(calls) >= 4  # as many as there are batches
    getattr(module, f"register_{kind}_hook")(lambda *args: None)
    with pytest.raises(ValueError, match="hooks of its own"):
        quick(backbone=TracedBackbone(module), exits=["inner"]).fit(X, y)


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
@pytest.mark.parametrize("traced", [False, True])
def test_hooks_of_parameters_are_refused(register, traced):
    module = make(lambda: nn.Sequential(nn.Linear(13, 8), nn.ReLU(), nn.Linear(8, 4)))
    getattr(module[0].weight, register)(lambda gradient: None)
    backbone = TracedBackbone(module) if traced else module
    with pytest.raises(ValueError, match="parameter 'weight' of a Linear of the backbone has hook"):
        quick(backbone=backbone, exits=[1]).fit(X, y)


def test_a_backbone_with_another_module_is_looked_at_anew():
    backbone = TracedBackbone(make(partial(Net, drop_by_python)).double())
    assert "inner.linear" not in backbone.build(X, 4).names
    plain = make(lambda: nn.Sequential(nn.Linear(13, 13), nn.ReLU(), nn.Linear(13, 4))).double()
    assert backbone.set_params(module=plain).build(X, 4).names == ["0", "1"]
    backbone.set_params(module=make(partial(Net, lambda module, x: x)).double())
    assert "inner.linear" in backbone.build(X, 4).names
