"""Recurrent and convolutional networks for series, and their padding."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from torch import nn

from skearlyexit import EarlyExitClassifier
from skearlyexit.backbones._conv1d import Conv1DBackbone
from skearlyexit.backbones._recurrent import RecurrentBackbone
from skearlyexit.backbones._series import SeriesInput, check_series, pad_series
from tests._data import digits, make, same
from tests._stages import check_rows_are_kept_apart, in_sixteens, run

RNG = np.random.RandomState(0)
N_ROWS, N_CHANNELS, LENGTH = 544, 3, 11
LENGTHS = RNG.randint(1, LENGTH + 1, size=N_ROWS)
LENGTHS[:2] = 1, LENGTH
SERIES = [RNG.randn(N_CHANNELS, length).astype(np.float32) * 0.3 + 5 for length in LENGTHS]
MASKED = pad_series(SERIES)
PLAIN = (RNG.randn(N_ROWS, N_CHANNELS, LENGTH) * 0.3 + 5).astype(np.float32)

BACKBONES = {
    "lstm": RecurrentBackbone(width=20, step=2),
    "gru": RecurrentBackbone("gru", width=128, n_layers=2),
    "lstm layers": RecurrentBackbone(n_layers=3, width=48, exits_along="layers"),
    "gru layers": RecurrentBackbone("gru", n_layers=2, width=16, exits_along="layers"),
    "conv": Conv1DBackbone((16, 20), n_blocks=1),
    "conv strided": Conv1DBackbone((16, 16, 32), n_blocks=1, kernel_size=9, stem_stride=2),
}
both = pytest.mark.parametrize("masked", [False, True])
each = pytest.mark.parametrize("name", BACKBONES)


def rows_of(masked):
    return MASKED if masked else PLAIN


def build(name, masked, X=None, seed=0, **params):
    """A new network; its batch normalizations get statistics of their own."""
    backbone = clone(BACKBONES[name]).set_params(masked=masked, **params)
    network = make(lambda: backbone.build(rows_of(masked) if X is None else X, 3), seed)
    rng = np.random.RandomState(seed)
    for stage in network.cut([len(network.names) - 1]):
        for module in stage.eval().modules():
            if isinstance(module, nn.BatchNorm1d):
                size = module.num_features
                module.running_mean += torch.tensor(rng.randn(size), dtype=torch.float32)
                module.running_var *= torch.tensor(rng.rand(size) + 0.5, dtype=torch.float32)
                module.weight.data = torch.tensor(rng.rand(size) + 0.5, dtype=torch.float32)
                module.bias.data += torch.tensor(rng.randn(size), dtype=torch.float32)
    return network


def some_ends(network, data):
    last = len(network.names) - 1
    return sorted({*data.draw(st.sets(st.integers(0, last), max_size=4)), last})


_references = {}


def stages_and_reference(name, masked, dtype):
    """Some stages, and their embeddings of all rows computed 16 by 16 on one thread."""
    key = name, masked, dtype
    if key not in _references:
        network = build(name, masked)
        network.to(dtype)
        last = len(network.names) - 1
        stages = network.cut(sorted({0, last // 2, last}))
        rows = torch.tensor(rows_of(masked), dtype=dtype)
        _references[key] = stages, rows, in_sixteens(stages, rows)
    return _references[key]


@each
@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@settings(max_examples=5, deadline=None)
@given(n_groups=st.integers(1, N_ROWS // 16), n_threads=st.integers(1, 4))
@example(n_groups=N_ROWS // 16, n_threads=3)
def test_rows_are_kept_apart(name, masked, dtype, n_groups, n_threads):
    """In whatever company, in whatever order, on any number of threads: the same bits."""
    stages, rows, reference = stages_and_reference(name, masked, dtype)
    check_rows_are_kept_apart(stages, rows, reference, n_groups, n_threads)


@each
@both
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_cut_and_whole_are_the_same(name, masked, data):
    """Outputs and gradients do not depend on where a network is cut."""
    network = build(name, masked, seed=1)
    network.to(torch.float64)
    rows = torch.tensor(rows_of(masked)[:20], dtype=torch.float64)
    whole = network.cut([len(network.names) - 1])
    stages = network.cut(some_ends(network, data))
    outputs = [run(parts, rows)[-1] for parts in (whole, stages)]
    parameters = list(whole[0].parameters())
    gradients = [torch.autograd.grad(out.square().sum(), parameters) for out in outputs]
    torch.testing.assert_close(outputs[0], outputs[1])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("name", ["lstm layers", "gru layers"])
@both
def test_dropout_is_the_same_wherever_a_network_is_cut(name, masked):
    network = build(name, masked, dropout=0.4)
    rows = torch.tensor(rows_of(masked)[:20])
    last = len(network.names) - 1
    results = []
    for ends in ([last], range(last + 1)):
        stages = network.cut(ends)
        for stage in stages:
            stage.train()
        results.append(make(lambda stages=stages: run(stages, rows)[-1]))
    assert torch.equal(*results)
    whole = network.cut([last])[0].eval()
    assert not torch.equal(results[0], run([whole], rows)[-1])


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_dropout_of_a_reader_only_in_training(name):
    stages = build(name, True, dropout=0.4).cut([4])
    rows = torch.tensor(MASKED[:20])
    assert torch.equal(run(stages, rows)[-1], run(stages, rows)[-1])
    stages[0].train()
    first, second = (make(lambda seed=seed: run(stages, rows)[-1], seed) for seed in (0, 1))
    assert not torch.equal(first, second)


@each
def test_padding_has_no_say(name):
    """Neither what stands in it nor, up to rounding, how much of it there is."""
    network = build(name, True)
    last = len(network.names) - 1
    ends = sorted({last // 2, last})
    filled = MASKED.copy()
    filled[:, :-1][np.broadcast_to(filled[:, -1:] == 0, filled[:, :-1].shape)] = 3e38
    again = build(name, True, X=filled)  # nor in the statistics of the training rows
    expected = run(network.cut(ends), MASKED[:64])
    for other in (network, again):
        computed = run(other.cut(ends), filled[:64])
        assert all(torch.equal(one, two) for one, two in zip(computed, expected, strict=True))
    whole = network.cut([last])
    for i in range(30):
        alone = run(whole, pad_series([SERIES[i]]))[0]
        torch.testing.assert_close(_pooled(alone)[0], _pooled(expected[-1])[i])


def _pooled(embedding):
    return embedding if embedding.ndim == 2 else embedding.mean(dim=2)


@pytest.mark.parametrize("name", ["conv", "conv strided"])
def test_padding_has_no_say_in_training(name):
    longer = pad_series(SERIES[:50], length=2 * LENGTH)
    results = []
    for rows in (MASKED[:50], longer):
        stage = build(name, True, X=rows).cut([3 if name == "conv strided" else 2])[0].train()
        out = _pooled(run([stage], rows)[0])
        norms = [module for module in stage.modules() if isinstance(module, nn.BatchNorm1d)]
        results.append([out, *(norm.running_var for norm in norms)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


class TestSeriesInput:
    def test_statistics_of_observed_points(self):
        points = np.concatenate(SERIES, axis=1).astype(np.float64)
        values, mask = SeriesInput(MASKED, masked=True)(torch.tensor(MASKED))
        for row, i in zip(values.numpy(), range(20), strict=False):
            expected = (SERIES[i] - points.mean(1)[:, None]) / points.std(1)[:, None]
            np.testing.assert_allclose(row[:, : LENGTHS[i]], expected, atol=1e-5)
            assert not row[:, LENGTHS[i] :].any()
        assert same(mask[:, 0].sum(1).numpy(), LENGTHS.astype(np.float32))

    def test_without_a_mask(self):
        values, mask = SeriesInput(PLAIN, masked=False)(torch.tensor(PLAIN))
        np.testing.assert_allclose(values.mean(dim=(0, 2)), 0, atol=1e-5)
        assert mask is None


def standardized(X):
    X = X.astype(np.float64)
    return (X - X.mean((0, 2), keepdims=True)) / X.std((0, 2), keepdims=True)


class TestRecurrent:
    def test_names(self):
        def names(**params):
            return RecurrentBackbone(**params).build(PLAIN, 2).names

        assert make(names) == [f"step{i + 1}" for i in range(LENGTH)]
        assert make(lambda: names(step=5)) == ["step5", "step10", "step11"]
        assert make(lambda: names(step=LENGTH)) == [f"step{LENGTH}"]
        assert make(lambda: names(step=99)) == [f"step{LENGTH}"]

    def test_lstm_by_hand(self):
        backbone = RecurrentBackbone(width=16, step=4)
        network = make(lambda: backbone.build(PLAIN, 3))
        network.to(torch.float64)
        layer = network.reader.layers
        w_in, w_state, b_in, b_state = (p.detach().numpy() for p in layer._flat_weights)
        rows = standardized(PLAIN)[:20]
        assert np.isclose(b_in[16:32].mean(), 1, atol=0.2)  # it remembers from the start
        h = c = np.zeros((20, 16))
        expected = []
        for t in range(LENGTH):
            gates = rows[:, :, t] @ w_in[:, :N_CHANNELS].T + h @ w_state.T + b_in + b_state
            i, f, g, o = np.split(gates, 4, axis=1)
            c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
            h = np.tanh(c) / (1 + np.exp(-o))
            if t + 1 in (4, 8, LENGTH):
                expected.append(h)
        with torch.no_grad():
            computed = run(network.cut([0, 1, 2]), PLAIN[:20].astype(np.float64))
        for one, two in zip(computed, expected, strict=True):
            np.testing.assert_allclose(one.numpy(), two, atol=1e-6)

    @pytest.mark.parametrize("cell", ["lstm", "gru"])
    @pytest.mark.parametrize("along", ["time", "layers"])
    def test_as_torch_does(self, cell, along):
        backbone = RecurrentBackbone(cell, width=32, n_layers=2, exits_along=along)
        network = make(lambda: backbone.build(PLAIN, 3))
        network.to(torch.float64)
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        reference = make(lambda: kind(16, 32, 2, batch_first=True).double())
        state = reference.state_dict()
        if along == "time":
            state = network.reader.layers.state_dict()
        else:
            for i, block in enumerate(network.blocks):
                for key, value in block.layer.state_dict().items():
                    state[key.replace("l0", f"l{i}")] = value
        reference.load_state_dict(state)
        points = torch.tensor(standardized(PLAIN)[:20]).transpose(1, 2)
        outputs = reference(nn.functional.pad(points, (0, 13)))[0]
        n_blocks = len(network.names)
        computed = run(network.cut(range(n_blocks)), torch.tensor(PLAIN[:20]).double())
        assert n_blocks == (LENGTH if along == "time" else 2)
        torch.testing.assert_close(computed[-1], outputs[:, -1], rtol=1e-5, atol=1e-6)
        if along == "time":
            torch.testing.assert_close(computed[4], outputs[:, 4], rtol=1e-5, atol=1e-6)

    def test_an_ended_series_keeps_its_embedding(self):
        network = build("gru", True)
        embeddings = torch.stack(run(network.cut(range(LENGTH)), MASKED[:100]), dim=1)
        for row, length in zip(embeddings, LENGTHS, strict=False):
            assert torch.equal(row[length - 1 :], row[[length - 1]].expand(LENGTH - length + 1, -1))

    def test_stages_share_their_weights_and_read_in_one_call(self):
        network = build("gru", False)
        stages = network.cut([3, 10])
        assert stages[0].reader is stages[1].reader
        calls = []
        stages[0].reader.layers.register_forward_hook(lambda *args: calls.append(args[1][0].shape))
        run(stages, PLAIN[:16])
        assert calls == [(4, 16, 16), (7, 16, 16)]
        carry, _ = stages[0](torch.tensor(PLAIN[:16]))
        assert [tuple(part.shape) for part in carry] == [(16, N_CHANNELS, 7), (16, 2, 128)]


class TestConv1D:
    def test_by_hand(self):
        network = build("conv", False)
        network.to(torch.float64)
        x = standardized(PLAIN)[:10]
        stem, first, second = network.blocks
        x = np.maximum(_convolved(x, stem.map, 1), 0)
        for block, stride in ((first, 1), (second, 2)):
            branch = np.maximum(_convolved(x, block.first, stride), 0)
            branch = _convolved(branch, block.second, 1)
            shortcut = x if block.shortcut is None else _convolved(x, block.shortcut, stride)
            x = np.maximum(branch + shortcut, 0)
        with torch.no_grad():
            computed = run(network.cut([2]), PLAIN[:10].astype(np.float64))[0].numpy()
        assert computed.shape == (10, 32, 6)
        np.testing.assert_allclose(computed, x, atol=1e-5)

    def test_names(self):
        assert build("conv", False).names == ["stem", "group1.block1", "group2.block1"]

    @pytest.mark.parametrize(
        ("length", "stride", "kernel_size"),
        [(1, 1, 5), (127, 1, 5), (128, 2, 5), (1023, 2, 5), (1024, 4, 9), (9000, 32, 65)],
    )
    def test_of_long_series_256_points_are_left(self, length, stride, kernel_size):
        X = np.random.RandomState(0).randn(4, 1, length).astype(np.float32)
        network = make(lambda: Conv1DBackbone((16,), n_blocks=1).build(X, 2))
        convolution = network.blocks[0].map.convolution
        assert convolution.stride == (stride,)
        assert convolution.kernel_size == (kernel_size,)
        _, embedding = network.blocks[0](torch.tensor(X))
        assert embedding.shape == (4, 16, -(-length // stride))

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"widths": ()}, "'widths' .* at least one positive integer. Got \\(\\) instead"),
            ({"widths": (16, 0)}, "'widths'"),
            ({"kernel_size": 4}, "'kernel_size' .* must be odd.* Got 4 instead"),
        ],
    )
    def test_errors(self, params, message):
        with pytest.raises(ValueError, match=message):
            Conv1DBackbone(**params).build(PLAIN, 2)


def _convolved(x, module, stride):
    """Convolution and normalization, one output after another."""
    weight = module.convolution.weight.detach().numpy()
    norm = module.normalization
    size = weight.shape[2]
    padded = np.pad(x, ((0, 0), (0, 0), (size // 2, size // 2)))
    positions = range(0, x.shape[2], stride)
    out = np.stack(
        [np.einsum("nck,ock->no", padded[:, :, t : t + size], weight) for t in positions], axis=2
    )
    parts = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    mean, variance, scale, shift = (part.detach().numpy()[:, None] for part in parts)
    return (out - mean) / np.sqrt(variance + norm.eps) * scale + shift


class TestPadSeries:
    @settings(max_examples=25, deadline=None)
    @given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), more=st.integers(0, 3))
    def test_nothing_is_lost(self, lengths, more):
        series = [RNG.randn(2, length) for length in lengths]
        padded = pad_series(series, length=max(lengths) + more)
        assert padded.shape == (len(lengths), 3, max(lengths) + more)
        check_series(padded, masked=True, name="It")
        for row, one in zip(padded, series, strict=True):
            observed = row[-1] == 1
            assert same(row[:-1, observed], one)
            assert not row[:, ~observed].any()

    def test_types(self):
        assert pad_series([[[1, 2]]]).dtype == np.float64
        assert pad_series([np.ones((1, 2), dtype=np.float32)]).dtype == np.float32
        assert pad_series(np.ones((3, 2, 5))).shape == (3, 3, 5)

    @pytest.mark.parametrize(
        ("series", "length", "message"),
        [
            ([], None, "at least one series"),
            ([[1.0, 2.0]], None, r"\(n_channels, n_timepoints\).* series 0 has shape \(2,\)"),
            ([np.ones((2, 3)), np.ones((1, 3))], None, r"\(2, 3\), series 1 has shape \(1, 3\)"),
            ([np.ones((2, 3)), np.ones((2, 0))], None, r"series 1 has shape \(2, 0\)"),
            ([np.ones((2, 3)), np.ones((2, 7))], 5, "length=5, but series 1 has 7 time points"),
        ],
    )
    def test_errors(self, series, length, message):
        with pytest.raises(ValueError, match=message):
            pad_series(series, length)


def _with(row, values):
    X = pad_series([np.ones((2, 4))] * 5)
    X[row, -1] = values
    return X


@pytest.mark.parametrize("backbone", [RecurrentBackbone(), Conv1DBackbone()])
@pytest.mark.parametrize(
    ("X", "masked", "message"),
    [
        (np.ones((5, 8)), False, r"needs series.* Got samples of shape \(8,\).* X\[:, None, :\]"),
        (np.ones((5, 2, 8, 8)), False, r"Got samples of shape \(2, 8, 8\)"),
        (np.ones((5, 1, 8)), True, "at least two channels"),
        (
            _with(3, [1, 1, 0, 1]),
            True,
            "in 1 of 5 samples, the first of them in row 3. Make X with",
        ),
        (_with(2, [0, 0, 0, 0]), True, "row 2"),
        (_with(0, [0, 1, 1, 1]), True, "row 0"),
        (_with(4, [1, 0.5, 0, 0]), True, "ones where a point was observed"),
    ],
)
def test_what_is_no_series(backbone, X, masked, message):
    with pytest.raises(ValueError, match=message) as raised:
        clone(backbone).set_params(masked=masked).build(X, 2)
    assert type(backbone).__name__ in str(raised.value)


def digit_series(masked):
    """Pictures read line by line; with a mask, empty lines at the end are cut off."""
    X, y, X_test, y_test = (part[:400] for part in digits())
    parts = []
    for part in (X, X_test):
        lines = part.reshape(-1, 8, 8).transpose(0, 2, 1).astype(np.float32)
        if masked:
            shown = [8 - 2 * (i % 2) for i in range(len(lines))]
            lines = pad_series([one[:, :n] for one, n in zip(lines, shown, strict=True)])
        parts.append(lines)
    return parts[0], y, parts[1], y_test


CLASSIFIERS = {
    "lstm": (RecurrentBackbone(step=2, width=32), {"exits": 3}),
    "gru": (RecurrentBackbone("gru", width=30), {"exits": ["step3"], "dtype": "float64"}),
    "layers": (
        RecurrentBackbone("gru", n_layers=2, exits_along="layers", width=32, dropout=0.1),
        {"exits": ["layer1"]},
    ),
    "conv": (Conv1DBackbone((16, 20), n_blocks=1), {"exits": ["stem", "group1.block1"]}),
}


@pytest.mark.parametrize(
    ("name", "masked"), [("lstm", True), ("gru", False), ("layers", True), ("conv", False)]
)
def test_classifier(name, masked, tmp_path):
    backbone, params = CLASSIFIERS[name]
    X, y, X_test, y_test = digit_series(masked)
    clf = EarlyExitClassifier(
        clone(backbone).set_params(masked=masked),
        max_epochs=8,
        lr=0.01,
        batch_size=48,
        calibration=0.3,
        random_state=0,
        memory=tmp_path,
        **params,
    ).fit(X, y)
    table = clf.exit_table(X_test)
    assert clf.exit_names_[:-1] == (params["exits"] if name != "lstm" else ["step2", "step6"])
    threshold = np.quantile(table.scores[:, :-1], 0.5, axis=0)
    labels, exits = clf.predict(X_test, threshold=threshold, return_exits=True)
    assert same(exits, table.exits(threshold))
    assert len(np.unique(exits)) > 1
    assert same(labels, clf.classes_[table.labels[np.arange(len(exits)), exits]])
    assert np.mean(labels == y_test) > 0.5  # of ten classes, half of the rows leaving early
    one_by_one = np.concatenate(
        [clf.predict_proba(x[None], threshold=threshold) for x in X_test[:20]]
    )
    assert same(one_by_one, clf.predict_proba(X_test, threshold=threshold)[:20])
    stored = pickle.loads(pickle.dumps(clf))
    assert same(stored.predict_proba(X_test), clf.predict_proba(X_test))
    again = clone(clf).fit(X, y)  # from memory
    assert same(again.predict_proba(X_test), clf.predict_proba(X_test))
