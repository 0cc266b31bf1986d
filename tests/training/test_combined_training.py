"""What training learns beyond stages and heads: weights of the exits, gates, a reader."""

import pickle
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, logsumexp, softmax
from sklearn.base import clone
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from skorch.callbacks import Callback

from skearlyexit import (
    AuxiliaryTraining,
    CombinedTraining,
    CombinerTraining,
    EarlyExitClassifier,
    ExactPlacement,
    GatedTraining,
    MixedTraining,
    WeightedCombination,
)
from skearlyexit.combination import Combination, MaxCombination
from skearlyexit.combination._gated import GatedCombination
from skearlyexit.combination._recurrent import RecurrentCombination
from skearlyexit.runtime._driver import label_table, outputs
from skearlyexit.training._combined import CombinedView, Maximum, WeightedSum
from skearlyexit.training._combiner import Reader
from skearlyexit.training._gated import GatedLoss, GatedView, leaving_chances
from skearlyexit.training._loss import ExitLoss
from tests._data import blobs, make, quick
from tests._tiny import LOGITS, WEIGHT, C, K, N, Y, target, tensors, tiny
from tests.policies.test_policies import tables

X, y, X_test, y_test = blobs()
COSTS = np.array([0.3, 0.7, 1.0])


def accuracies(clf):
    return (clf.classes_[clf.exit_table(X_test).labels] == y_test[:, None]).mean(axis=0)


def cross_entropy(logits):
    """Of logits that need not be normalized, row by row."""
    return logsumexp(logits, axis=1) - logits[np.arange(N), Y]


class TestWeightedSum:
    RAW = np.array([0.3, -1.2, 0.8])

    def weights(self, rule):
        return {
            "free": self.RAW,
            "positive": np.log1p(np.exp(self.RAW)),
            "softmax": softmax(self.RAW),
        }[rule]

    def answers(self, rule, raw=None):
        combiner = WeightedSum(K, rule).double()
        with torch.no_grad():
            combiner.raw.copy_(torch.tensor(self.RAW if raw is None else raw))
        return combiner

    @pytest.mark.parametrize("rule", ["free", "positive", "softmax"])
    def test_loss_by_hand(self, rule):
        combiner = self.answers(rule)
        found = ExitLoss([0.0, 0.0, 1.0])(combiner(tensors()), target()).item()
        summed = np.einsum("k,knc->nc", self.weights(rule), LOGITS)
        assert found == pytest.approx(cross_entropy(summed).mean(), rel=1e-12)

    @pytest.mark.parametrize("rule", ["free", "positive", "softmax"])
    def test_gradient_of_the_weights(self, rule):
        combiner = self.answers(rule)
        ExitLoss([0.0, 0.0, 1.0])(combiner(tensors()), target()).backward()
        for i in range(K):
            moved = [np.array(self.RAW), np.array(self.RAW)]
            for raw, step in zip(moved, (1e-6, -1e-6), strict=True):
                raw[i] += step
            up, down = (
                ExitLoss([0.0, 0.0, 1.0])(self.answers(rule, raw)(tensors()), target()).item()
                for raw in moved
            )
            assert combiner.raw.grad[i].item() == pytest.approx((up - down) / 2e-6, abs=1e-6)

    @pytest.mark.parametrize("rule", ["free", "positive", "softmax", "mean"])
    def test_starts_as_equal_weights_of_the_sum_1(self, rule):
        weights = WeightedSum(5, rule).weights().detach().numpy()
        np.testing.assert_allclose(weights, 0.2, rtol=1e-6)

    @pytest.mark.parametrize("rule", ["free", "positive", "softmax", "mean", "additive"])
    def test_the_rule_for_probabilities_says_the_same(self, rule):
        fixed = rule in ("mean", "additive")
        combiner = WeightedSum(K, rule).double() if fixed else self.answers(rule)
        fitted = combiner.fitted()
        expected = [softmax(each.detach().numpy(), axis=1) for each in combiner(tensors())]
        found = fitted.answers(softmax(LOGITS, axis=2).swapaxes(0, 1))
        np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-6)

    def test_additive_heads_learn_what_is_left(self):
        """The answers are sums, and the loss of an exit teaches its own head only."""
        combiner = WeightedSum(K, "additive").double()
        logits = tensors(requires_grad=True)
        answers = combiner(logits)
        logs = log_softmax(LOGITS, axis=2)
        for i in range(K):
            np.testing.assert_allclose(answers[i].detach(), logs[: i + 1].sum(axis=0), rtol=1e-12)
        ExitLoss([0.0, 0.0, 1.0])(answers, target()).backward()
        assert [bool(each.grad.abs().sum() > 0) for each in logits] == [False, False, True]
        residual = softmax(logs.sum(axis=0), axis=1) - np.eye(C)[Y]
        np.testing.assert_allclose(logits[-1].grad, residual / N, atol=1e-12)
        assert not combiner.state_dict()["raw"].requires_grad

    def test_largest_probability(self):
        probabilities = softmax(LOGITS, axis=2)
        answers = Maximum()(tensors())
        for i in range(K):
            largest = probabilities[: i + 1].max(axis=0)
            np.testing.assert_allclose(answers[i].exp().numpy(), largest, rtol=1e-12)
        found = MaxCombination().answers(probabilities.swapaxes(0, 1))[:, -1]
        np.testing.assert_allclose(found, largest / largest.sum(axis=1, keepdims=True))

    @settings(deadline=None)
    @given(tables(), st.lists(st.floats(0.1, 3), min_size=8, max_size=8), st.booleans())
    def test_by_hand(self, table, weights, normalize):
        n_exits = table.shape[1]
        answers = WeightedCombination(weights[:n_exits], normalize=normalize).answers(table)
        logs = np.log(np.maximum(table, 1e-12))
        for k in range(n_exits):
            scale = sum(weights[: k + 1]) if normalize else 1.0
            summed = sum(weights[j] * logs[:, j] for j in range(k + 1)) / scale
            np.testing.assert_allclose(answers[:, k], softmax(summed, axis=1), atol=1e-12)


class TestReader:
    def test_answers_step_by_step_and_all_at_once_are_the_same(self):
        reader = Reader(C, 20, seed=3).double()
        with torch.no_grad():
            reader.reader.correction.weight.normal_(generator=torch.Generator().manual_seed(0))
        expected = [softmax(each.detach().numpy(), axis=1) for each in reader(tensors())]
        found = reader.fitted().answers(softmax(LOGITS, axis=2).swapaxes(0, 1))
        np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-12)

    def test_starts_as_the_exits_own_answers(self):
        answers = Reader(C, 16, seed=0).double()(tensors())
        for answer, logits in zip(answers, LOGITS, strict=True):
            np.testing.assert_allclose(
                answer.detach().numpy(), log_softmax(logits, axis=1), rtol=1e-12
            )

    def test_its_operations_count(self):
        plain = quick(training="joint").fit(X, y)
        read = quick(training="combiner").fit(X, y)
        width, inside = 16, 16
        each = 3 * inside * (width + inside) + inside * 4
        found = read.cost_table_.decision_costs - plain.cost_table_.decision_costs
        np.testing.assert_allclose(found, each)

    def test_its_memory_counts(self):
        plain = quick(training="joint", cost="bytes").fit(X, y)
        read = quick(training="combiner", cost="bytes").fit(X, y)
        size = sum(each.numel() * 4 for each in read.cascade_.network.combiner.reader.parameters())
        found = read.cost_table_.decision_costs - plain.cost_table_.decision_costs
        np.testing.assert_allclose(found, [size, 0, 0])

    def test_a_budget_that_it_cannot_meet_is_refused_before_training(self):
        clf = quick(training=CombinerTraining(500), budget=0.9, max_epochs=10**9)
        with pytest.raises(ValueError, match="the first exit alone costs"):
            clf.fit(X, y)


class TestGates:
    GATES = np.random.default_rng(5).normal(size=(N, K - 1)) * 2

    def by_hand(self, cost_weight, head_weight, weight=None):
        """(9), (13) and (14), row by row and exit by exit."""
        weight = np.ones(N) if weight is None else weight
        g = np.hstack([expit(self.GATES), np.ones((N, 1))])
        p = softmax(LOGITS, axis=2)
        total = 0.0
        for i in range(N):
            output = p[K - 1, i]
            for j in range(K - 2, -1, -1):
                output = g[i, j] * p[j, i] + (1 - g[i, j]) * output
            chances = [g[i, j] * np.prod(1 - g[i, :j]) for j in range(K)]
            total += weight[i] * (-np.log(output[Y[i]]) + cost_weight * (chances @ COSTS))
            own = np.mean([-np.log(p[j, i, Y[i]]) for j in range(K)])
            total += head_weight * weight[i] * own
        return total / N

    def loss(self, logits, gates, weighted, cost_weight, head_weight):
        return GatedLoss(COSTS, cost_weight, head_weight)([*logits, gates], target(weighted))

    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize(("cost_weight", "head_weight"), [(0.0, 0.0), (0.7, 0.0), (0.2, 0.5)])
    def test_loss_by_hand(self, weighted, cost_weight, head_weight):
        gates = torch.tensor(self.GATES)
        found = self.loss(tensors(), gates, weighted, cost_weight, head_weight).item()
        expected = self.by_hand(cost_weight, head_weight, WEIGHT if weighted else None)
        assert found == pytest.approx(expected, rel=1e-12)

    def test_gradients(self):
        def loss(gates, *logits):
            return self.loss(logits, gates, False, 0.7, 0.2)

        gates = torch.tensor(self.GATES, requires_grad=True)
        assert torch.autograd.gradcheck(loss, (gates, *tensors(requires_grad=True)))

    def test_extreme_gates_stay_finite(self):
        gates = torch.tensor([[800.0, -800.0], [-800.0, 800.0]] * 4)[:N].double().requires_grad_()
        loss = self.loss(tensors(), gates, False, 0.7, 0.0)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(gates.grad).all()

    def test_chances_add_up(self):
        chances = leaving_chances(torch.tensor(self.GATES)).exp()
        torch.testing.assert_close(chances.sum(dim=1), torch.ones(N, dtype=torch.float64))

    def test_the_mixture_of_all_heads_is_what_is_trained(self):
        p = softmax(LOGITS, axis=2).swapaxes(0, 1)
        g = np.hstack([expit(self.GATES), np.ones((N, 1))])
        answers = np.empty((N, K, C))
        state = None
        for i in range(K):
            answers[:, i], state = GatedCombination().step(state, p[:, i], i, g[:, i])
        np.testing.assert_allclose(answers[:, 0], p[:, 0])
        np.testing.assert_allclose(
            -np.log(answers[np.arange(N), -1, Y]).mean(), self.by_hand(0.0, 0.0), rtol=1e-12
        )

    def test_gates_learn_through_the_stages_unless_told_not_to(self):
        for detached in (False, True):
            network = tiny()
            network.gates = torch.nn.ModuleList(
                make(lambda: [torch.nn.Linear(5, 1).double() for _ in range(K - 1)])
            )
            rows = torch.tensor(np.random.default_rng(1).normal(size=(N, 5)))
            GatedView(network, detached=detached)(rows)[-1].sum().backward()
            assert (network.stages[0].layer.weight.grad is None) == detached
            assert all(gate.weight.grad is not None for gate in network.gates)

    def test_dear_exits_are_left_alone(self):
        """The chance to stay falls as the price of going on grows."""
        means = []
        for cost_weight in (0.0, 2.0):
            training = GatedTraining(cost_weight)
            clf = quick(training=training, policy="gate", max_epochs=15).fit(X, y)
            means.append(clf.exit_table(X_test).gates[:, 0].mean())
        assert means[1] > means[0] + 0.1

    def test_the_gate_is_the_score(self):
        clf = quick(training="gated", policy="gate").fit(X, y)
        table = clf.exit_table(X_test)
        assert np.array_equal(table.scores, table.gates)
        assert (table.gates[:, -1] == 1).all()
        embeddings = clf.embed(X_test, exit=0)
        layer = clf.cascade_.network.gates[0].model.body[0]
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        logit = embeddings @ weight[:, : embeddings.shape[1]].T.astype(np.float64) + bias
        np.testing.assert_allclose(table.gates[:, 0], expit(logit[:, 0]), atol=1e-5)

    def test_gates_that_nobody_reads_are_not_run(self):
        clf = quick(training="gated", combine="own").fit(X, y)
        joint = quick(training="joint").fit(X, y)
        assert clf.cascade_.network.gates == []
        assert clf.exit_table(X_test).gates is None
        np.testing.assert_array_equal(clf.costs_, joint.costs_)

    def test_gates_count_among_the_costs(self):
        plain = quick(training="joint", policy="patience").fit(X, y)
        gated = quick(training="gated", policy="gate", combine="own").fit(X, y)
        width = gated.cascade_.network.gates[0].model.body[0].weight.shape[1]
        np.testing.assert_allclose(gated.cost_table_.decision_costs, [width, width, 0])
        assert gated.cost_table_.plain == plain.cost_table_.plain


class Trusted(Combination):
    """Moves the probabilities of a head towards equal ones, the less its gate trusts it."""

    has_memory = False
    needs_gates = True

    def step(self, state, probabilities, exit_=0, gates=None):
        trust = gates[:, None]
        return trust * probabilities + (1 - trust) / probabilities.shape[1], None


class TestCombinationsOfTheUserThatNeedGates:
    def test_get_those_of_the_exit(self):
        clf = quick(training="gated", combine=Trusted()).fit(X, y)
        table = clf.exit_table(X_test)
        assert table.gates[:, :2].std() > 0
        heads = outputs(clf.cascade_.network, X_test.astype(np.float32)).probabilities
        trust = table.gates[:, :, None]
        np.testing.assert_allclose(table.probabilities, trust * heads + (1 - trust) / C, atol=1e-12)
        labels, exits = clf.predict(X_test, threshold=0.5, return_exits=True)
        assert np.array_equal(exits, table.exits([0.5, 0.5]))
        assert np.array_equal(labels, table.labels[np.arange(len(exits)), exits])

    @pytest.mark.parametrize("exits", [["stem", "block1"], ExactPlacement(2, budget=0.8)], ids=str)
    def test_are_refused_without_gates(self, exits, untrained):
        training = "gated" if isinstance(exits, ExactPlacement) else "joint"
        clf = quick(training=training, combine=Trusted(), exits=exits)
        with pytest.raises(ValueError, match=r"Trusted.*gates|gates.*Trusted"):
            clf.fit(X, y)


STRATEGIES = [
    *(
        CombinedTraining(rule, every_exit=each)
        for rule in ("free", "max")
        for each in (True, False)
    ),
    *(CombinedTraining(rule) for rule in ("positive", "softmax", "mean", "additive")),
    CombinerTraining(),
    GatedTraining(),
    GatedTraining(head_weight=0.0),
    AuxiliaryTraining(),
]


@pytest.mark.parametrize("training", STRATEGIES, ids=str)
class TestEach:
    def test_learns(self, training):
        clf = quick(training=training, max_epochs=12).fit(X, y)
        assert accuracies(clf)[-1] > 0.5

    def test_one_exit_is_the_plain_network(self, training):
        clf = quick(training=training, exits=1).fit(X, y)
        plain = quick(training="joint", exits=1).fit(X, y)
        assert np.array_equal(clf.predict_proba(X_test), plain.predict_proba(X_test))


@pytest.mark.parametrize(
    ("training", "kind"),
    [
        ("combined", WeightedCombination),
        (CombinedTraining("max"), MaxCombination),
        ("combiner", RecurrentCombination),
        ("gated", GatedCombination),
    ],
)
class TestWhatIsTrainedTravels:
    def test_it_is_what_is_answered(self, training, kind):
        clf = quick(training=training).fit(X, y)
        asked = quick(training=training, combine="trained").fit(X, y)
        own = quick(training=training, combine="own").fit(X, y)
        assert isinstance(clf.cascade_.network.combiner, kind)
        expected = clf.predict_proba(X_test, threshold=2)
        assert np.array_equal(asked.predict_proba(X_test, threshold=2), expected)
        assert own.cascade_.network.combiner is None
        # What the heads alone say is put together by hand.
        said = outputs(replace(clf.cascade_.network, combiner=None), X_test.astype(np.float32))
        state = None
        for i in range(clf.n_exits_):
            answer, state = clf.cascade_.network.combiner.combine(state, said.at(i), i)
        np.testing.assert_allclose(answer, expected, atol=1e-12)

    def test_stored_and_read_again(self, training, kind):
        clf = quick(training=training, policy="margin").fit(X, y)
        again = pickle.loads(pickle.dumps(clf))
        assert np.array_equal(again.predict_proba(X_test), clf.predict_proba(X_test))

    def test_from_memory(self, training, kind, tmp_path):
        fitted = [quick(training=training, memory=str(tmp_path)).fit(X, y) for _ in range(2)]
        fresh = quick(training=training).fit(X, y)
        for clf in fitted:
            assert np.array_equal(clf.predict_proba(X_test), fresh.predict_proba(X_test))
            assert clf.history_[-1]["train_loss"] == fresh.history_[-1]["train_loss"]

    def test_folds_have_their_own(self, training, kind):
        """Held-out rows are answered by what their own fold's network has learned."""
        seen = []

        def watching(network, decision, rows):
            table = label_table(network, decision, rows)
            said = outputs(network, rows)
            assert np.array_equal(table.labels, decision.tabulate(said).labels)
            apart = outputs(replace(network, combiner=None), rows)
            state = None
            for i in range(said.n_exits):
                answer, state = network.combiner.combine(state, apart.at(i), i)
                np.testing.assert_allclose(said.at(i).probabilities, answer, atol=1e-12)
            seen.append(network.combiner)
            return table

        with mock.patch("skearlyexit._fitting._calibrating.label_table", watching):
            clf = quick(training=training, calibration=2).fit(X, y)
        assert len(seen) == 2
        assert seen[0] is not seen[1]
        assert clf.cascade_.network.combiner not in seen


@pytest.mark.parametrize("training", ["gated", CombinedTraining("softmax"), "auxiliary"])
def test_classical_heads_take_the_places_of_neural_ones(training):
    head = DecisionTreeClassifier(max_depth=4)
    clf = quick(training=training, head=head, max_epochs=12).fit(X, y)
    assert accuracies(clf)[-1] > 0.5
    assert all(isinstance(each, DecisionTreeClassifier) for each in clf.heads_)


def test_gates_of_labels_only():
    clf = quick(training="gated", policy="gate", combine="own", head=SVC()).fit(X, y)
    assert set(np.unique(clf.exit_table(X_test).probabilities)) == {0.0, 1.0}


class TestAuxiliary:
    def test_the_plain_network_remains(self):
        clf = quick(training="auxiliary", exits=3).fit(X, y)
        assert clf.n_exits_ == 1
        assert clf.costs_ == pytest.approx([1.0])
        assert len(clf.stages_) == len(clf.heads_) == 1
        assert [len(epoch["exits"]) for epoch in clf.history_] == [3] * 6

    def test_its_last_exit_is_that_of_joint_training(self):
        clf = quick(training="auxiliary", calibration=None).fit(X, y)
        joint = quick(
            training="joint",
            calibration=None,
            threshold=2,
        )
        joint.set_params(training=clone(AuxiliaryTraining(1.0)))
        auxiliary = clone(joint).fit(X, y)
        joint.set_params(training="joint").fit(X, y)
        assert np.array_equal(auxiliary.predict_proba(X_test), joint.predict_proba(X_test))
        assert not np.array_equal(auxiliary.predict_proba(X_test), clf.predict_proba(X_test))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"policy": "gate"}, "GatePolicy needs gates, which DistillationTraining does not learn"),
        ({"combine": "trained"}, "DistillationTraining learns none"),
        ({"training": CombinedTraining("least")}, "'rule' parameter of CombinedTraining"),
        ({"training": CombinedTraining("additive", every_exit=False)}, "needs every_exit=True"),
        ({"training": CombinerTraining(0)}, "'hidden' parameter of CombinerTraining"),
        ({"training": GatedTraining(-1)}, "'cost_weight' parameter of GatedTraining"),
        (
            {"training": CombinedTraining("free"), "head": SVC()},
            "negative weight for a head, which is not valid for the scikit-learn head",
        ),
        (
            {"training": "combiner", "head": ["linear", SVC(), "linear"]},
            "on the outputs of neural heads",
        ),
        (
            {"training": "gated", "policy": "gate", "exits": ExactPlacement(2, budget=0.8)},
            "have no gates",
        ),
        ({"combine": GatedCombination(), "training": "gated"}, "needs gates, which are learned"),
        ({"combine": WeightedCombination([1, 2])}, "Got 2 weights for 3 exits"),
        ({"combine": WeightedCombination([0, 2, 1])}, "the first one must be positive"),
        ({"combine": WeightedCombination(["a", 2, 1])}, "must be finite numbers"),
    ],
)
def test_refused_before_training(params, message):
    clf = quick(**params, max_epochs=10**9)
    with pytest.raises((ValueError, TypeError), match=message):
        clf.fit(X, y)


def test_a_rule_after_training_needs_no_trained_one():
    head = ["linear", SVC(), "linear"]
    clf = quick(training="combiner", head=head, combine="mean").fit(X, y)
    assert clf.cascade_.network.combiner is None


def test_view_and_network_share_the_combiner():
    network = tiny()
    network.combiner = WeightedSum(K, "softmax")
    view = CombinedView(network)
    assert any(each is network.combiner.raw for each in view.trainable())


def test_placement_by_probing_takes_heads_alone():
    clf = EarlyExitClassifier(
        exits=ExactPlacement(2, budget=0.9), training="gated", max_epochs=4, random_state=0
    )
    assert clf.fit(X, y).n_exits_ == 2


def test_weights_of_another_number_are_refused_before_the_backbone_is_trained():
    phases = []

    class Watch(Callback):
        def __deepcopy__(self, memo):
            return self

        def on_train_begin(self, net, **kwargs):
            phases.append(net)

    clf = quick(training=MixedTraining([1.0]), callbacks=[Watch()])
    with pytest.raises(ValueError, match="weights of MixedTraining must be 2"):
        clf.fit(X, y)
    assert not phases
