"""Classifiers in a row: what is answered, what runs, and what follows from it."""

import copy
import pickle

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import Budget, CascadeClassifier, GivenCost
from skearlyexit.inspection import CostAccuracyDisplay, EmbeddingDisplay
from tests._cascades import COSTS, three
from tests._data import blobs, quick, same
from tests._estimators import Collective, OnlyIndices

X, y, X_TEST, Y_TEST = blobs()


def quantiles(clf, rows, share=0.5):
    """Thresholds that are scores of samples, so that every last bit counts."""
    scores = clf.exit_table(rows).scores[:, :-1]
    return np.quantile(scores, share, axis=0, method="nearest")


class Watched(ClassifierMixin, BaseEstimator):
    """Answers by the sign of the second column, and notes the numbers in the first one."""

    calls: list = []

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        self.calls.append(X[:, 0].astype(int))
        positive = np.where(X[:, 1] > 0, 0.9, 0.1)
        return np.column_stack([1 - positive, positive])


class TestAnswers:
    def test_equal_to_a_rule_by_hand(self):
        clf = three(threshold=[0.8, 0.7]).fit(X, y)
        first, second, third = clf.estimators_
        answers, exits = first.predict_proba(X_TEST), np.zeros(len(X_TEST), dtype=int)
        left = np.flatnonzero(answers.max(axis=1) < 0.8)
        answers[left], exits[left] = second.predict_proba(X_TEST[left]), 1
        left = left[answers[left].max(axis=1) < 0.7]
        answers[left], exits[left] = third.predict_proba(X_TEST[left]), 2
        assert len(np.unique(exits)) == 3
        found, found_exits = clf.predict_proba(X_TEST, return_exits=True)
        np.testing.assert_allclose(found, answers, rtol=1e-12)
        assert same(found_exits, exits)
        assert same(clf.predict(X_TEST), clf.classes_[answers.argmax(axis=1)])

    @pytest.mark.parametrize(
        "params",
        [
            {},
            {"policy": "entropy"},
            {"policy": "patience"},
            {"combine": "mean"},
            {"policy": "learned", "temperature_scaling": True, "combine": "geometric"},
        ],
    )
    def test_run_equals_table(self, params):
        clf = three(**params).fit(X, y)
        table = clf.exit_table(X_TEST)
        thresholds = [0.9, 0.4] if params == {"policy": "patience"} else quantiles(clf, X_TEST)
        probabilities, exits = clf.predict_proba(X_TEST, threshold=thresholds, return_exits=True)
        assert len(np.unique(exits)) > 1
        assert same(exits, table.exits(thresholds))
        assert same(probabilities, table.probabilities[np.arange(len(exits)), exits])
        staged = np.column_stack(list(clf.staged_predict(X_TEST)))
        assert same(staged, clf.classes_[table.labels])

    def test_an_answer_does_not_depend_on_other_samples(self):
        clf = three().fit(X, y)
        thresholds = quantiles(clf, X_TEST)
        whole = clf.predict_proba(X_TEST, threshold=thresholds)
        order = np.random.RandomState(0).permutation(len(X_TEST))
        for part in (order[:1], order[:7], order[:300]):
            assert same(clf.predict_proba(X_TEST[part], threshold=thresholds), whole[part])

    def test_nor_if_that_of_an_estimator_does(self):
        estimators = [("one", Collective()), ("two", Collective())]
        clf = CascadeClassifier(estimators, cost=[1, 2], threshold=0.7, random_state=0)
        clf.fit(X, (X[:, 0] > 0).astype(int))
        whole, exits = clf.predict_proba(X_TEST, return_exits=True)
        assert 0 < exits.mean() < 1
        for rows in (slice(1), slice(3, 30), slice(300)):
            assert same(clf.predict_proba(X_TEST[rows]), whole[rows])
        table = clf.exit_table(X_TEST)
        assert same(table.probabilities[np.arange(len(exits)), exits], whole)

    def test_labels_that_are_texts(self):
        names = np.array(["a", "b", "c", "d"])
        estimators = [("indices", OnlyIndices()), ("tree", DecisionTreeClassifier(max_depth=7))]
        params = {"cost": [1, 2], "threshold": 0.8, "random_state": 0}
        clf = CascadeClassifier(estimators, **params).fit(X, names[y])
        assert same(clf.classes_, names)
        numbers = CascadeClassifier(estimators, **params).fit(X, y)
        assert same(clf.predict(X_TEST), names[numbers.predict(X_TEST)])

    def test_labels_without_probabilities(self):
        estimators = [("a", LinearSVC()), ("b", GaussianNB()), ("c", LinearSVC(C=0.1))]
        clf = CascadeClassifier(
            estimators, policy="patience", cost=COSTS, threshold=0.4, random_state=0
        ).fit(X, y)
        labels, exits = clf.predict(X_TEST, return_exits=True)
        first, second, third = (each.predict(X_TEST) for each in clf.estimators_)
        assert same(exits, np.where(first == second, 1, 2))
        assert same(labels, np.where(first == second, second, third))

    def test_a_single_estimator_is_itself(self):
        clf = CascadeClassifier([("bayes", GaussianNB())], cost=[3], random_state=0).fit(X, y)
        assert clf.costs_.tolist() == [1.0]
        assert same(clf.predict(X_TEST), GaussianNB().fit(X, y).predict(X_TEST))


class TestSkipped:
    rows = np.column_stack([np.arange(300.0), np.random.RandomState(0).randn(300)])
    labels = (rows[:, 1] > 0).astype(int)

    def fitted(self, first):
        estimators = [("first", first), ("watched", Watched())]
        clf = CascadeClassifier(estimators, cost=[1, 2], calibration=None, random_state=0)
        return clf.fit(self.rows, self.labels)

    def test_only_the_samples_left_are_asked_for(self):
        clf = self.fitted(LogisticRegression())
        scores = clf.exit_table(self.rows).scores[:, 0]
        Watched.calls.clear()
        _, exits = clf.predict(self.rows, threshold=np.quantile(scores, 0.7), return_exits=True)
        assert 0 < (exits == 1).sum() < 300
        assert set(np.concatenate(Watched.calls)) == set(np.flatnonzero(exits == 1))

    def test_no_call_if_none_is_left(self):
        clf = self.fitted(LogisticRegression())
        Watched.calls.clear()
        clf.predict(self.rows, threshold=0.0)
        clf.predict_proba(self.rows[:1], threshold=0.0)
        assert Watched.calls == []

    def test_no_call_if_none_can_exit(self):
        estimators = [("watched", Watched()), ("tree", DecisionTreeClassifier())]
        clf = CascadeClassifier(estimators, cost=[1, 2], calibration=None, random_state=0)
        clf.fit(self.rows, self.labels)
        Watched.calls.clear()
        clf.predict(self.rows)
        assert Watched.calls == []


class TestAfterwards:
    def test_calibration_on_new_samples(self):
        clf = three(calibration=None).fit(X, y)
        assert np.all(np.isinf(clf.thresholds_))
        clf.calibrate(X_TEST[:200], Y_TEST[:200], Budget(0.5))
        assert clf.operating_point_.cost <= 0.5
        before = clf.thresholds_
        clf.partial_calibrate(X_TEST[200:])
        assert clf.thresholds_.shape == before.shape

    def test_report_names_the_estimators(self):
        report = three(budget=0.5).fit(X, y).exit_report(X_TEST, Y_TEST)
        assert report.to_frame().index.tolist() == ["bayes", "logistic", "tree"]

    def test_a_copy_predicts_the_same(self):
        clf = three(budget=0.5).fit(X, y)
        for other in (pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)):
            assert same(other.predict_proba(X_TEST), clf.predict_proba(X_TEST))

    def test_a_network_with_exits_before_boosting(self):
        network = quick(threshold=0.5)
        estimators = [("network", network), ("boosting", HistGradientBoostingClassifier())]
        clf = CascadeClassifier(estimators, cost=[1, 9], threshold=0.4, random_state=0)
        clf = clf.set_params(boosting__max_iter=10).fit(X, y)
        whole, exits = clf.predict_proba(X_TEST, return_exits=True)
        assert 0 < exits.mean() < 1
        assert same(clf.predict_proba(X_TEST[:5]), whole[:5])
        own = clf.estimators_[0].predict_proba(X_TEST)
        np.testing.assert_allclose(whole[exits == 0], own[exits == 0], rtol=1e-12)

    def test_times_are_printed_if_asked_for(self, capsys):
        three(calibration=3, verbose=True).fit(X, y)
        lines = capsys.readouterr().out.splitlines()
        # The folds are enough of them, and the final model.
        for line, name in zip(lines[-3:], ("bayes", "logistic", "tree"), strict=True):
            assert f"(model 4 of 4) Fitting {name}, total=" in line
        assert len(lines) == 12
        three().fit(X, y)
        assert capsys.readouterr().out == ""

    def test_boosting_at_the_end(self):
        estimators = [
            ("logistic", make_pipeline(StandardScaler(), LogisticRegression())),
            ("boosting", HistGradientBoostingClassifier(max_iter=10)),
        ]
        clf = CascadeClassifier(estimators, cost=[1, 9], budget=0.6, random_state=0).fit(X, y)
        assert 0 < clf.predict(X_TEST, return_exits=True)[1].mean() < 1

    def test_reports_say_what_costs_are_relative_to(self):
        clf = three(cost=GivenCost(COSTS, unit="mJ"), budget=0.5).fit(X, y)
        report = str(clf.exit_report(X_TEST, Y_TEST))
        assert "The last estimator alone costs 16 mJ per sample." in report
        assert "plain network" not in report
        lines = str(clf.cost_table_).splitlines()
        assert lines[0].split() == ["exit", "head", "until", "here", "of", "plain"]
        assert lines[-1] == "in mJ per sample; the last estimator alone costs 16"

    def test_displays(self):
        display = CostAccuracyDisplay.from_estimator(three(budget=0.5).fit(X, y), X_TEST, Y_TEST)
        plt.close(display.figure_)
        assert display.unit == "last estimator alone"
        assert display.exit_names == ["bayes", "logistic", "tree"]

    def test_there_are_no_embeddings_to_display(self):
        with pytest.raises(TypeError, match=r"CascadeClassifier has none\. Give"):
            EmbeddingDisplay.from_estimator(three(threshold=0.5).fit(X, y), X_TEST)
