"""Networks: what they are made of, and how they are cut."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skearlyexit import CNNBackbone, MLPBackbone, SequentialBackbone
from skearlyexit._determinism._layers import (
    Convolution,
    Standardize,
    to_layers_of_torch,
    with_padding,
)
from skearlyexit.backbones import PaddedLinear
from skearlyexit.backbones._measure import measure_blocks
from skearlyexit.backbones._resolve import resolve_backbone
from skearlyexit.training._state import put_state, state_of
from tests._data import make

RNG = np.random.RandomState(0)
VECTORS = RNG.randn(50, 13).astype(np.float32)
IMAGES = RNG.randn(50, 3, 8, 8).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_cut_and_whole_are_the_same(data):
    """Outputs and gradients do not depend on where a network is cut."""
    backbone, rows = data.draw(
        st.sampled_from([(MLPBackbone(4, width=16), VECTORS), (CNNBackbone((4, 8)), IMAGES)])
    )
    network = make(lambda: backbone.build(rows, 3))
    n_blocks = len(network.blocks)
    ends = sorted({*data.draw(st.sets(st.integers(0, n_blocks - 1))), n_blocks - 1})
    stages = network.cut(ends)
    outputs, gradients = [], []
    for parts in ([network.blocks], [stage.blocks for stage in stages]):
        out = torch.tensor(rows)
        for part in parts:
            for block in part:
                out = block.eval()(out)
        outputs.append(out)
        gradients.append(torch.autograd.grad(out.sum(), list(network.blocks[0].parameters())))
    carry = torch.tensor(rows)
    for stage in stages:
        carry, embedding = stage(carry)
    assert torch.equal(carry, outputs[0])
    assert torch.equal(embedding, outputs[0])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_mlp_by_hand():
    network = make(lambda: MLPBackbone(1, width=16, hidden=32).build(VECTORS, 3))
    stem, block = (part.double().eval() for part in network.blocks)
    rows = VECTORS.astype(np.float64)
    mean, deviation = VECTORS.mean(0, dtype=np.float64), VECTORS.std(0, dtype=np.float64)
    linear, (norm, first, _, _, second) = stem[3], block.branch
    weight, bias = (p.detach().numpy() for p in (linear.weight, linear.bias))
    x = (rows - mean) / deviation
    x = x / np.sqrt(1 + (x / 3) ** 2) @ weight[:, :13].T + bias
    normed = x / np.sqrt(1 + norm.eps)  # fresh running statistics
    hidden = np.maximum(normed @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
    expected = x + hidden @ second.weight.detach().numpy().T
    with torch.no_grad():
        computed = block(stem(torch.tensor(rows))).numpy()
    np.testing.assert_allclose(computed, expected, atol=1e-5)  # statistics were kept in float32


@pytest.mark.parametrize(
    ("backbone", "index", "shape"),
    [
        (MLPBackbone(1, width=16, hidden=32), 1, (16,)),
        (CNNBackbone((16, 32), n_blocks=1), 1, (16, 6, 6)),
        (CNNBackbone((16, 32), n_blocks=1), 2, (16, 6, 6)),  # with a convolution as shortcut
    ],
)
def test_merged_blocks_compute_the_same_until_they_are_trained(backbone, index, shape):
    data = VECTORS if len(shape) == 1 else IMAGES
    block = make(lambda: backbone.build(data, 3)).blocks[index]
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.running_mean.copy_(torch.linspace(-2, 2, len(norm.running_mean)))
            norm.running_var.copy_(torch.linspace(0.1, 3, len(norm.running_mean)))
            if norm.affine:
                norm.weight.data.copy_(torch.linspace(0.5, -1.5, len(norm.weight)))
                norm.bias.data.copy_(torch.linspace(1, 2, len(norm.bias)))
    rows = torch.from_numpy(RNG.randn(5, *shape).astype(np.float32))
    names = set(block.state_dict())
    with torch.no_grad():
        plain = block.eval()(rows)
        block.merge()
        before = rows.clone()
        called, norms = [], [n for n in block.modules() if hasattr(n, "running_mean")]
        for norm in norms:
            norm.register_forward_hook(lambda *args: called.append(args))
        torch.testing.assert_close(block(rows), plain)
        assert norms
        assert not called  # they are merged
        assert torch.equal(rows, before)
        assert set(block.state_dict()) == names
        next(block.branch.parameters()).mul_(2)
        changed = block.train().eval()(rows)
        assert not torch.allclose(changed, plain)
        block.merge()
        torch.testing.assert_close(block(rows), changed)
        new = make(lambda: backbone.build(data, 3)).blocks[index]
        put_state(new, state_of(block))  # as when the training goes on
        next(new.branch.parameters()).zero_()
        assert not torch.allclose(new.eval()(rows), changed)


def test_macs_by_hand():
    facts = measure_blocks(MLPBackbone(2, width=20, hidden=24).build(VECTORS, 3), _rows(VECTORS))
    width, hidden = 32, 32  # filled up to multiples of 16
    assert list(facts.costs) == [16 * width, 2 * width * hidden, 2 * width * hidden]
    facts = measure_blocks(CNNBackbone((16, 20), n_blocks=1).build(IMAGES, 3), _rows(IMAGES))
    stem, first = 64 * 9 * 3 * 16, 2 * 64 * 9 * 16 * 16
    second = 16 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)  # two convolutions and the shortcut
    assert list(facts.costs) == [stem, first, second]
    assert facts.row_bytes == 4 * 16 * 64


test_macs_by_hand.pytestmark = [pytest.mark.changes("torch random state")]


def _rows(X):
    return torch.tensor(X[:2])


def test_measuring_changes_nothing():
    network = make(lambda: CNNBackbone((4,)).build(IMAGES, 3))
    network.blocks[1].eval()
    before = [
        {key: value.clone() for key, value in block.state_dict().items()}
        for block in network.blocks
    ]
    measure_blocks(network, _rows(IMAGES))
    for block, state in zip(network.blocks, before, strict=True):
        assert all(torch.equal(state[key], value) for key, value in block.state_dict().items())
    assert network.blocks[0].training
    assert not network.blocks[1].training


class TestPaddedLinear:
    @settings(max_examples=20, deadline=None)
    @given(n_in=st.integers(1, 40), n_out=st.integers(1, 20), training=st.booleans())
    def test_is_linear(self, n_in, n_out, training):
        layer = make(lambda: PaddedLinear(n_in, n_out).double()).train(training)
        rows = RNG.randn(7, n_in)
        expected = rows @ layer.weight.detach().numpy()[:, :n_in].T + layer.bias.detach().numpy()
        with torch.no_grad():
            np.testing.assert_allclose(layer(torch.tensor(rows)), expected)

    def test_zeros_stay_zero(self):
        layer = make(lambda: PaddedLinear(5, 3))
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
        for _ in range(5):
            layer(torch.tensor(VECTORS[:, :5])).square().sum().backward()
            optimizer.step()
        assert layer.weight.shape == (3, 16)
        assert not layer.weight[:, 5:].any()

    @pytest.mark.parametrize("n_out", [3, 16, 17, 40])
    def test_stored_padding_changes_nothing(self, n_out):
        module = make(lambda: nn.Sequential(PaddedLinear(20, n_out))).eval()
        padded = with_padding(module)
        rows = torch.from_numpy(np.random.RandomState(0).randn(32, 20).astype(np.float32))
        assert torch.equal(padded(rows), module(rows))
        assert padded.train()(rows).shape == (32, n_out)
        assert module[0].weight.shape[0] == n_out  # the given module is not changed


class TestStandardize:
    def test_is_the_standard_scaler(self):
        from sklearn.preprocessing import StandardScaler

        rows = VECTORS * 5 + 3
        expected = StandardScaler().fit_transform(rows)
        np.testing.assert_allclose(Standardize(rows)(torch.tensor(rows)), expected, atol=1e-5)

    def test_by_channel_for_images(self):
        out = Standardize(IMAGES * 2 + 7)(torch.tensor(IMAGES * 2 + 7)).numpy()
        np.testing.assert_allclose(out.mean(axis=(0, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(out.std(axis=(0, 2, 3)), 1, atol=1e-5)

    @pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1e6, 123456.7])
    def test_constant_channels(self, value):
        rows = np.full((1000, 2), value, dtype=np.float32)
        rows[:, 1] = np.arange(1000)
        out = Standardize(rows)(torch.tensor(rows)).numpy()
        assert np.abs(out[:, 0]).max() < 1


class TestResolve:
    def test_by_shape(self):
        assert isinstance(resolve_backbone(None, VECTORS, 3), MLPBackbone)
        assert isinstance(resolve_backbone(None, IMAGES, 3), CNNBackbone)

    def test_callable_sees_shape_and_classes(self):
        seen = []

        def build(row_shape, n_classes):
            seen.append((row_shape, n_classes))
            return "cnn"

        network = make(lambda: resolve_backbone(build, IMAGES, 5).build(IMAGES, 5))
        assert network.names[:2] == ["stem", "group1.block1"]
        assert seen == [((3, 8, 8), 5)]
        assert not network.given

    def test_objects_are_cloned(self):
        backbone = MLPBackbone()
        assert resolve_backbone(backbone, VECTORS, 3) is not backbone


class TestSequential:
    def test_names(self):
        named = nn.Sequential()
        named.add_module("features", nn.Identity())
        named.add_module("rest", nn.Flatten())
        assert SequentialBackbone(named).build(VECTORS, 3).names == ["features", "rest"]
        assert SequentialBackbone([nn.Identity()] * 2).build(VECTORS, 3).names == ["0", "1"]
        assert SequentialBackbone(nn.Identity()).build(VECTORS, 3).names == ["Identity"]

    def test_own_classifier_is_found_by_its_width(self):
        modules = make(lambda: [nn.Linear(13, 8), nn.ReLU(), nn.Linear(8, 5), nn.Dropout()])
        with_head = SequentialBackbone(modules).build(VECTORS, 5)
        assert with_head.names == ["0", "1"]
        assert len(with_head.head) == 2
        without = SequentialBackbone(modules).build(VECTORS, 3)
        assert without.names == ["0", "1", "2", "3"]
        assert without.head is None

    def test_a_classifier_alone(self):
        network = SequentialBackbone(make(lambda: nn.Linear(13, 3))).build(VECTORS, 3)
        assert network.names == ["input"]
        assert network.head is not None

    def test_dropout_of_a_backbone_only_in_training(self):
        network = make(lambda: MLPBackbone(1, width=16, dropout=0.5).build(VECTORS, 3))
        block = network.blocks[1].eval()
        rows = torch.ones(2, 16)
        assert torch.equal(block(rows), block(rows))

    def test_dropout_is_exact_in_half_precision(self):
        block = make(lambda: MLPBackbone(1, width=16, dropout=0.001).build(VECTORS, 3)).blocks[1]
        dropout = block.branch[3].train()
        rows = torch.ones(100, 10_000, dtype=torch.bfloat16)
        n_dropped = make(lambda: (dropout(rows) == 0).sum().item())
        assert abs(n_dropped - 1000) < 5 * 1000**0.5

    @pytest.mark.parametrize("n_rows", [1, 7, 8, 24])
    def test_dropout_keeps_the_mean(self, n_rows):
        block = make(lambda: MLPBackbone(1, width=16, dropout=0.25).build(VECTORS, 3)).blocks[1]
        dropout = block.branch[3].train()
        draws = make(lambda: [dropout(torch.full((n_rows, 40), 3.0)) for _ in range(200)])
        values = torch.stack(draws)
        assert set(values.unique().tolist()) == {0.0, 4.0}
        # 200 * 40 values of a sample are independent: 3 +- 5 standard deviations of their mean.
        assert ((values.mean(dim=(0, 2)) - 3).abs() < 5 * 1.74 / 8000**0.5).all()
        patterns = [(values[:, i] > 0).numpy().tobytes() for i in range(n_rows)]
        assert patterns.count(patterns[0]) <= 8
        assert len(set(patterns)) == -(-n_rows // 8)

    def test_modules_that_stand_twice(self):
        relu, linear = nn.ReLU(), make(lambda: nn.Linear(13, 13))
        module = nn.Sequential(linear, relu, linear, relu)
        network = SequentialBackbone(module).build(VECTORS, 3)
        assert network.names == ["0", "1", "2", "3"]
        assert network.blocks[0] is network.blocks[2]  # tied weights stay tied
        assert network.blocks[0] is not linear
        rows = torch.tensor(VECTORS)
        expected, out = module(rows), rows
        for block in network.blocks:
            out = block(out)
        assert torch.equal(out, expected)

    def test_an_activation_at_the_end_is_no_classifier(self):
        module = make(lambda: nn.Sequential(nn.Linear(13, 8), nn.Linear(8, 3), nn.ReLU()))
        assert SequentialBackbone(module).build(VECTORS, 3).head is None

    def test_a_classifier_that_answers_with_probabilities(self):
        class Soft(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(13, 3)

            def forward(self, rows):
                return torch.softmax(self.linear(rows), dim=1)

        module = make(Soft)
        head = SequentialBackbone(module).build(VECTORS, 3).head
        rows = torch.tensor(VECTORS)
        torch.testing.assert_close(torch.softmax(head(rows), dim=1), module(rows))

    def test_a_whole_network_for_images(self):
        layers = make(lambda: [nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3)])
        network = SequentialBackbone(nn.Sequential(nn.Sequential(*layers))).build(IMAGES, 3)
        assert network.names == ["input"]
        assert network.head(network.blocks[0](torch.tensor(IMAGES))).shape == (50, 3)


def test_layers_of_torch_in_place_of_ours():
    network = make(lambda: CNNBackbone((16, 32), n_blocks=1, stem_stride=2).build(IMAGES, 3))
    linear = make(lambda: PaddedLinear(129, 24))
    module = nn.Sequential(
        *network.blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.ConstantPad1d((0, 1), 2), linear
    ).eval()
    rows = torch.tensor(IMAGES)
    with torch.inference_mode():
        expected = module(rows)
        to_layers_of_torch(module)
        torch.testing.assert_close(module(rows), expected)
    assert not any(isinstance(each, Convolution | PaddedLinear) for each in module.modules())


def test_a_stride_of_the_stem_makes_every_block_cost_a_quarter():
    def macs(stride):
        backbone = CNNBackbone((16, 32), n_blocks=1, stem_stride=stride)
        images = np.zeros((4, 1, 8, 8), dtype=np.float32)
        return measure_blocks(make(lambda: backbone.build(images, 3)), _rows(images)).costs

    np.testing.assert_allclose(macs(2), np.array(macs(1)) / 4)
