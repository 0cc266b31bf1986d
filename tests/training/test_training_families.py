"""Losses and gradients of the training families, against formulas by hand."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from skearlyexit._utils._resolve import resolve
from skearlyexit.training import DistillationTraining, JointTraining
from skearlyexit.training._distillation import DistillationLoss
from skearlyexit.training._loss import AdaptiveExitLoss, ExitLoss, ReachExitLoss
from skearlyexit.training._network import EquilibriumView, ExitView
from skearlyexit.training._registry import STRATEGIES
from tests._data import blobs, quick
from tests._tiny import LOGITS, WEIGHT, K, N, Y, losses_by_hand, target, tensors, tiny

X_BLOBS, Y_BLOBS, X_TEST, Y_TEST = blobs()


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
        JointTraining("reach"),
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


@pytest.mark.parametrize("weighted", [False, True])
def test_samples_count_by_their_chance_to_reach_the_exit(weighted):
    weight = WEIGHT if weighted else np.ones(N)
    probabilities = np.exp(log_softmax(LOGITS, axis=2))
    expected = 0.0
    for i in range(K):
        doubt = np.prod(
            [1 - probabilities[j].max(axis=1) for j in range(i)] or [np.ones(N)], axis=0
        )
        reach = np.maximum(doubt, 0.1)
        losses = -np.log(probabilities[i][np.arange(N), Y])
        expected += np.mean(weight * losses * reach / reach.mean())
    loss = ReachExitLoss(K)
    assert loss(tensors(), target(weighted)).item() == pytest.approx(expected, rel=1e-12)
    # The validation loss is that of all samples.
    plain = losses_by_hand(LOGITS, weight).sum()
    assert loss.eval()(tensors(), target(weighted)).item() == pytest.approx(plain, rel=1e-12)


def test_one_exit_is_always_reached():
    reach, joint = (
        quick(training=JointTraining(weights), exits=1, max_epochs=2).fit(X_BLOBS, Y_BLOBS)
        for weights in ("reach", 1.0)
    )
    assert np.array_equal(reach.predict_proba(X_TEST), joint.predict_proba(X_TEST))


def test_the_chance_to_reach_an_exit_is_not_learned():
    logits = tensors(requires_grad=True)
    loss = ReachExitLoss(K)
    (loss.exit_losses(logits, target()) @ torch.tensor([0.0, 0.0, 1.0]).double()).backward()
    assert [bool(each.grad.abs().sum() > 0) for each in logits] == [False, False, True]


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
