"""Sentences of advice: what is said, when it is, and how often it is wrong."""

import re

import numpy as np
import pytest

from skearlyexit import Budget, MLPBackbone
from skearlyexit.metrics import ExitReport, exit_report
from tests._data import blobs, quick
from tests._reports import table_of

X, y, X_TEST, Y_TEST = blobs()
COSTS = np.array([0.2, 0.5, 1.0])
NAMES = ["first", "middle", "last"]


def report_of(correct, thresholds=(np.inf, np.inf), scores=None, **params):
    """Report of exits that are right or wrong as given."""
    y = np.zeros(len(correct), dtype=int)
    scores = np.zeros(correct.shape) if scores is None else scores
    params = {"classes": np.array(["a", "b"]), "exit_names": NAMES, **params}
    table = table_of(1 - correct.astype(int), scores, 2)
    return ExitReport.from_table(table, y, np.array(thresholds), COSTS, **params)


def correct_of(n, *shares):
    """Exits that are right for these shares of n samples, and for as many of the same as can be."""
    return np.arange(n)[:, None] < np.round(n * np.array(shares))


class TestClasses:
    """Of 1,000 samples, some are of a rare class, and all exit at the first exit."""

    def report(self, n_rare, n_lost, **params):
        y = np.repeat([0, 1], [1000 - n_rare, n_rare])
        labels = np.repeat(y[:, None], 3, axis=1)
        labels[1000 - n_lost :, 0] = 0  # the first exit does not know the class
        table = table_of(labels, np.ones((1000, 3)), 2)
        params = {"classes": np.array(["common", "rare"]), "exit_names": NAMES, **params}
        return ExitReport.from_table(table, y, np.zeros(2), COSTS, **params)

    def about_classes(self, *args, **params):
        return [each for each in self.report(*args, **params).advice if each.startswith("Class")]

    def test_a_rare_class_is_lost(self):
        (sentence,) = self.about_classes(30, 30)
        bound = int(re.search(r"'rare' loses at least (\d+) percentage points", sentence)[1])
        assert 50 < bound < 100
        assert "AccuracyDrop(0.01, metric='balanced_accuracy')" in sentence
        assert self.report(30, 30).overall.drop == pytest.approx(0.03)

    def test_only_what_is_certain_is_said(self):
        assert not self.about_classes(30, 0)
        assert not self.about_classes(30, 3)
        assert not self.about_classes(2, 2)
        assert not self.about_classes(200, 12)
        assert self.about_classes(200, 25)
        assert not self.about_classes(200, 25, confidence_level=0.99999)


class TestCost:
    def test_a_sample_that_costs_more_than_without_exits(self):
        correct, scores = correct_of(100, 0.5, 0.9, 1.0), np.zeros((100, 3))
        scores[:30] = 1.0
        report = report_of(correct, (2.0, 1.0), scores)
        assert not [each for each in report.advice if each.startswith("Nothing is saved")]
        table = table_of(1 - correct.astype(int), scores, 2)
        y, params = np.zeros(100, dtype=int), {"classes": np.array(["a", "b"])}
        dear = ExitReport.from_table(
            table, y, np.array([2.0, 1.0]), np.array([0.5, 0.9, 1.1]), exit_names=NAMES, **params
        )
        assert dear.overall.mean_cost == pytest.approx(1.04)
        assert dear.advice[0].startswith("Nothing is saved: a sample costs 1.04 times the plain")


class TestCut:
    def test_nothing_is_gained_behind_an_exit(self):
        report = report_of(correct_of(2000, 0.5, 0.9, 0.9))
        assert report.advice == [
            "Cut the model after 'middle': nothing is gained behind it. With a confidence of "
            "95 %, the exits behind it add at most 1 percentage point of accuracy, and its cost is "
            "50 % of that of the last exit. A threshold of 0 at this exit does so without a new "
            "fit."
        ]

    def test_at_the_first_exit_that_allows_it(self):
        (sentence,) = report_of(correct_of(2000, 0.9, 0.9, 0.9)).advice
        assert sentence.startswith("Cut the model after 'first'")
        assert "20 % of that of the last exit" in sentence

    def test_a_gain_forbids_it(self):
        assert report_of(correct_of(2000, 0.5, 0.85, 0.9)).advice == []

    def test_also_a_small_one_that_is_certain(self):
        """Half a percentage point is little, and with so many samples there is no doubt of it."""
        assert report_of(correct_of(10_000, 0.5, 0.895, 0.9)).advice == []

    def test_too_few_samples(self):
        assert report_of(correct_of(100, 0.5, 0.9, 0.9)).advice == []

    def test_a_comparison_alone_does_not_do(self):
        """The last exit is worse by chance: each is right for other samples."""
        rng = np.random.default_rng(0)
        correct = rng.random((500, 3)) < 0.7
        correct[:30, 1] = True
        assert correct[:, 2].mean() < correct[:, 1].mean()
        assert report_of(correct).advice == []

    def test_exits_that_do_well_together(self):
        """Each exit alone is as good as the last, and scores tell which of them is right."""
        first = np.arange(4000) % 2 == 0
        correct = np.column_stack([first, ~first, first])
        scores = np.where(correct, 0.9, 0.1)
        assert report_of(correct, (0.5, 0.5), scores).advice == []

    def test_the_confidence_is_that_of_the_report(self):
        correct = correct_of(420, 0.5, 0.9, 0.9)
        assert "confidence of 95 %" in report_of(correct).advice[0]
        assert report_of(correct, confidence_level=0.999).advice == []

    def test_weights(self):
        """Samples on which the last exit gains count as often as they weigh."""
        correct = correct_of(3000, 0.5, 0.9, 0.92)
        weight = np.where(correct[:, 2] & ~correct[:, 1], 0.0, 1.0)
        assert report_of(correct).advice == []
        assert "'middle'" in report_of(correct, weight=weight).advice[0]

    def test_one_exit(self):
        report = ExitReport.from_table(
            table_of(np.zeros((2000, 1), dtype=int), np.ones((2000, 1)), 2),
            np.zeros(2000, dtype=int),
            np.empty(0),
            np.ones(1),
            classes=np.array(["a", "b"]),
            exit_names=["last"],
        )
        assert report.advice == []

    @pytest.mark.parametrize("n", [400, 1500])
    def test_it_is_seldom_wrong(self, n):
        """The exit behind gains a percentage point: the advice would be wrong."""
        rng = np.random.default_rng(1)
        wrong, repeats = 0, 400
        for _ in range(repeats):
            draw = rng.random(n)
            middle, last = draw < 0.9, (draw >= 0.01) & (draw < 0.92)
            correct = np.column_stack([rng.random(n) < 0.3, middle, last])
            wrong += bool(report_of(correct).advice)
        assert wrong / repeats <= 0.05


@pytest.fixture(scope="module")
def clf():
    return quick(budget=0.9).fit(X, y)


class TestBudgets:
    def test_more_than_the_frontier_uses(self, clf):
        report = clf.exit_report(X_TEST, Y_TEST, budget=5.0)
        (sentence,) = [each for each in report.advice if "budgets" in each]
        lower = float(
            re.fullmatch(
                r"The budgets (\S+) and 5 have the same thresholds: on the calibration samples, no "
                "point between them is more accurate.",
                sentence,
            ).group(1)
        )
        assert lower == pytest.approx(clf.frontier_.costs[-1], rel=0.01)
        found = [
            clf.predict(X_TEST, budget=budget, return_exits=True)[1] for budget in (lower, 5.0)
        ]
        assert np.array_equal(*found)

    def test_a_budget_that_is_used(self, clf):
        budget = clf.frontier_.costs[len(clf.frontier_) // 2] * 1.001
        assert not any(
            "budgets" in each for each in clf.exit_report(X_TEST, Y_TEST, budget=budget).advice
        )

    def test_the_same_as_the_operating_point_in_force(self):
        clf = quick(budget=3.0).fit(X, y)
        report = clf.exit_report(X_TEST, Y_TEST, budget=5.0)
        assert (
            "Budget(value=5.0) has the same thresholds as the operating point of the model, "
            "Budget(value=3.0)." in report.advice
        )
        assert not any("of the model" in each for each in clf.exit_report(X_TEST, Y_TEST).advice)

    def test_a_strict_budget_is_another_one(self, clf):
        report = clf.exit_report(X_TEST, Y_TEST, budget=Budget(5.0, strict=True))
        assert not any("same thresholds" in each for each in report.advice)

    def test_no_exit_is_cheap_enough(self):
        backbone = MLPBackbone(4, width=32, hidden=32, dropout=0.0)
        clf = quick(backbone=backbone, exits=["block2"]).fit(X, y)
        budget = np.nextafter(clf.costs_[0], 1)
        report = clf.exit_report(X_TEST, Y_TEST, budget=budget)
        (sentence,) = [each for each in report.advice if "cheap enough" in each]
        assert sentence.startswith(
            "No exit is cheap enough for this budget to let samples go on: all exit at 'block2'. "
            "Add an exit after 'stem', at a cost of about 0."
        )
        everything = clf.exit_report(X_TEST, Y_TEST, budget=5.0)
        assert not any("cheap enough" in each for each in everything.advice)

    def test_no_cheaper_candidate(self):
        clf = quick(exits=["stem"]).fit(X, y)
        report = clf.exit_report(X_TEST, Y_TEST, budget=np.nextafter(clf.costs_[0], 1))
        assert not any("cheap enough" in each for each in report.advice)

    @pytest.mark.parametrize("params", [{"calibration": None}, {"exits": 1}], ids=str)
    def test_without_a_frontier_or_exits(self, params):
        clf = quick(**params).fit(X, y)
        assert exit_report(clf, X_TEST, Y_TEST, threshold=0.5).advice == []


def test_it_is_shown():
    report = report_of(correct_of(2000, 0.5, 0.9, 0.9), exit_names=["<a>", "<b>", "<c>"])
    text, page = str(report), report._repr_html_()
    assert "Advice\n- Cut the model after '<b>': nothing is gained" in text
    assert max(map(len, text.splitlines())) <= 130
    assert "<li>Cut the model after &#x27;&lt;b&gt;&#x27;: nothing is gained" in page
    silent = report_of(correct_of(2000, 0.5, 0.8, 0.9))
    assert "Advice" not in str(silent)
    assert "Advice" not in silent._repr_html_()
