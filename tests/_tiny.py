"""A network of three linear stages, samples to train it on, and outputs to put into losses."""

import numpy as np
import torch
from scipy.special import log_softmax
from skorch.callbacks import Callback
from torch import nn

from skearlyexit.heads._base import PooledModule
from skearlyexit.training import Trainer
from skearlyexit.training._network import MultiExitNetwork
from skearlyexit.training._options import TrainingOptions
from skearlyexit.training._rows import TrainingRows
from tests._data import make

N, K, C = 7, 3, 4
rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(K, N, C)) * 3
Y = rng.integers(C, size=N)
WEIGHT = rng.uniform(0.1, 5.0, size=N)


def tensors(requires_grad=False):
    return tuple(torch.tensor(each, requires_grad=requires_grad) for each in LOGITS)


def target(weighted=False):
    return (torch.tensor(Y), torch.tensor(WEIGHT))[: 2 if weighted else 1]


def losses_by_hand(logits, weight=None):
    rows = np.arange(N)
    losses = -log_softmax(logits, axis=2)[:, rows, Y]
    return (losses * (1 if weight is None else weight)).mean(axis=1)


def tiny(two_paths=False, activation=torch.tanh):
    """Three stages of one linear layer each, and a head after each."""

    class Stage(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 5)

        def forward(self, carry):
            if two_paths:
                first, kept = carry if isinstance(carry, tuple) else (carry, carry)
                out = activation(self.layer(first))
                return (out, kept), out
            out = activation(self.layer(carry))
            return out, out

    def build():
        heads = [PooledModule(nn.Identity(), nn.Linear(5, C)) for _ in range(K)]
        return MultiExitNetwork([Stage() for _ in range(K)], heads).double()

    return make(build)


def rows_of(n_rows=40, weighted=False):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n_rows, 5))
    y = (X[:, 0] > 0).astype(int) + 2 * (X[:, 1] > 0)
    weight = torch.tensor(rng.uniform(0.5, 2, size=n_rows)) if weighted else None
    return TrainingRows(torch.tensor(X), torch.tensor(y), weight)


def trainer(rows=None, **options):
    defaults = {"max_epochs": 3, "batch_size": 8, "lr": 0.05, "optimizer": "sgd"}
    rows = rows_of() if rows is None else rows
    return Trainer(rows, None, TrainingOptions(lr_schedule="constant", **{**defaults, **options}))


def weights_of(module):
    return {name: each.detach().clone() for name, each in module.named_parameters()}


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


class Watch(Callback):
    """Notes weights, gradients and rates after every step."""

    def __init__(self, network, notes):
        self.network, self.notes = network, notes

    def __deepcopy__(self, memo):
        return self

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            stages = [weights_of(stage) for stage in self.network.stages]
            gradients = [stage.layer.weight.grad is not None for stage in self.network.stages]
            rates = [group["lr"] for group in net.optimizer_.param_groups]
            self.notes.append((net.criterion_.progress, stages, gradients, rates))


COSTS = np.array([0.3, 0.6, 1.0])
