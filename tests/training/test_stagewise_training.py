"""Trainings that go stage by stage: layerwise, by local errors, and with stages that freeze."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from skearlyexit import RecurrentBackbone
from skearlyexit.heads._base import PooledModule
from skearlyexit.training import FreezeOutTraining, LayerwiseTraining, LocalErrorTraining
from skearlyexit.training._freeze_out import FreezingView
from skearlyexit.training._local_error import FeedbackView, LocalView, SimilarityLoss, similarities
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._network import ExitView, MultiExitNetwork, View
from skearlyexit.training._rows import TrainingRows
from tests._data import blobs, make, quick
from tests._tiny import (
    COSTS,
    LOGITS,
    C,
    K,
    N,
    Watch,
    Y,
    equal,
    losses_by_hand,
    rows_of,
    target,
    tensors,
    tiny,
    trainer,
    weights_of,
)
from tests._trainings import check_images_and_memory

X_BLOBS, Y_BLOBS, X_TEST, Y_TEST = blobs()


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
    clf = quick(training=training, max_epochs=16, lr=0.01, **options).fit(X_BLOBS, Y_BLOBS)
    table = clf.exit_table(X_TEST)
    accuracy = (clf.classes_[table.labels] == Y_TEST[:, None]).mean(axis=0)
    assert (accuracy > 0.4).all()  # of four classes
    assert all(np.isfinite(epoch["train_loss"]) for epoch in clf.history_)


@pytest.mark.parametrize("training", ["layerwise", "local_error", "freeze_out", "distillation"])
def test_images_and_memory(training, tmp_path):
    check_images_and_memory(training, tmp_path)


def test_stages_that_share_weights_are_not_trained_one_after_the_other():
    series = np.random.default_rng(0).normal(size=(60, 2, 12)).astype(np.float32)
    labels = np.arange(60) % 2
    clf = quick(
        backbone=RecurrentBackbone(exits_along="time"), exits=2, calibration=None, max_epochs=1
    )
    clf.set_params(training="joint").fit(series, labels)
    with pytest.raises(ValueError, match="Stages 0 and 1 share weights"):
        clf.set_params(training="layerwise").fit(series, labels)
