"""Costs in seconds are times of the runtime of the estimator."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from torch import nn

from skearlyexit import CascadeRegressor, MLPBackbone, SecondsCost
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit.policies import ConfidencePolicy
from skearlyexit.runtime import _times
from skearlyexit.runtime._driver import tabulate
from skearlyexit.runtime._onnx_graphs import UNREACHED
from tests._data import Items, blobs, make, quick
from tests._padded import Padded

X, y, X_TEST, _ = blobs()

#: Seconds that each part takes for a sample that it computes.
STAGES, HEAD, DECISION = (3.0, 5.0, 7.0), 0.5, 0.25


class Clock:
    """Time that passes only where it is told to."""

    now = 0.0


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(_times, "perf_counter", lambda: Clock.now)
    Clock.now = 0.0


class Slow(nn.Module):
    """Layer that takes its time for each sample."""

    def __init__(self, seconds):
        super().__init__()
        self.layer, self.seconds = nn.Linear(16, 16), seconds

    def forward(self, rows):
        Clock.now += self.seconds * len(rows)
        return self.layer(nn.functional.pad(rows, (0, 16 - rows.shape[1])))


class SlowHead(LogisticRegression):
    def predict_proba(self, rows):
        Clock.now += HEAD * len(rows)
        return super().predict_proba(rows)


class SlowPolicy(ConfidencePolicy):
    def judge(self, state, output, exit_):
        Clock.now += DECISION * len(output)
        return super().judge(state, output, exit_)


def slow(**params):
    defaults = {
        "backbone": make(lambda: Padded([Slow(seconds) for seconds in STAGES])),
        "exits": [0, 1],
        "head": SlowHead(),
        "policy": SlowPolicy(),
        "max_epochs": 1,
    }
    return quick(**{**defaults, **params})


@pytest.mark.parametrize("batch_size", [256, 16])
def test_stages_heads_and_decisions_of_torch(clock, batch_size):
    table = slow(cost=SecondsCost(batch_size, n_repeats=2)).fit(X, y).cost_table_
    assert table.stage_costs.tolist() == [*STAGES]
    assert table.head_costs.tolist() == [HEAD] * 3
    assert table.decision_costs.tolist() == [DECISION, DECISION, 0.0]
    assert {each.how for each in (*table.stages, *table.heads)} == {"measured"}


def test_samples_that_are_filled_up_cost_time(clock):
    """torch runs vectors in multiples of 16."""
    table = slow(cost=SecondsCost(1, n_repeats=2)).fit(X, y).cost_table_
    assert table.stage_costs.tolist() == [16 * seconds for seconds in STAGES]
    assert table.head_costs.tolist() == [16 * HEAD] * 3


def test_several_slabs(clock):
    clf = slow(calibration=None, threshold=0.9).fit(X, y)
    cascade, X_many = clf.cascade_, np.tile(X, (40, 1)).astype(np.float32)
    times = _times.part_times(cascade.network, cascade.exit_rule, X_many)
    assert len(X_many) > 16384  # the largest slab
    n_computed = np.ceil(len(X_many) / 16) * 16
    assert times[:, _times.STAGE].tolist() == [seconds * n_computed for seconds in STAGES]
    assert times[:, _times.DECISION].tolist() == [DECISION * len(X_many)] * 2 + [0.0]


def test_what_is_decided_at_the_last_exit_counts_there():
    for params in ({"temperature_scaling": True}, {"training": "combiner"}):
        table = quick(cost=SecondsCost(n_repeats=3), **params).fit(X, y).cost_table_
        assert (table.decision_costs > 0).all()


def test_samples_that_are_read_as_they_are_needed():
    rows = Items(X.astype(np.float32), y)
    table = quick(cost=SecondsCost(600, n_repeats=2)).fit(rows).cost_table_
    assert table.stage_costs.min() > 0


class TestONNX:
    @pytest.fixture(autouse=True)
    def requires(self):
        pytest.importorskip("onnxruntime")

    def fitted(self, **params):
        params = {"backbone": MLPBackbone(2, width=16, hidden=16), "max_epochs": 1, **params}
        return quick(runtime="onnx", exits=["stem", "block1"], **params).fit(X, y)

    def test_parts_explain_the_times_of_whole_runs(self, clock, monkeypatch):
        """Each call of the session takes as long as the stages and heads that it computes."""
        run, n_calls = _times.Session.run, 0

        def timed(session, rows, thresholds):
            nonlocal n_calls
            n_calls += 1
            answers = run(session, rows, thresholds)
            assert len(rows) == 32
            assert len(set(answers.exits)) == 1
            last = answers.exits[0]
            heads = [HEAD for i in range(last) if thresholds[i] < 2] + [HEAD]
            Clock.now += 32 * (sum(STAGES[: last + 1]) + sum(heads))
            return answers

        monkeypatch.setattr(_times.Session, "run", timed)
        # A tree is certain of its samples, which exit nevertheless where they have to.
        clf = self.fitted(cost=SecondsCost(32, n_repeats=2), head=DecisionTreeClassifier())
        table = clf.cost_table_
        assert n_calls == 3 * 2 * 3
        assert table.stage_costs == pytest.approx([*STAGES[:2], STAGES[2] + HEAD])
        assert table.head_costs == pytest.approx([HEAD, HEAD, 0])
        plain = sum(STAGES) + HEAD
        until = [STAGES[0] + HEAD, sum(STAGES[:2]) + 2 * HEAD, sum(STAGES) + 3 * HEAD]
        assert clf.costs_ == pytest.approx(np.array(until) / plain)

    def test_the_plain_network_combines_nothing(self, clock, monkeypatch):
        run, plain = _times.Session.run, []

        def timed(session, rows, thresholds):
            answers = run(session, rows, thresholds, with_probabilities=True)
            (last,) = set(answers.exits)
            before = all(thresholds[:last] < 2)
            if last and not before:
                plain.append(answers)
            decisions = DECISION if last == 2 and before else 0.0
            n_heads = last + 1 if before else 1
            Clock.now += 32 * (sum(STAGES[: last + 1]) + n_heads * HEAD + decisions)
            return answers

        monkeypatch.setattr(_times.Session, "run", timed)
        clf = self.fitted(
            cost=SecondsCost(32, n_repeats=2), combine="mean", policy="patience", calibration=None
        )
        table = clf.cost_table_
        assert table.plain == pytest.approx(sum(STAGES) + HEAD)
        assert table.cumulative[0] * table.plain == pytest.approx(STAGES[0] + HEAD)
        until = sum(STAGES) + 3 * HEAD + DECISION
        assert table.cumulative[2] * table.plain == pytest.approx(until)
        # They are those of the heads, and those of the classifier are means.
        monkeypatch.undo()
        own = copy.deepcopy(clf.cascade_)
        alone = tabulate(
            replace(own, exit_rule=ExitRule.plain(ConfidencePolicy())), X[:32].astype(np.float32)
        )
        for answers in plain:
            last = answers.exits[0]
            expected = alone.probabilities[:, last]
            np.testing.assert_allclose(answers.probabilities, expected, atol=1e-5)

    def test_noise_makes_no_part_negative(self, monkeypatch):
        ticks = np.cumsum(np.random.RandomState(0).uniform(0.1, 1.0, 10**4)).tolist()
        monkeypatch.setattr(_times, "perf_counter", lambda: ticks.pop(0))
        table = self.fitted(cost=SecondsCost(n_repeats=3)).cost_table_
        parts = [*table.stages, *table.heads]
        assert all(0 <= part.low <= part.value <= part.high for part in parts)
        assert (np.diff(table.cumulative) >= 0).all()

    def test_what_is_compiled_for_the_costs_predicts(self):
        clf = self.fitted(cost=SecondsCost(n_repeats=2))
        compiled = clf.cascade_.compiled["onnx"]
        labels = clf.predict(X_TEST, threshold=0.6)
        assert clf.cascade_.compiled["onnx"] is compiled
        torch_runs = copy.deepcopy(clf).set_params(runtime="torch")
        assert np.array_equal(labels, torch_runs.predict(X_TEST, threshold=0.6))

    def test_estimators_in_a_row(self, clock, monkeypatch):
        """The call as such takes time for the last estimator alone, too."""
        run, (call, *each) = _times.Session.run, (0.25, 1.0, 4.0)

        def timed(session, rows, thresholds):
            answers = run(session, rows, thresholds)
            (last,) = set(answers.exits)
            computed = [i for i in range(last) if thresholds[i] < 2] + [last]
            Clock.now += 32 * (call + sum(each[i] for i in computed))
            return answers

        monkeypatch.setattr(_times.Session, "run", timed)
        estimators = [("linear", Ridge()), ("tree", DecisionTreeRegressor(max_depth=4))]
        cost = SecondsCost(32, n_repeats=2)
        reg = CascadeRegressor(estimators, cost=cost, runtime="onnx", random_state=0).fit(X, y)
        table = reg.cost_table_
        assert table.stage_costs == pytest.approx([call, each[1]])
        assert table.head_costs == pytest.approx([each[0], 0])
        assert table.plain == pytest.approx(call + each[1])
        compiled = reg.cascade_.compiled["onnx"]
        monkeypatch.undo()
        values = reg.predict(X_TEST, budget=1.1)
        assert reg.cascade_.compiled["onnx"] is compiled
        own = copy.deepcopy(reg).set_params(runtime="sklearn").predict(X_TEST, budget=1.1)
        np.testing.assert_allclose(values, own, atol=1e-5)

    def test_given_costs_of_estimators_need_no_session(self):
        estimators = [("linear", Ridge()), ("tree", DecisionTreeRegressor(max_depth=4))]
        reg = CascadeRegressor(estimators, cost=[1, 2], runtime="onnx", random_state=0).fit(X, y)
        assert reg.costs_.tolist() == [0.5, 1.5]
        assert not reg.cascade_.compiled

    def test_counts_need_no_session(self):
        assert not self.fitted().cascade_.compiled

    def test_a_head_may_be_computed_although_none_can_exit(self):
        clf = self.fitted(head=DecisionTreeClassifier())
        assert (clf.exit_table(X).scores == 1).any()
        _, exits = clf.predict(X, threshold=UNREACHED, return_exits=True)
        assert (exits == 2).all()

    def test_one_exit(self):
        clf = quick(runtime="onnx", exits=1, cost="seconds").fit(X, y)
        assert clf.costs_.tolist() == [1.0]
