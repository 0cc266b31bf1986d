"""What a guarantee says, what it assumes, and that it is refused where that does not hold."""

import re

import numpy as np
import pytest
from sklearn.metrics import make_scorer
from sklearn.model_selection import PredefinedSplit

from skearlyexit import AccuracyDrop, RiskControl
from skearlyexit.calibration import (
    CalibrationData,
    ConformalRiskControl,
    NotCertifiedError,
    TargetAccuracy,
    _risk_control,
)
from tests._data import blobs, quick, same

X, y, X_TEST, Y_TEST = blobs()
UNEVEN = np.where(np.arange(len(X)) % 50 == 0, 20.0, 1.0)


def evidence_of(loses, weight, scores=None, largest_weight=None):
    """Two exits: the last is always right, the first where a sample does not lose."""
    n = len(loses)
    scores = np.ones(n) if scores is None else scores
    return CalibrationData(
        np.stack([scores, np.ones(n)], axis=1),
        np.stack([~loses, np.ones(n, dtype=bool)], axis=1),
        np.array([0.5, 1.0]),
        weight,
        largest_weight=largest_weight,
    )


def losing(share, n=400):
    return np.arange(n) < share * n


@pytest.fixture(scope="module")
def fitted():
    return quick(calibration=None).fit(X, y)


class TestWeights:
    @pytest.mark.usefixtures("untrained")
    @pytest.mark.parametrize("request_", [RiskControl(0.2), ConformalRiskControl(0.2)])
    def test_different_ones_are_refused_without_a_bound(self, fitted, request_):
        weight = UNEVEN[: len(X_TEST)]
        with pytest.raises(NotCertifiedError, match=r"different weights.*Give it as max_weight"):
            fitted.calibrate(X_TEST, Y_TEST, request_, sample_weight=weight)
        with pytest.raises(NotCertifiedError, match="different weights"):
            quick(operating_point=request_).fit(X, y, sample_weight=UNEVEN)

    def test_without_a_request_no_sample_exits_early(self):
        clf = quick().fit(X, y, sample_weight=UNEVEN)
        assert np.isinf(clf.thresholds_).all()
        assert clf.operating_point_.certified is False
        assert "Give it as max_weight" in clf.operating_point_.reason
        assert "Give it as max_weight" in clf.exit_report(X_TEST, Y_TEST).reason

    def test_zeros_leave_samples_out(self, fitted):
        used = np.arange(len(X_TEST)) % 3 > 0
        request = RiskControl(0.2)
        weighted = fitted.calibrate(X_TEST, Y_TEST, request, sample_weight=4.0 * used)
        found, n_rows = weighted.thresholds_, weighted.operating_point_.n_samples
        alone = fitted.calibrate(X_TEST[used], Y_TEST[used], request)
        assert same(found, alone.thresholds_)
        assert n_rows == used.sum()

    def test_held_out_samples_alone_do_not_show_that_weights_are_equal(self):
        weight = np.ones(len(X))
        weight[0] = 20.0
        split = PredefinedSplit(np.where(np.arange(len(X)) % 3 == 1, 0, -1))
        clf = quick(operating_point=RiskControl(0.3), calibration=split)
        assert clf.fit(X, y).operating_point_.certified
        with pytest.raises(NotCertifiedError, match="different weights"):
            clf.fit(X, y, sample_weight=weight)

    @pytest.mark.usefixtures("untrained")
    @pytest.mark.parametrize("kind", [RiskControl, ConformalRiskControl])
    def test_bound_is_checked_before_training(self, kind):
        clf = quick(operating_point=kind(0.3, max_weight=10))
        with pytest.raises(ValueError, match="Got 10, and a sample of weight 20"):
            clf.fit(X, y, sample_weight=UNEVEN)
        too_few = quick(operating_point=kind(0.01, max_weight=20))
        with pytest.raises(NotCertifiedError, match="150 calibration samples"):
            too_few.fit(X, y, sample_weight=UNEVEN)

    @pytest.mark.parametrize("kind", [RiskControl, ConformalRiskControl])
    def test_with_a_bound(self, kind):
        clf = quick(operating_point=kind(0.4, max_weight=20)).fit(X, y, sample_weight=UNEVEN)
        assert clf.operating_point_.certified
        assert "weighted by sample weights up to 20" in clf.operating_point_.reason
        assert np.isfinite(clf.thresholds_).all()
        huge = quick(operating_point=kind(0.4, max_weight=20e200))
        huge.fit(X, y, sample_weight=1e200 * UNEVEN)
        assert huge.thresholds_ == pytest.approx(clf.thresholds_)

    @pytest.mark.parametrize("test", ["binomial", "hoeffding_bentkus"])
    def test_only_betting_holds(self, test):
        clf = quick(operating_point=RiskControl(0.4, test=test, max_weight=20))
        with pytest.raises(ValueError, match=f"must not be '{test}' with 'max_weight'"):
            clf.fit(X, y, sample_weight=UNEVEN)

    @pytest.mark.parametrize("value", [0, -1, float("nan"), "large"])
    @pytest.mark.parametrize("kind", [RiskControl, ConformalRiskControl])
    def test_no_bound(self, kind, value):
        with pytest.raises(ValueError, match=f"'max_weight' parameter of {kind.__name__}"):
            kind(max_weight=value)._validate_params()

    def test_conformal_by_hand(self):
        weight = np.where(losing(0.25), 1.0, 3.0)
        data = evidence_of(losing(0.1), weight)
        # 40 losses of weight 1 and one more sample of weight 5; 1000 in sum.
        level = (40 + 5) / (1000 + 5)
        least = ConformalRiskControl(level + 1e-9, max_weight=5, family=[1.0])
        assert least.thresholds(data, None).tolist() == [1.0]
        with pytest.raises(NotCertifiedError, match=r"least target_level .* is 0\.045\."):
            ConformalRiskControl(level - 1e-9, max_weight=5, family=[1.0]).thresholds(data, None)

    def test_a_weight_too_rare_to_be_seen(self):
        # Up to a weight of 100, no test can tell this from a risk of 0.1.
        unseen = evidence_of(losing(0.0), np.ones(400))
        assert RiskControl(0.1).calibrate(unseen, None).certified
        with pytest.raises(NotCertifiedError):
            RiskControl(0.1, max_weight=100).calibrate(unseen, None)

    @pytest.mark.parametrize("method", ["ltt", "ucb"])
    def test_guarantee_where_the_heavy_lose(self, method):
        """Two in a hundred weigh 20, and they alone lose."""
        rng = np.random.default_rng(0)
        family = np.linspace(1, 0, 21)
        share, heavy = 0.02, 20.0
        total = share * heavy + 1 - share
        chance = 0.15 * total / (share * heavy)  # a weighted risk of 0.15 (1 - threshold)
        request = RiskControl(0.05, method=method, family=family, max_weight=heavy)
        conformal = ConformalRiskControl(0.05, family=family, max_weight=heavy)
        n_draws, n = 150, 2000
        risks = np.empty((2, n_draws))
        for i in range(n_draws):
            is_heavy = rng.random(n) < share
            drawn = evidence_of(
                is_heavy & (rng.random(n) < chance),
                np.where(is_heavy, heavy, 1.0),
                rng.random(n),
            )
            for row, point in zip(risks, (request, conformal), strict=True):
                row[i] = 0.15 * (1 - point.thresholds(drawn, None)[0])
        assert np.mean(risks[0] > 0.05 + 1e-12) <= 0.1 + 3 * np.sqrt(0.09 / n_draws)
        assert risks[1].mean() <= 0.05 + 3 * risks[1].std() / np.sqrt(n_draws)
        # And not by doing nothing.
        assert risks[0].mean() > 0.01
        assert risks[1].mean() > 0.03

    def test_class_weights_do_not_enter(self):
        request = RiskControl(0.3)
        clf = quick(operating_point=request, class_weight="balanced").fit(X, y)
        held = clf.operating_point_
        assert held.certified
        assert held.n_samples == 150
        assert "weighted by" not in held.reason

    def test_follow_their_samples_through_cross_fitting(self):
        point = RiskControl(0.4, max_weight=20)
        clf = quick(operating_point=point, calibration=2).fit(X, y, sample_weight=UNEVEN)
        table = clf.exit_table(X)
        data = CalibrationData.from_table(table, y, clf.costs_, UNEVEN)
        assert data.weight_shares[0].tolist() == (UNEVEN / 20).tolist()
        assert clf.operating_point_.n_samples == len(X)


class TestSentences:
    @pytest.mark.parametrize(
        ("level", "confidence", "expected"),
        [
            (0.01, 0.9, "With 90% confidence at most 1.00% of"),
            (0.001, 0.999, "With 99.9% confidence at most 0.10% of"),
            (0.00001, 0.9999, "With 99.99% confidence at most 0.001% of"),
            (0.125, 0.995, "With 99.5% confidence at most 12.50% of"),
        ],
    )
    def test_are_exact(self, level, confidence, expected):
        said = RiskControl(level, confidence_level=confidence).certify()[1]
        assert said.startswith(expected)
        if level < 0.001:
            assert "at most 0.001% of" in ConformalRiskControl(level).certify()[1]

    @pytest.mark.parametrize(("calibration", "folds"), [(0.5, False), (2, True)])
    def test_say_that_folds_stand_for_the_final_model(self, calibration, folds):
        clf = quick(operating_point=RiskControl(0.3), calibration=calibration).fit(X, y)
        assert clf.operating_point_.certified
        assert (
            "for the final model only if it behaves like them" in clf.operating_point_.reason
        ) is folds


class TestWhatCanBeCertified:
    @pytest.mark.parametrize("confidence", [0.8, 0.999])
    @pytest.mark.parametrize("risk", ["performance_gap", "accuracy_drop"])
    @pytest.mark.parametrize("n", [1, 7, 60, 400])
    def test_the_error_names_it(self, n, risk, confidence):
        data = evidence_of(losing(0.1, n), np.ones(n))
        request = RiskControl(1e-6, confidence_level=confidence, risk=risk)
        with pytest.raises(NotCertifiedError) as error:
            request.calibrate(data, None)
        named = re.search(r"can certify is ([\d.]+)\. ", str(error.value))
        if named is None:
            assert "nor can any other target_level" in str(error.value)
            with pytest.raises(NotCertifiedError):
                request.set_params(target_level=0.999).calibrate(data, None)
            return
        least = float(named[1])
        assert request.set_params(target_level=least).calibrate(data, None).certified
        with pytest.raises(NotCertifiedError):
            request.set_params(target_level=0.9 * least).calibrate(data, None)

    @pytest.mark.parametrize("kind", [RiskControl, ConformalRiskControl])
    def test_nothing_at_all(self, fitted, kind):
        everything = kind(0.1, risk=lambda true, now, last: np.ones(len(true)))
        with pytest.raises(NotCertifiedError, match="nor can any other target_level"):
            fitted.calibrate(X_TEST, Y_TEST, everything)

    def test_a_drop_may_be_a_gain(self):
        """Samples that an early exit alone gets right certify a drop with fewer of them."""
        request = RiskControl(0.01, risk="accuracy_drop")
        n = 40
        request.check_samples(n)
        right = np.tile([True, False], (n, 1))
        gains = CalibrationData(np.ones((n, 2)), right, np.array([0.5, 1.0]), np.ones(n))
        assert request.calibrate(gains, None).certified

    @pytest.mark.parametrize(
        ("request_", "n"),
        [
            (RiskControl(0.01, risk="accuracy_drop"), 2),
            # The largest loss so far is never below that of the last exit, which is 0.
            (RiskControl(0.01, risk="accuracy_drop", method="ucb"), 40),
            # No score reaches the threshold.
            (RiskControl(0.01, risk="accuracy_drop", family=[2.0]), 40),
        ],
    )
    def test_what_no_samples_certify_is_refused_before_training(self, request_, n):
        with pytest.raises(NotCertifiedError, match=f"{n} calibration samples"):
            request_.check_samples(n)

    def test_what_is_no_number_certifies_nothing(self, monkeypatch):
        for name in ("binomial_p_value", "betting_p_value"):
            monkeypatch.setattr(_risk_control, name, lambda *args: np.float64(np.nan))
        for request in (RiskControl(0.1), RiskControl(0.1, test="betting")):
            with pytest.raises(NotCertifiedError):
                request.calibrate(evidence_of(losing(0.0), np.ones(400)), None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [AccuracyDrop, TargetAccuracy])
def test_a_metric_that_is_no_number(fitted, kind, value):
    metric = make_scorer(lambda true, now: value)
    before = fitted.operating_point_
    with pytest.raises(ValueError, match=f"finite numbers. Got {value}"):
        fitted.calibrate(X_TEST, Y_TEST, kind(0.1, metric=metric))
    assert fitted.operating_point_ is before
