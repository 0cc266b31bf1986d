"""Costs as objects: what they read, in which unit, and who goes by them."""

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from skearlyexit import (
    BytesCost,
    CNNBackbone,
    CostShare,
    EarlyExitClassifier,
    EstimatorHead,
    ExactPlacement,
    GivenCost,
    Link,
    MACsCost,
    MLPBackbone,
    SecondsCost,
    TracedBackbone,
)
from skearlyexit._utils._resolve import resolve
from skearlyexit.costs import (
    CostInput,
    CostMeasurement,
    CostTable,
    UncountedError,
    estimator_macs,
    exit_costs,
)
from skearlyexit.costs._registry import COSTS
from tests._data import blobs, make, quick

X, y, X_TEST, Y_TEST = blobs()
X_IRIS, Y_IRIS = load_iris(return_X_y=True)
D, C = 4, 3
BACKBONE = MLPBackbone(4, width=16, hidden=16)
N_IN = 16  # width of the rows, filled up


def fitted(**params):
    options = {"backbone": BACKBONE, "exits": ["stem", "block2"], "max_epochs": 2, **params}
    return quick(**options).fit(X, y)


class Odd(ClassifierMixin, BaseEstimator):
    """A kind of classifier that nobody has counted."""

    def fit(self, X, y):
        self.inner_ = LogisticRegression().fit(X, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict_proba(self, X):
        return self.inner_.predict_proba(X)


class Clock:
    """Time that passes only when a part runs."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("skearlyexit.costs._timing.perf_counter", lambda: self.now)

    def part(self, durations, n_rows=2, model=None):
        """CostInput whose calls take so long, one after another; the first call is not counted."""
        calls = iter(durations)
        seen = []

        def run(inputs):
            seen.append(len(inputs))
            self.now += next(calls)

        return CostInput(run, torch.zeros(n_rows, 3), model), seen


class TestSeconds:
    def test_median_and_quartiles_per_row(self, monkeypatch):
        part, seen = Clock(monkeypatch).part([100.0, 5.0, 1.0, 2.0, 4.0, 3.0])
        (reading,) = SecondsCost(batch_size=10, n_repeats=5).read([part])
        assert (reading.low, reading.value, reading.high) == pytest.approx((0.2, 0.3, 0.4))
        assert reading.how == "measured"
        assert seen == [10] * 6

    def test_parts_are_told_apart(self, monkeypatch):
        clock = Clock(monkeypatch)
        parts = [clock.part([9.0, 2.0, 2.0])[0], clock.part([9.0, 6.0, 6.0])[0]]
        values = [reading.value for reading in SecondsCost(1, n_repeats=2).read(parts)]
        assert values == [2.0, 6.0]

    def test_fitted(self):
        table = fitted(cost=SecondsCost(32, n_repeats=3)).cost_table_
        assert table.unit == "s"
        assert all(reading.how == "measured" for reading in (*table.stages, *table.heads))
        assert all(r.low <= r.value <= r.high for r in (*table.stages, *table.heads))
        assert table.stage_costs.min() > 0
        assert "stage 25%" in str(table)


class TestMACs:
    def test_default(self):
        clf = fitted()
        table = clf.cost_table_
        block = 2 * 16 * 16
        assert list(table.stage_costs) == [N_IN * 16, 2 * block, 2 * block]
        assert list(table.head_costs) == [16 * 4] * 3
        assert table.decision_costs.tolist() == [4, 4, 0]
        assert table.plain == N_IN * 16 + 4 * block + 64
        expected = exit_costs(table.stage_costs, table.head_costs, 4)
        np.testing.assert_array_equal(clf.costs_, expected)

    def test_rate_makes_seconds(self):
        macs, seconds = fitted().cost_table_, fitted(cost=MACsCost(rate=1e6)).cost_table_
        assert seconds.unit == "s"
        assert seconds.plain == pytest.approx(macs.plain / 1e6)
        np.testing.assert_allclose(seconds.cumulative, macs.cumulative)

    def test_what_cannot_be_counted_is_timed_at_the_rate_of_the_network(self, monkeypatch):
        clock = Clock(monkeypatch)
        stage, _ = clock.part([1.0] * 10, model=nn.Identity())
        head, _ = clock.part([3.0] * 10, model=Odd())
        # Stages of 1,000 operations take 1 s, so that 3 s are 3,000 operations.
        stages, heads, _ = MACsCost().of_cascade([stage], [head], [], np.array([1000.0]))
        assert stages[0] == CostMeasurement.exactly(1000.0)
        assert heads[0].value == pytest.approx(3000.0)
        assert heads[0].how == "measured"

    def test_such_a_head_in_a_cascade(self):
        table = fitted(head=[Odd(), "linear", "linear"]).cost_table_
        assert [head.how for head in table.heads] == ["measured", "counted", "counted"]
        assert table.head_costs[0] > 0
        assert "timed" in str(table)

    def test_pooling_before_an_estimator_counts(self):
        def pooling():
            return make(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 100)))

        head = EstimatorHead(LogisticRegression(max_iter=500), pooling=pooling())
        for cost, size in (("macs", 16 * 100), ("bytes", 4 * 17 * 100)):
            assert fitted(head=head, cost=cost).cost_table_.head_costs[0] > size

    def test_nothing_to_compare_a_time_with(self):
        with pytest.raises(ValueError, match="no count of operations for Odd"):
            fitted(backbone=[nn.Identity(), nn.ReLU()], exits=1, head=Odd())

    def test_links_need_a_rate(self):
        with pytest.raises(ValueError, match=r"'links' of MACsCost .* 'rate'.* got rate=None"):
            resolve(MACsCost(links=[Link(0, 1e6)]), COSTS, "macs")


class TestBytes:
    def test_parameters_and_buffers_where_they_are_used_first(self):
        layer = make(lambda: nn.Linear(8, 8))
        norm = nn.BatchNorm1d(8)
        parts = [
            CostInput(module, torch.zeros(2, 8), module)
            for module in (layer, nn.Sequential(layer, norm))
        ]
        sizes = [reading.value for reading in BytesCost().read(parts)]
        assert sizes == [4 * (64 + 8), 4 * 4 * 8 + 8]  # weight, bias, mean, variance; a count

    def test_larger_estimators_cost_more(self):
        small = DecisionTreeClassifier(max_depth=1, random_state=0).fit(X_IRIS, Y_IRIS)
        large = DecisionTreeClassifier(random_state=0).fit(X_IRIS, Y_IRIS)
        parts = [CostInput(None, np.zeros((2, 4)), tree) for tree in (small, large)]
        first, second = (reading.value for reading in BytesCost().read(parts))
        assert 0 < first < second

    def test_a_budget_in_bytes_just_met(self):
        images = np.random.RandomState(0).rand(60, 1, 8, 8)
        labels = np.arange(60) % 3
        clf = quick(backbone=CNNBackbone((16,)), exits=[0], cost="bytes", max_epochs=1)
        least = clf.fit(images, labels).costs_[0]
        clf.set_params(budget=least * 1.0001).fit(images, labels)
        assert clf.predict(images, return_exits=True)[1].max() == 0

    def test_fitted(self):
        table = fitted(cost="bytes").cost_table_
        assert table.unit == "bytes"
        assert table.head_costs[0] == 4 * (16 * 4 + 4)
        assert not table.decision_costs.any()


class TestGiven:
    def test_fitted(self):
        cost = GivenCost({"stem": 1, "block2": 5, "block4": 4}, heads=[0.1, 0.2, 1], unit="mJ")
        clf = fitted(cost=cost, budget=0.9)
        assert list(clf.cost_table_.stage_costs) == [1, 5, 4]
        np.testing.assert_allclose(clf.costs_, [1.1 / 11, 6.3 / 11, 11.3 / 11])
        assert "in mJ per sample" in str(clf.cost_table_)
        exits = clf.predict(X, return_exits=True)[1]
        np.testing.assert_array_equal(clf.operating_point_.thresholds, clf.thresholds_)
        assert set(exits) <= {0, 1, 2}

    def test_placement_goes_by_it(self):
        cost = GivenCost([0, 1, 1, 1, 97])
        assert fitted(exits=CostShare(schedule=[0.02]), cost=cost).exit_names_ == [
            "block2",
            "block4",
        ]
        assert fitted(exits=CostShare(schedule=[0.02])).exit_names_ == ["stem", "block4"]

    @pytest.mark.parametrize(
        ("blocks", "match"),
        [
            ([1, 2, 3], "must be 5 finite numbers of at least 0"),
            ([1, 1, 1, 1, -1], "must be 5 finite numbers"),
            ([1, 1, 1, 1, np.inf], "must be 5 finite numbers"),
            ({"stem": 1}, "the last one, 'block4', among them"),
            ({"stem": 1, "blok": 1, "block4": 1}, r"Got \['stem', 'blok', 'block4'\]"),
            ({"stem": 1, "block4": 1}, r"\['block2'\], for which the 'cost' object has no cost"),
        ],
    )
    def test_what_does_not_fit_the_network(self, blocks, match):
        with pytest.raises(ValueError, match=match):
            fitted(cost=GivenCost(blocks))

    def test_only_blocks_with_a_cost_are_placed(self):
        cost = GivenCost({"block1": 5.0, "block4": 3.0})
        clf = fitted(cost=cost, exits=2)
        assert clf.exit_names_ == ["block1", "block4"]
        np.testing.assert_allclose(clf.costs_, [5 / 8, 1])

    def test_further_names(self):
        module = make(lambda: nn.Sequential(nn.Sequential(nn.Linear(X.shape[1], 8)), nn.ReLU()))
        backbone = TracedBackbone(module)
        clf = fitted(backbone=backbone, cost=GivenCost({"0.0": 2.0, "1": 1.0}), exits=["0"])
        assert list(clf.cost_table_.stage_costs) == [2.0, 1.0]

    def test_heads_and_places_by_data(self):
        with pytest.raises(ValueError, match="must be a single number then"):
            fitted(exits=ExactPlacement(3), cost=GivenCost([1] * 5, heads=[1, 1, 1]))

    def test_heads_that_do_not_fit(self):
        with pytest.raises(ValueError, match="'heads' of GivenCost must be 3 finite"):
            fitted(cost=GivenCost([1] * 5, heads=[1, 2]))


class TestLinks:
    def test_bytes_of_what_is_handed_on(self):
        link = Link(after="block2", bandwidth=1000.0, latency=0.5)
        plain = fitted(cost=MACsCost(rate=1e6)).cost_table_
        table = fitted(cost=MACsCost(rate=1e6, links=[link])).cost_table_
        # 16 numbers of 4 bytes go over the link, in the stage after it.
        np.testing.assert_allclose(table.links, [0, 0, 64 / 1000 + 0.5])
        np.testing.assert_allclose(table.stage_costs, plain.stage_costs + table.links)
        assert table.plain == pytest.approx(plain.plain + 0.564)
        assert "link" in str(table)

    def test_several_tensors_cross(self):
        class Skip(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Linear(X.shape[1], 8), nn.Linear(8, 8)
                self.rest = nn.Linear(8 + X.shape[1], 4)

            def forward(self, rows):
                return self.rest(torch.cat([self.second(self.first(rows)), rows], dim=1))

        cost = MACsCost(rate=1e6, links=[Link("first", 1.0)])
        clf = fitted(backbone=TracedBackbone(make(Skip)), exits=["first"], cost=cost, head="linear")
        assert clf.cost_table_.links[1] == 4 * (8 + X.shape[1])

    def test_placement_sees_them(self):
        placement = CostShare(schedule=[0.5])
        macs = MACsCost(rate=1e6)
        assert fitted(exits=placement, cost=macs).exit_names_ == ["block2", "block4"]
        # As much again as the network, within the block after the stem.
        slow = MACsCost(rate=1e6, links=[Link("stem", bandwidth=64 / 2500e-6)])
        assert fitted(exits=placement, cost=slow).exit_names_ == ["block1", "block4"]

    @pytest.mark.parametrize("after", ["block9", 7])
    def test_unknown_block(self, after):
        cost = MACsCost(rate=1e6, links=[Link(after, 1.0)])
        with pytest.raises(ValueError, match=f"names {after!r}, which is not a block"):
            fitted(cost=cost)

    def test_the_end_hands_on_nothing(self):
        with pytest.raises(ValueError, match="transfers nothing"):
            fitted(cost=SecondsCost(links=[Link("block4", 1.0)]))

    @pytest.mark.parametrize("options", [{"bandwidth": 0}, {"bandwidth": 1, "latency": -1}])
    def test_impossible_link(self, options):
        with pytest.raises(ValueError, match="positive bandwidth"):
            Link(0, **options)

    @pytest.mark.parametrize("options", [{"energy": -1.0}, {"price": float("inf")}])
    def test_impossible_energy_or_price(self, options):
        with pytest.raises(ValueError, match=r"energy and the price of a Link are finite"):
            Link(0, **options)

    def test_in_a_cost_it_is_after_a_block_and_has_seconds_only(self):
        with pytest.raises(ValueError, match="needs the block after which it is"):
            resolve(SecondsCost(links=[Link(bandwidth=1e6)]), COSTS, "macs")
        with pytest.raises(ValueError, match="cost seconds only"):
            resolve(SecondsCost(links=[Link(0, 1e6, energy=1e-9)]), COSTS, "macs")

    def test_no_link(self):
        with pytest.raises(TypeError, match=r"must be Link objects\. Got 3"):
            resolve(SecondsCost(links=[3]), COSTS, "macs")


class TestTable:
    table = CostTable(
        "s",
        ["a", "b"],
        [CostMeasurement.exactly(3.0), CostMeasurement(4.0, 3.5, 4.5, "measured")],
        [CostMeasurement.exactly(1.0), CostMeasurement.exactly(2.0)],
        np.array([0.0, 1.0]),
        [CostMeasurement.exactly(0.5), CostMeasurement.exactly(0.0)],
    )

    def test_costs(self):
        assert self.table.plain == 10.0
        np.testing.assert_allclose(self.table.cumulative, [0.45, 1.15])

    def test_frame(self):
        frame = self.table.to_frame()
        assert list(frame["stage"]) == [3.0, 4.0]
        assert list(frame["stage 75%"]) == [3.0, 4.5]
        assert list(frame["decision"]) == [0.5, 0.0]
        assert list(frame["until here"]) == [4.5, 11.5]

    def test_prints(self):
        lines = str(self.table).splitlines()
        assert lines[0].split()[:2] == ["exit", "stage"]
        assert lines[1].endswith("45.0%")
        assert lines[-1] == "in s per sample; the plain network costs 10"
        assert self.table._repr_html_().startswith("<pre>exit")


@pytest.mark.parametrize("cost", ["macs", "bytes", "seconds", MACsCost(rate=2e9)])
def test_unit_of_the_costs_is_the_plain_network(cost):
    clf = fitted(cost=cost, exits=1)
    assert clf.costs_.tolist() == [1.0]


def test_unknown_cost():
    with pytest.raises(ValueError, match="'cost' parameter of EarlyExitClassifier"):
        EarlyExitClassifier(cost="joules").fit(X, y)


class TestCounts:
    def test_projection_before_a_model(self):
        model = make_pipeline(PCA(2), LogisticRegression()).fit(X_IRIS, Y_IRIS)
        assert estimator_macs(model) == 2 * D + 2 * C + C

    def test_several_models(self):
        members = [("a", LogisticRegression(max_iter=1000)), ("b", MultinomialNB())]
        model = VotingClassifier(members, voting="soft").fit(X_IRIS, Y_IRIS)
        assert estimator_macs(model) == D * C + C + C * D

    def test_an_unknown_kind(self):
        with pytest.raises(UncountedError, match="no count of operations for Odd"):
            estimator_macs(make_pipeline(PCA(2), Odd()).fit(X_IRIS, Y_IRIS))
