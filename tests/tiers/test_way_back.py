"""The way back of the answer, against sums by hand."""

import numpy as np
import pytest

from skearlyexit import Link
from skearlyexit.tiers import Tier, TierPlan, choose_plan
from tests.tiers._models import PARTS, X_TEST, Y_TEST, network
from tests.tiers._requests import run

TIERS = [
    Tier("device", rate=2.0, power=3.0),
    Tier("edge", rate=10.0, price=0.5),
    Tier("cloud", rate=40.0),
]
LINKS = [
    Link(bandwidth=16.0, latency=0.5, energy=0.01),
    Link(bandwidth=64.0, latency=1.5, energy=0.02, price=0.03),
]
BACK = [
    Link(bandwidth=32.0, latency=0.25, energy=0.5),
    Link(bandwidth=8.0, latency=0.75, price=2.0),
]
ASSIGNMENTS = [[0, 0, 1, 2], [0, 0, 2, 2], [1, 1, 1, 2], [2] * 4, [0] * 4]


@pytest.mark.parametrize("links_back", [None, BACK], ids=["symmetrical", "given"])
@pytest.mark.parametrize("assignment", ASSIGNMENTS, ids=str)
def test_answers_cross_the_links_up_to_their_tier_once(assignment, links_back):
    plain = TierPlan(TIERS, LINKS, assignment).by_exit(PARTS)
    plan = TierPlan(TIERS, LINKS, assignment, answer_bytes=4.0, links_back=links_back)
    found = plan.by_exit(PARTS)
    for exit_, tier in enumerate(assignment):
        crossed = (links_back or LINKS)[:tier]
        expected = [
            plain.latency[exit_] + sum(4.0 / each.bandwidth + each.latency for each in crossed),
            plain.energy[exit_] + sum(4.0 * each.energy for each in crossed),
            plain.price[exit_] + sum(4.0 * each.price for each in crossed),
            plain.n_bytes[exit_] + 4.0 * tier,
        ]
        values = (found.latency, found.energy, found.price, found.n_bytes)
        np.testing.assert_allclose([each[exit_] for each in values], expected, rtol=1e-12)
    # One sample after the other.
    alone = run(plan, [0, 1, 2, 3], np.arange(4) * 1e4)
    np.testing.assert_allclose(alone.latencies, found.latency)


def test_without_a_size_nothing_is_sent_and_with_0_it_takes_the_latency():
    assert TierPlan(TIERS, LINKS, ASSIGNMENTS[0]).link_names == ["device to edge", "edge to cloud"]
    plan = TierPlan(TIERS, LINKS, ASSIGNMENTS[0], answer_bytes=0.0)
    extra = (
        plan.by_exit(PARTS).latency - TierPlan(TIERS, LINKS, ASSIGNMENTS[0]).by_exit(PARTS).latency
    )
    np.testing.assert_allclose(extra, [0.0, 0.0, 0.5, 2.0])
    report = plan.report_of_exits(PARTS, [0, 1, 2, 3])
    assert report.link_names[2:] == ["edge to device", "cloud to edge"]
    np.testing.assert_allclose(report.link_rate, [0.5, 0.25, 0.5, 0.25])
    assert str(report).splitlines()[-1].split() == ["cloud", "to", "edge", "25.0%", "0"]


def test_answers_of_a_model():
    plan = TierPlan(
        [Tier("device", rate=1e5), Tier("cloud", rate=1e7)],
        [Link(bandwidth=1e4, latency=0.01)],
        [0, 0, 1],
        answer_bytes=40.0,
        links_back=[Link(bandwidth=1e3, latency=0.02)],
    )
    times = np.arange(len(X_TEST)) * 10.0
    found = plan.simulate(network(), X_TEST, Y_TEST, arrivals=times)
    report = plan.report(network(), X_TEST, Y_TEST)
    for name in ("latency", "latency_p95", "accuracy"):
        assert getattr(found, name) == pytest.approx(getattr(report, name))
    assert report.link_bytes[1] == pytest.approx(40.0 * report.exit_rate[2])
    # The choice takes it into account.
    free, paid = (
        choose_plan(plan.tiers, plan.links, network(), X_TEST, Y_TEST, **params)
        for params in ({}, {"answer_bytes": 40.0, "links_back": plan.links_back})
    )
    assert free.plan.assignment[0] == "cloud"
    assert paid.value > free.value
    assert paid.plan.links_back == plan.links_back


class TestSimulation:
    plan = TierPlan(
        [Tier("device", rate=1.0), Tier("cloud", rate=2.0)],
        [Link(latency=0.5)],
        [0, 0, 1, 1],
        answer_bytes=8.0,
        links_back=[Link(bandwidth=2.0, latency=0.25)],
    )

    def test_answers_wait_for_each_other_but_not_for_what_is_sent(self):
        # Both at the same time: 8 s each on the device, 9 s each in the cloud, 4 s each back.
        found = run(self.plan, [3, 3], [0.0, 0.0])
        np.testing.assert_allclose(found.latencies, [8.5 + 9.0 + 4.25, 17.5 + 9.0 + 4.25])
        fast = TierPlan(
            [Tier("device", rate=1e9), Tier("cloud", rate=1e9)],
            [Link()],
            [0, 0, 1, 1],
            answer_bytes=8.0,
            links_back=[Link(bandwidth=2.0)],
        )
        found = run(fast, [3, 0, 3], [0.0, 0.0, 0.0])
        np.testing.assert_allclose(found.latencies, [4.0, 0.0, 8.0], atol=1e-6)
        np.testing.assert_allclose(found.link_waits[:, 1], [0.0, np.nan, 4.0], atol=1e-6)
        assert found.link_names == ["device to cloud", "cloud to device"]
        assert found.link_utilization[1] == pytest.approx(1.0)

    def test_a_lost_answer_is_given_by_the_last_exit_before_the_link(self):
        n = 40_000
        found = run(self.plan, np.full(n, 3), np.arange(n) * 99.0, loss=0.25)
        assert found.degraded_rate == pytest.approx(1 - 0.75**2, abs=0.01)
        assert set(found.exits) == {1, 3}
        there, back = 8.0 + 1.0, 8.0 + 0.5 + 9.0 + 4.0 + 0.5  # when the loss is noticed
        lost = found.latencies[found.is_degraded]
        assert np.mean(np.isclose(lost, there)) == pytest.approx(0.25 / (1 - 0.75**2), abs=0.01)
        assert (np.isclose(lost, there) | np.isclose(lost, back)).all()

    def test_without_an_exit_before_the_link_there_is_no_answer(self):
        plan = TierPlan(
            [Tier("device", 1.0), Tier("cloud", 1.0)], [Link()], [1] * 4, answer_bytes=1.0
        )
        n = 10_000
        found = run(plan, np.zeros(n, dtype=int), np.arange(n) * 99.0, loss=0.25)
        assert found.unanswered_rate == pytest.approx(1 - 0.75**2, abs=0.02)

    def test_an_answer_instead_of_one_that_was_lost_goes_on_back(self):
        """Of three tiers: the cloud is gone, and the edge answers."""
        plan = TierPlan(TIERS, LINKS, [0, 0, 1, 2], answer_bytes=4.0)
        found = run(plan, [3], [0.0], outages={"cloud": [(-1.0, 99.0)]})
        by_exit = plan.by_exit(PARTS)
        assert found.exits.tolist() == [2]
        np.testing.assert_allclose(
            found.latencies, by_exit.latency[2] + LINKS[1].seconds(PARTS.n_bytes[3])
        )


class TestErrors:
    @pytest.mark.parametrize(
        ("params", "match"),
        [
            ({"answer_bytes": -1.0}, "'answer_bytes' must be None or a finite number"),
            ({"answer_bytes": float("inf")}, "'answer_bytes' must be None or a finite number"),
            ({"links_back": BACK}, "Give 'answer_bytes', the size of an answer"),
            ({"answer_bytes": 1.0, "links_back": BACK[:1]}, "for each of the 2 links. Got 1"),
            ({"answer_bytes": 1.0, "links_back": [Link("a"), Link()]}, "'after' must be None"),
        ],
    )
    def test_impossible_ways_back(self, params, match):
        with pytest.raises(ValueError, match=match):
            TierPlan(TIERS, LINKS, ASSIGNMENTS[0], **params)

    def test_other_objects(self):
        with pytest.raises(TypeError, match=r"must be Link objects\. Got 3"):
            TierPlan(TIERS, LINKS, ASSIGNMENTS[0], answer_bytes=1.0, links_back=[3, 4])
