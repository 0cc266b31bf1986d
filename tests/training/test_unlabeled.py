"""Rows without labels: how they are handed in, cut into batches and learned from."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import nn

from skearlyexit import CNNBackbone, RecurrentBackbone
from skearlyexit._utils._resolve import resolve
from skearlyexit.experimental import TargetTraining
from skearlyexit.heads._base import PooledModule
from skearlyexit.training import DistillationTraining, LayerwiseTraining
from skearlyexit.training._distillation import DistillationLoss
from skearlyexit.training._layerwise import LocalStageView, StageView
from skearlyexit.training._local_error import SimilarityLoss, similarities
from skearlyexit.training._local_losses import (
    Decoder,
    ReconstructionLoss,
    SimilarityMatchingLoss,
    StandardizedParts,
    floating,
)
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._network import MultiExitNetwork
from skearlyexit.training._registry import STRATEGIES
from skearlyexit.training._rows import Batches, TrainingRows, to_rows
from tests._data import blobs, digits, make, quick, same
from tests._tiny import COSTS, equal, trainer

N, M, K, C = 7, 5, 3, 4  # rows with and without labels, exits, classes
rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(K, N + M, C)) * 3
Y = rng.integers(C, size=N)
WEIGHT = rng.uniform(0.1, 5.0, size=N)
X_BLOBS, Y_BLOBS, X_TEST, Y_TEST = blobs()
LOCAL = LayerwiseTraining(local="reconstruction")


def target(weighted):
    return (torch.tensor(Y), torch.tensor(WEIGHT))[: 2 if weighted else 1]


def tiny(two_paths=False):
    """Three stages of one linear layer each, and a head after each."""

    class Stage(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layer = nn.Linear(width, 5)

        def forward(self, carry):
            if two_paths:
                first, numbers = carry if isinstance(carry, tuple) else (carry, carry.long())
                out = torch.tanh(self.layer(first))
                return (out, numbers), out
            out = torch.tanh(self.layer(carry))
            return out, out

    def build():
        heads = [PooledModule(nn.Identity(), nn.Linear(5, C)) for _ in range(K)]
        return MultiExitNetwork([Stage(6 if i == 0 else 5) for i in range(K)], heads).double()

    return make(build)


def rows_of(n_rows=40, n_unlabeled=None, weighted=False):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n_rows, 6))
    y = (X[:, 0] > 0).astype(int) + 2 * (X[:, 1] > 0)
    weight = torch.tensor(rng.uniform(0.5, 2, size=n_rows)) if weighted else None
    others = None if n_unlabeled is None else torch.tensor(rng.normal(size=(n_unlabeled, 6)))
    return TrainingRows(torch.tensor(X), torch.tensor(y), weight, others)


def state(module):
    return {name: each.detach().clone() for name, each in module.state_dict().items()}


class TestBatches:
    @pytest.mark.parametrize("n_unlabeled", [1, 3, 11, 50])
    @pytest.mark.parametrize("two_parts", [False, True])
    def test_as_many_of_both(self, n_unlabeled, two_parts):
        numbers, others = torch.arange(17), 100 + torch.arange(n_unlabeled)
        X, U = numbers[:, None], others[:, None]
        if two_parts:
            X, U = (X, -X), (U, -U)
        batches = Batches(TrainingRows(X, numbers, None, U), 8, shuffle=True)
        seen = []
        with torch.random.fork_rng([]):
            epochs = [list(batches) for _ in range(4)]
        for epoch in epochs:
            labeled = []
            for inputs, (y,) in epoch:
                if two_parts:
                    assert torch.equal(inputs[0], -inputs[1])
                    inputs = inputs[0]
                assert len(inputs) == 2 * len(y)
                assert torch.equal(inputs[: len(y), 0], y)
                labeled.append(y)
                seen.append(inputs[len(y) :, 0])
            assert torch.equal(torch.cat(labeled).sort().values, numbers)
        # In turn: each round through them has each once, across batches and epochs.
        for each in torch.cat(seen).split(n_unlabeled)[:-1]:
            assert torch.equal(each.sort().values, others)

    def test_weights_are_those_of_labeled_rows(self):
        rows = rows_of(10, 4, weighted=True)
        with torch.random.fork_rng([]):
            for inputs, (y, weight) in Batches(rows, 4, shuffle=True):
                assert len(y) == len(weight) == len(inputs) / 2

    def test_labeled_rows_come_as_without(self):
        def batches(rows):
            with torch.random.fork_rng([]):
                torch.manual_seed(0)
                return next(iter(Batches(rows, 8, shuffle=True)))

        with_others, without = batches(rows_of(40, 9)), batches(rows_of(40))
        assert torch.equal(with_others[0][:8], without[0])
        assert torch.equal(with_others[1][0], without[1][0])

    def test_validation_has_none(self):
        for inputs, (y,) in Batches(rows_of(20, 9), 8):
            assert len(inputs) == len(y)


@pytest.mark.parametrize("weighted", [False, True])
class TestLosses:
    def test_cross_entropy_is_that_of_labeled_rows(self, weighted):
        outputs = [torch.tensor(each, requires_grad=True) for each in LOGITS]
        found = ExitLoss([1.0] * K)(outputs, target(weighted))
        alone = ExitLoss([1.0] * K)([each[:N] for each in outputs], target(weighted))
        assert torch.equal(found, alone)
        found.backward()
        assert all(not each.grad[N:].any() and each.grad[:N].all() for each in outputs)

    @pytest.mark.parametrize("teacher", ["last", "next", "later"])
    def test_distillation_by_hand(self, teacher, weighted):
        weight = np.append(WEIGHT if weighted else np.ones(N), np.ones(M))
        soft = log_softmax(LOGITS / 2.5, axis=2)
        crossed = -log_softmax(LOGITS, axis=2)[:, np.arange(N), Y] * weight[:N]
        total = crossed.mean(axis=1).sum()
        for i in range(K - 1):
            teachers = {"last": [K - 1], "next": [i + 1], "later": range(i + 1, K)}[teacher]
            divergence = np.mean(
                [(np.exp(soft[t]) * (soft[t] - soft[i])).sum(axis=1) for t in teachers], axis=0
            )
            total += 0.7 * 2.5**2 * np.mean(weight * divergence)
        loss = DistillationLoss([1.0] * K, teacher, 0.7, 2.5)
        found = loss([torch.tensor(each) for each in LOGITS], target(weighted)).item()
        assert found == pytest.approx(total, rel=1e-12)

    @pytest.mark.parametrize("share", [0.3, 1.0])
    def test_reconstruction_by_hand(self, share, weighted):
        made, wanted = rng.normal(size=(2, N + M, 9))
        weight = np.append(WEIGHT if weighted else np.ones(N), np.ones(M))
        expected = share * np.mean(weight * ((made - wanted) ** 2).mean(axis=1))
        crossed = -log_softmax(LOGITS[0, :N], axis=1)[np.arange(N), Y] * weight[:N]
        outputs = [torch.tensor(made), torch.tensor(wanted)]
        if share < 1:
            expected += (1 - share) * crossed.mean()
            outputs = [torch.tensor(LOGITS[0]), *outputs]
        found = ReconstructionLoss(share)(outputs, target(weighted)).item()
        assert found == pytest.approx(expected, rel=1e-12)

    def test_similarity_by_hand(self, weighted):
        made, wanted = rng.normal(size=(N + M, 6)), rng.normal(size=(N + M, 9))
        weight = np.append(WEIGHT if weighted else np.ones(N), np.ones(M))
        unit = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
        found = similarities(torch.tensor(made)).numpy()
        errors = np.outer(weight, weight) * (found - unit @ unit.T) ** 2
        crossed = -log_softmax(LOGITS[0, :N], axis=1)[np.arange(N), Y] * weight[:N]
        outputs = [torch.tensor(each) for each in (LOGITS[0], made, wanted)]
        loss = SimilarityMatchingLoss(0.4)(outputs, target(weighted)).item()
        assert loss == pytest.approx(0.4 * errors.mean() + 0.6 * crossed.mean(), rel=1e-12)


class TestSimilarityToLabels:
    def loss(self, logits, embeddings, *target):
        return SimilarityLoss(K, 0.3, None)([*logits, *embeddings], target).item()

    def test_integer_weights_are_repeated_rows(self):
        times = torch.tensor([1, 3, 2, 1, 4, 2, 1])
        logits = [torch.tensor(each[:N]) for each in LOGITS]
        embeddings = [torch.tensor(rng.normal(size=(N, 6))) for _ in range(K)]
        rows = to_rows(np.zeros((N, 1)), Y, times.numpy().astype(float))
        weighted = self.loss(logits, embeddings, rows.y, rows.weight)
        repeated = [
            [each.repeat_interleave(times, dim=0) for each in part] for part in (logits, embeddings)
        ]
        again = self.loss(*repeated, rows.y.repeat_interleave(times))
        assert weighted == pytest.approx(again, rel=1e-12)

    def test_weights_of_1_are_none(self):
        logits = [torch.tensor(each[:N]) for each in LOGITS]
        embeddings = [torch.tensor(rng.normal(size=(N, 6))) for _ in range(K)]
        y, ones = torch.tensor(Y), torch.ones(N, dtype=torch.float64)
        assert self.loss(logits, embeddings, y) == pytest.approx(
            self.loss(logits, embeddings, y, ones), rel=1e-12
        )


class TestParts:
    def test_every_channel_is_standardised(self):
        maps = torch.tensor(rng.normal(1e3, 0.1, size=(30, 3, 4, 4)))
        vectors = torch.tensor(rng.normal(size=(30, 2)))
        vectors[:, 1] = 7.3
        whole = (maps, torch.arange(30), vectors)
        passes = [tuple(part[i : i + 8] for part in whole) for i in range(0, 30, 8)]
        found = StandardizedParts(passes)(whole)
        by_hand = (maps - maps.mean((0, 2, 3), keepdim=True)) / maps.std(
            (0, 2, 3), keepdim=True, correction=0
        )
        torch.testing.assert_close(found[:, :48], by_hand.flatten(1))
        assert found[:, 48].var(correction=0).item() == pytest.approx(1)
        torch.testing.assert_close(found[:, 49], torch.zeros(30, dtype=torch.float64))

    def test_a_stage_that_reads_no_numbers_is_refused(self):
        with pytest.raises(
            ValueError, match=r"inputs \['torch.int64 of shape \(3,\)'\]\. Give local"
        ):
            floating((torch.arange(3),))

    @pytest.mark.parametrize(
        ("embedding", "wanted", "layer"),
        [
            ((5,), [(6,)], nn.Linear),
            ((5,), [(2, 3, 3)], nn.Linear),
            ((4, 2, 2), [(3, 4, 5)], nn.Conv2d),
            ((4, 2, 2), [(9,)], nn.Linear),
            ((4, 7), [(3, 5)], nn.Conv1d),
            ((4, 2, 2), [(3, 4, 4), (6,)], nn.Conv2d),
        ],
    )
    def test_decoder_by_the_shapes(self, embedding, wanted, layer):
        parts = [torch.zeros(2, *shape) for shape in wanted]
        decoder = make(lambda: Decoder(torch.zeros(2, *embedding), parts))
        assert isinstance(decoder.layers[0], layer)
        shape = (8, sum(part[0].numel() for part in parts))
        assert decoder(torch.zeros(8, *embedding)).shape == shape


@pytest.mark.parametrize("local", ["reconstruction", "similarity"])
@pytest.mark.parametrize("two_paths", [False, True])
class TestLayerwise:
    def test_without_room_for_a_cache_the_same_is_learned(self, local, two_paths):
        cached, run_anew = tiny(two_paths), tiny(two_paths)
        strategy = LayerwiseTraining(local=local)
        strategy.train(cached, COSTS, trainer(rows_of(40, 30, weighted=True)))
        strategy.set_params(max_cache_bytes=0)
        strategy.train(run_anew, COSTS, trainer(rows_of(40, 30, weighted=True)))
        for ours, theirs in zip(cached.parameters(), run_anew.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)

    def test_labels_do_not_matter_to_stages_without_supervision(self, local, two_paths):
        def train(turned):
            network, rows = tiny(two_paths), rows_of(40, 30)
            rows = TrainingRows(rows.X, (rows.y + turned) % C, None, rows.unlabeled)
            LayerwiseTraining(local=local, local_share=1).train(network, COSTS, trainer(rows))
            return network

        first, second = train(0), train(1)
        assert equal(state(first.stages), state(second.stages))
        assert not equal(state(first.heads), state(second.heads))
        assert not equal(state(first.stages), state(tiny(two_paths).stages))
        assert not equal(state(first.heads), state(tiny(two_paths).heads))

    def test_unlabeled_rows_reach_every_stage(self, local, two_paths):
        def train(shift):
            network, rows = tiny(two_paths), rows_of(40, 30)
            rows = TrainingRows(rows.X, rows.y, None, rows.unlabeled * shift)
            LayerwiseTraining(local=local).train(network, COSTS, trainer(rows))
            return network

        first, second = train(1.0), train(2.0)
        for ours, theirs in zip(first.stages, second.stages, strict=True):
            assert not torch.equal(ours.layer.weight, theirs.layer.weight)


def test_handed_on_rows_count_in_the_cache():
    """Of five float64 values for each of 40 labeled and 30 other rows, 2,800 bytes."""
    calls = []
    for room in (2799, 2800):
        network, rows_read = tiny(), []
        network.stages[0].register_forward_hook(
            lambda module, args, output, n=rows_read: n.append(len(args[0]))
        )
        strategy = LayerwiseTraining(room, local="similarity")
        strategy.train(network, COSTS, trainer(rows_of(40, 30)))
        calls.append(sum(rows_read))
    assert calls[0] > calls[1]


def test_a_local_view_hands_out_what_is_compared():
    network, rows = tiny(), rows_of()
    stage, head = network.stages[1], network.heads[1]
    before = [network.stages[0]]
    came, _ = network.stages[0](rows.X)
    standardized = StandardizedParts([came])
    embedding = stage(came)[1]
    decoder = make(lambda: Decoder(embedding, [came]))
    view = LocalStageView(before, stage, head, standardized, decoder, exit_=0)
    logits, made, wanted = view(rows.X)
    assert torch.equal(logits, StageView(before, stage, head, exit_=0)(rows.X)[0])
    assert torch.equal(made, decoder(embedding))
    assert torch.equal(wanted, standardized(came))
    made, _ = LocalStageView(before, stage, None, standardized, None, exit_=0)(rows.X)
    assert torch.equal(made, embedding)


def test_reconstruction_is_learned():
    network = tiny()
    learner = trainer(rows_of(200, 200), max_epochs=60, batch_size=50, lr=0.02, optimizer="adam")
    LayerwiseTraining(local="reconstruction", local_share=1).train(network, COSTS, learner)
    losses = [e["train_loss"] for e in learner.history if e["phase"] == "stage 1"]
    assert losses[-1] < 0.2 * losses[0]  # 1 is what the mean alone would reach
    assert losses[-1] < 0.3
    assert [e["phase"] for e in learner.history[::60]] == ["stage 0", "stage 1", "stage 2", "heads"]


STRATEGY = [
    "distillation",
    LOCAL,
    LayerwiseTraining(local="similarity"),
    LayerwiseTraining(local="similarity", local_share=1),
]


@pytest.mark.parametrize("training", STRATEGY, ids=str)
class TestFit:
    def test_they_change_what_is_learned(self, training, tmp_path):
        model = quick(training=training, memory=tmp_path, max_epochs=2)
        plain = model.fit(X_BLOBS, Y_BLOBS).exit_table(X_TEST)
        other = model.fit(X_BLOBS, Y_BLOBS, X_unlabeled=X_TEST).exit_table(X_TEST)
        assert not same(plain.scores, other.scores)
        # From memory, in which they are part of the key.
        again = quick(training=training, memory=tmp_path, max_epochs=2)
        found = again.fit(X_BLOBS, Y_BLOBS, X_unlabeled=X_TEST).exit_table(X_TEST)
        assert same(found.scores, other.scores)
        found = again.fit(X_BLOBS, Y_BLOBS).exit_table(X_TEST)
        assert same(found.scores, plain.scores)

    @pytest.mark.parametrize("options", [{"calibration": 2}, {"early_stopping": True}], ids=str)
    def test_with_weights_and_cross_fitting(self, training, options):
        weight = np.random.default_rng(0).uniform(0, 2, size=len(X_BLOBS))
        model = quick(training=training, max_epochs=8, lr=0.01, **options)
        model.fit(X_BLOBS, Y_BLOBS, weight, X_unlabeled=X_TEST.tolist())
        assert model.score(X_TEST, Y_TEST) > 0.35  # of four classes


@pytest.mark.parametrize("training", STRATEGY, ids=str)
def test_images(training):
    X, y, X_test, y_test = (part[:240] for part in digits())
    backbone = CNNBackbone((6, 12), n_blocks=1, image_shape=(8, 8))
    # Twenty steps, in which Muon, the default for images, does not get far.
    params = {"max_epochs": 4, "lr": 0.015, "batch_size": 48, "optimizer": "adamw"}
    model = quick(backbone=backbone, exits=2, training=training, **params)
    assert model.fit(X, y, X_unlabeled=X_test).score(X_test, y_test) > 0.3  # of ten classes


def test_series_whose_stages_hand_on_several_tensors():
    X, y, X_test, _ = (part[:300] for part in digits())
    X, X_test = (rows.reshape(-1, 8, 8) for rows in (X, X_test))
    backbone = RecurrentBackbone(width=16, n_layers=2, exits_along="layers")
    model = quick(backbone=backbone, exits=2, training=LOCAL, max_epochs=2)
    model.fit(X, y, X_unlabeled=X_test)
    assert np.isfinite(model.exit_table(X_test).probabilities).all()


def test_heads_of_other_kinds_are_not_trained_twice():
    from sklearn.linear_model import LogisticRegression

    strategy = LayerwiseTraining(local="reconstruction", local_share=1)
    model = quick(training=strategy, head=LogisticRegression())
    model.fit(X_BLOBS, Y_BLOBS, X_unlabeled=X_TEST)
    assert {epoch["phase"] for epoch in model.history_} == {"stage 0", "stage 1", "stage 2"}
    assert model.score(X_TEST, Y_TEST) > 0.4


@pytest.mark.parametrize(
    "training",
    [
        *sorted(set(STRATEGIES) - {"distillation", "layerwise"}),
        "layerwise",
        DistillationTraining(alpha=0),
        TargetTraining(),
    ],
    ids=str,
)
def test_who_has_no_use_for_them_says_who_has(training):
    with pytest.raises(ValueError, match=r"no effect on .*: DistillationTraining, LayerwiseTra"):
        quick(training=training).fit(X_BLOBS, Y_BLOBS, X_unlabeled=X_TEST)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (X_TEST[:, :5], "X_unlabeled must hold samples like those of X. X has 5 features"),
        (X_TEST[:0], "X_unlabeled must hold samples like those of X. Found array with 0 sample"),
        (X_TEST * np.nan, "X_unlabeled must hold samples like those of X. Input X contains NaN"),
        (X_TEST[:, :, None], "X_unlabeled must hold samples like those of X. .*shape"),
    ],
)
def test_rows_that_do_not_fit(rows, message):
    with pytest.raises(ValueError, match=message):
        quick(training=LOCAL).fit(X_BLOBS, Y_BLOBS, X_unlabeled=rows)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (LayerwiseTraining(local="entropy"), "'local' parameter of LayerwiseTraining"),
        (LayerwiseTraining(local="similarity", local_share=0), "'local_share' parameter of"),
        (LayerwiseTraining(local="similarity", local_share=1.1), "'local_share' parameter of"),
    ],
)
def test_what_is_no_setting(strategy, message):
    with pytest.raises(ValueError, match=message):
        resolve(strategy, STRATEGIES, "distillation")


def test_unlabeled_rows_help_where_labels_are_few():
    """Two labeled digits of each kind: on average 3 points of accuracy from 1,000 others."""
    X, y, X_test, y_test = digits()
    strategy = LayerwiseTraining(local="reconstruction", local_share=0.9)
    gains = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        few = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:2] for c in range(10)])
        accuracy = []
        for given in ({}, {"X_unlabeled": X}):
            model = quick(
                training=strategy,
                calibration=None,
                threshold=0.9,
                max_epochs=60,
                batch_size=32,
                lr=0.01,
                random_state=seed,
            ).fit(X[few], y[few], **given)
            accuracy.append((model.exit_table(X_test).labels == y_test[:, None]).mean())
        gains.append(accuracy[1] - accuracy[0])
    assert np.mean(gains) > 0.015
