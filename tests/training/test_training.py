"""Strategies: what they train, in which phase, with which loss."""

import numpy as np
import pytest
import torch
from torch import nn

from skearlyexit import EarlyExitClassifier, JointTraining, MLPBackbone
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit.heads._base import PooledModule
from skearlyexit.training import (
    ExitLoss,
    ExitView,
    MixedTraining,
    MultiExitNetwork,
    SeparateTraining,
    Trainer,
)
from skearlyexit.training._options import SCHEDULES, Patience, TrainingOptions, cosine
from skearlyexit.training._rows import TrainingRows
from tests._data import blobs, make, quick

X, y, X_TEST, Y_TEST = blobs()
ROWS = TrainingRows(torch.tensor(X), torch.tensor(y))
COSTS = np.array([0.3, 0.6, 1.0])


def network(**options):
    def build():
        built = MLPBackbone(2, width=16, hidden=16, dropout=0.0).build(X, 4)
        heads = [PooledModule(nn.Identity(), nn.Linear(16, 4)) for _ in range(3)]
        return MultiExitNetwork(built.cut([0, 1, 2]), heads, **options).double()

    return make(build)


def trainer(validation=None, **options):
    defaults = {
        "max_epochs": 4,
        "batch_size": 50,
        "lr": 0.01,
        "optimizer": "sgd",
        "lr_schedule": "constant",
    }
    return Trainer(ROWS, validation, TrainingOptions(**{**defaults, **options}))


def changed(before, after, part):
    return any(
        not torch.equal(value, after[key])
        for key, value in before.items()
        if key.startswith(part) and "num_batches" not in key
    )


def train(strategy, net, **options):
    before = {key: value.clone() for key, value in net.state_dict().items()}
    learner = trainer(**options)
    with isolated_random_state(0):
        strategy.train(net, COSTS, learner)
    return before, net.state_dict(), learner.history


def test_joint_equals_a_loop_by_hand():
    """One pass in order, without shuffling: the same weights as plain torch gives."""
    net, twin = network(), network()
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.01)
    before, after, _ = train(JointTraining(0.5), net, max_epochs=1)
    with isolated_random_state(0):
        order = torch.randperm(len(X))
    for start in range(0, len(X), 50):
        batch = order[start : start + 50]
        carry, losses = ROWS.X[batch], []
        for stage, head in zip(twin.stages, twin.heads, strict=True):
            carry, embedding = stage(carry)
            losses.append(nn.functional.cross_entropy(head(embedding), ROWS.y[batch]))
        optimizer.zero_grad()
        (0.5 * losses[0] + 0.5 * losses[1] + losses[2]).backward()
        optimizer.step()
    for key, value in twin.state_dict().items():
        torch.testing.assert_close(after[key], value)
    assert changed(before, after, "heads.0")


def test_separate_trains_backbone_then_heads():
    net = network()
    before, after, history = train(SeparateTraining(), net)
    assert [epoch["phase"] for epoch in history] == ["backbone"] * 2 + ["heads"] * 2
    assert all(changed(before, after, f"heads.{i}") for i in range(3))
    alone = network()
    learner = trainer(max_epochs=2)
    with isolated_random_state(0):
        learner.fit(ExitView(alone, [2]), ExitLoss([1.0]))
    for part in ("stages", "heads.2"):  # what the heads phase must not have touched
        for key, value in alone.state_dict().items():
            if key.startswith(part):
                assert torch.equal(value, after[key]), key


def test_separate_keeps_given_weights():
    before, after, history = train(SeparateTraining(), network(given=True, given_head=True))
    assert not changed(before, after, "stages")
    assert not changed(before, after, "heads.2")
    assert changed(before, after, "heads.0")
    assert [epoch["phase"] for epoch in history] == ["heads"] * 4
    before, after, _ = train(SeparateTraining(), network(given=True))
    assert changed(before, after, "heads.2")  # a head of ours has to be trained


@pytest.mark.parametrize("early_stopping", [False, True])
def test_heads_learn_the_same_from_embeddings_that_are_kept(monkeypatch, early_stopping):
    options = {"patience": Patience(3), "validation": ROWS} if early_stopping else {}
    n_passes = []
    ends = []
    for limit in (2**31, 0):
        monkeypatch.setattr("skearlyexit.training._cached.CACHE_BYTES", limit)
        net = network(given=True)
        calls = []
        net.stages[0].register_forward_hook(lambda *args, calls=calls: calls.append(1))
        ends.append(train(SeparateTraining(), net, max_epochs=6, **options)[1])
        n_passes.append(len(calls))
    n_batches = -(-len(X) // 50)
    # Once over all rows, and two rows to see how wide they are; or in every batch.
    assert n_passes[0] == 1 + (1 + early_stopping) * -(-len(X) // 256)
    assert n_passes[1] == 1 + 6 * n_batches * (1 + early_stopping)
    for key, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][key])


def test_a_pooling_with_weights_learns_with_its_head():
    net = network(given=True)
    net.heads[0].pooling = make(lambda: nn.Linear(16, 16).double())
    before, after, _ = train(SeparateTraining(), net)
    assert changed(before, after, "heads.0.pooling")
    assert not changed(before, after, "stages")


def test_separate_heads_are_independent():
    """Each head ends as if it had been trained without the others."""
    _, together, _ = train(SeparateTraining(), network(given=True, given_head=True))
    _, alone, _ = train(SeparateTraining(), network(given=True, given_head=True, stand_ins=[1]))
    torch.testing.assert_close(together["heads.0.body.weight"], alone["heads.0.body.weight"])


def test_separate_does_not_train_stand_ins():
    before, after, history = train(SeparateTraining(), network(stand_ins=[0, 1, 2]))
    assert [epoch["phase"] for epoch in history] == ["backbone"] * 4
    assert not changed(before, after, "heads.0")
    assert changed(before, after, "heads.2")  # the backbone's own training needs it


def test_mixed_is_backbone_then_joint():
    before, after, history = train(MixedTraining(), network())
    assert [epoch["phase"] for epoch in history] == ["backbone"] * 2 + ["joint"] * 2
    assert all(changed(before, after, f"heads.{i}") for i in range(3))
    twin, learner = network(), trainer(max_epochs=2)
    with isolated_random_state(0):
        learner.fit(ExitView(twin, [2]), ExitLoss([1.0]))
        JointTraining().train(twin, COSTS, learner)
    for key, value in twin.state_dict().items():
        assert torch.equal(value, after[key])


def test_ramp_grows_with_the_run():
    seen = []

    class Spy(ExitLoss):
        def forward(self, logits, target):
            seen.append(self.weights(self.progress)[0])
            return super().forward(logits, target)

    from skearlyexit.training._joint import exit_weights

    with isolated_random_state(0):
        view = ExitView(network(), range(3))
        trainer(max_epochs=2).fit(view, Spy(exit_weights("ramp", COSTS)))
    n_steps = 20
    np.testing.assert_allclose(
        seen, [min(0.3, 0.01 + 0.3 * step / n_steps) for step in range(n_steps)]
    )


def test_cosine_schedule():
    progress = np.linspace(0, 1, 101)
    rates = np.array([cosine(p) for p in progress])
    assert rates[0] == pytest.approx(0.05)
    assert rates[-1] == pytest.approx(0.0)
    assert (np.diff(rates[6:]) < 0).all()
    np.testing.assert_allclose(rates[6:], 0.5 * (1 + np.cos(np.pi * progress[6:])))
    assert SCHEDULES["constant"](0.7) == 1.0


def test_weight_decay_leaves_frozen_stages_alone():
    before, after, _ = train(SeparateTraining(), network(given=True), optimizer="adamw", lr=0.1)
    assert not changed(before, after, "stages")


def test_batch_statistics_of_frozen_stages_stay():
    module = make(
        lambda: nn.Sequential(
            nn.Linear(13, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 4)
        )
    )
    clf = EarlyExitClassifier(
        module, exits=[2], training="separate", max_epochs=2, random_state=0
    ).fit(X, y)
    assert torch.equal(clf.stages_[0].blocks[1].running_mean, module[1].running_mean)


def test_training_modes_of_a_module_in_evaluation():
    """A network that comes in evaluation mode is trained in training mode all the same."""
    module = make(lambda: nn.Sequential(nn.Linear(13, 16), nn.BatchNorm1d(16), nn.Linear(16, 4)))
    clf = quick(backbone=module.eval(), exits=[1], training="joint").fit(X, y)
    assert not torch.equal(clf.stages_[0].blocks[1].running_mean, module[1].running_mean)


def test_stand_ins_shape_the_backbone_and_are_replaced():
    from sklearn.tree import DecisionTreeClassifier

    params = {"training": "joint", "calibration": None}
    linear = quick(**params).fit(X, y)
    tree = quick(head=DecisionTreeClassifier(max_depth=3), **params).fit(X, y)
    np.testing.assert_array_equal(linear.embed(X_TEST), tree.embed(X_TEST))
    assert all(isinstance(head, DecisionTreeClassifier) for head in tree.heads_)


def test_weights_mean_the_same_in_batches_of_any_size():
    """With nothing to learn from, balanced classes end at equal probabilities."""
    rng = np.random.RandomState(0)
    rows, labels = rng.randn(750, 4), (np.arange(750) % 50 == 0).astype(int)
    for batch_size in (75, 750):
        clf = quick(
            backbone=make(lambda: [nn.Linear(4, 2)]),
            exits=1,
            class_weight="balanced",
            batch_size=batch_size,
            max_epochs=60,
            lr=0.05,
        ).fit(rows, labels)
        assert clf.predict_proba(rows)[:, 1].mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("scale", [1e-46, 1e40])
def test_the_scale_of_weights_does_not_matter(scale):
    weight = np.random.RandomState(0).rand(len(y))
    first = quick(calibration=None).fit(X, y, sample_weight=weight)
    second = quick(calibration=None).fit(X, y, sample_weight=scale * weight)
    np.testing.assert_allclose(first.predict_proba(X_TEST), second.predict_proba(X_TEST), atol=1e-4)


def test_schedulers_of_the_user_have_their_say():
    from skorch.callbacks import Callback, LRScheduler

    rates = []

    class Spy(Callback):
        def on_epoch_end(self, net, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    callbacks = [LRScheduler("StepLR", step_size=1, gamma=0.1), Spy()]
    quick(
        callbacks=callbacks,
        lr_schedule="constant",
        training="joint",
        lr=0.1,
        max_epochs=3,
        calibration=None,
    ).fit(X, y)
    np.testing.assert_allclose(rates, [0.01, 0.001, 0.0001])


def test_divergence_is_an_error():
    with pytest.raises(ValueError, match=r"diverged in its phase 'joint'.*Lower lr"):
        quick(lr=1e30, optimizer="sgd", training="joint").fit(X, y)


@pytest.mark.parametrize(("training", "phase"), [("mixed", "joint"), (None, "distillation")])
def test_one_exit_is_trained_in_one_go(training, phase):
    clf = quick(exits=1, max_epochs=6, training=training).fit(X, y)
    assert [epoch["phase"] for epoch in clf.history_] == [phase] * 6


def test_callables_are_called_for_each_training_under_its_seed():
    def build(row_shape, n_classes):
        return nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, n_classes))

    params = {"backbone": build, "exits": [0], "calibration": None}
    first, second = (quick(**params).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X_TEST), second.predict_proba(X_TEST))
    separate = quick(training="separate", **params).fit(X, y)
    assert [epoch["phase"] for epoch in separate.history_] == ["backbone"] * 3 + ["heads"] * 3
