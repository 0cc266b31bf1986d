"""Predictions do not depend on the number of threads of torch, whatever the number of classes."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from skearlyexit import MLPHead
from skearlyexit.backbones import PaddedLinear
from tests._data import make, quick, same

N_CLASSES = [*range(2, 42), 65, 100]


@contextmanager
def threads(n_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("n_inputs", [13, 64])
def test_layers_of_any_width(n_inputs):
    rows = make(lambda: torch.randn(256, n_inputs))
    for n_outputs in N_CLASSES:
        layer = make(lambda n=n_outputs: PaddedLinear(n_inputs, n)).eval()
        weight = layer.weight[:, :n_inputs]
        found = []
        for n_threads in (1, 3):
            with threads(n_threads), torch.inference_mode():
                found += [layer(rows[:16]), layer(rows)]
        assert torch.equal(found[0], found[2]), n_outputs
        assert torch.equal(found[1], found[3]), n_outputs
        assert torch.equal(found[0], found[1][:16]), n_outputs
        torch.testing.assert_close(found[1], rows @ weight.T + layer.bias)


def test_the_padding_of_outputs_learns_nothing():
    layer = make(lambda: PaddedLinear(13, 17)).eval()  # outputs are not padded in training
    assert {name: list(value.shape) for name, value in layer.state_dict().items()} == {
        "weight": [17, 16],
        "bias": [17],
    }
    rows = make(lambda: torch.randn(16, 13))
    layer(rows).square().sum().backward()
    expected = (2 * layer(rows).T @ rows).detach()
    torch.testing.assert_close(layer.weight.grad[:, :13], expected)
    assert not layer.weight.grad[:, 13:].any()


@pytest.mark.parametrize("head", ["linear", MLPHead((21,))], ids=["linear", "mlp"])
@pytest.mark.parametrize("n_classes", [17, 35])
def test_answers(n_classes, head):
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(210, 13)), np.arange(210) % n_classes
    clf = quick(head=head, max_epochs=1, calibration=None, threshold=0.2).fit(X, y)
    found = []
    for n_threads in (1, 3):
        with threads(n_threads):
            found.append(clf.exit_table(X).probabilities)
    assert same(*found)
