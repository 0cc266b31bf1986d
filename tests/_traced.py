"""Modules traced into networks of places, and run in pieces."""

import numpy as np

from skearlyexit import TracedBackbone
from tests import _architectures as nets
from tests._architectures import ARCHITECTURES, N_CLASSES
from tests._data import make

RNG = np.random.RandomState(0)
VECTORS = RNG.randn(20, 13)


def rows_for(name, n_rows=20):
    return np.random.RandomState(1).randn(n_rows, *ARCHITECTURES[name].shape)


def module_of(name):
    return make(ARCHITECTURES[name].build).double().eval()


def network_of(module, X, n_classes=N_CLASSES, **params):
    return TracedBackbone(module, **params).build(X, n_classes)


def run(stages, head, rows, stay=None):
    """What the pieces return; `stay` are the rows that go on after the first."""
    carry = rows
    for stage in stages:
        carry, embedding = stage(carry)
        if stay is not None:
            parts = [part[stay] for part in (carry if isinstance(carry, tuple) else (carry,))]
            carry = tuple(parts) if isinstance(carry, tuple) else parts[0]
            embedding, stay = embedding[stay], slice(None)
    return embedding if head is None else head(embedding)


def odd(forward, **modules):
    return make(lambda: nets.Odd(forward, **modules)).double()
