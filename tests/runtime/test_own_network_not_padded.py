"""Batches of networks of the user are not padded; those of ready-made networks are."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from torch import nn

from skearlyexit import EarlyExitClassifier, MLPBackbone
from skearlyexit.backbones import Backbone, Chain

X, y = make_classification(80, 8, n_informative=6, n_classes=3, random_state=0)
X = X.astype(np.float32)


def layers():
    torch.manual_seed(0)
    return [nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16)]


class Own(Backbone):
    """A backbone of the user, which asks for padding or not."""

    def __init__(self, batch_invariant=False):
        self.batch_invariant = batch_invariant

    def build(self, X, n_classes):
        names = ["first", "relu", "second"]
        return Chain(layers(), names=names, batch_invariant=self.batch_invariant)


@pytest.mark.parametrize(
    ("backbone", "is_padded"),
    [
        (MLPBackbone(1, width=16, hidden=16), True),
        (Own(True), True),
        (Own(), False),
        (nn.Sequential(*layers(), nn.ReLU(), nn.Linear(16, 3)), False),
    ],
)
def test_sizes_of_batches(backbone, is_padded):
    clf = EarlyExitClassifier(
        backbone, exits=2, calibration=None, threshold=2, max_epochs=1, random_state=0
    ).fit(X, y)
    together = clf.predict_proba(X)
    sizes = []
    hook = clf.stages_[0].register_forward_hook(lambda stage, args, _: sizes.append(len(args[0])))
    alone = clf.predict_proba(X[:1])
    hook.remove()
    assert sizes == [16 if is_padded else 1]
    np.testing.assert_allclose(alone, together[:1], rtol=0, atol=0 if is_padded else 1e-6)
