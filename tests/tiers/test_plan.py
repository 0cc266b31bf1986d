"""Latency, bytes, energy and price of plans, against sums by hand and the links of costs."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from skearlyexit import (
    Budget,
    CascadeClassifier,
    EarlyExitRegressor,
    ExitRouter,
    Link,
    MACsCost,
    MLPBackbone,
    Threshold,
    TracedBackbone,
)
from skearlyexit.tiers import ModelParts, Tier, TierPlan, choose_plan
from tests._data import make
from tests.tiers._models import PARTS, X_TEST, Y_TEST, X, four_blocks, network, y

TIERS = [
    Tier("device", rate=2.0, power=3.0, overhead=0.25),
    Tier("edge", rate=10.0, power=7.0, price=0.5),
    Tier("cloud", rate=40.0, price=2.0, overhead=0.125),
]
LINKS = [
    Link(bandwidth=16.0, latency=0.5, energy=0.01),
    Link(bandwidth=64.0, latency=1.5, energy=0.02, price=0.03),
]
ASSIGNMENTS = [
    ["device", "device", "edge", "cloud"],
    ["device", "device", "cloud", "cloud"],  # the edge passes samples on
    ["edge", "edge", "edge", "cloud"],  # the samples themselves are sent
    ["cloud"] * 4,
    ["device"] * 4,
    [0, 1, 1, 2],
]


def path(assignment, exit_):
    """Seconds, energy, price and bytes of one sample, step by step."""
    names = [tier.name for tier in TIERS]
    seconds = energy = price = n_bytes = 0.0
    at, called = 0, set()
    for i in range(exit_ + 1):
        wanted = assignment[i] if isinstance(assignment[i], int) else names.index(assignment[i])
        while at < wanted:
            link, size = LINKS[at], PARTS.n_bytes[i]
            seconds += size / link.bandwidth + link.latency
            energy += size * link.energy
            price += size * link.price
            n_bytes += size
            at += 1
        tier = TIERS[at]
        computed = PARTS.work[i] / tier.rate + (0.0 if at in called else tier.overhead)
        called.add(at)
        seconds += computed
        energy += computed * tier.power
        price += computed * tier.price
    return seconds, energy, price, n_bytes


@pytest.mark.parametrize("assignment", ASSIGNMENTS, ids=str)
def test_each_exit_costs_what_its_path_does(assignment):
    by_exit = TierPlan(TIERS, LINKS, assignment).by_exit(PARTS)
    found = np.stack([by_exit.latency, by_exit.energy, by_exit.price, by_exit.n_bytes], axis=1)
    np.testing.assert_allclose(found, [path(assignment, i) for i in range(4)], rtol=1e-12)


def test_means_and_percentiles_are_those_of_the_samples():
    plan = TierPlan(TIERS, LINKS, ASSIGNMENTS[0])
    exits = np.repeat([0, 1, 2, 3], [50, 30, 16, 4])
    report = plan.report_of_exits(PARTS, exits)
    each = sorted(path(ASSIGNMENTS[0], i) for i in exits)
    np.testing.assert_allclose(
        [report.latency, report.energy, report.price, report.n_bytes], np.mean(each, axis=0)
    )
    # The smallest latency that 50, 95 and 99 of the 100 samples do not exceed.
    found = [report.latency_p50, report.latency_p95, report.latency_p99]
    np.testing.assert_allclose(found, [each[49][0], each[94][0], each[98][0]])
    np.testing.assert_allclose(report.exit_rate, [0.5, 0.3, 0.16, 0.04])
    np.testing.assert_allclose(report.tier_rate, [1.0, 0.2, 0.04])
    np.testing.assert_allclose(report.link_rate, [0.2, 0.04])
    np.testing.assert_allclose(report.link_bytes, [0.2 * 16, 0.04 * 8])
    assert np.isnan(report.accuracy)


def test_a_tier_that_passes_on_computes_for_nobody():
    report = TierPlan(TIERS, LINKS, ASSIGNMENTS[1]).report_of_exits(PARTS, [0, 3])
    assert report.tier_rate.tolist() == [1.0, 0.0, 0.5]
    assert report.tier_seconds[1] == 0.0
    assert report.link_rate.tolist() == [0.5, 0.5]


def test_a_single_exit():
    clf = four_blocks(exits=1, calibration=None, operating_point=None)
    plan = TierPlan(TIERS[:2], LINKS[:1], ["edge"])
    report = plan.report(clf, X_TEST, Y_TEST)
    assert report.latency == plan.by_exit(ModelParts.of(clf, X)).latency[0]
    assert report.accuracy == report.last_accuracy == clf.score(X_TEST, Y_TEST)
    assert report.link_bytes.tolist() == [52.0]
    assert choose_plan(TIERS, LINKS, clf, X_TEST, Y_TEST, minimize="bytes").value == 0.0


def test_links_of_costs_say_the_same():
    link = Link("block2", bandwidth=1e4, latency=0.003)
    costs = four_blocks(cost=MACsCost(rate=1e6, links=[link])).cost_table_
    plan = TierPlan(
        [Tier("device", rate=1e6), Tier("cloud", rate=1e6)],
        [Link(bandwidth=1e4, latency=0.003)],
        [0, 0, 1],
    )
    latency = plan.by_exit(ModelParts.of(four_blocks(), X)).latency
    np.testing.assert_allclose(latency, costs.cumulative * costs.plain)
    # A model whose costs contain a link is not charged for it twice.
    linked = four_blocks(cost=MACsCost(rate=1.0, links=[link]))
    np.testing.assert_allclose(plan.by_exit(ModelParts.of(linked, X)).latency, latency)


class TestBytes:
    def sizes(self, clf):
        return ModelParts.of(clf, X_TEST).n_bytes.tolist()

    def test_several_tensors_are_passed_on(self):
        class Skip(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Linear(13, 8), nn.Linear(8, 8)
                self.rest = nn.Linear(8 + 13, 4)

            def forward(self, rows):
                return self.rest(torch.cat([self.second(self.first(rows)), rows], dim=1))

        clf = four_blocks(backbone=TracedBackbone(make(Skip)), exits=["first"], head="linear")
        assert self.sizes(clf) == [4 * 13, 4 * (8 + 13)]

    def test_double_precision_takes_twice_as_much(self):
        single, double = (self.sizes(four_blocks(dtype=each)) for each in ("float32", "float64"))
        assert single == [4 * 13, 4 * 16, 4 * 16]
        assert double == [2 * each for each in single]

    def test_what_is_remembered_is_sent_too(self):
        # Weighted sums of the probabilities of 4 classes and of the weights, in double precision.
        assert self.sizes(four_blocks(combine="mean")) == [52, 64 + 40, 64 + 40]
        assert self.sizes(four_blocks(policy="patience"))[1] > 64

    def test_a_combination_that_was_learned_with_the_network_is_sent_too(self):
        clf = four_blocks(training="combiner", combine="trained")
        assert self.sizes(clf)[0] == 52
        assert min(self.sizes(clf)[1:]) > 64

    def test_size_of_a_sample_as_it_is_sent(self):
        parts = ModelParts.of(four_blocks(), X_TEST, sample_bytes=7.5)
        assert parts.n_bytes.tolist() == [7.5, 64, 64]

    def test_estimators_in_a_row_are_sent_the_sample(self):
        members = [(name, LogisticRegression(max_iter=200)) for name in "ab"]
        clf = CascadeClassifier(members, operating_point=Threshold(0.7), random_state=0).fit(X, y)
        assert self.sizes(clf) == [8 * 13, 8 * 13]
        assert ModelParts.of(clf, X, sample_bytes=20).n_bytes.tolist() == [20, 20]

    def test_members_of_an_ensemble_are_sent_the_sum_so_far(self):
        forest = RandomForestClassifier(6, max_depth=3, random_state=0).fit(X, y)
        clf = CascadeClassifier.from_ensemble(
            forest, [2], cost="macs", operating_point=Threshold(0.7), random_state=0
        ).fit(X_TEST, Y_TEST)
        assert self.sizes(clf) == [8 * 13, 8 * 13 + 8 * 4]

    def test_the_size_of_texts_has_to_be_given(self):
        texts, labels = (
            ["red apple", "green pear", "red rose", "green leaf"] * 10,
            [0, 1, 0, 1] * 10,
        )
        members = [(name, make_pipeline(CountVectorizer(), MultinomialNB())) for name in "ab"]
        clf = CascadeClassifier(members, operating_point=Threshold(0.7), random_state=0).fit(
            texts, labels
        )
        with pytest.raises(ValueError, match="size of a sample in bytes is not known"):
            ModelParts.of(clf, texts)
        assert ModelParts.of(clf, texts, sample_bytes=9).n_bytes.tolist() == [9, 9]

    @pytest.mark.parametrize("size", [-1, float("inf")])
    def test_impossible_size(self, size):
        with pytest.raises(ValueError, match="'sample_bytes' must be a finite number"):
            ModelParts.of(network(), X, sample_bytes=size)


class TestReport:
    plan = TierPlan(
        [Tier("device", rate=1e6, power=2.0), Tier("cloud", rate=1e9, price=1.0)],
        [Link(bandwidth=1e4, latency=0.01, energy=1e-6)],
        [0, 0, 1],
    )

    @pytest.mark.parametrize("asked", [{}, {"threshold": 0.5}, {"budget": 0.8}], ids=str)
    def test_exits_and_accuracy_are_those_of_the_model(self, asked):
        report = self.plan.report(network(), X_TEST, Y_TEST, **asked)
        labels, exits = network().predict(X_TEST, return_exits=True, **asked)
        latency = self.plan.by_exit(ModelParts.of(network(), X)).latency
        assert report.latency == pytest.approx(latency[exits].mean())
        assert report.accuracy == pytest.approx((labels == Y_TEST).mean())
        *_, last = network().staged_predict(X_TEST)
        assert report.last_accuracy == pytest.approx((last == Y_TEST).mean())

    def test_a_strict_budget_is_kept(self):
        budget = Budget(0.7, strict=True)
        report = self.plan.report(network(), X_TEST, Y_TEST, budget=budget)
        _, exits = network().predict(X_TEST, budget=budget, return_exits=True)
        np.testing.assert_allclose(report.exit_rate, np.bincount(exits, minlength=3) / len(exits))

    def test_weights_count_samples(self):
        weight = np.random.default_rng(0).integers(0, 3, len(Y_TEST))
        found = self.plan.report(network(), X_TEST, Y_TEST, sample_weight=weight)
        several = self.plan.report(
            network(), np.repeat(X_TEST, weight, axis=0), np.repeat(Y_TEST, weight)
        )
        for name in ("latency", "latency_p95", "energy", "price", "n_bytes", "accuracy"):
            assert getattr(found, name) == pytest.approx(getattr(several, name))
        assert found.n_samples == np.count_nonzero(weight)

    def test_no_weight(self):
        with pytest.raises(ValueError, match="at least one non-zero number"):
            self.plan.report(network(), X_TEST, Y_TEST, sample_weight=np.zeros(len(Y_TEST)))

    def test_an_exit_table_says_the_same(self):
        table = network().exit_table(X_TEST)
        correct = table.labels == np.searchsorted(network().classes_, Y_TEST)[:, None]
        found = self.plan.report_of_exits(
            ModelParts.of(network(), X), table.exits(network().thresholds_), correct=correct
        )
        assert str(found) == str(self.plan.report(network(), X_TEST, Y_TEST))

    def test_a_pipeline(self):
        shifted = make_pipeline(FunctionTransformer(lambda rows: rows - 1.0), network())
        found = self.plan.report(shifted.fit(X + 1.0, y), X_TEST + 1.0, Y_TEST)
        assert found.n_samples == len(X_TEST)

    def test_regression_has_an_error(self):
        target = X[:, 0] * 3.0 + X[:, 1]
        reg = EarlyExitRegressor(
            MLPBackbone(3, width=16, hidden=16),
            exits=3,
            max_epochs=3,
            policy="change",
            calibration=0.3,
            operating_point=Threshold(0.5),
            random_state=0,
        ).fit(X, target)
        truth = X_TEST[:, 0] * 3.0 + X_TEST[:, 1]
        report = self.plan.report(reg, X_TEST, truth)
        assert report.error == pytest.approx(np.sqrt(((reg.predict(X_TEST) - truth) ** 2).mean()))
        assert "of the loss explained" in str(report)

    def test_text(self):
        report = self.plan.report(network(), X_TEST, Y_TEST)
        lines = str(report).splitlines()
        assert lines[0] == "400 samples, without waiting for others"
        assert f"accuracy {report.accuracy:.2%}" in str(report)
        assert "energy" in str(report)
        assert any(line.startswith("device to cloud") for line in lines)
        free = TierPlan([Tier("device", rate=1e6)], [], [0, 0, 0])
        assert "energy" not in str(free.report(network(), X_TEST, Y_TEST))


class TestErrors:
    def test_links_connect_neighbors(self):
        with pytest.raises(ValueError, match=r"connect each tier to the next one: 2 for 3 tiers"):
            TierPlan(TIERS, LINKS[:1], ASSIGNMENTS[0])

    def test_a_link_of_a_plan_is_after_no_block(self):
        with pytest.raises(ValueError, match="its 'after' must be None"):
            TierPlan(TIERS[:2], [Link("stem", 1e6)], [0, 1])

    @pytest.mark.parametrize("assignment", [[], ["edge", "device"], ["device", "moon"], [0, 3]])
    def test_assignment_in_the_order_of_the_tiers(self, assignment):
        with pytest.raises(ValueError, match="tier of each exit, in the order of the tiers"):
            TierPlan(TIERS, LINKS, assignment)

    def test_one_tier_for_each_exit(self):
        with pytest.raises(ValueError, match=r"for 2 exits, and the model has 3: \['block1'"):
            TierPlan(TIERS, LINKS, [0, 1]).report(network(), X_TEST, Y_TEST)

    def test_tiers_of_one_name(self):
        with pytest.raises(ValueError, match="each must have its own name"):
            TierPlan([Tier("a", 1.0)] * 2, LINKS[:1], [0, 1])

    def test_other_objects(self):
        with pytest.raises(TypeError, match=r"'tiers' must be Tier objects\. Got 'device'"):
            TierPlan(["device"], [], [0])
        with pytest.raises(TypeError, match=r"'links' must be Link objects\. Got 3"):
            TierPlan(TIERS[:2], [3], [0, 1])
        with pytest.raises(TypeError, match="must be a string"):
            Tier(3, 1.0)

    @pytest.mark.parametrize(
        "options",
        [
            {"rate": 0.0},
            {"power": -1.0},
            {"price": float("nan")},
            {"overhead": float("inf")},
            {"n_workers": 0},
            {"max_batch_size": 1.5},
        ],
    )
    def test_impossible_tier(self, options):
        (name,) = options
        with pytest.raises(ValueError, match=f"'?{name}'? of 'a' must be"):
            Tier("a", **{"rate": 1.0, **options})

    def test_exits_and_correct_of_other_samples(self):
        plan = TierPlan(TIERS, LINKS, ASSIGNMENTS[0])
        with pytest.raises(ValueError, match="from 0 to 3"):
            plan.report_of_exits(PARTS, [0, 4])
        with pytest.raises(ValueError, match=r"must be of shape \(2, 4\)"):
            plan.report_of_exits(PARTS, [0, 3], correct=[[True, False]])


def test_costs_of_columns_are_refused():
    members = [("tree", DecisionTreeClassifier(max_depth=2)), ("linear", LogisticRegression())]
    clf = CascadeClassifier(members, cost="macs", feature_costs=np.ones(X.shape[1]), random_state=0)
    with pytest.raises(ValueError, match="Got an estimator with feature_costs"):
        ModelParts.of(clf.fit(X, y), X_TEST)


def test_models_whose_samples_skip_exits_are_refused():
    clf = four_blocks(router=ExitRouter())
    with pytest.raises(ValueError, match=r"router=ExitRouter\(\); fit it with router=None"):
        ModelParts.of(clf, X_TEST)
