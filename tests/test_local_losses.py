"""Losses that compare similarities between rows, on maps of features of any shape."""

import numpy as np
import pytest
import torch

from skearlyexit.training._local_error import SimilarityLoss
from skearlyexit.training._local_losses import SimilarityMatchingLoss

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
