"""Operating points in the estimator: units, strict budgets, drift, targets and other metrics."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score, f1_score, make_scorer
from sklearn.model_selection import GridSearchCV

from skearlyexit import AccuracyDrop, Budget, MACsCost, RiskControl, TargetAccuracy, Threshold
from skearlyexit.calibration import CalibrationData, compute_frontier
from skearlyexit.calibration._risks import FamilyLosses, exit_losses
from skearlyexit.calibration._shares import thresholds_for_shares
from skearlyexit.calibration._strict_budget import StrictBudget
from tests._calibration_data import evidences, labeled, naive_exit, simulated
from tests._data import blobs, quick, same

X, y, X_TEST, Y_TEST = blobs()


@pytest.fixture(scope="module")
def clf():
    params = {"calibration": None, "max_epochs": 12}
    return quick(**params).fit(X, y).calibrate(X_TEST, Y_TEST, Budget(0.8))


@pytest.fixture(scope="module")
def timed():
    """With costs in seconds that are the same in each fit."""
    return quick(cost=MACsCost(rate=1e7)).fit(X, y)


@pytest.mark.parametrize(
    ("n_samples", "level"), [(286, 0.02), (287, 0.01), (2499, 0.01), (2500, 0.005)]
)
def test_the_default_loses_less_where_more_samples_can_show_it(clf, n_samples, level):
    rows = np.arange(n_samples) % len(X_TEST)
    found = copy.deepcopy(clf).calibrate(X_TEST[rows], Y_TEST[rows]).operating_point_
    assert found.certified
    assert found.request.get_params() == RiskControl(level).get_params()


class TestUnits:
    def test_all_say_the_same(self, clf):
        plain = clf.cost_table_.plain
        expected = clf.predict(X_TEST, budget=0.8)
        for budget in (
            Budget(0.8),
            Budget(0.8 * plain, unit="MACs"),
            Budget(0.8 * plain / 1e9, unit="J", rate=1e9),
        ):
            assert same(clf.predict(X_TEST, budget=budget), expected)
            fitted = quick(operating_point=budget).fit(X, y)
            assert same(fitted.thresholds_, quick(budget=0.8).fit(X, y).thresholds_)
            assert fitted.operating_point_.request is not None
            assert fitted.operating_point_.request.unit == budget.unit

    @pytest.mark.usefixtures("untrained")
    def test_another_unit_is_refused_before_training(self):
        message = r"must be 'share' or 'MACs', .* Got 'J' without one"
        with pytest.raises(ValueError, match=message):
            quick(operating_point=Budget(1e-6, unit="J")).fit(X, y)

    @pytest.mark.usefixtures("untrained")
    @pytest.mark.parametrize("parameter", ["budget", "operating_point"])
    @pytest.mark.parametrize("unit", ["s", "ms", "us"])
    @pytest.mark.parametrize("cost", ["MACs", "bytes"])
    def test_time_needs_costs_in_seconds(self, parameter, unit, cost):
        message = rf"Got Budget\(value=1, unit='{unit}'\) for .* '{cost}'.*Fit .*cost='seconds'"
        with pytest.raises(ValueError, match=message):
            quick(cost=cost.lower(), **{parameter: Budget(1, unit=unit)}).fit(X, y)

    def test_a_share_has_no_rate(self):
        with pytest.raises(ValueError, match="'rate' of Budget converts a unit"):
            quick(operating_point=Budget(0.5, rate=2.0)).fit(X, y)

    def test_shares_of_leaving_look_at_no_metric(self):
        point = Budget(0.8, method="geometric", metric="f1_macro")
        with pytest.raises(ValueError, match="uses exit rates and no metric"):
            quick(operating_point=point).fit(X, y)

    def test_too_little(self):
        with pytest.raises(ValueError, match="first exit alone costs"):
            quick(operating_point=Budget(10, unit="MACs")).fit(X, y)

    def test_too_little_time(self, timed):
        least, plain = timed.costs_[0], timed.cost_table_.plain
        stated = f"{1e3 * least * plain:.4g} ms"
        little = Budget(1e-3, unit="ms")
        calls = [
            lambda: timed.predict(X_TEST, budget=little),
            lambda: copy.deepcopy(timed).calibrate(X_TEST, Y_TEST, little),
            lambda: copy.deepcopy(timed).set_params(budget=little).fit(X, y),
            lambda: copy.deepcopy(timed).set_params(exits=1, budget=little).fit(X, y),
        ]
        for call in calls[:3]:
            with pytest.raises(ValueError, match=rf"unit='ms'\) instead; .* {stated}\."):
                call()
        with pytest.raises(ValueError, match=r"unit='ms'\) instead; .* ms\."):
            calls[3]()
        enough = Budget(1e3 * least * plain, unit="ms")
        assert not timed.predict(X_TEST, budget=enough, return_exits=True)[1].any()

    def test_time(self, timed):
        """In every place that takes a budget, and in every unit."""
        seconds = 0.8 * timed.cost_table_.plain
        expected = timed.predict(X_TEST, budget=0.8)
        assert len(set(timed.predict(X_TEST, budget=0.8, return_exits=True)[1])) > 1
        for unit, factor in {"s": 1, "ms": 1e3, "us": 1e6}.items():
            budget = Budget(factor * seconds, unit=unit)
            assert same(timed.predict(X_TEST, budget=budget), expected)
            for parameter in ("budget", "operating_point"):
                fitted = clone(timed).set_params(**{parameter: budget}).fit(X, y)
                assert same(fitted.predict(X_TEST), expected)
                assert fitted.operating_point_.request.unit == unit
        strict = Budget(seconds, unit="s", strict=True)
        _, exits = timed.predict(X_TEST[:50], budget=strict, return_exits=True)
        assert (timed.costs_ * timed.cost_table_.plain)[exits].mean() <= seconds

    def test_times_that_are_given_in_another_unit(self):
        budget = Budget(3, unit="ms")
        assert budget.resolved("ms", 6.0).value == 0.5
        assert budget.resolved("us", 6000.0).value == pytest.approx(0.5)

    def test_time_in_a_search(self, timed):
        plain = timed.cost_table_.plain
        budgets = [0.8, Budget(0.8 * plain, unit="s"), Budget(0.5 * plain * 1e3, unit="ms")]
        search = GridSearchCV(timed, {"budget": budgets}, cv=2, error_score="raise").fit(X, y)
        scores = search.cv_results_["mean_test_score"]
        assert scores[0] == scores[1]
        # Its parameters can be searched, too.
        timed = clone(timed).set_params(budget=Budget(0.5 * plain * 1e3, unit="ms"))
        grid = {"budget__value": [0.8 * plain * 1e3, 0.5 * plain * 1e3]}
        nested = GridSearchCV(timed, grid, cv=2, error_score="raise").fit(X, y)
        assert nested.cv_results_["mean_test_score"].tolist() == scores[1:].tolist()

    def test_for_one_call_only_what_can_be_looked_up(self, clf):
        with pytest.raises(ValueError, match="give it to calibrate instead"):
            clf.predict(X_TEST, budget=Budget(0.8, metric="f1_macro"))


class TestStrict:
    @settings(deadline=None)
    @given(
        seed=st.integers(0, 10**6),
        n_rows=st.integers(1, 60),
        share=st.floats(0, 1),
        shift=st.floats(-1, 1),
    )
    def test_no_batch_exceeds_it(self, clf, seed, n_rows, share, shift):
        low, high = clf.costs_[[0, -1]]
        budget = low + share * (high - low)
        rng = np.random.default_rng(seed)
        # Rows unlike those of the calibration: pulled towards the middle, or pushed apart.
        rows = X_TEST[rng.integers(len(X_TEST), size=n_rows)] * 3.0**shift
        strict = Budget(budget, strict=True)
        _, exits = clf.predict(rows, budget=strict, return_exits=True)
        assert clf.costs_[exits].mean() <= budget * (1 + 1e-9)

    def test_leaves_rows_alone_that_keep_it_anyway(self, clf):
        for budget in (0.6, 0.8, 1.0):
            _, exits = clf.predict(X_TEST, budget=budget, return_exits=True)
            assert clf.costs_[exits].mean() <= budget  # the calibration rows themselves
            _, strict = clf.predict(X_TEST, budget=Budget(budget, strict=True), return_exits=True)
            assert same(strict, exits)

    def test_the_surest_leave(self, clf):
        table = clf.exit_table(X_TEST[:50] * 0.2)
        strict = Budget(0.7, strict=True)
        _, exits = clf.predict(X_TEST[:50] * 0.2, budget=strict, return_exits=True)
        _, free = clf.predict(X_TEST[:50] * 0.2, budget=0.7, return_exits=True)
        assert clf.costs_[free].mean() > 0.7
        for k in range(clf.n_exits_ - 1):
            here = exits >= k
            left, went_on = (table.scores[here & (exits == k), k], table.scores[exits > k, k])
            if len(left) and len(went_on):
                assert left.min() >= went_on.max()

    def test_as_the_operating_point(self, clf):
        rows = X_TEST * 0.2
        strict = copy.deepcopy(clf).calibrate(X_TEST, Y_TEST, Budget(0.7, strict=True))
        labels, exits = strict.predict(rows, return_exits=True)
        assert strict.costs_[exits].mean() <= 0.7
        report = strict.exit_report(rows, Y_TEST)
        assert report.overall.mean_cost == pytest.approx(strict.costs_[exits].mean())
        assert report.overall.accuracy == pytest.approx((labels == Y_TEST).mean())
        probabilities = strict.predict_proba(rows)
        assert same(strict.classes_[probabilities.argmax(axis=1)], labels)

    def test_what_is_set_aside(self):
        strict_budget = StrictBudget.of_shares(
            0.6, np.array([0.3, 0.7, 1.1]), np.array([0.5, 0.25, 0.25])
        )
        assert strict_budget.onward.tolist() == pytest.approx([0.9, 1.1])
        # Ten rows with 6 to spend, and 0.9 set aside for each that goes on: five have to leave.
        assert strict_budget.n_leaving(0, 10, 6.0) == 5
        assert strict_budget.n_leaving(0, 10, 9.0) == 0
        # Then 4.5 for five: two of them at 0.7, three at 1.1 would be 4.7; three and two are 4.3.
        assert strict_budget.n_leaving(1, 5, 4.5) == 3


class TestSharesOfLeaving:
    @settings(deadline=None)
    @given(data=evidences(), seed=st.integers(0, 1000))
    def test_at_least_these_have_left(self, data, seed):
        shares = np.random.default_rng(seed).dirichlet(np.full(data.n_exits, 0.5))
        thresholds = thresholds_for_shares(data.scores, shares)
        exits = data.exits(thresholds)
        n_rows = len(exits)
        for k in range(data.n_exits - 1):
            left = np.mean(exits <= k)
            assert left >= shares[: k + 1].sum() - 1e-9
        if len(np.unique(data.scores)) == data.scores.size:
            for k in range(data.n_exits - 1):
                assert np.sum(exits <= k) == np.ceil(shares[: k + 1].sum() * n_rows - 1e-6)

    def test_all_and_nobody(self):
        scores = np.array([[0.9, 0.1, 0.3], [0.2, 0.8, 0.3]])
        assert thresholds_for_shares(scores, np.array([1.0, 0, 0])).tolist() == [0, 0]
        assert thresholds_for_shares(scores, np.array([0, 0, 1.0])).tolist() == [np.inf, np.inf]
        assert thresholds_for_shares(scores, np.array([0.5, 0, 0.5])).tolist() == [0.9, np.inf]


class TestDrift:
    def test_samples_of_any_weight_count_once(self, clf):
        """New samples have no weights, so that the same samples again are no drift."""
        weight = np.where(Y_TEST == 0, 10.0, 1.0)
        weighted = copy.deepcopy(clf).calibrate(X_TEST, Y_TEST, Budget(0.8), sample_weight=weight)
        _, exits = weighted.predict(X_TEST, return_exits=True)
        shares = np.bincount(exits, minlength=weighted.n_exits_) / len(exits)
        np.testing.assert_allclose(weighted.operating_point_.shares, shares)
        frontier = weighted.frontier_
        for thresholds, found in zip(frontier.thresholds, frontier.shares, strict=True):
            _, exits = weighted.predict(X_TEST, threshold=thresholds, return_exits=True)
            np.testing.assert_allclose(found, np.bincount(exits, minlength=len(found)) / len(exits))
        before = weighted.predict(X_TEST, return_exits=True)[1]
        weighted.partial_calibrate(X_TEST, window=len(X_TEST))
        assert same(weighted.predict(X_TEST, return_exits=True)[1], before)

    def test_the_budget_is_kept(self, clf):
        drifting = copy.deepcopy(clf)
        harder = X_TEST * 0.3
        before = drifting.costs_[drifting.predict(harder, return_exits=True)[1]].mean()
        for start in range(0, 400, 50):
            drifting.partial_calibrate(harder[start : start + 50], window=200)
        _, exits = drifting.predict(harder[200:400], return_exits=True)
        assert drifting.costs_[exits].mean() <= 0.8 + 1e-9
        assert before > 0.85
        assert drifting.operating_point_.cost == pytest.approx(drifting.costs_[exits].mean())
        assert drifting.operating_point_.n_samples == 200
        assert np.isnan(drifting.operating_point_.accuracy)
        for budget in (0.6, 1.0):
            _, exits = drifting.predict(harder[200:400], budget=budget, return_exits=True)
            assert drifting.costs_[exits].mean() <= budget + 1e-9

    def test_rows_like_before_change_little(self, clf):
        moved = copy.deepcopy(clf).partial_calibrate(X_TEST, window=len(X_TEST))
        _, exits = moved.predict(X_TEST, return_exits=True)
        assert abs(moved.costs_[exits].mean() - clf.operating_point_.cost) < 0.01

    def test_little_by_little(self, clf):
        moved = copy.deepcopy(clf).partial_calibrate(X_TEST[:1] * 0.3)
        np.testing.assert_allclose(moved.thresholds_, clf.thresholds_, atol=0.02)

    def test_what_was_certified_no_longer_is(self):
        fitted = quick(operating_point=RiskControl(0.3)).fit(X, y)
        assert fitted.operating_point_.certified is True
        assert fitted.partial_calibrate(X_TEST).operating_point_.certified is False

    def test_needs_a_calibration(self):
        fitted = quick(calibration=None, threshold=0.8).fit(X, y)
        with pytest.raises(ValueError, match=r"Call calibrate\(X, y\) first"):
            fitted.partial_calibrate(X_TEST)
        assert fitted.calibrate(X_TEST, Y_TEST).partial_calibrate(X_TEST) is fitted

    @pytest.mark.parametrize("window", [0, -1, 2.5])
    def test_window(self, clf, window):
        with pytest.raises(ValueError, match="must be a positive integer"):
            copy.deepcopy(clf).partial_calibrate(X_TEST, window=window)

    def test_one_exit(self):
        fitted = quick(exits=1).fit(X, y)
        assert fitted.partial_calibrate(X_TEST) is fitted


class TestTargetAccuracy:
    @settings(deadline=None, max_examples=40)
    @given(evidences(), st.floats(0, 1))
    def test_is_the_cheapest_of_the_frontier(self, data, share):
        frontier = compute_frontier(data)
        target = frontier.accuracies[0] + share * (frontier.accuracies[-1] - frontier.accuracies[0])
        # Accuracies of the frontier are estimates, and those of few samples differ from them.
        on_samples = np.array([data.evaluate(row)[1] for row in frontier.thresholds])
        reached = np.minimum(frontier.accuracies, on_samples) >= target
        if not reached.any():
            with pytest.raises(ValueError, match="cannot be met on the calibration samples"):
                TargetAccuracy(target + 1e-9).thresholds(data, frontier)
            return
        cost, accuracy = data.evaluate(TargetAccuracy(target).thresholds(data, frontier))
        assert accuracy >= target - 1e-9
        assert cost <= frontier.costs[reached].min() + 1e-9

    def test_refused_with_the_best(self):
        data = labeled(0)
        frontier = compute_frontier(data)
        best = f"{frontier.accuracies[-1]:.4f}"
        with pytest.raises(ValueError, match=f"the best that any thresholds reach is {best}"):
            TargetAccuracy(0.9999).thresholds(data, frontier)

    @pytest.mark.parametrize("seed", range(5))
    def test_feedback_settles_where_a_search_over_one_threshold_does(self, seed):
        data = labeled(seed, 2000)
        target = data.correct[:, -1].mean() - 0.02
        found = TargetAccuracy(target, method="feedback").thresholds(data, compute_frontier(data))
        assert len(set(found)) == 1
        cost, accuracy = data.evaluate(found)
        assert accuracy >= target
        cheapest = min(
            data.evaluate(np.full(2, t))[0]
            for t in np.linspace(0, 1, 1001)
            if data.evaluate(np.full(2, t))[1] >= target
        )
        assert cost <= cheapest + 0.02

    def test_feedback_for_a_drop(self):
        data = labeled(1, 2000)
        by_drop = AccuracyDrop(0.02, method="feedback").thresholds(data, None)
        target = data.correct[:, -1].mean() - 0.02
        by_target = TargetAccuracy(target, method="feedback").thresholds(
            data, compute_frontier(data)
        )
        assert same(by_drop, by_target)

    @pytest.mark.parametrize("target", [0.5, 0.7, 0.75])
    def test_bins(self, target):
        data = labeled(2, 1000)
        found = TargetAccuracy(target, method="bins").thresholds(data, compute_frontier(data))
        for k, threshold in enumerate(found):
            order = np.argsort(-data.scores[:, k])
            expected = np.inf
            for rows in np.split(order, 20):  # no ties: twenty bins of fifty
                if data.correct[rows, k].mean() < target:
                    break
                expected = data.scores[rows, k].min()
            else:
                expected = 0.0
            assert threshold == expected

    def test_bins_count_right_answers(self):
        with pytest.raises(ValueError, match="must be 'accuracy'"):
            TargetAccuracy(0.9, method="bins", metric="f1_macro")._validate_params()


METRICS = {
    "balanced_accuracy": balanced_accuracy_score,
    "f1_macro": lambda a, b: f1_score(a, b, average="macro"),
}


@pytest.mark.parametrize("metric", METRICS)
class TestOtherMetrics:
    def value(self, data, thresholds, metric):
        exits = data.exits(thresholds)
        labels = data.labels[np.arange(len(exits)), exits]
        return METRICS[metric](data.y, labels)

    def test_budget_is_best_by_it(self, metric):
        data = labeled(3, n_rows=300)
        frontier = compute_frontier(data)
        for budget in (0.5, 0.7):
            found = Budget(budget, metric=metric).thresholds(data, frontier)
            plain = Budget(budget).thresholds(data, frontier)
            assert data.evaluate(found)[0] <= budget + 1e-9
            ours, theirs = (self.value(data, t, metric) for t in (found, plain))
            assert ours >= theirs - 1e-12

    def test_drop_is_kept(self, metric):
        data = labeled(4, n_rows=300)
        end = self.value(data, np.full(2, np.inf), metric)
        found = AccuracyDrop(0.03, metric=metric).thresholds(data, compute_frontier(data))
        assert self.value(data, found, metric) >= end - 0.03 - 1e-9
        assert data.evaluate(found)[0] < 1.0

    def test_target(self, metric):
        data = labeled(5, n_rows=300)
        scorer = make_scorer(METRICS[metric])
        found = TargetAccuracy(0.6, metric=scorer).thresholds(data, compute_frontier(data))
        assert self.value(data, found, metric) >= 0.6
        with pytest.raises(ValueError, match="the best that any thresholds reach"):
            TargetAccuracy(0.999, metric=metric).thresholds(data, compute_frontier(data))


def test_metrics_see_the_labels_themselves():
    words = np.array(["no", "yes"])
    scorer = make_scorer(f1_score, pos_label="yes")
    fitted = quick(operating_point=AccuracyDrop(0.05, metric=scorer)).fit(X, words[y % 2])
    assert fitted.operating_point_.cost < 1


class TestRisks:
    def test_by_hand(self):
        labels = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1], [0, 2, 2]])
        truth = np.array([1, 0, 1, 0])
        data = CalibrationData(
            np.zeros((4, 3)), labels == truth[:, None], np.ones(3), np.ones(4), labels, truth
        )
        assert exit_losses(data, "performance_gap").tolist() == [
            [1, 0, 0],
            [0, 0, 0],
            [0, 0, 0],
            [0, 0, 0],
        ]
        assert exit_losses(data, "consistency").tolist() == [
            [1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0],
        ]  # fmt: skip
        assert exit_losses(data, "accuracy_drop").tolist() == [
            [1, 0, 0], [0, -1, 0], [0, 0, 0], [-1, 0, 0],
        ]  # fmt: skip
        distance = exit_losses(data, lambda true, now, last: np.abs(now - true) / 2)
        assert distance.tolist() == (np.abs(labels - truth[:, None]) / 2).tolist()

    @pytest.mark.parametrize("wrong", [lambda *a: np.full(600, 2.0), lambda *a: np.zeros(3)])
    def test_losses_have_to_be_losses(self, wrong):
        with pytest.raises(ValueError, match=r"loss in \[0, 1\] for each of 600 samples"):
            RiskControl(0.1, risk=wrong).thresholds(labeled(0), None)

    @settings(deadline=None, max_examples=50)
    @given(evidences(), st.integers(0, 1000))
    def test_of_the_family_by_loops(self, data, seed):
        rng = np.random.default_rng(seed)
        losses = rng.choice([-1.0, 0.0, 0.3, 1.0], size=data.scores.shape)
        family = np.sort(np.append(rng.random(5), [0.0, 0.5, 1.0]))[::-1]
        ours = FamilyLosses(data.scores, losses, family)
        worst = np.full(len(losses), -np.inf)
        for i, threshold in enumerate(family):
            expected = np.array(
                [
                    row[naive_exit(scores, [threshold] * (data.n_exits - 1))]
                    for row, scores in zip(losses, data.scores, strict=True)
                ]
            )
            assert ours.at(i).tolist() == expected.tolist()
            assert ours.means(data.weight)[i] == pytest.approx(
                np.average(expected, weights=data.weight), abs=1e-9
            )
            # A row's worst loss so far; before the first threshold it ran to the end.
            worst = np.maximum(worst, expected)
            monotone = np.maximum(worst, losses[:, -1])
            assert (ours.monotone().at(i) <= monotone + 1e-12).all()
            assert (ours.monotone().at(i) >= worst - 1e-12).all()


def test_in_a_search():
    points = [Budget(0.8), AccuracyDrop(0.05), Threshold(0.9), TargetAccuracy(0.3)]
    search = GridSearchCV(quick(), {"operating_point": points}, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.predict(X_TEST).shape == Y_TEST.shape


def test_simulated_rows_have_no_labels():
    assert simulated(0, 10, 3).labels is None
