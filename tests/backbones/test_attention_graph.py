"""The transformer encoder and the graph convolution."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.feature_extraction.image import grid_to_graph
from torch import nn

from skearlyexit import EarlyExitClassifier, LinearHead
from skearlyexit.backbones._graph_conv import GraphConvBackbone, propagation
from skearlyexit.backbones._series import pad_series
from skearlyexit.backbones._transformer import TransformerBackbone, encode_positions
from tests._data import digits, make, same
from tests._stages import check_rows_are_kept_apart, in_sixteens, run

RNG = np.random.RandomState(0)
N_ROWS, N_NODES = 544, 21
VECTORS = (RNG.randn(N_ROWS, 13) * 3 + 5).astype(np.float32)
PLAIN = (RNG.randn(N_ROWS, 3, 18) * 0.3 + 5).astype(np.float32)
LENGTHS = RNG.randint(1, 19, size=N_ROWS)
LENGTHS[0] = 18
SERIES = [row[:, :length] for row, length in zip(PLAIN, LENGTHS, strict=True)]
MASKED = pad_series(SERIES)
SIGNALS = (RNG.randn(N_ROWS, 3, N_NODES) * 3 + 5).astype(np.float32)
ADJACENCY = np.triu(RNG.rand(N_NODES, N_NODES) * (RNG.rand(N_NODES, N_NODES) < 0.2), 1)
ADJACENCY += ADJACENCY.T
ADJACENCY[4] = ADJACENCY[:, 4] = 0  # on its own

NETWORKS = {
    "vectors": (TransformerBackbone(2, width=20, hidden=40), VECTORS),
    "two heads": (TransformerBackbone(2, width=64, n_heads=2), VECTORS[:, :1]),
    "series": (TransformerBackbone(2, width=32, n_heads=8, hidden=16), PLAIN),
    "masked series": (TransformerBackbone(2, width=32, masked=True), MASKED),
    "graph": (GraphConvBackbone(ADJACENCY, n_hops=2, width=20), SIGNALS),
    "graph of numbers": (GraphConvBackbone(ADJACENCY, n_hops=3, width=16), SIGNALS[:, 0]),
}
each = pytest.mark.parametrize("name", NETWORKS)


def build(backbone, X, seed=0):
    """A new network; its normalizations get statistics and weights of their own."""
    network = make(lambda: backbone.build(X, 3), seed)
    rng = np.random.RandomState(seed)
    for block in network.blocks:
        for module in block.eval().modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean += torch.tensor(rng.randn(module.num_features)).float()
                module.running_var *= torch.tensor(rng.rand(module.num_features) + 0.5).float()
            if isinstance(module, nn.BatchNorm1d | nn.LayerNorm):
                size = module.weight.numel()
                module.weight.data *= torch.tensor(rng.rand(size) + 0.5).float()
                module.bias.data += torch.tensor(rng.randn(size)).float()
    return network


_references = {}


def stages_and_reference(name, dtype):
    """All blocks, and their embeddings of all rows computed 16 by 16 on one thread."""
    if (name, dtype) not in _references:
        backbone, X = NETWORKS[name]
        network = build(backbone, X)
        network.to(dtype)
        stages = network.cut(range(len(network.names)))
        rows = torch.tensor(X, dtype=dtype)
        _references[name, dtype] = stages, rows, in_sixteens(stages, rows)
    return _references[name, dtype]


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@settings(max_examples=5, deadline=None)
@given(n_groups=st.integers(1, N_ROWS // 16), n_threads=st.integers(1, 4))
@example(n_groups=N_ROWS // 16, n_threads=3)
def test_rows_are_kept_apart(name, dtype, n_groups, n_threads):
    """In whatever company, in whatever order, on any number of threads: the same bits."""
    stages, rows, reference = stages_and_reference(name, dtype)
    check_rows_are_kept_apart(stages, rows, reference, n_groups, n_threads)


@each
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_cut_and_whole_are_the_same(name, data):
    """Outputs and gradients, dropout included, do not depend on where a network is cut."""
    backbone, X = NETWORKS[name]
    if "dropout" in backbone.get_params():
        backbone = clone(backbone).set_params(dropout=data.draw(st.sampled_from([0.0, 0.3])))
    network = build(backbone, X, seed=1)
    last = len(network.names) - 1
    ends = sorted({*data.draw(st.sets(st.integers(0, last))), last})
    training = data.draw(st.booleans())
    outputs, gradients = [], []
    for stages in (network.cut([last]), network.cut(ends)):
        for stage in stages:
            stage.train(training)
        outputs.append(make(lambda stages=stages: run(stages, X[:20])[-1]))
        parameters = list(network.blocks[0].parameters())
        gradients.append(torch.autograd.grad(outputs[-1].square().sum(), parameters))
    assert torch.equal(*outputs)
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


def standardized(X):
    X = X.astype(np.float64)
    axes = (0, *range(2, X.ndim))
    return (X - X.mean(axes, keepdims=True)) / X.std(axes, keepdims=True)


def normalized(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def parameters_of(module):
    return {key: value.detach().numpy() for key, value in module.named_parameters()}


class TestTransformer:
    def test_tokens_of_features_by_hand(self):
        backbone, X = NETWORKS["vectors"]
        network = build(backbone, X)
        network.to(torch.float64)
        stem = parameters_of(network.blocks[0])
        assert stem["tokens.weight"].shape == (13, 32)
        tokens = standardized(X)[:, :, None] * stem["tokens.weight"] + stem["tokens.bias"]
        with torch.no_grad():
            computed, embedding = network.blocks[0](torch.tensor(X).double())
        np.testing.assert_allclose(computed[:, 1:14], tokens, atol=1e-5)
        assert same(computed[:, 0].numpy(), np.tile(stem["cls"], (N_ROWS, 1)))
        assert computed.shape == (N_ROWS, 16, 32)
        np.testing.assert_allclose(embedding, normalized(tokens.mean(1)), atol=1e-5)

    def test_tokens_of_points_by_hand(self):
        backbone, X = NETWORKS["series"]
        network = build(backbone, X)
        network.to(torch.float64)
        stem = parameters_of(network.blocks[0])
        tokens = np.einsum("nct,wc->ntw", standardized(X), stem["tokens.map.weight"][:, :3])
        t, i = np.arange(18)[:, None], np.arange(16)
        angles = t / 10000 ** (2 * i / 32)
        expected = tokens + stem["tokens.map.bias"]
        expected[:, :, ::2] += np.sin(angles)
        expected[:, :, 1::2] += np.cos(angles)
        with torch.no_grad():
            computed, _ = network.blocks[0](torch.tensor(X).double())
        np.testing.assert_allclose(computed[:, 1:19], expected, atol=1e-5)
        assert encode_positions(18, 32).dtype == torch.float32

    @pytest.mark.parametrize("name", ["vectors", "series", "masked series"])
    def test_blocks_are_those_of_torch(self, name):
        backbone, X = NETWORKS[name]
        network = build(backbone, X)
        network.to(torch.float64)
        stem, block, _ = network.blocks
        width, hidden = block.perceptron[4].out_features, block.perceptron[4].in_features
        layer = make(
            lambda: nn.TransformerEncoderLayer(
                width, block.n_heads, hidden, dropout=0.0, batch_first=True, norm_first=True
            ).double()
        )
        parts = {
            "self_attn.in_proj_": block.attention_in,
            "self_attn.out_proj.": block.attention_out,
            "norm1.": block.attention_norm,
            "norm2.": block.perceptron[0],
            "linear1.": block.perceptron[1],
            "linear2.": block.perceptron[4],
        }
        state = {
            prefix + key: value
            for prefix, part in parts.items()
            for key, value in part.state_dict().items()
        }
        layer.load_state_dict(state)
        n_tokens = 1 + X.shape[-1]  # without those that fill up
        with torch.no_grad():
            carry, _ = stem(torch.tensor(X[:40]).double())
            tokens, mask = carry if name == "masked series" else (carry, None)
            tokens = tokens[:, :n_tokens]
            ignored = None if mask is None else mask[:, 0, :n_tokens] == 0
            expected = layer(tokens, src_key_padding_mask=ignored)
            computed, embedding = block(carry)
        computed = computed[0] if mask is not None else computed
        torch.testing.assert_close(computed[:, 0], expected[:, 0])
        if mask is None:
            torch.testing.assert_close(computed[:, :n_tokens], expected)
        np.testing.assert_allclose(embedding, normalized(expected[:, 0].numpy()))

    def test_padding_has_no_say(self):
        backbone, X = NETWORKS["masked series"]
        network = build(backbone, X)
        expected = run(network.cut([0, 1, 2]), X[:64])
        filled = X.copy()
        filled[:, :-1][np.broadcast_to(X[:, -1:] == 0, X[:, :-1].shape)] = 3e38
        again = build(backbone, filled)  # nor in the statistics of the training rows
        for other in (network, again):
            computed = run(other.cut([0, 1, 2]), filled[:64])
            assert all(torch.equal(one, two) for one, two in zip(computed, expected, strict=True))
        longer = build(backbone, pad_series(SERIES, length=40))
        computed = run(longer.cut([0, 1, 2]), pad_series(SERIES[:64], length=40))
        for one, two in zip(computed, expected, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)

    def test_names_and_widths(self):
        network = build(TransformerBackbone(1, width=17, n_heads=2, hidden=9), VECTORS)
        assert network.names == ["stem", "block1"]
        assert run(network.cut([0, 1]), VECTORS[:16])[1].shape == (16, 32)

    @pytest.mark.parametrize(
        ("params", "X", "message"),
        [
            ({"width": 60, "n_heads": 3}, VECTORS, "64, width=60 rounded up .* Got 3 heads"),
            ({"masked": True}, VECTORS, "needs series"),
            ({"masked": True}, PLAIN, "takes the last channel of X for a mask"),
            ({}, np.ones((4, 1, 8, 8)), r"Got samples of shape \(1, 8, 8\)"),
        ],
    )
    def test_errors(self, params, X, message):
        with pytest.raises(ValueError, match=message):
            TransformerBackbone(**params).build(X, 2)


class TestGraphConv:
    def test_by_hand(self):
        backbone, X = NETWORKS["graph"]
        network = build(backbone, X)
        network.to(torch.float64)
        looped = ADJACENCY + np.eye(N_NODES)
        degree = looped.sum(1)
        stem, *hops = network.blocks
        x = np.einsum("ncv,wc->nwv", standardized(X)[:20], _weight(stem))
        x = np.maximum(_normalized(x, stem), 0)
        for hop in hops:
            heard = np.zeros_like(x)
            for v in range(N_NODES):
                for u in np.flatnonzero(looped[v]):
                    heard[:, :, v] += looped[v, u] / np.sqrt(degree[v] * degree[u]) * x[:, :, u]
            mapped = np.einsum("niv,oi->nov", heard, _weight(hop))
            x = x + np.maximum(_normalized(mapped, hop), 0)
        with torch.no_grad():
            computed = run(network.cut([2]), X[:20].astype(np.float64))[0]
        assert computed.shape == (20, 32, N_NODES)
        np.testing.assert_allclose(computed, x, atol=1e-5)

    def test_numbering_of_the_nodes(self):
        order = np.random.RandomState(1).permutation(N_NODES)
        backbone, X = NETWORKS["graph"]
        expected = run(build(backbone, X).cut([2]), X[:20])[0]
        backbone = clone(backbone).set_params(adjacency=ADJACENCY[order][:, order])
        computed = run(build(backbone, X[:, :, order]).cut([2]), X[:20, :, order])[0]
        torch.testing.assert_close(computed, expected[:, :, order], rtol=1e-4, atol=1e-5)

    def test_a_node_is_heard_so_many_hops_away(self):
        path = np.diag(np.ones(N_NODES - 1), 1)
        backbone = GraphConvBackbone(path + path.T, n_hops=3, width=16)
        network = build(backbone, SIGNALS)
        rows = SIGNALS[:16].copy()
        rows[:, :, 10] += 1
        before, after = (run(network.cut(range(4)), each) for each in (SIGNALS[:16], rows))
        for hops, (one, two) in enumerate(zip(before, after, strict=True)):
            differs = (one != two).flatten(0, 1).any(0).numpy()
            assert same(np.flatnonzero(differs), np.arange(10 - hops, 11 + hops))

    def test_graphs_of_scikit_learn(self):
        """They come sparse, as integers, and with loops."""
        graph = grid_to_graph(3, 7)
        dense = graph.toarray() - np.diag(graph.diagonal())
        one, two = (
            build(GraphConvBackbone(each, n_hops=1), SIGNALS).blocks[1].propagation
            for each in (graph, dense)
        )
        assert torch.equal(one, two)
        assert np.isclose(propagation(dense)[0, 0], 1 / 3)

    def test_own_signal_without_edges(self):
        assert same(propagation(np.zeros((3, 3))), np.eye(3))

    def test_the_graph_is_left_alone(self):
        graph = ADJACENCY.copy()
        build(GraphConvBackbone(graph), SIGNALS)
        assert same(graph, ADJACENCY)

    @pytest.mark.parametrize(
        ("adjacency", "message"),
        [
            (np.ones((3, 4)), r"Got an array of shape \(3, 4\)"),
            (np.ones(4), r"Got an array of shape \(4,\)"),
            (np.full((21, 21), np.nan), "Got 441 weights that are NaN or infinite"),
            (sparse.csr_matrix(-np.eye(21)), "Got 21 negative weights, down to -1"),
            (np.triu(np.ones((21, 21))), "weight 1 from node 0 to node 1 and 0 back"),
            (np.eye(20), r"graph of 20 nodes.* \(n_channels, 20\). Got samples of shape \(3, 21\)"),
        ],
    )
    def test_errors(self, adjacency, message):
        with pytest.raises(ValueError, match=message):
            GraphConvBackbone(adjacency).build(SIGNALS, 2)

    def test_rows_of_another_kind(self):
        with pytest.raises(ValueError, match=r"Got samples of shape \(2, 3, 21\)"):
            GraphConvBackbone(ADJACENCY).build(np.ones((4, 2, 3, 21)), 2)


def _weight(block):
    return block.map.weight.detach().numpy()[:, :, 0]


def _normalized(x, block):
    norm = block.normalization
    parts = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    mean, variance, weight, bias = (part.detach().numpy()[:, None] for part in parts)
    return (x - mean) / np.sqrt(variance + norm.eps) * weight + bias


def _halves(load):
    X, y = load(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(X))
    X, y, half = X[order], y[order], len(X) // 2
    return X[:half], y[:half], X[half:], y[half:]


def _digits():
    return tuple(part[:500] for part in digits())


def _lines():
    X, y, X_test, y_test = _digits()
    return X.reshape(-1, 8, 8), y, X_test.reshape(-1, 8, 8), y_test


CLASSIFIERS = {
    "wine": (TransformerBackbone(2, width=32, hidden=32), lambda: _halves(load_wine), 0.9),
    "cancer": (
        TransformerBackbone(2, width=16, hidden=32, dropout=0.1),
        lambda: _halves(load_breast_cancer),
        0.9,
    ),
    "digits": (TransformerBackbone(2, width=32, hidden=32), _lines, 0.7),
    "grid": (GraphConvBackbone(grid_to_graph(8, 8), n_hops=2, width=30), _digits, 0.8),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier(name, tmp_path):
    backbone, load, least = CLASSIFIERS[name]
    X, y, X_test, y_test = load()
    clf = EarlyExitClassifier(
        backbone,
        # Where in the picture a node lies is lost in an average.
        head=LinearHead(pooling="flatten") if name == "grid" else None,
        exits=[0, 1],
        max_epochs=8,
        lr=0.01,
        batch_size=32,
        label_smoothing=0.0,
        early_stopping=False,
        calibration=0.3,
        dtype="float64" if name in ("wine", "grid") else "float32",
        random_state=0,
        memory=tmp_path,
    ).fit(X, y)
    kind = "hop" if name == "grid" else "block"
    assert clf.exit_names_ == ["stem", f"{kind}1", f"{kind}2"]
    table = clf.exit_table(X_test)
    threshold = np.quantile(table.scores[:, :-1], 0.5, axis=0)
    labels, exits = clf.predict(X_test, threshold=threshold, return_exits=True)
    assert same(exits, table.exits(threshold))
    assert len(np.unique(exits)) > 1
    assert same(labels, clf.classes_[table.labels[np.arange(len(exits)), exits]])
    assert np.mean(labels == y_test) > least
    alone = [clf.predict_proba(row[None], threshold=threshold) for row in X_test[:20]]
    assert same(np.concatenate(alone), clf.predict_proba(X_test, threshold=threshold)[:20])
    stored = pickle.loads(pickle.dumps(clf))
    assert same(stored.predict_proba(X_test), clf.predict_proba(X_test))
    again = clone(clf).fit(X, y)  # from memory
    assert same(again.predict_proba(X_test), clf.predict_proba(X_test))
