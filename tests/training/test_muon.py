"""Muon: orthogonalized steps for the weights of hidden layers, AdamW for all others."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skearlyexit import EarlyExitClassifier, MLPBackbone, SequentialBackbone
from skearlyexit.backbones import Chain
from skearlyexit.heads import LinearHead
from skearlyexit.training import ExitView, MultiExitNetwork
from skearlyexit.training._muon import COEFFICIENTS, Muon, hidden_matrices, orthogonalized
from tests._data import blobs, make, quick

X, y, X_TEST, Y_TEST = blobs()


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None)
@given(n_rows=st.integers(1, 12), n_columns=st.integers(1, 12), seed=st.integers(0, 9))
def test_the_iteration_acts_on_singular_values_alone(n_rows, n_columns, seed):
    matrix = random(n_rows, n_columns, seed=seed)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    a, b, c = COEFFICIENTS
    values = values / torch.linalg.vector_norm(values)
    for _ in range(3):
        values = a * values + b * values**3 + c * values**5
    torch.testing.assert_close(orthogonalized(matrix[None])[0], left * values @ right)


def test_most_singular_values_become_nearly_equal():
    before = torch.linalg.svdvals(random(64, 128))
    after = torch.linalg.svdvals(orthogonalized(random(1, 64, 128)))
    assert before.max() > 3 * before.min()
    assert 0.6 < after.min() <= after.max() < 1.3


def test_a_gradient_of_zero_is_no_step():
    assert torch.equal(orthogonalized(torch.zeros(1, 3, 5)), torch.zeros(1, 3, 5))


def descend(optimizer, parameters, n_steps=4):
    """Parameters after some steps on a quadratic function."""
    for step in range(n_steps):
        optimizer.zero_grad()
        sum(((each - step) ** 2).sum() * (i + 1) for i, each in enumerate(parameters)).backward()
        optimizer.step()
    return parameters


def parameters(dtype=torch.float32):
    shapes = [(6, 4), (6,), (3, 8), (8, 2, 3, 3)]
    return [nn.Parameter(random(*shape, seed=i).to(dtype)) for i, shape in enumerate(shapes)]


def test_steps_are_those_of_torch():
    """Matrices as in torch's Muon, which rounds to 8 bits; all others as in AdamW."""
    torch_muon = pytest.importorskip("torch.optim._muon").Muon
    ours, theirs = parameters(), parameters()
    descend(Muon(ours, 0.1, matrices=[ours[0], ours[2]], weight_decay=0.2), ours)
    muon = torch_muon(
        [theirs[0], theirs[2]], 0.1, weight_decay=0.2, ns_steps=3, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW([theirs[1], theirs[3]], 0.1, weight_decay=0.2)

    class Both:
        def zero_grad(self):
            muon.zero_grad()
            adamw.zero_grad()

        def step(self):
            muon.step()
            adamw.step()

    descend(Both(), theirs)
    start = parameters()
    for i in (0, 2):
        moved, expected = ours[i] - start[i], theirs[i] - start[i]
        assert expected.norm() > 0.3
        assert (moved - expected).norm() < 0.02 * expected.norm()
    for i in (1, 3):
        torch.testing.assert_close(ours[i], theirs[i])


def test_a_kernel_is_a_matrix_with_a_row_for_each_output():
    kernel, flat = nn.Parameter(random(8, 2, 3, 3)), nn.Parameter(random(8, 18))
    with torch.no_grad():
        flat.copy_(kernel.flatten(1))
    for each in (kernel, flat):
        descend(Muon([each], 0.1, matrices=[each]), [each])
    assert torch.equal(kernel.flatten(1), flat)


def test_on_one_thread_steps_do_not_depend_on_other_matrices_of_the_shape():
    alone, beside = (
        [nn.Parameter(random(128, 64, seed=i).float()) for i in range(n)] for n in (1, 3)
    )
    for each in (alone, beside):
        descend(Muon(each, 0.1, matrices=each), each)
    assert torch.equal(alone[0], beside[0])


def test_gradients_are_kept():
    own = parameters()
    optimizer = Muon(own, 0.1, matrices=own[:1])
    descend(optimizer, own)
    assert all(each.grad is not None for each in own)


def test_a_matrix_without_a_gradient_stays():
    own = [nn.Parameter(random(4, 4, seed=i)) for i in range(2)]
    before = own[0].detach().clone()
    optimizer = Muon(own, 0.1, matrices=own)
    own[1].sum().backward()
    optimizer.step()
    assert torch.equal(own[0], before)
    assert not torch.equal(own[1], random(4, 4, seed=1))


def test_it_continues_from_its_state():
    def run(interrupted):
        own = parameters(torch.float64)
        optimizer = Muon(own, 0.1, matrices=own[:1])
        descend(optimizer, own)
        if interrupted:
            state = copy.deepcopy(optimizer.state_dict())
            optimizer = Muon(own, 0.1, matrices=own[:1])
            optimizer.load_state_dict(state)
        return descend(optimizer, own)

    for one, other in zip(run(False), run(True), strict=True):
        assert torch.equal(one, other)


def test_groups_have_their_own_rates():
    own = parameters()
    before = [each.detach().clone() for each in own]
    groups = [{"params": own[:2]}, {"params": own[2:]}]
    optimizer = Muon(groups, 0.1, matrices=[own[0], own[2]])
    optimizer.param_groups[0]["lr"] = 0.0
    descend(optimizer, own)
    still = [torch.equal(each, old) for each, old in zip(own, before, strict=True)]
    assert still == [True, True, False, False]


def test_heads_biases_and_grouped_kernels_are_left_to_adamw():
    layers = make(
        lambda: [
            nn.Conv2d(3, 8, 3),
            nn.Conv2d(8, 8, 3, groups=8),
            nn.ConvTranspose2d(8, 4, 3),
            nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, 16), nn.BatchNorm1d(16)),
        ]
    )
    stages = Chain(layers, names=["a", "b", "c", "d"]).cut([0, 1, 2, 3])
    widths = [8, 8, 4, 16]
    sides = [(6, 6), (4, 4), (6, 6), ()]
    heads = make(
        lambda: [
            LinearHead().build(torch.zeros(2, width, *side), n_classes=3)
            for width, side in zip(widths, sides, strict=True)
        ]
    )
    found = hidden_matrices(ExitView(MultiExitNetwork(stages, heads, n_classes=3), range(4)))
    assert found == {layers[0].weight, layers[3][1].weight}


def test_an_mlp_has_a_matrix_for_the_stem_and_two_for_each_block():
    backbone = MLPBackbone(2, width=16, hidden=32, n_frequencies=3)
    network = make(lambda: backbone.build(X, 4))
    (stem,) = Chain.cut(network, [2])
    shapes = sorted(tuple(each.shape) for each in hidden_matrices(stem))
    n_inputs = -(-4 * X.shape[1] // 16) * 16  # padded; the frequencies are not among them
    assert shapes == sorted([(16, n_inputs), *[(32, 16), (16, 32)] * 2])


@pytest.mark.parametrize("training", ["distillation", "freeze_out", "layerwise", "local_error"])
def test_strategies_learn_with_it(training):
    clf = quick(optimizer="muon", training=training, max_epochs=40).fit(X, y)
    assert clf.score(X_TEST, Y_TEST, threshold=np.inf) > 0.6


def test_in_double_precision():
    clf = quick(optimizer="muon", dtype="float64", max_epochs=40).fit(X, y)
    assert clf.score(X_TEST, Y_TEST, threshold=np.inf) > 0.6


def test_partial_fit_keeps_its_momentum():
    def run(forget):
        clf = EarlyExitClassifier(
            MLPBackbone(1, width=16, hidden=16), optimizer="muon", exits=2, calibration=None,
            batch_size=100, random_state=0,
        )  # fmt: skip
        for _ in range(3):
            clf.partial_fit(X, y, classes=np.unique(y))
            state = clf._optimizer_state["state"]
            momenta = [each["momentum"] for each in state.values() if "momentum" in each]
            assert len(momenta) == 3 < len(state)  # of the stem and a block
            for momentum in momenta if forget else ():
                momentum.zero_()
        return clf.predict_proba(X_TEST, threshold=np.inf)

    assert not np.allclose(run(False), run(True))


class _Scale(nn.Linear):
    """A layer of a derived class, with a weight that is a vector."""

    def __init__(self, n):
        super().__init__(n, n)
        self.weight = nn.Parameter(torch.ones(n))

    def forward(self, x):
        return x * self.weight + self.bias


def test_a_weight_that_is_no_matrix_is_trained_by_adamw():
    n = X.shape[1]
    blocks = make(lambda: [_Scale(n), nn.Linear(n, 16)])
    clf = quick(backbone=SequentialBackbone(blocks), exits=1, optimizer="muon").fit(X, y)
    scale = next(each for each in clf.stages_[0].modules() if isinstance(each, _Scale))
    assert not torch.equal(scale.weight, torch.ones(n))
