"""Compressed embeddings, against stages that are run by hand on what is received."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from skearlyexit import CascadeClassifier, CNNBackbone, Link, Threshold
from skearlyexit.runtime._driver import outputs
from skearlyexit.tiers import ModelParts, Tier, TierPlan, choose_plan
from skearlyexit.tiers._compression import CompressedNetwork, received
from tests._data import digits, quick
from tests.tiers._models import X_TEST, Y_TEST, X, four_blocks, network, y

TIERS = [Tier("device", rate=1e5), Tier("cloud", rate=1e9)]
LINKS = [Link(bandwidth=1e3, latency=0.001)]


def quantized(values):
    """One sample in 256 steps, in double precision."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return values.astype(np.float64)
    step = (high - low) / 255
    return np.round((values - low) / step) * step + low


def by_hand(clf, rows, cut, restore):
    """Probabilities of all exits of an MLP, if what the stage before `cut` passes on is sent."""
    carry, found = torch.tensor(rows, dtype=torch.float32), []
    with torch.inference_mode():
        for exit_, (stage, head) in enumerate(
            zip(clf.stages_, clf.cascade_.network.heads, strict=True)
        ):
            if exit_ == cut:
                restored = np.stack([restore(each) for each in carry.numpy()])
                carry = torch.tensor(restored, dtype=torch.float32)
            carry, embedding = stage(carry)
            found.append(head.outputs(head.pool(embedding)))
    return np.stack(found, axis=1)


@pytest.mark.parametrize(
    ("compression", "restore"),
    [("int8", quantized), ("float16", lambda values: values.astype(np.float16))],
)
@pytest.mark.parametrize("cut", [1, 2])
def test_later_stages_run_on_what_is_received(compression, restore, cut):
    rows = X_TEST[:200].astype(np.float32)
    sent = CompressedNetwork(network().cascade_.network, (cut,), compression)
    found = outputs(sent, rows).probabilities
    plain = outputs(network().cascade_.network, rows).probabilities
    np.testing.assert_allclose(found, by_hand(network(), rows, cut, restore), atol=2e-4)
    assert np.array_equal(found[:, :cut], plain[:, :cut])
    assert not np.array_equal(found[:, cut:], plain[:, cut:])


@pytest.mark.parametrize("compression", ["float16", "int8"])
def test_a_sample_is_compressed_by_itself(compression):
    sent = CompressedNetwork(network().cascade_.network, (1,), compression)
    rows = X_TEST.astype(np.float32)
    whole = outputs(sent, rows).probabilities
    assert np.array_equal(outputs(sent, rows[7:12]).probabilities, whole[7:12])


class TestReceived:
    def test_no_number_is_off_by_more_than_half_a_step(self):
        values = torch.tensor(np.random.default_rng(0).normal(size=(50, 6, 4, 4)) * 100)
        off = (received(values, "int8") - values).abs().amax((1, 2, 3))
        half = (values.amax((1, 2, 3)) - values.amin((1, 2, 3))) / 255 / 2
        assert (off <= half * (1 + 1e-4) + 1e-4).all()
        assert all(len(each.unique()) <= 256 for each in received(values, "int8"))

    def test_samples_of_equal_numbers_are_kept(self):
        values = torch.tensor([[3.5, 3.5], [0.0, 0.0]])
        assert torch.equal(received(values, "int8"), values)

    def test_numbers_beyond_half_precision_become_the_largest(self):
        found = received(torch.tensor([[1e30, -1e30, 1.0]]), "float16")
        assert found.tolist() == [[65504.0, -65504.0, 1.0]]

    def test_integers_are_sent_as_they_are(self):
        tokens, values = torch.tensor([[1, 300]]), torch.tensor([2.5])
        found = received((tokens, values), "int8")
        assert torch.equal(found[0], tokens)
        assert torch.equal(found[1], values)


class TestBytes:
    def test_half_and_a_quarter(self):
        sizes = [
            ModelParts.of(network(), X, compression=each).n_bytes.tolist()
            for each in (None, "float16", "int8")
        ]
        # The samples as they are, and 32 numbers. The lowest and the step take 8 bytes.
        assert sizes == [[52, 128, 128], [52, 64, 64], [52, 40, 40]]

    def test_what_is_remembered_is_not_compressed(self):
        clf = four_blocks(combine="mean")
        assert ModelParts.of(clf, X, compression="int8").n_bytes.tolist() == [52, 24 + 40, 24 + 40]


class TestPlan:
    def plan(self, compression, assignment=(0, 1, 1)):
        return TierPlan(TIERS, LINKS, list(assignment), compression=compression)

    @pytest.mark.parametrize("compression", ["float16", "int8"])
    def test_the_report_has_the_accuracy_with_and_without(self, compression):
        report = self.plan(compression).report(network(), X_TEST, Y_TEST)
        plain = self.plan(None).report(network(), X_TEST, Y_TEST)
        sent = CompressedNetwork(network().cascade_.network, (1,), compression)
        table = network().cascade_.exit_rule.tabulate(outputs(sent, X_TEST.astype(np.float32)))
        exits = table.exits(network().thresholds_)
        labels = network().classes_[table.labels[np.arange(len(exits)), exits]]
        assert report.accuracy == pytest.approx((labels == Y_TEST).mean())
        assert report.uncompressed_accuracy == plain.accuracy
        assert np.isnan(plain.uncompressed_accuracy)
        assert report.link_bytes[0] < plain.link_bytes[0]
        assert "without compression" in str(report)
        assert "without compression" not in str(plain)

    def test_what_is_not_sent_is_not_compressed(self):
        on_device = self.plan("int8", (0, 0, 0)).report(network(), X_TEST, Y_TEST)
        in_cloud = self.plan("int8", (1, 1, 1)).report(network(), X_TEST, Y_TEST)
        plain = self.plan(None).report(network(), X_TEST, Y_TEST)
        assert on_device.accuracy == in_cloud.accuracy == plain.accuracy
        assert in_cloud.link_bytes.tolist() == [52.0]

    def test_maps_of_images(self):
        images, labels, *_ = digits()
        images = images.reshape(-1, 1, 8, 8)
        clf = quick(
            backbone=CNNBackbone((8, 8)), exits=2, operating_point=Threshold(0.6), max_epochs=2
        ).fit(images[:400], labels[:400])
        plan = TierPlan(TIERS, LINKS, [0, 1], compression="float16")
        report = plan.report(clf, images[400:], labels[400:])
        assert report.accuracy == pytest.approx(report.uncompressed_accuracy, abs=0.01)

    def test_a_simulation_has_the_accuracy_of_the_report(self):
        times = np.arange(len(X_TEST)) * 10.0
        found = self.plan("int8").simulate(network(), X_TEST, Y_TEST, arrivals=times)
        report = self.plan("int8").report(network(), X_TEST, Y_TEST)
        assert found.accuracy == pytest.approx(report.accuracy)
        assert found.latency == pytest.approx(report.latency)

    def test_the_choice_runs_the_model_with_compression(self):
        choice = choose_plan(TIERS, LINKS, network(), X_TEST, Y_TEST, compression="int8")
        for ranked in choice.ranking:
            assert ranked.plan.compression == "int8"
            report = ranked.plan.report(network(), X_TEST, Y_TEST, threshold=ranked.thresholds)
            assert report.latency == pytest.approx(ranked.value)
            end = self.plan(None).report(network(), X_TEST, Y_TEST)
            assert end.last_accuracy - report.accuracy == pytest.approx(ranked.drop)


class TestErrors:
    def test_unknown_format(self):
        for ask in (
            lambda: TierPlan(TIERS, LINKS, [0, 1], compression="zip"),
            lambda: ModelParts.of(network(), X, compression="zip"),
            lambda: choose_plan(TIERS, LINKS, network(), X_TEST, Y_TEST, compression="zip"),
        ):
            with pytest.raises(ValueError, match=r"None or one of .* Got 'zip'"):
                ask()

    def test_estimators_in_a_row_have_no_embeddings(self):
        members = [(name, LogisticRegression(max_iter=200)) for name in "ab"]
        clf = CascadeClassifier(members, operating_point=Threshold(0.7), random_state=0).fit(X, y)
        plan = TierPlan(TIERS, LINKS, [0, 1], compression="int8")
        with pytest.raises(ValueError, match="estimators in a row have none"):
            plan.report(clf, X_TEST, Y_TEST)
        with pytest.raises(ValueError, match="estimators in a row have none"):
            ModelParts.of(clf, X, compression="int8")
