"""Classifiers in a row: what is answered, what runs, what is learned from, what is refused."""

import copy
import pickle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import AccuracyDrop, Budget, CascadeClassifier, GivenCost
from skearlyexit.combination import TrainedCombination
from skearlyexit.costs import estimator_macs
from skearlyexit.inspection import CostAccuracyDisplay, EmbeddingDisplay
from tests._data import blobs, quick, same
from tests._estimators import Collective, Memorizing, OnlyIndices

X, y, X_TEST, Y_TEST = blobs()
COSTS = [1, 4, 16]


def three(**params):
    """Estimators that differ in kind, and are fitted in milliseconds."""
    estimators = [
        ("bayes", GaussianNB()),
        ("logistic", LogisticRegression(max_iter=500)),
        ("tree", DecisionTreeClassifier(max_depth=7)),
    ]
    defaults = {"cost": COSTS, "calibration": 0.3, "random_state": 0}
    return CascadeClassifier(estimators, **{**defaults, **params})


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


class TestLearning:
    @pytest.mark.parametrize("calibration", [0.3, 3, "auto", KFold(4)])
    def test_thresholds_see_no_sample_an_estimator_was_fitted_on(self, calibration):
        rows = np.random.RandomState(0).randn(400, 3)
        labels = (rows[:, 0] > 0).astype(int)
        clf = CascadeClassifier(
            [("memory", Memorizing()), ("tree", DecisionTreeClassifier())],
            operating_point=AccuracyDrop(0.1),
            cost=[1, 10],
            calibration=calibration,
            random_state=0,
        ).fit(rows, labels)
        new = np.random.RandomState(1).randn(200, 3)
        labels, exits = clf.predict(new, return_exits=True)
        # On samples that it was fitted on, the first is always right, and all would exit.
        assert np.all(exits == 1)
        assert np.mean(labels == (new[:, 0] > 0)) > 0.95

    def test_exit_rules_see_no_sample_an_estimator_was_fitted_on(self):
        rows = np.random.RandomState(0).randn(400, 3)
        labels = (rows[:, 0] > 0).astype(int)
        clf = CascadeClassifier(
            [("memory", Memorizing()), ("tree", DecisionTreeClassifier())],
            policy="learned",
            threshold=0.5,
            cost=[1, 10],
            random_state=0,
        ).fit(rows, labels)
        assert clf.exit_table(np.random.RandomState(1).randn(50, 3)).scores[:, 0].max() < 0.1

    @pytest.mark.parametrize("params", [{}, {"pass_probabilities": True, "train_share": 0.7}])
    def test_same_seed_same_model_in_any_number_of_jobs(self, params):
        estimators = [("small", RandomForestClassifier(3)), ("large", RandomForestClassifier(9))]
        clf = CascadeClassifier(estimators, cost=[1, 3], budget=0.9, random_state=0, **params)
        found = [
            clone(clf).set_params(n_jobs=n_jobs).fit(X, y).predict_proba(X_TEST)
            for n_jobs in (1, 1, 2)
        ]
        assert same(found[0], found[1])
        assert same(found[0], found[2])

    def test_objects_of_the_user_are_not_changed(self):
        clf = three()
        before = pickle.dumps(clf)
        clf.fit(X, y)
        assert pickle.dumps(clone(clf)) == pickle.dumps(clone(pickle.loads(before)))
        assert not any(hasattr(each, "classes_") for _, each in clf.estimators)

    def test_weights_reach_every_estimator(self):
        weight = np.random.RandomState(0).exponential(size=len(y))
        clf = three(calibration=None, threshold=0.8).fit(X, y, sample_weight=weight)
        for (_, given), fitted in zip(clf.estimators[:2], clf.estimators_, strict=False):
            expected = clone(given).fit(X, y, sample_weight=weight / weight.mean())
            np.testing.assert_allclose(
                fitted.predict_proba(X_TEST), expected.predict_proba(X_TEST), rtol=1e-6
            )

    def test_samples_of_weight_zero_are_ignored(self):
        weight = np.arange(len(y)) % 2
        expected = three(budget=0.5).fit(X[1::2], y[1::2])
        clf = three(budget=0.5).fit(X, y, sample_weight=weight)
        assert same(clf.predict_proba(X_TEST), expected.predict_proba(X_TEST))

    def test_groups_are_not_split(self):
        groups = np.arange(len(y)) // 50
        held = []

        class Splitter(ClassifierMixin, BaseEstimator):
            def fit(self, X, y):
                self.classes_, self.seen_ = np.unique(y), set(X[:, 0].astype(int) // 50)
                return self

            def predict_proba(self, X):
                held.append((self.seen_, set(X[:, 0].astype(int) // 50)))
                return np.full((len(X), len(self.classes_)), 0.25)

        rows = np.column_stack([np.arange(len(y)), X])
        estimators = [("a", Splitter()), ("b", Splitter())]
        CascadeClassifier(estimators, cost=[1, 2], calibration=2, random_state=0).fit(
            rows, y, groups=groups
        )
        # What is predicted is either a training sample, in a test, or of another group.
        assert all(asked <= seen or not asked & seen for seen, asked in held)
        assert any(not asked & seen for seen, asked in held)

    def test_a_model_is_kept_after_an_error(self):
        clf = three(threshold=0.8).fit(X, y)
        before = clf.predict(X_TEST)
        with pytest.raises(ValueError, match="NaN"):
            clf.fit(np.full((60, 3), np.nan), y[:60])
        assert same(clf.predict(X_TEST), before)


class TestFrozen:
    small = GaussianNB().fit(X[:200], y[:200])
    large = RandomForestClassifier(20, random_state=0, n_jobs=2).fit(X[:200], y[:200])

    def chain(self, **params):
        estimators = [
            ("small", FrozenEstimator(self.small)),
            ("large", FrozenEstimator(self.large)),
        ]
        return CascadeClassifier(estimators, **{"cost": [1, 10], "random_state": 0, **params})

    @pytest.mark.parametrize("calibration", ["auto", 0.2, 3])
    def test_nothing_is_fitted_and_all_samples_are_used(self, calibration):
        before = pickle.dumps((self.small, self.large))
        clf = self.chain(budget=0.5, calibration=calibration).fit(X[200:], y[200:])
        assert pickle.dumps((self.small, self.large)) == before
        assert clf.operating_point_.n_samples == 300
        first, last = clf.staged_predict(X_TEST)
        assert same(first, self.small.predict(X_TEST))
        assert same(last, self.large.predict(X_TEST))

    def test_one_frozen_and_one_not(self):
        estimators = [("small", FrozenEstimator(self.small)), ("large", GaussianNB())]
        clf = CascadeClassifier(estimators, cost=[1, 10], random_state=0).fit(X[200:], y[200:])
        assert same(next(clf.staged_predict(X_TEST)), self.small.predict(X_TEST))
        assert clf.operating_point_.n_samples == 300

    def test_classes_are_those_of_the_frozen(self):
        rows = X[200:][y[200:] != 3]
        clf = self.chain(budget=0.5).fit(rows, y[200:][y[200:] != 3])
        assert clf.classes_.tolist() == [0, 1, 2, 3]

    def test_a_count_of_operations(self):
        assert estimator_macs(FrozenEstimator(self.large)) == estimator_macs(self.large)

    def test_bad_ones(self):
        other = GaussianNB().fit(X[:50], y[:50] + 1)
        estimators = [("small", FrozenEstimator(self.small)), ("other", FrozenEstimator(other))]
        with pytest.raises(ValueError, match=r"fitted on the same classes.*'small'.*'other'"):
            CascadeClassifier(estimators).fit(X, y)
        with pytest.raises(ValueError, match="not seen in fit"):
            self.chain().fit(X, y + 1)
        estimators = [("small", FrozenEstimator(GaussianNB())), ("large", GaussianNB())]
        with pytest.raises(NotFittedError):
            CascadeClassifier(estimators).fit(X, y)


class TestCosts:
    def test_given(self):
        clf = three(calibration=None).fit(X, y)
        assert clf.costs_.tolist() == [1 / 16, 5 / 16, 21 / 16]
        assert clf.cost_table_.plain == 16

    @pytest.mark.parametrize("named", [{"bayes": 1, "logistic": 4, "tree": 16}, COSTS])
    def test_given_with_decisions_and_a_unit(self, named):
        clf = three(cost=GivenCost(named, decision=0.5, unit="mJ"), calibration=None).fit(X, y)
        assert clf.costs_.tolist() == [1.5 / 16, 6 / 16, 22 / 16]
        assert clf.cost_table_.unit == "mJ"

    def test_counted(self):
        estimators = [("logistic", LogisticRegression()), ("tree", DecisionTreeClassifier())]
        clf = CascadeClassifier(estimators, cost="macs", calibration=None, random_state=0).fit(X, y)
        first, last = map(estimator_macs, clf.estimators_)
        decision = clf.cost_table_.decision_costs[0]
        np.testing.assert_allclose(clf.costs_ * last, np.cumsum([first + decision, last]))

    def test_measured(self):
        clf = three(cost="seconds").fit(X, y)
        assert clf.cost_table_.unit == "s"
        assert [each.how for each in clf.cost_table_.heads] == ["measured"] * 3
        assert np.all(np.diff(clf.costs_, prepend=0) > 0)
        slow = clf.cost_table_.plain * 1e3
        clf.predict(X_TEST, budget=Budget(slow * clf.costs_[-1] * 1.01, unit="ms"))

    def test_learned_rules_do_not_depend_on_times(self):
        first, second = (
            three(cost="seconds", combine="cost_weighted", threshold=0.7).fit(X, y)
            for _ in range(2)
        )
        assert same(first.predict_proba(X_TEST), second.predict_proba(X_TEST))

    @pytest.mark.parametrize("budget", [0.2, 0.5, 1.0])
    def test_a_budget_is_kept(self, budget):
        clf = three(budget=budget).fit(X, y)
        assert clf.operating_point_.cost <= budget
        _, exits = clf.predict(X_TEST, return_exits=True)
        assert clf.costs_[exits].mean() < budget + 0.1

    def test_a_strict_budget_is_kept_on_any_samples(self):
        clf = three(budget=Budget(0.4, strict=True)).fit(X, y)
        hard = X_TEST[np.argsort(clf.exit_table(X_TEST).scores[:, 0])]
        for rows in (hard[:40], hard[:7], hard):
            _, exits = clf.predict(rows, return_exits=True)
            assert clf.costs_[exits].mean() <= 0.4 + 1e-12

    def test_a_budget_below_the_first_estimator(self):
        with pytest.raises(ValueError, match=r"at least the cost of the first exit.*0\.0625"):
            three(budget=0.01).fit(X, y)
        clf = three(threshold=0.5).fit(X, y)
        with pytest.raises(ValueError, match=r"at least the cost of the first exit.*0\.0625\.$"):
            clf.predict(X_TEST, budget=0.01)


class TestInput:
    frame = pd.DataFrame({"size": X[:, 0], "kind": np.array(["a", "b", "c", "d"])[y]})
    new = pd.DataFrame({"size": X_TEST[:, 0], "kind": np.array(["a", "b", "c", "d"])[Y_TEST]})

    def chain(self):
        columns = ColumnTransformer(
            [("kind", OneHotEncoder(), ["kind"]), ("size", StandardScaler(), ["size"])]
        )
        only_size = ColumnTransformer([("size", StandardScaler(), ["size"])])
        estimators = [
            ("size", make_pipeline(only_size, LogisticRegression())),
            ("all", make_pipeline(columns, LogisticRegression())),
        ]
        return CascadeClassifier(estimators, cost=[1, 2], random_state=0)

    def test_data_frames_reach_the_estimators(self):
        clf = self.chain().fit(self.frame, y)
        assert clf.feature_names_in_.tolist() == ["size", "kind"]
        assert clf.n_features_in_ == 2
        labels, exits = clf.predict(self.new, threshold=0.4, return_exits=True)
        assert 0 < exits.mean() < 1
        assert np.all(labels[exits == 1] == Y_TEST[exits == 1])
        with pytest.raises(ValueError, match="feature names"):
            clf.predict(self.new[["kind", "size"]])

    def test_polars(self):
        frames = self.chain().fit(self.frame, y)
        clf = self.chain().fit(pl.from_pandas(self.frame), y)
        found = clf.predict_proba(pl.from_pandas(self.new), threshold=0.4)
        np.testing.assert_allclose(found, frames.predict_proba(self.new, threshold=0.4))

    @pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.coo_array, sparse.csc_matrix])
    def test_sparse(self, kind):
        estimators = [("bayes", MultinomialNB()), ("logistic", LogisticRegression(max_iter=999))]
        rows, new = np.abs(X), np.abs(X_TEST)
        clf = CascadeClassifier(estimators, cost=[1, 2], random_state=0)
        expected = clone(clf).fit(rows, y).predict_proba(new, threshold=0.6)
        found = clf.fit(kind(rows), y).predict_proba(kind(new), threshold=0.6)
        np.testing.assert_allclose(found, expected, rtol=1e-4)

    def test_texts(self):
        words = np.array(["red", "green", "blue", "grey"])
        texts = [f"{words[label]} {words[(i * 7) % 4]}" for i, label in enumerate(y)]
        estimators = [
            ("short", make_pipeline(CountVectorizer(vocabulary=["red"]), MultinomialNB())),
            ("long", make_pipeline(CountVectorizer(), MultinomialNB())),
        ]
        clf = CascadeClassifier(estimators, cost=[1, 2], random_state=0).fit(texts, y)
        assert clf.predict(texts[:3], threshold=0.9).shape == (3,)
        assert not hasattr(clf, "n_features_in_")
        # Nothing is left of a fit on samples with features.
        again = self.chain().fit(self.frame, y).set_params(size=estimators[0][1], all="drop")
        again.set_params(cost=[1]).fit(texts, y)
        assert not hasattr(again, "n_features_in_")
        assert not hasattr(again, "feature_names_in_")
        assert again.predict(np.array(texts[:3])).shape == (3,)

    def test_parameters_of_estimators(self):
        clf = three()
        assert clf.get_params()["tree__max_depth"] == 7
        clf.set_params(tree__max_depth=2, bayes=MultinomialNB())
        assert clf.estimators[2][1].max_depth == 2
        assert isinstance(clf.estimators[0][1], MultinomialNB)
        grid = {
            "logistic__C": [0.1, 1.0],
            "threshold": [0.5, 0.9],
            "bayes": ["drop", DecisionTreeClassifier()],
        }
        search = GridSearchCV(three(calibration=None, cost="macs"), grid, cv=2, error_score="raise")
        assert len(search.fit(X, y).cv_results_["params"]) == 8

    def test_dropped(self):
        clf = three(cost=[4, 16], calibration=None).set_params(bayes="drop").fit(X, y)
        assert clf.exit_names_ == ["logistic", "tree"]

    def test_routing(self):
        weight = np.random.RandomState(0).rand(len(y))
        with sklearn.config_context(enable_metadata_routing=True):
            clf = three(threshold=0.8).set_fit_request(sample_weight=True)
            pipe = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), clf)
            found = pipe.fit(X, y, sample_weight=weight).predict_proba(X_TEST, threshold=0.6)
        rows = StandardScaler().fit(X)
        expected = three(threshold=0.8).fit(rows.transform(X), y, sample_weight=weight)
        assert same(found, expected.predict_proba(rows.transform(X_TEST), threshold=0.6))


class TestRefused:
    @pytest.mark.parametrize(
        ("estimators", "message"),
        [
            ([], "non-empty list"),
            ([("a", GaussianNB()), ("a", GaussianNB())], "not unique"),
            ([("a__b", GaussianNB())], "must not contain __"),
            ([("cost", GaussianNB())], "conflict with constructor"),
            ([("a", StandardScaler())], "should be a classifier"),
            ([("a", "drop")], "All estimators are dropped"),
            ([GaussianNB()], r"list of \(string, estimator\) tuples"),
        ],
    )
    def test_estimators(self, estimators, message):
        with pytest.raises(ValueError, match=message):
            CascadeClassifier(estimators).fit(X, y)

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"threshold": 0.5, "budget": 0.5}, "At most one"),
            ({"threshold": [0.5]}, "threshold"),
            ({"cost": [1, 2]}, "must be 3 finite numbers"),
            ({"cost": [1, 2, -1]}, "must be 3 finite numbers"),
            ({"cost": [1, 2, 0]}, r"cost of the last estimator, 'tree', must be larger than 0"),
            ({"cost": GivenCost([1, 2, 0], decision=1)}, "cost of the last estimator"),
            ({"cost": GivenCost({"bayes": 1, "tree": 2})}, "must name all estimators"),
            ({"policy": "gate"}, "'policy' parameter"),
            ({"combine": "trained"}, "'combine' parameter"),
            ({"combine": TrainedCombination()}, "learns none"),
            ({"calibration": None, "budget": 0.5}, "calibration=None"),
            ({"calibration": 1.5}, "'calibration' parameter"),
            ({"budget": Budget(1, unit="ms")}, "unit"),
        ],
    )
    def test_parameters(self, params, message):
        fits = []

        class Expensive(GaussianNB):
            def fit(self, *args, **kwargs):
                fits.append(1)
                return super().fit(*args, **kwargs)

        clf = three(**params).set_params(bayes=Expensive())
        with pytest.raises(ValueError, match=message):
            clf.fit(X, y)
        assert not fits

    def test_no_probabilities(self):
        estimators = [("svc", LinearSVC()), ("tree", DecisionTreeClassifier())]
        with pytest.raises(ValueError, match=r"'svc' \(LinearSVC\) has no predict_proba"):
            CascadeClassifier(estimators).fit(X, y)
        calibrated = CalibratedClassifierCV(LinearSVC(), ensemble=False)
        clf = CascadeClassifier(estimators, cost=[1, 2], random_state=0).set_params(svc=calibrated)
        assert clf.fit(X, y).predict(X_TEST).shape == Y_TEST.shape

    def test_weights_that_an_estimator_does_not_support(self):
        estimators = [("near", KNeighborsClassifier()), ("tree", DecisionTreeClassifier())]
        with pytest.raises(ValueError, match=r"'near' \(KNeighborsClassifier\) does not support"):
            CascadeClassifier(estimators).fit(X, y, sample_weight=np.ones(len(y)))

    def test_an_error_in_fit_names_the_estimator(self):
        clf = three().set_params(logistic__C=-1.0)
        with pytest.raises(ValueError, match="'C' parameter") as caught:
            clf.fit(X, y)
        assert "'logistic'" in " ".join(caught.value.__notes__)

    @pytest.mark.parametrize("params", [{}, {"policy": "learned"}])
    def test_probabilities_that_are_not_finite(self, params):
        class Undefined(Collective):
            def predict_proba(self, X):
                return np.where(X[:, :1] > 2.5, np.nan, super().predict_proba(X))

        labels, wrong = (X[:, 0] > 0).astype(int), int(np.argmax(X[:, 0] > 2.5))
        estimators = [("first", Undefined()), ("tree", DecisionTreeClassifier())]
        clf = CascadeClassifier(estimators, cost=[1, 2], random_state=0, **params)
        with pytest.raises(ValueError, match="exit 0 are NaN") as caught:
            clf.fit(X, labels)
        assert "network" not in str(caught.value)
        assert "backbone" not in str(caught.value)
        clf.fit(X[X[:, 0] < 2], labels[X[:, 0] < 2])
        with pytest.raises(ValueError, match=rf"X\[{wrong}\].*predict_proba of the estimator"):
            clf.predict(X, threshold=0.7)

    def test_no_samples(self):
        clf = three(threshold=0.5).fit(X, y)
        with pytest.raises(ValueError, match=r"0 sample\(s\)"):
            clf.predict(X_TEST[:0])

    def test_operations_that_cannot_be_counted(self):
        with pytest.raises(ValueError, match=r"GaussianNB.*cost='seconds'"):
            three(cost="macs").fit(X, y)


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
