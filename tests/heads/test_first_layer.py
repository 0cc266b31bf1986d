"""Heads whose first layer, into which a normalization is merged, computes more than a product."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from skearlyexit.backbones import PaddedLinear
from skearlyexit.heads import NeuralHead
from tests._data import make


class OwnFirst(NeuralHead):
    """A head whose first layer is what a function makes of a `PaddedLinear`."""

    def __init__(self, change):
        super().__init__(normalize=True)
        self.change = change

    def body(self, n_features, n_classes):
        layer = self.change(PaddedLinear(n_features, 20))
        return nn.Sequential(layer, nn.ReLU(), PaddedLinear(20, n_classes))


def _of_squares(layer):
    layer.register_forward_pre_hook(lambda module, given: (given[0] ** 2,))
    return layer


def _of_doubled_weights(layer):
    def double(module, given):
        module.weight = 2 * module.original

    layer.original = nn.Parameter(layer.weight.detach().clone())
    del layer.weight
    layer.weight = layer.original.detach().clone()
    layer.register_forward_pre_hook(double)
    return layer


@pytest.mark.parametrize("change", [weight_norm, _of_squares, _of_doubled_weights])
def test_a_first_layer_that_is_not_only_a_product_is_as_it_was_trained(change):
    embedding = torch.randn(64, 21, generator=torch.Generator().manual_seed(0)) * 30 + 7
    head = OwnFirst(change)
    module = make(lambda: head.build(embedding, 3))
    with torch.no_grad():
        module(embedding)  # in training mode, which moves the running statistics
        expected = module.eval()(embedding)
    torch.testing.assert_close(head.fit(module).model(embedding), expected, rtol=1e-4, atol=1e-4)
