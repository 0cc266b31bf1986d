"""Columns of each estimator in a row, and the cost of getting them."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import make_column_selector
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import CascadeClassifier
from tests._data import blobs, same

X, y, X_TEST, Y_TEST = blobs()
NAMES = [f"x{i}" for i in range(X.shape[1])]
FRAME = pd.DataFrame(X, columns=NAMES)
FEW = [7, 2, 4]
FEW_NAMES = [NAMES[i] for i in FEW]


def three(**params):
    estimators = [
        ("small", LogisticRegression(max_iter=500)),
        ("middle", LogisticRegression(max_iter=500)),
        ("large", DecisionTreeClassifier(max_depth=7)),
    ]
    defaults = {"cost": [1, 2, 10], "calibration": 0.3, "random_state": 0, "threshold": 0.7}
    return CascadeClassifier(estimators, **{**defaults, **params})


class TestColumns:
    @pytest.mark.parametrize("pass_probabilities", [False, True])
    def test_equal_to_estimators_of_these_columns(self, pass_probabilities):
        clf = three(
            columns={"small": FEW}, pass_probabilities=pass_probabilities, calibration=None
        ).fit(X, y)
        small = LogisticRegression(max_iter=500).fit(X[:, FEW], y)
        found, *_ = clf.staged_predict_proba(X_TEST)
        np.testing.assert_allclose(found, small.predict_proba(X_TEST[:, FEW]), rtol=1e-9)
        more = 4 if pass_probabilities else 0
        assert [each.n_features_in_ for each in clf.estimators_] == [3, 13 + more, 13 + 2 * more]
        assert clf.n_features_in_ == 13

    @pytest.mark.parametrize("pass_probabilities", [False, True])
    def test_run_equals_table_and_batches_do_not_matter(self, pass_probabilities):
        clf = three(
            columns={"small": FEW, "large": slice(2, 9)}, pass_probabilities=pass_probabilities
        ).fit(X, y)
        table = clf.exit_table(X_TEST)
        found, exits = clf.predict_proba(X_TEST, return_exits=True)
        assert len(np.unique(exits)) == 3
        assert same(exits, table.exits(clf.thresholds_))
        assert same(found, table.probabilities[np.arange(len(exits)), exits])
        assert same(clf.predict_proba(X_TEST[3:8]), found[3:8])
        assert same(pickle.loads(pickle.dumps(clf)).predict_proba(X_TEST), found)

    @pytest.mark.parametrize(
        "wanted",
        [FEW_NAMES, FEW, make_column_selector("^x[247]$"), np.isin(np.arange(13), FEW)],
    )
    def test_as_they_are_specified_in_a_column_transformer(self, wanted):
        clf = three(columns={"small": wanted}, calibration=None).fit(FRAME, y)
        assert set(clf.estimators_[0].feature_names_in_) == set(FEW_NAMES)
        assert clf.predict(FRAME).shape == y.shape

    @pytest.mark.parametrize("make", [pl.from_pandas, lambda frame: frame])
    def test_data_frames(self, make):
        frame = make(FRAME)
        clf = three(columns={"small": FEW_NAMES, "middle": "x1"}).fit(frame, y)
        assert clf.estimators_[0].feature_names_in_.tolist() == FEW_NAMES
        assert clf.estimators_[1].feature_names_in_.tolist() == ["x1"]
        other = three(columns={"small": FEW, "middle": [1]}).fit(X, y)
        assert same(clf.predict(frame), other.predict(X))

    def test_features_that_are_added_are_named_after_all_columns(self):
        frame = pd.DataFrame(X)
        clf = three(columns={"middle": [7, 12, 4]}, pass_probabilities=True).fit(frame, y)
        other = three(columns={"middle": [7, 12, 4]}, pass_probabilities=True).fit(X, y)
        found = clf.predict_proba(pd.DataFrame(X_TEST))
        np.testing.assert_allclose(found, other.predict_proba(X_TEST), rtol=1e-9)

    def test_sparse_matrices(self):
        clf = three(columns={"small": FEW}).fit(sparse.csr_array(X), y)
        other = three(columns={"small": FEW}).fit(X, y)
        found = clf.predict_proba(sparse.csr_array(X_TEST))
        np.testing.assert_allclose(found, other.predict_proba(X_TEST), rtol=1e-2)

    def test_frozen_estimators(self):
        small = LogisticRegression(max_iter=500).fit(X[:300, FEW], y[:300])
        large = DecisionTreeClassifier(random_state=0).fit(X[:300], y[:300])
        clf = CascadeClassifier(
            [("small", FrozenEstimator(small)), ("large", FrozenEstimator(large))],
            columns={"small": FEW},
            cost=[1, 9],
            threshold=0.8,
            random_state=0,
        ).fit(X[300:], y[300:])
        first, last = clf.staged_predict(X_TEST)
        assert same(first, small.predict(X_TEST[:, FEW]))
        assert same(last, large.predict(X_TEST))

    def test_a_dropped_estimator_needs_no_columns(self):
        columns = {"small": FEW, "middle": [1]}
        clf = three(columns=columns, cost=[1, 10]).set_params(middle="drop").fit(X, y)
        assert clf.exit_names_ == ["small", "large"]

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"tiny": [0]}, r"\['small', 'middle', 'large'\], to columns\. Got \['tiny'\]"),
            ({"small": [99]}, "'small' are not valid"),
            ({"small": ["x1"]}, "'small' are not valid.*only supported for dataframes"),
            ({"small": []}, r"at least one\. Got \[\]"),
        ],
    )
    def test_bad_columns(self, columns, message):
        with pytest.raises(ValueError, match=message):
            three(columns=columns).fit(X, y)

    def test_samples_without_columns(self):
        texts = ["a b", "c d"] * 250
        for params in ({"columns": {"small": [0]}}, {"feature_costs": [1.0]}):
            with pytest.raises(ValueError, match=r"needs samples with columns.*leave it out"):
                three(**params).fit(texts, y)


class TestCosts:
    def test_by_hand(self):
        # Costs of the columns: 0 is 3, 1 is 5, 2 is 7, 3 is 11, and the others are free.
        clf = three(
            columns={"small": [0, 4], "middle": [0, 1, 2, 5], "large": [1, 3, 6]},
            feature_costs={0: 3, 1: 5, 2: 7, 3: 11},
        ).fit(X, y)
        # The last estimator alone: 10 for itself, 5 + 11 for its columns.
        assert clf.cost_table_.plain == 26
        # small: 1 + 3. middle: 2 + (5 + 7), with column 0 paid. large: 10 + 11, with 1 paid.
        np.testing.assert_allclose(clf.costs_, np.array([4, 18, 39]) / 26)
        assert str(clf.cost_table_).splitlines()[0].split() == [
            "exit",
            "head",
            "columns",
            "until",
            "here",
            "of",
            "plain",
        ]
        assert clf.cost_table_.to_frame()["columns"].tolist() == [3, 12, 11]

    def test_all_columns_are_paid_for_by_an_estimator_without_its_own(self):
        costs = np.arange(13.0)
        clf = three(columns={"small": FEW}, feature_costs=costs).fit(X, y)
        few, every = costs[FEW].sum(), costs.sum()
        np.testing.assert_allclose(
            clf.costs_, np.array([1 + few, 3 + every, 13 + every]) / (10 + every)
        )

    def test_estimators_that_need_all_before_them(self):
        clf = three(
            columns={"small": [0], "middle": [1], "large": [2]},
            feature_costs={0: 3, 1: 5, 2: 7},
            pass_probabilities=True,
        ).fit(X, y)
        assert clf.cost_table_.plain == 13 + 15
        np.testing.assert_allclose(clf.costs_, np.array([4, 11, 28]) / 28)

    def test_names_of_a_data_frame(self):
        clf = three(columns={"small": ["x0"]}, feature_costs={"x0": 2.0, "x5": 8.0}).fit(FRAME, y)
        np.testing.assert_allclose(clf.costs_, np.array([3, 13, 23]) / 20)

    def test_with_counted_operations(self):
        free = three(columns={"small": FEW}, cost="macs").fit(X, y)
        clf = three(columns={"small": FEW}, cost="macs", feature_costs=np.full(13, 100)).fit(X, y)
        more = clf.costs_ * clf.cost_table_.plain - free.costs_ * free.cost_table_.plain
        np.testing.assert_allclose(more, [300, 1300, 1300], rtol=1e-9)
        assert clf.cost_table_.plain == free.cost_table_.plain + 1300

    def test_with_measured_times(self):
        clf = three(columns={"small": FEW}, cost="seconds", feature_costs=np.ones(13)).fit(X, y)
        # Estimators take microseconds.
        np.testing.assert_allclose(clf.costs_, [3 / 13, 1, 1], rtol=1e-3)

    def test_only_columns_may_cost_anything(self):
        clf = three(columns={"small": FEW}, cost=[0, 0, 0], feature_costs=np.ones(13)).fit(X, y)
        np.testing.assert_allclose(clf.costs_, [3 / 13, 1, 1])

    def test_budgets_frontiers_and_reports_count_them(self):
        params = {"columns": {"small": FEW}, "feature_costs": np.full(13, 10.0)}
        clf = three(threshold=None, budget=0.6, **params).fit(X, y)
        assert clf.operating_point_.cost <= 0.6
        np.testing.assert_allclose(clf.frontier_.costs.min(), 31 / 140)
        _, exits = clf.predict(X_TEST, return_exits=True)
        report = clf.exit_report(X_TEST, Y_TEST)
        assert report.overall.mean_cost == pytest.approx(clf.costs_[exits].mean())
        with pytest.raises(ValueError, match="must be at least"):
            three(threshold=None, budget=0.2, **params).fit(X, y)

    def test_a_budget_is_refused_before_training(self, monkeypatch):
        monkeypatch.setattr(LogisticRegression, "fit", lambda self, X, y: pytest.fail("trained"))
        clf = three(threshold=None, budget=0.2, feature_costs=np.full(13, 10.0))
        with pytest.raises(ValueError, match="must be at least"):
            clf.fit(X, y)

    @pytest.mark.parametrize("cost", ["seconds", [1, 2, 10]])
    def test_policies_that_depend_on_costs(self, cost):
        params = {"policy": "cost_sensitive", "calibration": 0.3, "threshold": 0.5}
        columns = {"small": FEW, "middle": FEW}
        cheap, dear = (
            three(columns=columns, cost=cost, feature_costs=costs, **params).fit(X, y)
            for costs in (np.full(13, 1e-9), np.full(13, 1e6))
        )
        cheap_scores, dear_scores = (each.exit_table(X_TEST).scores for each in (cheap, dear))
        assert not np.allclose(cheap_scores[:, 1], dear_scores[:, 1])
        again = three(columns=columns, cost=cost, feature_costs=np.full(13, 1e6), **params)
        assert same(again.fit(X, y).exit_table(X_TEST).scores, dear_scores)

    @pytest.mark.parametrize(
        "costs",
        [[1.0], np.full(13, -1.0), np.full(13, np.nan), {0: -1.0}, {99: 1.0}, {"x1": 1.0}],
    )
    def test_bad_costs(self, costs):
        with pytest.raises(ValueError, match="feature_costs"):
            three(feature_costs=costs).fit(X, y)

    def test_clone(self):
        clf = three(columns={"small": FEW}, feature_costs=np.ones(13))
        assert clone(clf).get_params()["columns"] == {"small": FEW}
