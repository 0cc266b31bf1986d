"""Networks and heads that write into what they are called with."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from skearlyexit import (
    EarlyExitClassifier,
    EstimatorHead,
    LinearHead,
    SequentialBackbone,
    TracedBackbone,
)
from skearlyexit._determinism._classifier import BatchInvariantClassifier
from skearlyexit.backbones import Backbone, Block, Chain, Network
from skearlyexit.training import ExitView
from tests._data import make, same

N_CLASSES = 3
rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(48, 2, 4, 4)).astype(np.float32)
y = np.arange(48) % N_CLASSES
IMAGES[np.arange(48), 0, y] += 2.0


class Function(nn.Module):
    """A function that writes into its argument, or does the same to a copy."""

    def __init__(self, function, in_place):
        super().__init__()
        self.function, self.in_place = function, in_place

    def forward(self, x):
        return self.function(x if self.in_place else x.clone(), self.training)


def scaled(x, training):
    return x.mul_(1.5).add_(0.25)


def through_a_view(x, training):
    x.flatten(1)[:, ::2].neg_()
    return x


def some_values(x, training):
    x[x > 0.5] = 0.5
    return x


def not_noticed(x, training):
    x.data.mul_(0.5)
    return x + x.data


def by_numpy(x, training):
    x.detach().numpy()[:, 0] += 1.0
    return 2 * x


def only_in_training(x, training):
    return x.mul_(2.0) if training else x * 2.0


def residual(x, training):
    kept = x * 1.0
    return kept.add_(x)


def functional(x, training):
    return F.relu_(x)


WRITES = [scaled, through_a_view, some_values, not_noticed, by_numpy, only_in_training, residual]
ACTIVATIONS = [
    lambda in_place: nn.ReLU(inplace=in_place),
    lambda in_place: nn.ELU(inplace=in_place),
    lambda in_place: nn.Hardtanh(inplace=in_place),
    lambda in_place: nn.Dropout(0.2, inplace=in_place),
    lambda in_place: Function(functional, in_place),
]


def hooked(module, in_place):
    """A module with hooks that change its input and its output."""

    def before(module, args):
        (x,) = args
        return ((x if in_place else x.clone()).mul_(1.25),)

    module.register_forward_pre_hook(before)
    return module


@st.composite
def chains(draw):
    """What builds a chain, with operations in place or without."""
    groups = []
    n_convolutions = draw(st.integers(0, 2))
    n_layers = n_convolutions + draw(st.integers(0 if n_convolutions else 1, 2))
    shared = draw(st.sampled_from(ACTIVATIONS[:3]))
    for i in range(n_layers):
        groups.append(
            (
                i < n_convolutions,
                draw(st.booleans()),
                draw(st.booleans()),
                draw(st.lists(st.sampled_from(WRITES), max_size=2)),
                draw(st.sampled_from([None, "shared", *ACTIVATIONS])),
            )
        )
    first = draw(st.sampled_from([None, *WRITES]))

    def build(in_place):
        modules, width, flat = [], 2, False
        one = shared(in_place)
        if first is not None:
            modules.append(Function(first, in_place))
        for convolves, normalizes, has_hook, writes, activation in groups:
            if not convolves and not flat:
                modules.append(nn.Flatten())
                width, flat = 16 * width, True
            layer = nn.Conv2d(width, 4, 3, padding=1) if convolves else nn.Linear(width, 8)
            width = 4 if convolves else 8
            modules.append(hooked(layer, in_place) if has_hook and not modules else layer)
            if normalizes:
                modules.append(nn.BatchNorm2d(width) if convolves else nn.BatchNorm1d(width))
            modules += [Function(write, in_place) for write in writes]
            if activation is not None:
                modules.append(one if activation == "shared" else activation(in_place))
        if not flat:
            modules += [nn.AdaptiveAvgPool2d(2), nn.Flatten()]
            width *= 4
        return nn.Sequential(*modules, nn.Linear(width, N_CLASSES))

    n_ends = len(make(lambda: build(False))) - 1
    ends = draw(st.sets(st.integers(0, n_ends - 1), max_size=3))
    return build, sorted(ends - {n_ends - 1})


def fitted(backbone, exits, X=IMAGES, **params):
    defaults = {
        "max_epochs": 2,
        "batch_size": 24,
        "calibration": None,
        "threshold": 0.4,
        "random_state": 0,
        "training": "joint",
        "optimizer": "sgd",  # which, unlike Adam, keeps rounding as small as it is
        "lr": 0.05,
    }
    return EarlyExitClassifier(backbone, exits=exits, **{**defaults, **params}).fit(X, y)


def seen_in_training(clf, X):
    """What the heads answer to what they see by the view that they are trained through."""
    network = clf._network
    view = ExitView(network, range(network.n_exits)).eval()
    with torch.no_grad():
        answers = [torch.softmax(logits, dim=1) for logits in view(torch.tensor(X))]
    return np.stack(answers, axis=1)


def check_alike(clf, plain, X=IMAGES):
    """A network that works in place gives what the same network gives that does not."""
    given = X.copy()
    table = clf.exit_table(X)
    assert_allclose(seen_in_training(clf, X), table.probabilities, rtol=0, atol=1e-5)
    assert_allclose(table.probabilities, plain.exit_table(X).probabilities, rtol=0, atol=1e-4)
    assert_array_equal(X, given)
    labels, exits = clf.predict(X, return_exits=True)
    leaving = table.exits(clf.thresholds_)
    assert_array_equal(exits, leaving)
    assert_array_equal(labels, table.labels[np.arange(len(X)), leaving])
    assert same(X, given)


class TestAnyChain:
    @given(chains(), st.sampled_from(["joint", "layerwise", "freeze_out", "separate"]))
    @settings(max_examples=20, deadline=None)
    def test_heads_see_in_prediction_what_they_saw_in_training(self, chain, training):
        build, exits = chain
        networks = [make(lambda in_place=each: build(in_place)) for each in (True, False)]
        given = IMAGES.copy()
        clf, plain = (fitted(network, exits, training=training) for network in networks)
        assert_array_equal(IMAGES, given)
        check_alike(clf, plain)


def chain_of(in_place, *, dropout=0.0):
    return make(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.ReLU(inplace=in_place),
            nn.Conv2d(4, 8, 3, padding=1),
            Function(scaled, in_place),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, N_CLASSES),
        )
    )


class Traced(nn.Module):
    """Operations of all kinds, some of them in a module that is taken whole."""

    def __init__(self, in_place):
        super().__init__()
        self.in_place = in_place
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.whole = Function(by_numpy, in_place)
        self.out = nn.Linear(64, N_CLASSES)

    def forward(self, x):
        x = self.first(x.mul_(0.5) if self.in_place else x * 0.5)
        kept = self.whole(x)
        x = self.second(F.relu(kept))
        kept = F.relu(kept, inplace=self.in_place)
        if self.in_place:
            x += kept
        else:
            x = x + kept
        x = F.hardtanh(x, -2.0, 2.0, self.in_place)
        return self.out(x.flatten(1))


class Pair(Block):
    """Hands on two tensors, and writes into both that it is called with."""

    def __init__(self, in_place, n_channels):
        super().__init__()
        self.in_place = in_place
        self.layer = nn.Conv2d(n_channels, 4, 3, padding=1)

    def forward(self, carry):
        x, kept = carry if isinstance(carry, tuple) else (carry, carry[:, :1].repeat(1, 4, 1, 1))
        if self.in_place:
            x, kept = x.add_(0.5), kept.mul_(0.5)
        else:
            x, kept = x + 0.5, kept * 0.5
        x = self.layer(x)
        return (x, x + kept), x


class OwnNetwork(Network):
    """Cuts itself, into stages that know nothing of others."""

    def __init__(self, blocks):
        super().__init__(names=[f"own{i}" for i in range(len(blocks))])
        self.blocks = blocks

    def cut(self, ends):
        starts = [0, *(end + 1 for end in ends[:-1])]
        return [Run(self.blocks[start : end + 1]) for start, end in zip(starts, ends, strict=True)]

    def to(self, dtype):
        for block in self.blocks:
            block.to(dtype)


class Run(Block):
    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, carry):
        for block in self.blocks:
            carry, embedding = block(carry)
        return carry, embedding


class OwnBackbone(Backbone):
    def __init__(self, in_place, kind):
        self.in_place, self.kind = in_place, kind

    def build(self, X, n_classes):
        blocks = [Pair(self.in_place, 2), Pair(self.in_place, 4), Pair(self.in_place, 4)]
        return self.kind(blocks) if self.kind is OwnNetwork else Chain(blocks, names=list("abc"))


NETWORKS = {
    "chain": (chain_of, [0, 2]),
    "modules": (lambda in_place: list(chain_of(in_place)), ["0", "2", "4"]),
    "callable": (lambda in_place: lambda *_: chain_of(in_place), [0, 1]),
    "traced chain": (lambda in_place: TracedBackbone(chain_of(in_place)), ["0", "2"]),
    "traced": (
        lambda in_place: TracedBackbone(make(lambda: Traced(in_place)), leaf=["whole"]),
        ["first", "second"],
    ),
    "several tensors": (lambda in_place: OwnBackbone(in_place, Chain), [0, 1]),
    "own cut": (lambda in_place: OwnBackbone(in_place, OwnNetwork), [0, 1]),
}


class TestNetworks:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_in_place_and_not_are_the_same(self, name):
        build, exits = NETWORKS[name]
        clf, plain = (fitted(build(in_place), exits) for in_place in (True, False))
        check_alike(clf, plain)

    @pytest.mark.parametrize(
        "training", ["gated", "local_error", "combined", "freeze_out", "layerwise", "separate"]
    )
    def test_however_it_is_trained(self, training):
        clf, plain = (
            fitted(chain_of(in_place), [0, 2], training=training, policy="entropy")
            for in_place in (True, False)
        )
        probabilities = clf.exit_table(IMAGES).probabilities
        assert_allclose(probabilities, plain.exit_table(IMAGES).probabilities, rtol=0, atol=1e-4)

    def test_embeddings_are_not_overwritten(self):
        """In double precision they are handed out without a conversion, which would copy them."""
        clf = fitted(chain_of(True), [0, 2], dtype="float64")
        plain = fitted(chain_of(False), [0, 2], dtype="float64")
        for exit_ in (0, 1):
            assert_allclose(clf.embed(IMAGES, exit_), plain.embed(IMAGES, exit_), rtol=1e-9)

    def test_its_rows_are_not_written_to(self):
        """A chain that begins with a module that writes, and one by one of several epochs."""
        first = nn.Sequential(Function(scaled, True), *chain_of(True))
        plain = nn.Sequential(Function(scaled, False), *chain_of(False))
        X_val, y_val = IMAGES[:12].copy(), y[:12]
        params = {"early_stopping": True, "max_epochs": 3}
        clf, other = (
            EarlyExitClassifier(net, exits=[0], calibration=None, random_state=0, **params).fit(
                IMAGES, y, X_val=X_val, y_val=y_val
            )
            for net in (first, plain)
        )
        assert_array_equal(X_val, IMAGES[:12])
        for ours, theirs in zip(clf.history_, other.history_, strict=True):
            assert ours["valid_loss"] == pytest.approx(theirs["valid_loss"], abs=1e-3)


class Negative(nn.Sequential):
    """A chain that does more than to run its modules."""

    def forward(self, x):
        return super().forward(-x.flatten(1))


class TestChainsOfTheirOwn:
    def make(self, kind):
        return make(lambda: kind(nn.Linear(32, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)))

    def test_own_forward_is_run(self):
        net = self.make(Negative)
        clf = fitted(net, ["0"], training="separate")
        with torch.no_grad():
            expected = torch.softmax(net(torch.tensor(IMAGES)), dim=1)
        found = clf.exit_table(IMAGES).probabilities[:, -1]
        assert_allclose(found, expected.numpy(), rtol=0, atol=1e-5)
        with pytest.raises(ValueError, match="forward or hooks of its own"):
            fitted(SequentialBackbone(net), [0])

    def test_hooks_of_the_chain_are_not_left_out(self):
        net = self.make(nn.Sequential)
        net.register_forward_pre_hook(lambda module, args: (-args[0].flatten(1),))
        with pytest.raises(ValueError, match="forward or hooks of its own"):
            fitted(net, [0])


class TestHeads:
    @pytest.mark.parametrize("training", ["joint", "separate"])
    @pytest.mark.parametrize(
        "head", [LinearHead, lambda **params: EstimatorHead(DecisionTreeClassifier(), **params)]
    )
    def test_pooling_that_writes_into_the_embedding(self, head, training):
        def made(in_place):
            pooling = Function(through_a_view, in_place)
            return fitted(chain_of(False), [0, 2], head=head(pooling=pooling), training=training)

        table, plain = (made(each).exit_table(IMAGES).probabilities for each in (True, False))
        assert_allclose(table, plain, rtol=0, atol=1e-6)

    def test_own_classifier_that_writes_into_the_embedding(self):
        def made(in_place):
            net = list(chain_of(False))
            own = nn.Sequential(nn.ReLU(inplace=in_place), net[-1])
            backbone = SequentialBackbone([*net[:-1], own])
            return fitted(backbone, [0, 2], training="separate", early_stopping=True)

        clf, plain = made(True), made(False)
        check_alike(clf, plain)
        assert_allclose(clf.embed(IMAGES), plain.embed(IMAGES), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_estimator_that_writes_into_its_input(self, dtype):
        def made(copy):
            tree = RandomForestClassifier(5, max_depth=3, random_state=0)
            estimator = make_pipeline(StandardScaler(copy=copy), tree)
            head = EstimatorHead(estimator, pooling="flatten")
            return fitted(chain_of(False), [0, 2], head=head, dtype=dtype)

        clf, plain = made(False), made(True)
        expected = plain.exit_table(IMAGES).probabilities
        assert_array_equal(clf.exit_table(IMAGES).probabilities, expected)

    @pytest.mark.parametrize("mapped", [False, True])
    def test_estimator_has_memory_of_its_own(self, mapped, tmp_path):
        """Embeddings may be a file that cannot be written to, as joblib hands them to processes."""
        X = np.random.default_rng(1).normal(size=(90, 4))
        labels, weight = np.arange(90) % 3, np.ones(90)
        X[np.arange(90), labels] += 3.0
        expected = X.copy()
        if mapped:
            np.save(tmp_path / "X.npy", X)
            X = np.load(tmp_path / "X.npy", mmap_mode="r")
        steady = BatchInvariantClassifier.fit(
            make_pipeline(StandardScaler(copy=False), WritesIntoWeights(max_depth=4)),
            X,
            labels,
            weight,
            classes=np.arange(3),
            needs_probabilities=True,
            seed=0,
            advice="",
        )
        assert_array_equal(X, expected)
        assert_array_equal(weight, 1.0)
        answers = steady.predict_proba(X)
        assert np.mean(answers.argmax(axis=1) == labels) > 0.9
        assert_array_equal(X, expected)
        assert_array_equal(steady.predict_proba(X), answers)


class WritesIntoWeights(DecisionTreeClassifier):
    def fit(self, X, y, sample_weight=None):
        X -= X.mean(axis=0)
        sample_weight /= sample_weight.sum()
        return super().fit(X, y, sample_weight)
