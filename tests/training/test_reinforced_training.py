"""Gates that learn by trial."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from skearlyexit.experimental import ReinforcedTraining
from skearlyexit.experimental._reinforced_training import ReinforcedLoss
from skearlyexit.training._gated import leaving_chances
from tests._data import blobs, quick
from tests._tiny import LOGITS, WEIGHT, K, N, Y, losses_by_hand, target, tensors

X, y, X_test, y_test = blobs()
COSTS = np.array([0.3, 0.7, 1.0])
GATES = np.random.default_rng(5).normal(size=(N, K - 1))


def loss_of(n_trials=4):
    return ReinforcedLoss([0.5, 1.0, 1.0], COSTS, 0.4, n_trials).double()


@pytest.mark.parametrize("weighted", [False, True])
def test_every_other_step_is_the_networks(weighted):
    loss = loss_of()
    gates = torch.tensor(GATES)
    weight = WEIGHT if weighted else None
    expected = losses_by_hand(LOGITS, weight) @ [0.5, 1.0, 1.0]
    with torch.random.fork_rng([]):
        found = [loss([*tensors(), gates], target(weighted)).item() for _ in range(4)]
    assert found[0] == found[2] == pytest.approx(expected, rel=1e-12)
    assert found[1] != found[0]
    assert loss.eval()([*tensors(), gates], target(weighted)).item() == pytest.approx(expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_mean_of_all_trials_is_the_gradient_of_the_expectation(weighted):
    """Of the chances of (14) times loss and cost."""
    gates = torch.tensor(GATES, requires_grad=True)
    own = -log_softmax(LOGITS, axis=2)[:, np.arange(N), Y].T + 0.4 * COSTS
    weight = torch.tensor(WEIGHT if weighted else np.ones(N))
    expectation = (leaving_chances(gates).exp() * torch.tensor(own)).sum(dim=1)
    (expected,) = torch.autograd.grad((weight * expectation).mean(), gates)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        loss = loss_of(200_000).of_trials(tensors(), gates, target(weighted))
    (found,) = torch.autograd.grad(loss, gates)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.01)


def test_trials_teach_the_gates_alone():
    logits = tensors(requires_grad=True)
    gates = torch.tensor(GATES, requires_grad=True)
    with torch.random.fork_rng([]):
        loss_of().of_trials(logits, gates, target()).backward()
    assert gates.grad is not None
    assert all(each.grad is None for each in logits)


def test_learns_and_leaves_by_its_gates():
    clf = quick(
        training=ReinforcedTraining(), policy="gate", max_epochs=60, batch_size=32, budget=0.7
    )
    table = clf.fit(X, y).exit_table(X_test)
    assert ((clf.classes_[table.labels] == y_test[:, None]).mean(axis=0) > 0.5).all()
    assert np.array_equal(table.scores, table.gates)
    assert clf.operating_point_.cost <= 0.7


def test_trials_find_the_best_exit_of_every_row():
    gates = torch.zeros(N, K - 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([gates], lr=0.1)
    loss = loss_of(64)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        for _ in range(300):
            optimizer.zero_grad()
            loss.of_trials(tensors(), gates, target()).backward()
            optimizer.step()
    own = -log_softmax(LOGITS, axis=2)[:, np.arange(N), Y].T + 0.4 * COSTS
    chances = leaving_chances(gates.detach()).exp().numpy()
    assert ((chances * own).sum(axis=1) < own.min(axis=1) + 0.1).all()


def test_dearer_networks_are_left_sooner():
    means = [
        quick(training=ReinforcedTraining(weight), policy="gate", max_epochs=40)
        .fit(X, y)
        .exit_table(X_test)
        .gates[:, 0]
        .mean()
        for weight in (0.0, 5.0)
    ]
    assert means[1] > means[0] + 0.1


def test_one_exit_is_the_plain_network():
    clf = quick(training=ReinforcedTraining(), exits=1).fit(X, y)
    plain = quick(training="joint", exits=1).fit(X, y)
    assert np.array_equal(clf.predict_proba(X_test), plain.predict_proba(X_test))


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (ReinforcedTraining(-1), "'cost_weight' parameter"),
        (ReinforcedTraining(n_trials=1), "'n_trials' parameter"),
        (ReinforcedTraining(weights="adaptive"), "'weights' parameter"),
    ],
)
def test_what_is_no_setting(strategy, message):
    with pytest.raises(ValueError, match=message):
        quick(training=strategy).fit(X, y)
