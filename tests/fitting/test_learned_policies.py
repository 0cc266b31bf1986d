import numpy as np
import pytest
from scipy.special import expit
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import (
    AdaptivePlacement,
    CostSensitivePolicy,
    EarlyExitClassifier,
    ExactPlacement,
    LearnedConfidencePolicy,
    ScheduledPolicy,
)
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._exit_table import Outputs
from skearlyexit._fitting._cross_fit import N_FOLDS, cross_fit
from skearlyexit._utils._resolve import resolve
from skearlyexit.calibration import Budget, CalibrationData, compute_frontier
from skearlyexit.combination import OwnCombination
from skearlyexit.costs._compose import RoutedCosts
from skearlyexit.experimental import ReinforcedPolicy
from skearlyexit.policies import Policy
from skearlyexit.policies._features import answer_features
from skearlyexit.policies._logistic import LogisticPolicy
from skearlyexit.policies._registry import POLICIES
from tests._data import blobs, quick, same

COSTS = np.array([0.3, 0.7, 1.1])


def simulated(seed=0, n_rows=1500, n_exits=3, n_classes=3):
    """Heads that grow better, on rows of different difficulty, and the true classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n_rows)
    ease = rng.uniform(-0.2, 3.0, size=(n_rows, 1, 1))
    skill = np.linspace(0.7, 1.6, n_exits)[:, None]
    logits = skill * ease * np.eye(n_classes)[y][:, None]
    logits = 2 * (logits + 0.6 * rng.normal(size=logits.shape))
    p = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return p, y


def fit(policy, p, y, weight=None):
    weight = np.ones(len(y)) if weight is None else weight
    costs = COSTS[: p.shape[1]]
    return resolve(policy, POLICIES, "confidence").fit(
        p, y, costs=costs, sample_weight=weight, seed=0
    )


class NumberOfSamplesLearnedFrom(Policy):
    """Its score says how many samples it has learned from."""

    is_learned = True

    def fit(self, probabilities, y, **kwargs):
        self.n_samples_ = len(y)
        return self

    def step(self, state, probabilities, exit_=0):
        return np.full(len(probabilities), self.n_samples_ / 1000), None


def chances(policy, p):
    """Chance to leave at each of the first two exits."""
    return np.stack([policy.chance(p[:, k], k) for k in range(p.shape[1] - 1)], axis=1)


def test_features_by_hand():
    p = np.array([[0.7, 0.2, 0.1]])
    entropy = -(0.7 * np.log(0.7) + 0.2 * np.log(0.2) + 0.1 * np.log(0.1)) / np.log(3)
    q = np.array([0.49, 0.04, 0.01]) / 0.54
    squared = -(q @ np.log(q)) / np.log(3)
    np.testing.assert_allclose(answer_features(p), [[0.7, 0.5, entropy, squared]])
    assert answer_features(p[:, ::-1], "probabilities").tolist() == [[0.7, 0.2, 0.1]]


class TestLearnedConfidence:
    @pytest.mark.parametrize("features", ["summary", "probabilities"])
    def test_is_the_estimators_probability_to_be_right(self, features):
        p, y = simulated()
        policy = fit(LearnedConfidencePolicy(features=features), p, y)
        for k in range(3):
            model = make_pipeline(StandardScaler(), LogisticRegression())
            seen = answer_features(np.ascontiguousarray(p[:, k]), features)
            model.fit(seen, p[:, k].argmax(axis=1) == y)
            np.testing.assert_allclose(
                policy.step(None, p[:, k], k)[0], model.predict_proba(seen)[:, 1], atol=1e-12
            )

    def test_orders_answers_where_confidence_misleads(self):
        # Sure means wrong at this exit, half of the time.
        rng = np.random.default_rng(0)
        top = rng.uniform(0.5, 1.0, size=2000)
        p = np.stack([top, 1 - top], axis=1)[:, None]
        right = rng.random(2000) < np.where(np.abs(top - 0.75) < 0.125, 0.95, 0.5)
        y = np.where(right, 0, 1)
        policy = fit(LearnedConfidencePolicy(DecisionTreeClassifier(max_depth=3)), p, y)
        new = policy.step(None, p[:, 0], 0)[0]
        assert roc_auc_score(right, top) < 0.55
        assert roc_auc_score(right, new) > 0.7

    def test_weights_count_as_rows(self):
        p, y = simulated(n_rows=200)
        weight = np.random.default_rng(0).integers(1, 4, size=200).astype(float)
        repeated = np.repeat(np.arange(200), weight.astype(int))
        estimator = DecisionTreeClassifier(max_depth=2, random_state=0)
        by_weight = fit(LearnedConfidencePolicy(estimator), p, y, weight)
        by_rows = fit(LearnedConfidencePolicy(estimator), p[repeated], y[repeated])
        np.testing.assert_allclose(by_weight.score(p), by_rows.score(p))

    def test_an_exit_that_is_always_right(self):
        p, _ = simulated()
        policy = fit(LearnedConfidencePolicy(), p, p[:, 2].argmax(axis=1))
        assert policy.step(None, p[:, 2], 2)[0].tolist() == [1.0] * len(p)

    def test_an_estimator_without_probabilities_is_calibrated(self):
        p, y = simulated(n_rows=300)
        scores = fit(LearnedConfidencePolicy(LinearSVC()), p, y).score(p)
        assert 0 <= scores.min() < scores.max() <= 1


class TestCostSensitive:
    def test_leaves_where_the_tables_say(self):
        # Two kinds of answers: those of the first exit that are unsure are wrong, and righted.
        p = np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.6, 0.4], [0.1, 0.9]]] * 50)
        y = np.array([0, 1] * 50)
        tree = DecisionTreeClassifier()
        follow = fit(CostSensitivePolicy(tree, cost_weight=0.5), p, y).score(p)[:, 0]
        assert follow.tolist() == [1.0, 0.0] * 50
        # To right an answer costs 0.4 of the plain network; at 3 errors each that is too dear.
        dear = fit(CostSensitivePolicy(tree, cost_weight=3.0), p, y).score(p)[:, 0]
        assert dear.tolist() == [1.0] * 100

    @pytest.mark.parametrize("cost_weight", [0.0, 0.05, 0.3])
    def test_is_learned_from_the_last_exit_back(self, cost_weight):
        p, y = simulated(1)
        tree = DecisionTreeClassifier(max_depth=4, random_state=3)
        policy = fit(CostSensitivePolicy(tree, cost_weight=cost_weight), p, y)
        # The same once more, row by row, without the code under test.
        wrong = p.argmax(axis=2) != y[:, None]
        best = wrong[:, 2] + cost_weight * COSTS[2]
        for k in (1, 0):
            now = wrong[:, k] + cost_weight * COSTS[k]
            stake = np.abs(best - now)
            rows = stake > 0
            model = DecisionTreeClassifier(max_depth=4, random_state=3)
            seen = answer_features(np.ascontiguousarray(p[:, k]))
            model.fit(seen[rows], (now <= best)[rows], stake[rows] / stake[rows].mean())
            expected = model.predict_proba(seen)[:, 1]
            np.testing.assert_allclose(policy.step(None, p[:, k], k)[0], expected, atol=1e-12)
            best = np.where(expected >= 0.5, now, best)

    def test_is_better_than_both_constants(self):
        p, y = simulated(2, n_rows=4000)
        policy = fit(CostSensitivePolicy(cost_weight=0.1), p[:2000], y[:2000])
        exits = (policy.score(p[2000:]) >= 0.5).argmax(axis=1)
        right = p[2000:].argmax(axis=2) == y[2000:, None]

        def paid(exits):
            return np.mean(~right[np.arange(2000), exits] + 0.1 * COSTS[exits])

        assert paid(exits) < min(paid(np.full(2000, k)) for k in range(3))


class TestScheduled:
    @pytest.mark.parametrize("budget", [0.4, 0.6, 0.9])
    def test_spends_the_budget(self, budget):
        p, y = simulated()
        policy = fit(ScheduledPolicy(budget), p, y)
        assert policy.shares_.sum() == pytest.approx(1.0)
        assert policy.shares_ @ COSTS <= budget + 0.01
        chance = chances(policy, p)
        stay = np.cumprod(1 - chance, axis=1)
        expected = [
            chance[:, 0].mean(),
            (stay[:, 0] * chance[:, 1]).mean(),
            stay[:, 1].mean(),
        ]
        np.testing.assert_allclose(policy.shares_, expected, atol=1e-9)

    def test_chance_is_logistic_in_the_features_and_the_score_its_rank(self):
        p, y = simulated(n_rows=300)
        policy = fit(ScheduledPolicy(0.6), p, y)
        seen = answer_features(np.ascontiguousarray(p[:, 1]))
        expected = expit(seen @ policy.coef_[1] + policy.intercept_[1])
        np.testing.assert_allclose(policy.chance(p[:, 1], 1), expected)
        score = policy.step(None, p[:, 1], 1)[0]
        rank = np.argsort(np.argsort(seen @ policy.coef_[1])) / 299
        np.testing.assert_allclose(score, rank, atol=0.01)

    @pytest.mark.parametrize("policy", [ScheduledPolicy(0.6), ReinforcedPolicy(0.1)])
    def test_scores_learned_from_other_rows_compare(self, policy):
        # Chances do not: how steep they are is left to chance.
        p, y = simulated(n_rows=4000)
        first, second = (fit(policy, p[half::2], y[half::2]).score(p)[:, 0] for half in (0, 1))
        for share in (0.2, 0.5, 0.8):
            threshold = np.quantile(first, share)
            assert np.mean(second >= threshold) == pytest.approx(1 - share, abs=0.05)

    def test_finds_what_a_search_finds(self):
        # One exit with a choice, one feature that matters: a threshold is the optimum.
        p, y = simulated(3, n_exits=2)
        policy = fit(ScheduledPolicy(0.5, max_iter=2000), p, y)
        right = p.argmax(axis=2) == y[:, None]
        chance = chances(policy, p)[:, 0]
        ours = np.mean(chance * right[:, 0] + (1 - chance) * right[:, 1])
        cost = policy.shares_ @ COSTS[:2]
        best = max(
            np.where(leaves, right[:, 0], right[:, 1]).mean()
            for leaves in (p[:, 0].max(axis=1) >= t for t in np.unique(p[:, 0].max(axis=1)))
            if np.where(leaves, COSTS[0], COSTS[1]).mean() <= cost
        )
        assert ours >= best - 0.01

    def test_a_budget_out_of_reach_becomes_the_nearest(self):
        p, y = simulated(n_rows=200)
        assert fit(ScheduledPolicy(0.01), p, y).shares_[0] > 0.95


class TestReinforced:
    def test_earns_nearly_what_the_expectation_does(self):
        p, y = simulated(4, n_rows=3000)
        right = p.argmax(axis=2) == y[:, None]

        def earned(policy):
            chance = chances(policy, p)
            stay = np.cumprod(1 - chance, axis=1)
            shares = np.stack([chance[:, 0], stay[:, 0] * chance[:, 1], stay[:, 1]], axis=1)
            return np.mean((shares * (right - 0.2 * COSTS)).sum(axis=1))

        reinforced = earned(fit(ReinforcedPolicy(0.2), p, y))
        constants = [np.mean(right[:, k] - 0.2 * COSTS[k]) for k in range(3)]
        assert reinforced > max(constants) + 0.01
        # Given the cost that this one spends, what climbing the expectation itself earns.
        spent = fit(ReinforcedPolicy(0.2), p, y)
        chance = chances(spent, p)
        stay = np.cumprod(1 - chance, axis=1)
        cost = np.mean(
            chance[:, 0] * COSTS[0] + stay[:, 0] * chance[:, 1] * COSTS[1] + stay[:, 1] * COSTS[2]
        )
        assert reinforced > earned(fit(ScheduledPolicy(float(cost)), p, y)) - 0.01

    def test_dear_networks_are_left_at_once_and_free_ones_run_to_the_end(self):
        p, y = simulated(5)
        assert chances(fit(ReinforcedPolicy(5.0), p, y), p)[:, 0].min() > 0.9
        better = np.stack([np.full((500, 2), 0.5), np.eye(2)[np.zeros(500, int)]], axis=1)
        truth = np.random.default_rng(0).integers(2, size=500)
        better[:, 1] = np.eye(2)[truth]
        assert chances(fit(ReinforcedPolicy(0.0), better, truth), better).max() < 0.1


LEARNED = [LearnedConfidencePolicy(), CostSensitivePolicy(), ScheduledPolicy(), ReinforcedPolicy()]


def with_policy(policy, calibration=0.3):
    X, y, _, _ = blobs()
    return quick(policy=policy, calibration=calibration, budget=0.8, max_epochs=2).fit(X, y)


@pytest.fixture(scope="module", params=LEARNED, ids=str)
def fitted(request):
    """A policy, its parameters, and a classifier fitted with it, not to be changed."""
    before = dict(vars(request.param))
    return request.param, before, with_policy(request.param)


class TestInTheEstimator:
    def test_their_cost_is_counted(self, fitted):
        policy, _, clf = fitted
        n_classes = 4
        # Four numbers from each class, then a weighted sum; a scaler has two numbers for each, and
        # where the sum lies among 257 is found by halving.
        sums = 5 + np.log2(257) if isinstance(policy, LogisticPolicy) else 8 + 5
        expected = n_classes * 4 + sums
        assert clf.cost_table_.decision_costs.tolist() == [expected, expected, 0]

    def test_the_given_object_stays_unfitted(self, fitted):
        policy, before, _ = fitted
        assert vars(policy) == before

    @pytest.mark.parametrize("policy", LEARNED, ids=str)
    def test_needs_held_out_rows(self, policy):
        X, y, _, _ = blobs()
        message = f"{type(policy).__name__} cannot be used without calibration samples"
        with pytest.raises(ValueError, match=message):
            quick(policy=policy, calibration=None, threshold=0.5).fit(X, y)

    def test_same_seed_same_policy(self, fitted):
        policy, _, clf = fitted
        _, _, X_test, _ = blobs()
        again = with_policy(policy)
        assert same(again.exit_table(X_test).scores, clf.exit_table(X_test).scores)

    @pytest.mark.parametrize("policy", LEARNED, ids=str)
    def test_same_seed_same_policy_from_folds(self, policy):
        _, _, X_test, _ = blobs()
        first, second = (with_policy(policy, 2).exit_table(X_test) for _ in range(2))
        assert same(first.scores, second.scores)


def test_thresholds_are_not_chosen_on_rows_that_the_policy_learned_from():
    """A forest is sure of what it learned: thresholds chosen on the same rows promise too much."""
    rng = np.random.RandomState(0)
    X, y = rng.randn(800, 5), rng.randint(2, size=800)  # nothing to learn, nothing to tell
    policy = LearnedConfidencePolicy(RandomForestClassifier(10), features="probabilities")
    for calibration in (0.5, 3):
        clf = quick(policy=policy, calibration=calibration).fit(X, y)
        # Right on six rows in ten at best, by luck; on its own rows a forest knows nearly all.
        assert clf.frontier_.accuracies[-1] < 0.65


def test_learned_parts_see_rows_of_their_own(monkeypatch):
    """Temperature, combination and policy: disjoint rows, and none of those that they judge."""
    from skearlyexit._fitting import _operating_point
    from skearlyexit.combination import GeometricCombination, TemperatureScaling

    seen = {}

    def spy(cls, name):
        original = getattr(cls, name)

        def wrapped(self, outputs, y, *args, **kwargs):
            seen.setdefault(cls.__name__, []).append(set(np.round(weights_of(args, kwargs), 6)))
            return original(self, outputs, y, *args, **kwargs)

        monkeypatch.setattr(cls, name, wrapped)

    def weights_of(args, kwargs):
        return kwargs.get("sample_weight", args[0] if args else None)

    for cls in (TemperatureScaling, GeometricCombination, LearnedConfidencePolicy):
        spy(cls, "fit")
    original = _operating_point.compute_frontier

    def compute_frontier(data):
        shares, largest = data.weight_shares
        seen["thresholds"] = [set(np.round(shares * largest, 6))]
        return original(data)

    monkeypatch.setattr(_operating_point, "compute_frontier", compute_frontier)
    X, y, _, _ = blobs()
    # Every row has a weight of its own, by which it is known again; their mean is 1.
    weight = 0.5 + (np.arange(len(y)) + 0.5) / len(y)
    clf = EarlyExitClassifier(
        policy="learned",
        combine="geometric",
        temperature_scaling=True,
        calibration=0.5,
        max_epochs=2,
        random_state=0,
    )
    clf.fit(X, y, sample_weight=weight)
    names = ["TemperatureScaling", "GeometricCombination", "LearnedConfidencePolicy"]
    assert sorted(seen) == sorted([*names, "thresholds"])
    everything = seen["thresholds"][0]
    assert len(everything) == 250
    judged = []
    for k in range(6):  # five folds, and all of them
        parts = [seen[name][k] for name in names]
        learned = set().union(*parts)
        assert sum(map(len, parts)) == len(learned) == (200 if k < 5 else 250)
        judged.append(everything - learned)
    # Each row is judged once, by what has learned from the others.
    assert set().union(*judged) == everything
    assert sum(map(len, judged)) == 250


def test_few_rows_are_refused():
    X, y, _, _ = blobs()
    clf = quick(policy="learned", combine="geometric", temperature_scaling=True, calibration=5)
    with pytest.raises(ValueError, match="held-out samples"):
        quick(policy="learned", combine="geometric", temperature_scaling=True, calibration=0.3).fit(
            X[:12], y[:12]
        )
    assert clf.fit(X, y).predict(X[:3]).shape == (3,)


def test_class_weights_are_part_of_the_answer():
    """A combination learned on rows as they come would take back what class weights did."""
    rng = np.random.RandomState(0)
    X, y = rng.randn(400, 5), rng.randint(2, size=400)
    weighted = quick(
        class_weight={0: 1000, 1: 0.001}, combine="geometric", temperature_scaling=True
    )
    assert (weighted.fit(X, y).predict(X) == 0).mean() > 0.95


def test_labels_are_votes():
    X, y, X_test, _ = blobs()
    clf = quick(head=LinearSVC(), policy="patience", combine="mean").fit(X, y)
    assert set(np.unique(clf.exit_table(X_test).probabilities[:, 2] * 3).round(9)) == {0, 1, 2, 3}
    labels, exits = clf.predict(X_test, threshold=1.0, return_exits=True)
    table = clf.exit_table(X_test)
    assert same(labels, clf.classes_[table.labels[np.arange(len(exits)), exits]])


@pytest.mark.parametrize("cost", ["seconds", "bytes"])
def test_other_costs_see_what_decides(cost):
    X, y, _, _ = blobs()
    exits = ["block1", "block2"]  # timed shares of so small a network vary
    clf = quick(policy="learned", combine="mean", cost=cost, exits=exits).fit(X, y)
    table = clf.cost_table_
    assert table.decision_costs[:2].min() > 0
    assert table.decision_costs[2] < table.decision_costs[0]


@pytest.mark.parametrize("exits", [ExactPlacement(3, budget=0.8), AdaptivePlacement()])
def test_places_are_judged_by_the_same_decision(exits):
    X, y, X_test, y_test = blobs()
    params = {"policy": "learned", "combine": "mean", "temperature_scaling": True}
    clf = quick(exits=exits, **params).fit(X, y)
    assert clf.score(X_test, y_test) > 0.3
    assert set(clf.exit_names_) <= {"stem", "block1", "block2", "block3"}


class TestScoresThatThresholdsAreChosenOn:
    """None of them comes from a policy that has learned from the sample."""

    @pytest.mark.parametrize("folds", [[200], [60, 80, 60]])
    def test_are_those_of_the_policy_that_left_the_sample_out(self, folds):
        p, y = simulated(n_rows=200)
        held_out = Samples(Outputs(p), y)
        rule = ExitRule(None, OwnCombination(), NumberOfSamplesLearnedFrom())
        costs = RoutedCosts(COSTS, np.zeros(len(COSTS)))
        final, judged = cross_fit(rule, held_out, folds, lambda: costs, np.random.RandomState(0))
        left_out = np.repeat(folds, folds) if len(folds) > 1 else np.full(200, 200 / N_FOLDS)
        assert judged.X.scores[:, 0].tolist() == ((200 - left_out) / 1000).tolist()
        assert final.policy.n_samples_ == 200

    def test_new_samples_exit_as_often_as_calibrated(self):
        # A forest is certain of the samples it has learned from.
        p, y = simulated(n_rows=1200, n_exits=2)
        held_out = Samples(Outputs(p[:200]), y[:200])
        policy = LearnedConfidencePolicy(ExtraTreesClassifier(10))
        rule, costs = ExitRule(None, OwnCombination(), policy), np.array([0.2, 1.0])
        known = RoutedCosts(costs, np.zeros(2))
        final, judged = cross_fit(rule, held_out, [200], lambda: known, np.random.RandomState(0))
        data = CalibrationData.from_table(judged.X, judged.y, costs)
        thresholds = Budget(0.6).thresholds(data, compute_frontier(data))
        cost = costs[final.tabulate(Outputs(p[200:])).exits(thresholds)].mean()
        assert cost == pytest.approx(0.6, abs=0.06)


@pytest.mark.usefixtures("untrained")
def test_a_product_of_two_classes_is_refused_before_training():
    X, y, _, _ = blobs()
    with pytest.raises(ValueError, match=r"needs at least 3 classes\. Got 2"):
        quick(combine="product").fit(X, y % 2)
