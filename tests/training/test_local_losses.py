"""Errors of an exit that its stage learns from, by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from skearlyexit import LinearHead
from skearlyexit.heads._base import PooledModule
from skearlyexit.training import MultiExitNetwork
from skearlyexit.training._local_error import FeedbackView, SimilarityLoss
from skearlyexit.training._local_losses import SimilarityMatchingLoss
from tests._data import make

N = 6
rng = np.random.default_rng(0)
WANTED = rng.normal(size=(N, 4))
Y = np.arange(N) % 3


def cosines(vectors, centered=True):
    if centered:
        vectors = vectors - vectors.mean(axis=1, keepdims=True)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def matching(made):
    loss = SimilarityMatchingLoss(1.0)
    return loss([made, torch.tensor(WANTED)], (torch.tensor(Y),)), cosines(WANTED, centered=False)


def labels(made):
    loss = SimilarityLoss(1, 1.0, None)
    logits = torch.zeros(N, 3, dtype=torch.float64)
    return loss([logits, made], (torch.tensor(Y),)), cosines(np.eye(3)[Y])


@pytest.mark.parametrize("loss", [matching, labels])
class TestSimilarities:
    @pytest.mark.parametrize(
        ("shape", "spread"),
        [
            ((5, 3, 3), True),
            ((4, 7), True),
            ((5, 1, 1), False),  # which has one position only
            ((8, 1), False),
            ((3, 4, 4), False),  # as an image has
            ((1, 4, 4), False),
            ((2, 9), False),
        ],
    )
    def test_by_hand(self, loss, shape, spread):
        maps = rng.normal(size=(N, *shape))
        made = torch.tensor(maps, requires_grad=True)
        found, wanted = loss(made)
        flat = maps.reshape(N, shape[0], -1)
        vectors = flat.std(axis=2) if spread else flat.reshape(N, -1)
        assert found.item() == pytest.approx(np.mean((cosines(vectors) - wanted) ** 2), rel=1e-6)
        found.backward()
        assert (made.grad.flatten(1).abs().amax(dim=1) > 1e-4).all()

    @pytest.mark.parametrize("shape", [(1,), (2,), (2, 1), (1, 1, 1)])
    def test_too_few_values_are_refused(self, loss, shape):
        with pytest.raises(ValueError, match="at least 3 values"):
            loss(torch.ones(N, *shape, dtype=torch.float64))


class TestFeedback:
    def through_the_head(self, head, maps):
        """Gradient of the last exit's error at its embedding, and the random matrix."""
        network = make(lambda: MultiExitNetwork([nn.Identity()], [head()])).double()
        network.stages[0].forward = lambda carry: (carry, carry)
        view = FeedbackView(network, [0], 3)
        rows = torch.tensor(maps, requires_grad=True)
        (logits,) = view.train()(rows)
        (logits * torch.arange(1.0, 4.0)).square().sum().backward()
        return rows.grad.numpy(), network.heads[0], view.feedback.get_buffer("0").numpy()

    def test_normalization_before_the_linear_layer_is_differentiated(self):
        """As of the maps, by hand: mean over positions, batch normalization, random matrix."""
        maps = rng.normal(size=(N, 4, 3, 3)) * [[[[5.0]], [[1.0]], [[0.2]], [[2.0]]]]
        found, head, matrix = self.through_the_head(
            lambda: LinearHead(pooling="average").build(torch.zeros(2, 4, 3, 3), 3), maps
        )
        layer, eps = head.body.body[0], head.body.normalization.eps
        weight, bias = layer.weight.numpy()[:, :4], layer.bias.numpy()
        pooled = maps.mean(axis=(2, 3))
        sigma = np.sqrt(pooled.var(axis=0) + eps)
        unit = (pooled - pooled.mean(axis=0)) / sigma
        error = 2 * np.arange(1.0, 4.0) ** 2 * (unit @ weight.T + bias)
        back = error @ matrix
        expected = (back - back.mean(axis=0) - unit * (back * unit).mean(axis=0)) / sigma
        np.testing.assert_allclose(found, np.tile(expected[..., None, None] / 9, (3, 3)), rtol=1e-9)
        assert int(head.body.normalization.num_batches_tracked) == 1

    def test_layers_around_the_linear_one_are_differentiated(self):
        """An own classifier that scales its input, and answers with logarithms."""
        body = lambda: nn.Sequential(nn.Tanh(), nn.Linear(4, 3), nn.LogSoftmax(dim=1))  # noqa: E731
        vectors = rng.normal(size=(N, 4))
        found, head, matrix = self.through_the_head(
            lambda: PooledModule(nn.Identity(), body()), vectors
        )
        layer = head.body[1]
        hidden = np.tanh(vectors)
        logits = hidden @ layer.weight.numpy().T + layer.bias.numpy()
        answer = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        error = 2 * np.arange(1.0, 4.0) ** 2 * answer
        error -= np.exp(answer) * error.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found, (error @ matrix) * (1 - hidden**2), rtol=1e-9)
        assert not layer._forward_hooks
