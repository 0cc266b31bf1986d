"""The report on a regressor, and what is drawn of it, against figures computed by hand."""

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.datasets import make_regression
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import CascadeRegressor, EarlyExitRegressor, MLPBackbone
from skearlyexit.calibration._calibration_data import ErrorScale
from skearlyexit.inspection import CostAccuracyDisplay, CostErrorDisplay
from skearlyexit.metrics import (
    AccuracyAtBudget,
    MeanCost,
    RegressionReport,
    exit_report,
    exit_table,
    speedup,
)

X, y = make_regression(900, 8, noise=30.0, random_state=0)
X_TEST, Y_TEST = X[600:], y[600:]
WEIGHT = np.random.RandomState(0).uniform(0, 2, size=300)


def rmse(values, weight=None):
    return mean_squared_error(Y_TEST, values, sample_weight=weight) ** 0.5


@pytest.fixture(scope="module")
def reg():
    backbone = MLPBackbone(3, width=32, hidden=32)
    params = {"exits": 3, "budget": 0.7, "calibration": 0.3, "max_epochs": 15, "random_state": 0}
    return EarlyExitRegressor(backbone, **params).fit(X[:600], y[:600])


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_figures_by_hand(reg, weight):
    report = reg.exit_report(X_TEST, Y_TEST, sample_weight=weight)
    values, exits = reg.predict(X_TEST, return_exits=True)
    staged = list(reg.staged_predict(X_TEST))
    each = np.ones(300) if weight is None else weight
    overall = report.overall
    assert overall.error == pytest.approx(rmse(values, weight))
    assert overall.last_error == pytest.approx(rmse(staged[-1], weight))
    assert overall.rise == pytest.approx(overall.error / overall.last_error - 1)
    assert overall.mean_cost == pytest.approx(np.average(reg.costs_[exits], weights=each))
    alone = [rmse(each, weight) for each in staged]
    np.testing.assert_allclose(report.exits.error_alone, alone)
    rates = [np.average(exits == i, weights=each) for i in range(3)]
    np.testing.assert_allclose(report.exits.exit_rate, rates)
    np.testing.assert_allclose(report.exits.reach_rate, np.cumsum(rates[::-1])[::-1])
    # R2, with the variance of the training samples.
    explained = 1 - (overall.error / y[:600].std()) ** 2
    assert overall.explained == pytest.approx(explained)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "quantile"])
def test_what_is_explained_is_weighted_as_the_training(loss):
    weight = np.random.RandomState(1).uniform(0, 2, size=600) * (y[:600] > 0) + 0.01
    quantile = {"quantile": 0.8} if loss == "quantile" else {}
    params = {"policy": "change", "cost": [1, 2], "calibration": None, "threshold": 2}
    params["random_state"] = 0
    estimators = [("first", Ridge(10.0)), ("last", Ridge())]
    reg = CascadeRegressor(estimators, loss=loss, **quantile, **params)
    reg.fit(X[:600], y[:600], sample_weight=weight)
    strategy = {"squared_error": "mean", "absolute_error": "median"}.get(loss, "quantile")
    constant = DummyRegressor(strategy=strategy, **quantile).fit(X[:600], y[:600], weight)
    measure = {"squared_error": mean_squared_error, "absolute_error": mean_absolute_error}.get(
        loss, partial(mean_pinball_loss, alpha=0.8)
    )
    unexplained = measure(Y_TEST, reg.predict(X_TEST)) / measure(
        y[:600], constant.predict(X[:600]), sample_weight=weight
    )
    explained = reg.exit_report(X_TEST, Y_TEST).overall.explained
    assert explained == pytest.approx(1 - unexplained, rel=1e-6)


def test_intervals_hold_their_figures(reg):
    overall = reg.exit_report(X_TEST, Y_TEST).overall
    for name in ("error", "last_error", "rise", "mean_cost"):
        low, high = getattr(overall, f"{name}_interval")
        assert low - 1e-12 <= getattr(overall, name) <= high + 1e-12
    narrow = reg.exit_report(X_TEST, Y_TEST, confidence_level=0.5).overall
    assert np.ptp(narrow.error_interval) < np.ptp(overall.error_interval)


def test_intervals_of_the_error_cover_it():
    rng, covered = np.random.default_rng(0), np.zeros(2)
    for _ in range(300):
        errors = rng.normal(scale=[2.0, 1.0], size=(200, 2))
        report = RegressionReport.from_losses(
            errors**2,
            np.zeros(200, dtype=int),
            np.zeros(1),
            np.array([0.5, 1.0]),
            ErrorScale(True, 1.0),
            exit_names=["first", "last"],
        )
        low, high = report.overall.error_interval
        below, above = report.overall.rise_interval
        covered += [low < 2 < high, below < 1 < above]
    assert np.all((covered / 300 > 0.9) & (covered / 300 < 0.985))


def test_the_level_of_the_intervals_is_checked(reg):
    with pytest.raises(ValueError, match="must be a number between 0 and 1"):
        reg.exit_report(X_TEST, Y_TEST, confidence_level="0.9")


def test_another_model_beside_it(reg):
    ridge = Ridge().fit(X[:600], y[:600])
    report = reg.exit_report(X_TEST, Y_TEST, plain=ridge)
    assert report.overall.plain_error == pytest.approx(rmse(ridge.predict(X_TEST)))
    given = reg.exit_report(X_TEST, Y_TEST, plain=ridge.predict(X_TEST))
    assert given.overall.plain_rise == report.overall.plain_rise
    assert "rise over the plain model" in str(report)


def test_output(reg):
    report = reg.exit_report(X_TEST, Y_TEST, threshold=0.5)
    text, html = str(report), report._repr_html_()
    assert "300 samples, 3 exits; intervals at a confidence of 95 %" in text
    assert "asked for: Threshold" in text
    assert "<table" in html
    assert report.to_frame().shape == (3, 15)
    assert list(report.to_frame("overall").index) == ["error", "last_error", "rise", "mean_cost"]
    with pytest.raises(ValueError, match="must be 'exits' or 'overall'"):
        report.to_frame("classes")


def test_in_a_pipeline(reg):
    model = make_pipeline(StandardScaler(), EarlyExitRegressor(max_epochs=2, random_state=0))
    model.fit(X[:600], y[:600])
    assert exit_report(model, X_TEST, Y_TEST).overall.n_samples == 300
    assert exit_table(model, X_TEST).predictions.shape[0] == 300
    assert MeanCost()(model, X_TEST, Y_TEST) < 0
    assert speedup(model, X_TEST, n_repeats=1).ratio > 0


def test_error_against_cost(reg):
    display = CostErrorDisplay.from_estimator(reg, X_TEST, Y_TEST)
    report = reg.exit_report(X_TEST, Y_TEST)
    np.testing.assert_allclose(display.errors, report.exits.error_alone)
    np.testing.assert_allclose(display.point, (report.overall.mean_cost, report.overall.error))
    assert (np.diff(display.frontier_costs) >= 0).all()
    assert display.ax_.get_ylabel() == "Error"
    assert display.ax_.get_xlabel() == "Mean cost per sample (plain network = 1)"
    plt.close(display.figure_)
    clf = CascadeRegressor([("a", Ridge(100)), ("b", Ridge())], cost=[1, 2], random_state=0)
    display = CostErrorDisplay.from_estimator(clf.fit(X[:600], y[:600]), X_TEST, Y_TEST)
    assert display.ax_.get_xlabel() == "Mean cost per sample (last estimator alone = 1)"
    plt.close(display.figure_)


def test_what_is_for_classes_is_refused(reg):
    with pytest.raises(
        TypeError, match=r"CostAccuracyDisplay is for classifiers.*CostErrorDisplay"
    ):
        CostAccuracyDisplay.from_estimator(reg, X_TEST, Y_TEST)
    with pytest.raises(TypeError, match="AccuracyAtBudget is for classifiers"):
        AccuracyAtBudget(0.5)(reg, X_TEST, Y_TEST)
