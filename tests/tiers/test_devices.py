"""Several devices with one answer, against sums by hand and formula (1) of the paper on DDNNs."""

from functools import cache

import numpy as np
import pytest

from skearlyexit import Link, MLPBackbone, MultiViewBackbone, Threshold
from skearlyexit.tiers import ModelParts, Tier, TierPlan, ViewParts, choose_plan
from tests._data import quick
from tests.tiers._models import X_TEST, Y_TEST, X, network, y
from tests.tiers._requests import run

#: Three exits; the views of 3 devices are merged behind the first one.
PARTS = ModelParts(
    ["a", "b", "c"],
    work=np.array([3 * 4.0 + 1.0, 5.0, 7.0]),
    n_bytes=np.array([96.0, 48.0 + 8.0, 16.0]),
    views=ViewParts(3, work=4.0, output_bytes=10.0, n_bytes=np.array([32.0, 16.0 + 8.0, 16.0])),
)
DEVICES = Tier("devices", rate=[2.0, 1.0, 4.0], power=3.0, price=0.25, overhead=0.5, n_devices=3)
EDGE = Tier("edge", rate=10.0, power=7.0, price=0.5)
CLOUD = Tier("cloud", rate=40.0, overhead=0.125)
LINKS = [Link(bandwidth=16.0, latency=0.5, energy=0.01, price=0.03), Link(bandwidth=64.0)]
LOCAL = Link(bandwidth=100.0, latency=0.05, energy=0.02)
PLAN = TierPlan([DEVICES, EDGE, CLOUD], LINKS, [0, 1, 2], local_link=LOCAL)


class TestByHand:
    by_exit = PLAN.by_exit(PARTS)

    def test_latency_is_that_of_the_slowest_device(self):
        # The second device takes 4 s; the first one merges, with the head of 1 MAC.
        local = 0.5 + 4.0 + (10.0 / 100.0 + 0.05) + 1.0 / 2.0
        edge = local + 24.0 / 16.0 + 0.5 + 5.0 / 10.0
        cloud = edge + 16.0 / 64.0 + 0.125 + 7.0 / 40.0
        np.testing.assert_allclose(self.by_exit.latency, [local, edge, cloud])

    def test_energy_price_and_bytes_are_those_of_all_devices(self):
        seconds = 3 * 0.5 + (2.0 + 4.0 + 1.0) + 0.5
        energy = [seconds * 3.0 + 20.0 * 0.02]  # the first device keeps its outputs
        energy.append(energy[0] + 56.0 * 0.01 + 0.5 * 7.0)
        energy.append(energy[1])
        np.testing.assert_allclose(self.by_exit.energy, energy)
        price = seconds * 0.25 + np.array([0.0, 1.0, 1.0]) * (56.0 * 0.03 + 0.5 * 0.5)
        np.testing.assert_allclose(self.by_exit.price, price)
        np.testing.assert_allclose(self.by_exit.n_bytes, [20.0, 20.0 + 56.0, 20.0 + 56.0 + 16.0])

    def test_samples_themselves_are_sent_by_all_devices(self):
        plan = TierPlan([DEVICES, EDGE], LINKS[:1], [1, 1, 1])
        # The edge runs the stages of all views.
        expected = 32.0 / 16.0 + 0.5 + np.cumsum(PARTS.work) / 10.0
        np.testing.assert_allclose(plan.by_exit(PARTS).latency, expected)
        assert plan.by_exit(PARTS).n_bytes.tolist() == [96.0] * 3

    def test_one_machine_can_run_all_views(self):
        one = TierPlan([Tier("device", rate=2.0), EDGE], LINKS[:1], [0, 0, 1])
        np.testing.assert_allclose(one.by_exit(PARTS).latency[:2], [6.5, 9.0])

    def test_equal_devices(self):
        same = TierPlan([Tier("a", rate=2.0, power=1.0, n_devices=3), EDGE], LINKS[:1], [0, 1, 1])
        np.testing.assert_allclose(same.by_exit(PARTS).latency[0], 4.0 / 2.0 + 1.0 / 2.0)
        np.testing.assert_allclose(same.by_exit(PARTS).energy[0], 3 * 4.0 / 2.0 + 1.0 / 2.0)


def views_of(rows):
    """Three overlapping parts of 5 features each."""
    return np.stack([rows[:, :5], rows[:, 4:9], rows[:, 8:13]], axis=1).astype(np.float32)


def fit_to_views(**params):
    options = {
        "backbone": MultiViewBackbone(MLPBackbone(2, width=16, hidden=16)),
        "exits": ["stem", "block1"],
        "operating_point": Threshold(0.7),
        "max_epochs": 1,
    }
    return quick(**{**options, **params}).fit(views_of(X), y)


@cache
def of_views():
    return fit_to_views(max_epochs=20, operating_point=Threshold([0.6, 0.7]))


SMALL = TierPlan(
    [Tier("devices", rate=1e5, overhead=0.001, n_devices=3), Tier("cloud", rate=1e7)],
    [Link(bandwidth=1e4, latency=0.01)],
    ["devices", "cloud", "cloud"],
    local_link=Link(bandwidth=2e4, latency=0.002),
    answer_bytes=4.0,
)


class TestModel:
    rows = views_of(X_TEST)

    def test_parts(self):
        parts = ModelParts.of(of_views(), self.rows)
        table = of_views().cost_table_
        assert parts.n_bytes.tolist() == [3 * 5 * 4.0, 3 * 16 * 4.0, 16 * 4.0]
        assert parts.views.n_views == 3
        assert parts.views.work == table.stage_costs[0] / 3
        assert parts.views.output_bytes == 4 * 4.0  # four classes
        assert parts.views.n_bytes[:2].tolist() == [5 * 4.0, 16 * 4.0]

    def test_what_is_remembered_is_sent_by_one_device(self):
        parts = ModelParts.of(fit_to_views(combine="mean", exits=["stem"]), self.rows)
        assert parts.n_bytes[1] - 3 * 16 * 4 == parts.views.n_bytes[1] - 16 * 4 == 40

    def test_compression_is_of_each_device(self):
        parts = ModelParts.of(of_views(), self.rows, compression="int8")
        assert parts.n_bytes[1] == 3 * (16 + 8)
        report = TierPlan(SMALL.tiers, SMALL.links, SMALL.assignment, compression="int8").report(
            of_views(), self.rows, Y_TEST
        )
        assert report.accuracy == pytest.approx(report.uncompressed_accuracy, abs=0.02)

    def test_bytes_of_a_device_are_those_of_the_formula(self):
        """4 |C| + (1 - l) f o / 8, with f o / 8 the bytes of an embedding.

        In the paper, a gateway merges the outputs of all devices. Here the first device does, and
        keeps its own.
        """
        plan = TierPlan(SMALL.tiers, SMALL.links, SMALL.assignment)
        report = plan.report(of_views(), self.rows, Y_TEST)
        _, exits = of_views().predict(self.rows, return_exits=True)
        exited = np.mean(exits == 0)
        assert 0.05 < exited < 0.95
        assert (report.n_bytes + 4 * 4) / 3 == pytest.approx(4 * 4 + (1 - exited) * 16 * 4)
        assert report.link_names == ["devices to cloud", "within devices"]
        np.testing.assert_allclose(report.link_rate, [1 - exited, 1.0])

    def test_simulation_without_load_agrees_with_the_report(self):
        times = np.arange(len(self.rows)) * 10.0
        found = SMALL.simulate(of_views(), self.rows, Y_TEST, arrivals=times)
        report = SMALL.report(of_views(), self.rows, Y_TEST)
        for name in ("latency", "latency_p50", "latency_p95", "latency_p99", "accuracy"):
            assert getattr(found, name) == pytest.approx(getattr(report, name))
        assert report.link_names == ["devices to cloud", "cloud to devices", "within devices"]
        assert found.link_names == report.link_names[:2]
        assert "cloud to devices" in str(found)

    def test_choice_leaves_out_what_devices_cannot_run(self):
        choice = choose_plan(
            SMALL.tiers,
            SMALL.links,
            of_views(),
            self.rows,
            Y_TEST,
            local_link=SMALL.local_link,
            answer_bytes=1.0,
            minimize="bytes",
        )
        found = {tuple(each.plan.assignment) for each in choice.ranking}
        assert found == {("devices", "cloud", "cloud"), ("cloud",) * 3}
        assert choice.plan.local_link == SMALL.local_link


class TestSimulation:
    n = 40_000

    def test_devices_begin_the_next_sample_when_the_exit_is_decided(self):
        found = run(PLAN, [0, 0, 0], [0.0, 0.0, 0.0], PARTS)
        alone = PLAN.by_exit(PARTS).latency[0]
        np.testing.assert_allclose(found.latencies, alone * np.array([1, 2, 3]))

    def test_the_transmission_of_each_device_can_be_lost(self):
        exits, arrivals = np.ones(self.n, dtype=int), np.arange(self.n) * 99.0
        found = run(PLAN, exits, arrivals, PARTS, loss=[0.1, 0.0])
        assert found.degraded_rate == pytest.approx(1 - 0.9**3, abs=0.01)
        again = run(PLAN, exits, arrivals, PARTS, loss=[0.1, 0.0], n_retries=1)
        assert again.degraded_rate == pytest.approx(1 - (1 - 0.1**2) ** 3, abs=0.005)
        # A repetition takes as long as that of the device that needs it.
        repeated = ~again.is_degraded & (again.latencies > again.latencies.min() + 1e-9)
        extra = again.latencies[repeated] - again.latencies.min()
        np.testing.assert_allclose(extra, 24.0 / 16.0 + 2 * 0.5)
        assert repeated.mean() == pytest.approx((1 - 0.1**2) ** 3 - 0.9**3, abs=0.01)


class TestErrors:
    def refuse(self, match, tiers, links=LINKS[:1], assignment=(0, 1, 1), **params):
        with pytest.raises(ValueError, match=match):
            TierPlan(tiers, links, assignment, **params).by_exit(PARTS)

    def test_only_the_first_tier_has_several_devices(self):
        self.refuse(r"Only the first tier .* n_devices=\[1, 3\]", [EDGE, DEVICES])

    def test_as_many_devices_as_views(self):
        devices = Tier("devices", rate=1.0, n_devices=2)
        self.refuse(
            "need a model with a MultiViewBackbone of 2 views.*has 3 views", [devices, EDGE]
        )

    def test_exits_behind_the_merge(self):
        self.refuse(
            r"Only the first exit, 'a', can be assigned to the 3 devices.*\[0, 0, 1\]",
            [DEVICES, EDGE],
            assignment=[0, 0, 1],
        )

    def test_a_link_among_devices_without_these(self):
        self.refuse("'local_link' connects several devices", [EDGE, CLOUD], local_link=LOCAL)
        self.refuse("its 'after' must be None", [DEVICES, EDGE], local_link=Link("stem"))

    def test_a_model_without_views(self):
        devices = Tier("devices", rate=1.0, n_devices=2)
        with pytest.raises(ValueError, match=r"The model, with the exits .* has no such exit"):
            TierPlan([devices, EDGE], LINKS[:1], [0, 1, 1]).report(network(), X_TEST, Y_TEST)

    def test_a_model_without_an_exit_before_the_merge(self):
        clf = fit_to_views(exits=["block1"])
        assert ModelParts.of(clf, views_of(X_TEST)).views is None

    @pytest.mark.parametrize(
        ("params", "match"),
        [
            ({"rate": [1.0, 2.0]}, "of which there is 1"),
            ({"rate": [1.0, 2.0], "n_devices": 3}, "of which there are 3"),
            ({"rate": [1.0, 0.0], "n_devices": 2}, "rate of 'a' must be positive"),
            ({"rate": 1.0, "n_devices": 0}, "'n_devices' of 'a' must be an integer"),
        ],
    )
    def test_impossible_devices(self, params, match):
        with pytest.raises(ValueError, match=match):
            Tier("a", **params)
