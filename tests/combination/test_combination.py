import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from skearlyexit._utils._resolve import resolve
from skearlyexit.combination import (
    CostWeightedCombination,
    GeometricCombination,
    MeanCombination,
    MostConfidentCombination,
    ProductCombination,
    TemperatureScaling,
)
from skearlyexit.combination._registry import COMBINATIONS
from tests.policies.test_policies import tables

COSTS = np.array([0.2, 0.5, 0.6, 1.0, 1.2, 1.3])


def fit(rule, table, seed=0):
    y = np.random.default_rng(seed).integers(table.shape[2], size=len(table))
    return rule.fit(table, y, costs=COSTS[: table.shape[1]], sample_weight=np.ones(len(table)))


@settings(deadline=None)
@given(tables())
def test_mean(table):
    answers = MeanCombination().answers(table)
    for k in range(table.shape[1]):
        np.testing.assert_allclose(answers[:, k], table[:, : k + 1].mean(axis=1), atol=1e-12)


@settings(deadline=None)
@given(tables())
def test_cost_weighted(table):
    answers = fit(CostWeightedCombination(), table).answers(table)
    for k in range(table.shape[1]):
        expected = np.average(table[:, : k + 1], axis=1, weights=COSTS[: k + 1])
        np.testing.assert_allclose(answers[:, k], expected, atol=1e-12)


def test_free_parts_count_the_same():
    table = np.array([[[0.8, 0.2], [0.4, 0.6]]])
    rule = CostWeightedCombination()
    rule.fit(table, np.zeros(1, int), costs=np.zeros(2), sample_weight=np.ones(1))
    np.testing.assert_allclose(rule.answers(table)[0, 1], [0.6, 0.4])


@settings(deadline=None)
@given(tables())
def test_surest(table):
    answers = MostConfidentCombination().answers(table)
    for row, answer in zip(table, answers, strict=True):
        for k in range(len(row)):
            largest = row[: k + 1].max(axis=1)
            best = max(range(k + 1), key=lambda i: (largest[i], i))
            assert answer[k].tolist() == row[best].tolist()


@settings(deadline=None)
@given(tables())
def test_product_is_of_clipped_logits(table):
    answers = ProductCombination().answers(table)
    for row, answer in zip(table, answers, strict=True):
        product = np.ones(table.shape[2])
        for k, p in enumerate(row):
            logits = np.log(np.maximum(p, 1e-12))
            factor = np.maximum(logits - logits.mean(), 0.0)
            factor[factor <= 1e-9] = 0.0
            if (product * factor).any():
                product = product * factor / (product * factor).max()
            np.testing.assert_allclose(answer[k], product / product.sum(), atol=1e-9)


@settings(deadline=None)
@given(tables())
def test_product_only_narrows_down(table):
    possible = ProductCombination().answers(table) > 0
    assert not (possible[:, 1:] & ~possible[:, :-1]).any()


class TestGeometric:
    def simulated(self, n_rows=4000, n_exits=3, n_classes=3):
        rng = np.random.default_rng(0)
        y = rng.integers(n_classes, size=n_rows)
        logits = rng.normal(size=(n_rows, n_exits, n_classes))
        logits += np.linspace(0.5, 2, n_exits)[:, None] * np.eye(n_classes)[y][:, None]
        return np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True), y

    def test_independent_heads_are_added(self):
        # Heads whose noise is independent: the best answer adds their true log likelihoods.
        table, y = self.simulated()
        rule = GeometricCombination().fit(table, y, costs=COSTS[:3], sample_weight=np.ones(len(y)))
        # log p(x | class k) differs by skill * x_k: the logits times the skill.
        np.testing.assert_allclose(rule.weights_[2], [0.5, 1.25, 2.0], atol=0.15)

    def test_is_as_likely_as_logistic_regression_finds(self):
        table, y = self.simulated(500)
        rule = GeometricCombination(alpha=1e-9)
        rule.fit(table, y, costs=COSTS[:3], sample_weight=np.ones(len(y)))
        for k in range(3):
            ours = log_loss(y, rule.answers(table)[:, k])
            # All products of the same logarithms are among what free coefficients can do.
            free = LogisticRegression(C=1e6, max_iter=5000)
            logs = np.log(table[:, : k + 1]).reshape(len(y), -1)
            assert ours >= log_loss(y, free.fit(logs, y).predict_proba(logs)) - 1e-4
            only_last = log_loss(y, table[:, k])
            assert ours <= only_last + 1e-6

    def test_no_small_change_is_better(self):
        table, y = self.simulated(300)
        weight = np.random.default_rng(1).uniform(0.1, 3, size=len(y))
        rule = GeometricCombination(alpha=2.0)
        rule.fit(table, y, costs=COSTS[:3], sample_weight=weight)

        def loss(weights, intercepts):
            logits = np.einsum("k,nkc->nc", weights, np.log(table)) + intercepts
            logits -= logits.max(axis=1, keepdims=True)
            p = np.exp(logits)[np.arange(len(y)), y] / np.exp(logits).sum(axis=1)
            return np.average(-np.log(p), weights=weight) + 1.0 / len(y) * intercepts @ intercepts

        best = loss(rule.weights_[2], rule.intercepts_[2])
        for i in range(3):
            for step in (-0.02, 0.02):
                assert (
                    loss(rule.weights_[2] + step * np.eye(3)[i], rule.intercepts_[2]) > best - 1e-7
                )
                assert (
                    loss(rule.weights_[2], rule.intercepts_[2] + step * np.eye(3)[i]) > best - 1e-7
                )


class TestTemperature:
    @settings(deadline=None)
    @given(tables())
    def test_labels_stay(self, table):
        y = np.zeros(len(table), dtype=int)
        scaling = TemperatureScaling().fit(table, y, np.ones(len(table)))
        for k in range(table.shape[1]):
            scaled = scaling.step(table[:, k], k)
            assert scaled.argmax(axis=1).tolist() == table[:, k].argmax(axis=1).tolist()
            np.testing.assert_allclose(scaled.sum(axis=1), 1.0, atol=1e-9)

    def test_is_the_likeliest(self):
        rng = np.random.default_rng(0)
        logits = 3 * rng.normal(size=(2000, 1, 4))
        p = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
        # Labels drawn by a distribution twice as hot.
        hot = np.sqrt(p[:, 0]) / np.sqrt(p[:, 0]).sum(axis=1, keepdims=True)
        y = (hot.cumsum(axis=1) > rng.random((2000, 1))).argmax(axis=1)
        weight = rng.uniform(0.5, 2, size=2000)
        found = TemperatureScaling().fit(p, y, weight).temperatures_[0]

        def loss(temperature):
            scaled = p[:, 0] ** (1 / temperature)
            return log_loss(y, scaled / scaled.sum(axis=1, keepdims=True), sample_weight=weight)

        expected = minimize_scalar(loss, bounds=(0.5, 5), method="bounded").x
        assert found == pytest.approx(expected, rel=1e-3)
        assert found == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("name", COMBINATIONS)
class TestEveryCombination:
    @settings(deadline=None, max_examples=25)
    @given(table=tables(), seed=st.integers(0, 1000))
    def test_answers_are_probabilities_and_those_of_steps(self, name, table, seed):
        rng = np.random.default_rng(seed)
        rule = fit(resolve(name, COMBINATIONS, "own"), table)
        expected = rule.answers(table)
        assert expected.min() >= 0
        np.testing.assert_allclose(expected.sum(axis=2), 1.0, atol=1e-9)
        rows, state = np.arange(len(table)), None
        for k in range(table.shape[1]):
            answer, state = rule.step(state, np.ascontiguousarray(table[rows, k]), k)
            assert answer.tolist() == expected[rows, k].tolist()
            stay = rng.permutation(np.flatnonzero(rng.random(len(rows)) < 0.7))
            rows, state = rows[stay], None if state is None else state[stay]

    def test_one_exit_keeps_its_label(self, name):
        table = np.random.default_rng(0).dirichlet(np.ones(3), size=(200, 1))
        y = table[:, 0].argmax(axis=1)
        rule = resolve(name, COMBINATIONS, "own")
        rule.fit(table, y, costs=np.ones(1), sample_weight=np.ones(200))
        answers = rule.answers(table)[:, 0]
        if name != "geometric":  # which may favour a class
            assert answers.argmax(axis=1).tolist() == y.tolist()


def test_resolve():
    assert type(resolve(None, COMBINATIONS, "own")) is COMBINATIONS["own"]
    with pytest.raises(ValueError, match="'alpha' parameter of GeometricCombination"):
        resolve(GeometricCombination(-1), COMBINATIONS, "own")
