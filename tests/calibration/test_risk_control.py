"""Risk control: losses, p-values and how often a promise is kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from skearlyexit.calibration import (
    CalibrationData,
    ConformalRiskControl,
    NotCertifiedError,
    RiskControl,
    compute_frontier,
)
from skearlyexit.calibration._over_family import FAMILY
from skearlyexit.calibration._p_values import (
    betting_p_value,
    binomial_p_value,
    hoeffding_bentkus_p_value,
)
from skearlyexit.calibration._risks import FamilyLosses, exit_losses
from tests._calibration_data import evidences, labeled, naive_exit, simulated
from tests._data import blobs, quick

X, y, _, _ = blobs()


def naive_risk(data, threshold):
    lost = 0.0
    for row, weight in enumerate(data.weight):
        exit_ = naive_exit(data.scores[row], [threshold] * (data.n_exits - 1))
        lost += weight * (data.correct[row, -1] and not data.correct[row, exit_])
    return lost / data.weight.sum()


def perfect(n_rows):
    return CalibrationData(
        np.ones((n_rows, 3)),
        np.ones((n_rows, 3), dtype=bool),
        np.array([0.3, 0.7, 1.1]),
        np.ones(n_rows),
    )


def family_risks(data, family):
    losses = FamilyLosses(data.scores, exit_losses(data, "performance_gap"), family)
    return losses.means(data.weight)


class TestRiskControl:
    @settings(deadline=None)
    @given(evidences(), st.lists(st.floats(0, 1), min_size=1, max_size=8))
    def test_risks_of_the_family(self, data, thresholds):
        family = np.array(sorted({1.0, 0.5, 0.1, 0.0, *thresholds}, reverse=True))
        expected = [naive_risk(data, threshold) for threshold in family]
        np.testing.assert_allclose(family_risks(data, family), expected, atol=1e-12)

    def test_family_is_fixed_and_falls_from_one_to_zero(self):
        assert FAMILY[0] == 1
        assert FAMILY[-1] == 0
        assert np.all(np.diff(FAMILY) < 0)

    @pytest.mark.parametrize("n_rows", [1, 7, 230, 5000])
    @pytest.mark.parametrize("level", [0.01, 0.1, 0.5])
    def test_p_value_is_the_binomial_distribution_function(self, n_rows, level):
        losses = np.unique(np.linspace(0, n_rows, 40).round())
        np.testing.assert_allclose(
            binomial_p_value(losses / n_rows, n_rows, level),
            binom.cdf(losses, n_rows, level),
            rtol=1e-9,
            atol=1e-300,
        )

    def test_p_value_grows_with_the_risk_and_falls_with_the_rows(self):
        risks = np.linspace(0, 0.1, 101)
        assert np.all(np.diff(binomial_p_value(risks, 333.3, 0.05)) > 0)
        few, many = (binomial_p_value(risks[:30], n, 0.05) for n in (100.5, 301.2))
        assert np.all(many < few)

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize(("level", "confidence"), [(0.05, 0.9), (0.02, 0.8), (0.1, 0.99)])
    def test_stops_before_the_first_that_is_not_certified(self, seed, level, confidence):
        data = simulated(seed, 300, 3)
        expected = np.inf
        for threshold in FAMILY:
            losses = round(naive_risk(data, threshold) * 300)
            if binom.cdf(losses, 300, level) > 1 - confidence:
                break
            expected = threshold
        request = RiskControl(level, confidence_level=confidence, family="common")
        if np.isinf(expected):
            with pytest.raises(NotCertifiedError):
                request.calibrate(data, None)
            return
        point = request.calibrate(data, None)
        assert point.thresholds.tolist() == [expected, expected]
        assert point.certified is True

    def test_a_later_pass_does_not_count(self):
        # Wrong between 0.6 and 0.7 only: below, an earlier exit answers, and rightly.
        scores = np.repeat([[0.5, 0.7, 0.0]], 1000, axis=0)
        correct = np.repeat([[True, False, True]], 1000, axis=0)
        data = CalibrationData(scores, correct, np.array([0.3, 0.7, 1.1]), np.ones(1000))
        found = RiskControl(0.05, family="common").thresholds(data, compute_frontier(data))
        assert naive_risk(data, 0.5) == 0
        assert found.tolist() == [FAMILY[FAMILY > 0.7].min()] * 2

    def test_needs_enough_rows(self):
        # 0.99 ** n falls below a tenth between 229 and 230 rows.
        request = RiskControl(0.01, confidence_level=0.9)
        for n_rows, least in ((200, 0.012), (229, 0.011)):
            for refused in (
                lambda n_rows=n_rows: request.calibrate(perfect(n_rows), None),
                lambda n_rows=n_rows: request.check_samples(n_rows),
            ):
                message = rf"least target_level that {n_rows} calibration samples .* is {least}\."
                with pytest.raises(NotCertifiedError, match=message):
                    refused()
            enough = RiskControl(least, confidence_level=0.9)
            assert enough.calibrate(perfect(n_rows), None).certified
        request.check_samples(230)
        point = request.calibrate(perfect(230), None)
        assert point.certified is True
        assert point.n_samples == 230
        assert point.thresholds.tolist() == [0.0, 0.0]
        assert point.cost == pytest.approx(0.3)

    def test_unequal_weights_are_refused_and_equal_ones_are_none(self):
        data = perfect(4000)
        weight = np.where(np.arange(4000) < 40, 50.0, 1.0)
        uneven = CalibrationData(data.scores, data.correct, data.costs, weight)
        scaled = CalibrationData(data.scores, data.correct, data.costs, np.full(4000, 0.01))
        assert np.isfinite(RiskControl().thresholds(scaled, None)).all()
        with pytest.raises(NotCertifiedError, match="Give it as max_weight"):
            RiskControl().thresholds(uneven, None)

    @pytest.mark.parametrize("value", [0, 1, -0.1, float("nan")])
    @pytest.mark.parametrize("name", ["target_level", "confidence_level"])
    def test_no_level(self, name, value):
        with pytest.raises(ValueError, match=f"'{name}' parameter of RiskControl must be"):
            RiskControl(**{name: value})._validate_params()

    @pytest.mark.parametrize(("level", "confidence"), [(0.05, 0.9), (0.02, 0.8)])
    def test_keeps_its_promise(self, level, confidence):
        population = simulated(11, 20_000, 3)
        risks = np.append(
            family_risks(population, FAMILY),  # equal to the naive loop, as tested above
            0.0,
        )
        rng = np.random.default_rng(0)
        request = RiskControl(level, confidence_level=confidence, family="common")
        n_draws, n_broken, n_early = 500, 0, 0
        for _ in range(n_draws):
            rows = rng.integers(20_000, size=600)
            sample = CalibrationData(
                population.scores[rows], population.correct[rows], population.costs, np.ones(600)
            )
            try:
                index = np.flatnonzero(request.thresholds(sample, None)[0] == FAMILY)
            except NotCertifiedError:
                index = []
            n_early += len(index)
            n_broken += risks[index[0] if len(index) else -1] > level
        allowed = 1 - confidence
        assert n_broken / n_draws <= allowed + 3 * np.sqrt(allowed * confidence / n_draws)
        # Not by doing nothing: it comes close to what it may.
        assert n_early > 0.9 * n_draws
        assert n_broken > 0


class TestPValues:
    @pytest.mark.parametrize("n_rows", [20, 400])
    @pytest.mark.parametrize("level", [0.05, 0.3])
    def test_hoeffding_bentkus_by_hand(self, n_rows, level):
        for risk in (0.0, 0.01, level / 2, level, 2 * level):
            below = min(risk, level)
            h = (1 - below) * np.log((1 - below) / (1 - level))
            h += below * np.log(below / level) if below else 0.0
            bentkus = np.e * binom.cdf(np.ceil(n_rows * risk - 1e-9), n_rows, level)
            expected = min(np.exp(-n_rows * h), bentkus, 1.0)
            found = hoeffding_bentkus_p_value(np.array([risk]), n_rows, level)[0]
            assert found == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("kind", ["binary", "narrow", "beta"])
    def test_betting_is_rarely_sure_of_what_is_false(self, kind):
        rng = np.random.default_rng(0)
        draw = {
            "binary": lambda: (rng.random(300) < 0.1).astype(float),
            "narrow": lambda: 0.1 + 0.05 * rng.choice([-1, 1], size=300),
            "beta": lambda: rng.beta(0.5, 4.5, size=300),
        }[kind]
        found = np.array([betting_p_value(draw(), 0.1, np.ones(300)) for _ in range(1000)])
        for delta in (0.05, 0.2):
            assert np.mean(found <= delta) <= delta + 3 * np.sqrt(delta * (1 - delta) / 1000)

    def test_betting_is_sharper_where_losses_vary_little(self):
        losses = 0.5 + 0.05 * np.random.default_rng(0).choice([-1, 1], size=600)
        by_betting = betting_p_value(losses, 0.52, np.ones(600))
        by_means = hoeffding_bentkus_p_value(losses.mean(keepdims=True), 600, 0.52)[0]
        assert by_betting < 0.05 < by_means


POPULATION = labeled(11, 20_000)


def sample(rng, n_rows=800):
    rows = rng.integers(len(POPULATION.y), size=n_rows)
    return CalibrationData(
        POPULATION.scores[rows],
        POPULATION.correct[rows],
        POPULATION.costs,
        np.ones(n_rows),
        POPULATION.labels[rows],
        POPULATION.y[rows],
    )


def true_risk(thresholds, risk):
    exits = POPULATION.exits(thresholds)
    return exit_losses(POPULATION, risk)[np.arange(len(exits)), exits].mean()


class TestGuarantees:
    @pytest.mark.parametrize(
        "params",
        [
            {"risk": "consistency"},
            {"risk": "performance_gap"},
            {"risk": "performance_gap", "family": "common"},
            {"risk": "accuracy_drop", "family": np.linspace(0.3, 1, 12)},
            {"risk": "performance_gap", "test": "hoeffding_bentkus"},
            {"risk": "performance_gap", "method": "ucb", "family": np.linspace(0.3, 1, 30)},
            {"risk": "performance_gap", "family": np.linspace(0.3, 1, 12)},
        ],
        ids=str,
    )
    def test_with_confidence(self, params):
        rng = np.random.default_rng(0)
        request = RiskControl(0.03, confidence_level=0.8, **params)
        n_draws, n_broken, n_early = 200, 0, 0
        for _ in range(n_draws):
            try:
                thresholds = request.thresholds(sample(rng), None)
            except NotCertifiedError:
                continue
            n_early += 1
            n_broken += true_risk(thresholds, params["risk"]) > 0.03
        assert n_broken / n_draws <= 0.2 + 3 * np.sqrt(0.2 * 0.8 / n_draws)
        assert n_early > 0.8 * n_draws

    def test_the_naive_choice_breaks_it(self):
        rng = np.random.default_rng(0)
        family = np.linspace(1, 0, 201)
        n_broken = 0
        for _ in range(200):
            rows = sample(rng)
            losses = FamilyLosses(rows.scores, exit_losses(rows, "performance_gap"), family)
            allowed = np.flatnonzero(losses.means(rows.weight) <= 0.03)
            n_broken += true_risk(np.full(2, family[allowed[-1]]), "performance_gap") > 0.03
        assert n_broken / 200 > 0.35

    def test_conformal_in_the_mean(self):
        rng = np.random.default_rng(0)
        request = ConformalRiskControl(0.03)
        risks = [
            true_risk(request.thresholds(sample(rng), None), "performance_gap") for _ in range(300)
        ]
        assert np.mean(risks) <= 0.03 + 3 * np.std(risks) / np.sqrt(300)
        assert np.mean(risks) > 0.02  # and not by doing nothing

    def test_upper_bounds_never_let_more_leave(self):
        rng = np.random.default_rng(1)
        for _ in range(20):
            rows = sample(rng)
            ltt, ucb = (
                RiskControl(0.05, method=method).thresholds(rows, None)[0]
                for method in ("ltt", "ucb")
            )
            assert ucb >= ltt

    @pytest.mark.usefixtures("untrained")
    @pytest.mark.parametrize("request_", [RiskControl(0.005), ConformalRiskControl(0.0001)])
    def test_refused_before_training(self, request_):
        with pytest.raises(NotCertifiedError, match="150 calibration samples"):
            quick(operating_point=request_).fit(X, y)

    def test_a_risk_that_even_the_end_has(self):
        wrong = RiskControl(0.01, risk=lambda true, now, last: (now != true).astype(float))
        with pytest.raises(NotCertifiedError, match="least target_level"):
            wrong.thresholds(labeled(0), None)

    @pytest.mark.parametrize("family", [[], [[0.5]], [-1.0], [np.nan], "none", None])
    def test_no_family(self, family):
        with pytest.raises(ValueError, match=r"'family' (of|parameter of) RiskControl"):
            RiskControl(family=family)._validate_params()

    def test_drops_are_no_binomial(self):
        with pytest.raises(ValueError, match="must not be 'binomial'"):
            RiskControl(risk="accuracy_drop", test="binomial")._validate_params()

    def test_fractions_are_no_binomial(self):
        def half(true, now, last):
            return 0.5 * (now != last)

        with pytest.raises(ValueError, match="losses other than 0 and 1"):
            RiskControl(0.2, risk=half, test="binomial").thresholds(labeled(0), None)

    def test_says_what_it_bounds(self):
        point = RiskControl(0.1, risk="consistency").calibrate(labeled(0), None)
        assert "at most 10.00% of new samples are predicted differently than" in point.reason
        point = ConformalRiskControl(0.1).calibrate(labeled(0), None)
        assert point.reason.startswith("In expectation at most 10.00% of new samples are misclas")
