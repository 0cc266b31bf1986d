"""Losses and gradients of the training families, against formulas by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from skorch.callbacks import Callback
from torch import nn

from skearlyexit import CNNBackbone, RecurrentBackbone
from skearlyexit._utils._resolve import resolve
from skearlyexit.heads._base import PooledModule
from skearlyexit.training import (
    DistillationTraining,
    FreezeOutTraining,
    JointTraining,
    LayerwiseTraining,
    LocalErrorTraining,
    Trainer,
)
from skearlyexit.training._distillation import DistillationLoss
from skearlyexit.training._freeze_out import FreezingView
from skearlyexit.training._local_error import (
    FeedbackView,
    LocalView,
    SimilarityLoss,
    similarities,
)
from skearlyexit.training._loss import AdaptiveExitLoss, ExitLoss
from skearlyexit.training._network import EquilibriumView, ExitView, MultiExitNetwork, View
from skearlyexit.training._options import TrainingOptions
from skearlyexit.training._registry import STRATEGIES
from skearlyexit.training._rows import TrainingRows
from tests._data import blobs, digits, make, quick

N, K, C = 7, 3, 4
rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(K, N, C)) * 3
Y = rng.integers(C, size=N)
WEIGHT = rng.uniform(0.1, 5.0, size=N)
X_BLOBS, Y_BLOBS, X_TEST, Y_TEST = blobs()


def tensors(requires_grad=False):
    return tuple(torch.tensor(each, requires_grad=requires_grad) for each in LOGITS)


def target(weighted=False):
    return (torch.tensor(Y), torch.tensor(WEIGHT))[: 2 if weighted else 1]


def losses_by_hand(logits, weight=None):
    rows = np.arange(N)
    losses = -log_softmax(logits, axis=2)[:, rows, Y]
    return (losses * (1 if weight is None else weight)).mean(axis=1)


class TestAdaptiveWeights:
    def test_each_loss_over_its_running_mean(self):
        loss = AdaptiveExitLoss(K, momentum=0.6).double()
        means = None
        for step in range(5):
            logits = LOGITS * (1 + 0.1 * step)
            now = losses_by_hand(logits)
            keep = min(0.6, 1 - 1 / (step + 1))
            means = now if means is None else keep * means + (1 - keep) * now
            weights = 1 / means * K / (1 / means).sum()
            found = loss([torch.tensor(each) for each in logits], target())
            assert found.item() == pytest.approx(weights @ now, rel=1e-12)

    def test_weights_are_constants_to_the_gradient(self):
        logits = tensors(requires_grad=True)
        AdaptiveExitLoss(K).double()(logits, target()).backward()
        now = losses_by_hand(LOGITS)
        weights = 1 / now * K / (1 / now).sum()
        other = tensors(requires_grad=True)
        ExitLoss(list(weights))(other, target()).backward()
        for ours, theirs in zip(logits, other, strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)

    def test_validation_adds_up(self):
        loss = AdaptiveExitLoss(K).eval()
        assert loss(tensors(), target()).item() == pytest.approx(losses_by_hand(LOGITS).sum())
        assert loss.n_seen == 0


def tiny(two_paths=False):
    """Three stages of one linear layer each, and a head after each."""

    class Stage(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 5)

        def forward(self, carry):
            if two_paths:
                first, kept = carry if isinstance(carry, tuple) else (carry, carry)
                out = torch.tanh(self.layer(first))
                return (out, kept), out
            out = torch.tanh(self.layer(carry))
            return out, out

    def build():
        heads = [PooledModule(nn.Identity(), nn.Linear(5, C)) for _ in range(K)]
        return MultiExitNetwork([Stage() for _ in range(K)], heads).double()

    return make(build)


@pytest.mark.parametrize("two_paths", [False, True])
class TestEquilibrium:
    def gradients(self, view, weights, two_paths):
        network = tiny(two_paths)
        rows = torch.tensor(np.random.default_rng(1).normal(size=(N, 5)))
        ExitLoss(weights)(view(network, range(K))(rows), target()).backward()
        return network

    def test_a_stage_gets_the_mean_of_what_is_behind_it(self, two_paths):
        balanced = self.gradients(EquilibriumView, [1.0] * K, two_paths)
        alone = [
            self.gradients(ExitView, [float(j == i) for j in range(K)], two_paths) for i in range(K)
        ]
        for s in range(K):
            # Scaled by (K - l) / (K - l + 1) at every exit on the way, and by 1 / (K - j + 1) into
            # head j: what is left of each factor is one over the number of exits behind.
            expected = torch.stack([alone[j].stages[s].layer.weight.grad for j in range(s, K)])
            torch.testing.assert_close(balanced.stages[s].layer.weight.grad, expected.mean(dim=0))

    def test_heads_learn_as_ever(self, two_paths):
        balanced = self.gradients(EquilibriumView, [1.0] * K, two_paths)
        plain = self.gradients(ExitView, [1.0] * K, two_paths)
        for ours, theirs in zip(balanced.heads, plain.heads, strict=True):
            torch.testing.assert_close(ours.body.weight.grad, theirs.body.weight.grad)

    def test_outputs_are_the_same(self, two_paths):
        network = tiny(two_paths)
        rows = torch.tensor(np.random.default_rng(1).normal(size=(N, 5)))
        ours, theirs = (view(network, range(K))(rows) for view in (EquilibriumView, ExitView))
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("teacher", ["last", "next", "later"])
@pytest.mark.parametrize("weighted", [False, True])
class TestDistillation:
    T, ALPHA = 2.5, 0.7

    def loss(self, teacher):
        return DistillationLoss([0.5, 1.0, 1.0], teacher, self.ALPHA, self.T)

    def test_by_hand(self, teacher, weighted):
        weight = WEIGHT if weighted else np.ones(N)
        soft = log_softmax(LOGITS / self.T, axis=2)
        total = losses_by_hand(LOGITS, weight) @ [0.5, 1.0, 1.0]
        for i in range(K - 1):
            teachers = {"last": [K - 1], "next": [i + 1], "later": range(i + 1, K)}[teacher]
            divergence = np.mean(
                [(np.exp(soft[t]) * (soft[t] - soft[i])).sum(axis=1) for t in teachers], axis=0
            )
            total += self.ALPHA * self.T**2 * np.mean(weight * divergence)
        found = self.loss(teacher)(tensors(), target(weighted)).item()
        assert found == pytest.approx(total, rel=1e-12)

    def test_teachers_do_not_learn_from_their_pupils(self, teacher, weighted):
        logits = tensors(requires_grad=True)
        self.loss(teacher)(logits, target(weighted)).backward()
        plain = tensors(requires_grad=True)
        ExitLoss([0.5, 1.0, 1.0])(plain, target(weighted)).backward()
        torch.testing.assert_close(logits[-1].grad, plain[-1].grad)
        assert not torch.equal(logits[0].grad, plain[0].grad)

    def test_equal_exits_have_nothing_to_learn(self, teacher, weighted):
        same = [torch.tensor(LOGITS[0])] * K
        weight = target(weighted)[1:]
        found = self.loss(teacher).divergences(torch.stack(same), weight)
        torch.testing.assert_close(found, torch.zeros(K - 1, dtype=torch.float64))


@pytest.mark.parametrize(
    "training",
    [
        JointTraining("adaptive"),
        JointTraining(equilibrium=True),
        DistillationTraining(),
        DistillationTraining("later", alpha=0.5, weights="depth"),
    ],
    ids=str,
)
def test_each_learns(training):
    clf = quick(training=training, max_epochs=12).fit(X_BLOBS, Y_BLOBS)
    table = clf.exit_table(X_TEST)
    assert ((clf.classes_[table.labels] == Y_TEST[:, None]).mean(axis=0) > 0.5).all()


def test_one_exit_has_no_teacher():
    clf = quick(training="distillation", exits=1).fit(X_BLOBS, Y_BLOBS)
    joint = quick(training="joint", exits=1).fit(X_BLOBS, Y_BLOBS)
    assert clf.score(X_TEST, Y_TEST) == joint.score(X_TEST, Y_TEST)


def test_a_teacher_that_was_trained_before(capsys):
    first = quick(training=DistillationTraining(backbone_share=0.5), max_epochs=6)
    first.fit(X_BLOBS, Y_BLOBS)
    assert [each["phase"] for each in first.history_] == ["backbone"] * 3 + ["distillation"] * 3
    # With nothing to imitate it is mixed training.
    deaf = DistillationTraining(alpha=0.0, backbone_share=0.5)
    found, mixed = (
        quick(training=strategy, max_epochs=6).fit(X_BLOBS, Y_BLOBS).predict_proba(X_TEST)
        for strategy in (deaf, "mixed")
    )
    np.testing.assert_array_equal(found, mixed)
    online = quick(training=first.training, calibration=None)
    online.partial_fit(X_BLOBS, Y_BLOBS, classes=np.unique(Y_BLOBS)).partial_fit(X_BLOBS, Y_BLOBS)
    assert [each["phase"] for each in online.history_] == ["distillation"]
    impossible = DistillationTraining(weights=[1.0], backbone_share=0.5)
    with pytest.raises(ValueError, match="must be 2 non-negative numbers"):
        quick(training=impossible, verbose=1).fit(X_BLOBS, Y_BLOBS)
    assert capsys.readouterr().out == ""  # before anything is trained
    alone = quick(training=first.training, exits=1, max_epochs=6).fit(X_BLOBS, Y_BLOBS)
    assert [each["phase"] for each in alone.history_] == ["distillation"] * 6


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (DistillationTraining(backbone_share=1), "'backbone_share' parameter of Distillation"),
        (DistillationTraining("first"), "'teacher' parameter of DistillationTraining"),
        (DistillationTraining(temperature=0), "'temperature' parameter of DistillationTraining"),
        (DistillationTraining(alpha=-1), "'alpha' parameter of DistillationTraining"),
        (JointTraining(equilibrium=2), "'equilibrium' parameter of JointTraining"),
        (JointTraining("equal"), "'weights' parameter of JointTraining"),
    ],
)
def test_what_is_no_setting(strategy, message):
    with pytest.raises(ValueError, match=message):
        resolve(strategy, STRATEGIES, "distillation")


def rows_of(n_rows=40, seed=1):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 5))
    y = (X[:, 0] > 0).astype(int) + 2 * (X[:, 1] > 0)
    return TrainingRows(torch.tensor(X), torch.tensor(y))


def trainer(rows=None, **options):
    defaults = {"max_epochs": 3, "batch_size": 8, "lr": 0.05, "optimizer": "sgd"}
    rows = rows_of() if rows is None else rows
    return Trainer(rows, None, TrainingOptions(lr_schedule="constant", **{**defaults, **options}))


def weights_of(module):
    return {name: each.detach().clone() for name, each in module.named_parameters()}


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


class Watch(Callback):
    """Notes weights, gradients and rates after every step."""

    def __init__(self, network, notes):
        self.network, self.notes = network, notes

    def __deepcopy__(self, memo):
        return self

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            stages = [weights_of(stage) for stage in self.network.stages]
            gradients = [stage.layer.weight.grad is not None for stage in self.network.stages]
            rates = [group["lr"] for group in net.optimizer_.param_groups]
            self.notes.append((net.criterion_.progress, stages, gradients, rates))


COSTS = np.array([0.3, 0.6, 1.0])


class TestLayerwise:
    @pytest.mark.parametrize("two_paths", [False, True])
    def test_is_one_stage_after_the_other(self, two_paths):
        network, twin = tiny(two_paths), tiny(two_paths)
        LayerwiseTraining().train(network, COSTS, trainer())
        # By hand: each stage trained with the stages before it frozen, in the same order of rows.
        seeds = iter(range(10))
        carry = rows_of().X
        for i in range(K):
            learner = replace(trainer(TrainingRows(carry, rows_of().y)), seeds=seeds)
            stage, head = twin.stages[i], twin.heads[i]

            class Alone(View):
                def __init__(self, stage, head):
                    super().__init__()
                    self.stage, self.head, self.exits = stage, head, [0]

                def forward(self, rows):
                    rows = tuple(rows) if isinstance(rows, list) else rows
                    return [self.head(self.stage(rows)[1])]

            learner.fit(Alone(stage, head), ExitLoss([1.0]))
            with torch.no_grad():
                carry, _ = stage(carry)
        assert equal(weights_of(network), weights_of(twin))

    def test_earlier_stages_stay(self):
        network, notes = tiny(), []
        LayerwiseTraining().train(network, COSTS, trainer(callbacks=[Watch(network, notes)]))
        steps = len(notes) // K
        for later in notes[steps:]:
            assert equal(later[1][0], notes[steps - 1][1][0])
        assert not equal(notes[-1][1][2], notes[2 * steps - 1][1][2])

    @pytest.mark.parametrize("two_paths", [False, True])
    def test_without_room_for_a_cache_the_same_is_learned(self, two_paths):
        cached, run_anew = tiny(two_paths), tiny(two_paths)
        LayerwiseTraining().train(cached, COSTS, trainer())
        LayerwiseTraining(max_cache_bytes=0).train(run_anew, COSTS, trainer())
        for ours, theirs in zip(cached.parameters(), run_anew.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)

    def test_the_work_is_linear_in_the_stages(self):
        network, calls = tiny(), [0] * K
        for i, stage in enumerate(network.stages):
            stage.register_forward_hook(
                lambda module, args, output, i=i: calls.__setitem__(i, calls[i] + len(args[0]))
            )
        LayerwiseTraining().train(network, COSTS, trainer(max_epochs=4))
        # Four epochs of forty rows, one pass more to hand on, and two rows to know their size.
        assert calls == [4 * 40 + 42, 4 * 40 + 42, 4 * 40]


class TestLocalErrors:
    @pytest.mark.parametrize("two_paths", [False, True])
    @pytest.mark.parametrize("error", ["decoupled", "feedback", "similarity"])
    def test_no_gradient_crosses_a_stage(self, error, two_paths):
        network = tiny(two_paths)
        view = (
            FeedbackView(network, range(K), 0)
            if error == "feedback"
            else LocalView(network, range(K))
        )
        loss = ExitLoss([0.0, 0.0, 1.0])
        if error == "similarity":
            view.keep_embeddings = True
            loss = SimilarityLoss(K, 0.5, None)
            loss.weights = [0.0, 0.0, 1.0]
        outputs = view(rows_of().X)
        if error == "similarity":
            outputs = [*outputs[:K], outputs[-1]]  # of the last stage only
        loss(outputs, (rows_of().y,)).backward()
        gradients = [stage.layer.weight.grad for stage in network.stages]
        assert all(each is None or not each.any() for each in gradients[:-1])
        assert gradients[-1].any()

    def test_decoupled_stages_learn_what_they_would_learn_alone(self):
        network = tiny()
        LocalErrorTraining().train(network, COSTS, trainer())
        # The first stage does not notice that there are others.
        alone = tiny()
        seeds = iter([1])  # the second seed: the first draws matrices
        replace(trainer(), seeds=seeds).fit(ExitView(alone, [0]), ExitLoss([1.0]))
        assert equal(weights_of(network.stages[0]), weights_of(alone.stages[0]))

    def test_feedback_is_not_the_transpose(self):
        network = tiny()
        view = FeedbackView(network, range(K), 3)
        rows, (y,) = rows_of().X, (rows_of().y,)
        embeddings = []
        hooks = [
            stage.register_forward_hook(
                lambda m, a, out: embeddings.append(out[1]) or out[1].retain_grad()
            )
            for stage in network.stages
        ]
        ExitLoss([1.0] * K)(view(rows), (y,)).backward()
        for hook in hooks:
            hook.remove()
        for i, embedding in enumerate(embeddings):
            head = network.heads[i].body
            with torch.no_grad():
                error = torch.softmax(head(embedding), dim=1)
                error[torch.arange(len(y)), y] -= 1
                error /= len(y)
            matrix = view.feedback.get_buffer(str(i))
            torch.testing.assert_close(embedding.grad, error @ matrix)
            assert torch.equal(matrix.sign(), head.weight.sign())
            cosine = torch.cosine_similarity(matrix.flatten(), head.weight.flatten(), dim=0)
            assert cosine < 0.95  # random magnitudes of their own

    def test_feedback_needs_linear_heads(self):
        clf = quick(head="mlp", training=LocalErrorTraining("feedback"))
        with pytest.raises(ValueError, match=r"needs linear heads\. Got one with 2 linear layers"):
            clf.fit(X_BLOBS, Y_BLOBS)

    def test_fixed_heads_stay(self):
        network = tiny()
        before = weights_of(network.heads)
        LocalErrorTraining("feedback").train(network, COSTS, trainer())
        assert equal(before, weights_of(network.heads))

    @pytest.mark.parametrize("projected", [False, True])
    def test_similarity_by_hand(self, projected):
        rng = np.random.default_rng(2)
        embeddings = [rng.normal(size=(N, 6)) for _ in range(K)]
        loss = SimilarityLoss(K, 0.3, 7 if projected else None)
        outputs = [*tensors(), *map(torch.tensor, embeddings)]
        found = loss(outputs, target()).item()
        labels = np.eye(C)[Y]
        if projected:
            labels = labels @ loss.projection.numpy()

        def cosines(vectors):
            centered = vectors - vectors.mean(axis=1, keepdims=True)
            unit = centered / np.linalg.norm(centered, axis=1, keepdims=True)
            return unit @ unit.T

        missed = sum(np.mean((cosines(e) - cosines(labels)) ** 2) for e in embeddings)
        expected = 0.7 * losses_by_hand(LOGITS).sum() + 0.3 * missed
        assert found == pytest.approx(expected, rel=1e-6)

    def test_maps_are_compared_by_the_spread_of_channels(self):
        maps = torch.tensor(np.random.default_rng(0).normal(size=(4, 6, 5, 5)))
        by_hand = similarities(torch.tensor(maps.numpy().std(axis=(2, 3))))
        torch.testing.assert_close(similarities(maps), by_hand)


class TestFreezeOut:
    def train(self, **options):
        network, notes = tiny(), []
        learner = trainer(max_epochs=8, lr=0.1, callbacks=[Watch(network, notes)])
        FreezeOutTraining(**options).train(network, COSTS, learner)
        return notes

    @pytest.mark.parametrize("spacing", ["linear", "squared", "cubic"])
    @pytest.mark.parametrize("scaled", [False, True])
    @pytest.mark.parametrize("start", [0.0, 0.5, 0.8])
    def test_rates(self, spacing, scaled, start):
        power = {"linear": 1, "squared": 2, "cubic": 3}[spacing]
        stops = [(start + (1 - start) * (i + 1) / K) ** power for i in range(K)]
        for progress, _, _, rates in self.train(start=start, spacing=spacing, scaled=scaled):
            for stop, rate in zip(stops, rates, strict=True):
                expected = 0.0
                if progress < stop:
                    expected = 0.1 * 0.5 * (1 + np.cos(np.pi * progress / stop))
                    expected /= stop if scaled else 1
                assert rate == pytest.approx(expected, abs=1e-12)

    def test_frozen_stages_stay_and_are_out_of_the_backward_pass(self):
        notes = self.train(start=0.2, spacing="cubic")
        stops = [(0.2 + 0.8 * (i + 1) / K) ** 3 for i in range(K)]
        for i, stop in enumerate(stops[:-1]):
            frozen = [note for note in notes if note[0] >= stop]
            assert 0 < len(frozen) < len(notes)
            for note in frozen:
                assert equal(note[1][i], frozen[0][1][i])
                assert not note[2][i]
        assert notes[-1][2][-1]
        assert not equal(notes[-1][1][-1], notes[-2][1][-1])

    def test_batch_statistics_of_frozen_stages_stay(self):
        view = FreezingView(make(self.normalized), [0.3, 0.6, 1.0], scaled=True)
        view.train()
        view.advance(0.5)
        before = [stage.norm.running_mean.clone() for stage in view.stages]
        assert len(view(rows_of().X)) == 2
        after = [stage.norm.running_mean for stage in view.stages]
        assert torch.equal(before[0], after[0])
        assert not torch.equal(before[1], after[1])
        assert len(view.eval()(rows_of().X)) == 3

    @staticmethod
    def normalized():
        class Stage(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm = nn.BatchNorm1d(5)

            def forward(self, carry):
                out = self.norm(carry) + 1
                return out, out

        heads = [PooledModule(nn.Identity(), nn.Linear(5, C)) for _ in range(K)]
        return MultiExitNetwork([Stage() for _ in range(K)], heads).double()


@pytest.mark.parametrize(
    "training",
    [
        "layerwise",
        "local_error",
        LocalErrorTraining("feedback"),
        LocalErrorTraining("similarity"),
        LocalErrorTraining("similarity", projected=True, beta=0.5),
        "freeze_out",
        FreezeOutTraining(0.2, spacing="linear", scaled=False, weights="ramp"),
    ],
    ids=str,
)
@pytest.mark.parametrize("options", [{}, {"early_stopping": True}], ids=str)
def test_each_of_these_learns(training, options):
    clf = quick(training=training, max_epochs=25, lr=0.01, **options).fit(X_BLOBS, Y_BLOBS)
    table = clf.exit_table(X_TEST)
    accuracy = (clf.classes_[table.labels] == Y_TEST[:, None]).mean(axis=0)
    assert (accuracy > 0.4).all()  # of four classes
    assert all(np.isfinite(epoch["train_loss"]) for epoch in clf.history_)


@pytest.mark.parametrize("training", ["layerwise", "local_error", "freeze_out", "distillation"])
def test_images_and_memory(training, tmp_path):
    X, y, X_test, y_test = digits()
    params = {
        "backbone": CNNBackbone((6, 12), n_blocks=1, image_shape=(8, 8)),
        "exits": 2,
        "training": training,
        "max_epochs": 6,
        "lr": 0.01,
    }
    clf = quick(**params).fit(X, y)
    assert clf.score(X_test, y_test) > 0.5
    first, second = (quick(**params, memory=tmp_path).fit(X, y) for _ in range(2))
    for other in (first, second):
        assert np.array_equal(other.exit_table(X_test).scores, clf.exit_table(X_test).scores)


def test_stages_that_share_weights_are_not_trained_one_after_the_other():
    series = np.random.default_rng(0).normal(size=(60, 2, 12)).astype(np.float32)
    labels = np.arange(60) % 2
    clf = quick(
        backbone=RecurrentBackbone(exits_along="time"), exits=2, calibration=None, max_epochs=1
    )
    clf.set_params(training="joint").fit(series, labels)
    with pytest.raises(ValueError, match="Stages 0 and 1 share weights"):
        clf.set_params(training="layerwise").fit(series, labels)
