"""Regressors in a row, against the same written by hand."""

import warnings

import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.ensemble import RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from skearlyexit import CascadeClassifier, CascadeRegressor, ChangePolicy, ErrorRise
from skearlyexit.costs import estimator_macs
from tests._data import same

X, Y = make_friedman1(1000, noise=0.5, random_state=0)
X_NEW, Y_NEW = make_friedman1(400, noise=0.5, random_state=1)
PAIR = [("linear", Ridge()), ("tree", DecisionTreeRegressor(max_depth=8, random_state=0))]


def quick(estimators=PAIR, **params):
    return CascadeRegressor(estimators, **{"cost": [1, 20], "random_state": 0, **params})


def test_a_cascade_by_hand():
    """All samples to the first, and those far from it by its scores to the second."""
    reg = quick(budget=0.5).fit(X, Y)
    reg.thresholds_ = np.quantile(reg.exit_table(X_NEW).scores[:, :1], 0.5, axis=0)
    values, exits = reg.predict(X_NEW, return_exits=True)
    first, second = (clone(each).fit(X, Y) for _, each in PAIR)
    policy = reg.cascade_.exit_rule.policy
    seen = first.predict(X_NEW) / 2 ** np.round(np.log2(Y.std()))
    log_difference = policy.exits_[0].model.predict(seen[:, None])
    leaves = expit(-log_difference) >= reg.thresholds_[0]
    assert same(exits == 0, leaves)
    expected = np.where(exits == 0, first.predict(X_NEW), second.predict(X_NEW))
    assert same(values, expected)
    assert 0 < leaves.mean() < 1


def test_run_equals_table_for_any_batch():
    reg = quick(
        policy="change",
        estimators=[*PAIR, ("near", KNeighborsRegressor(algorithm="brute"))],
        cost="macs",
    )
    reg.fit(X, Y)
    table = reg.exit_table(X_NEW)
    values, exits = reg.predict(X_NEW, threshold=0.6, return_exits=True)
    assert same(exits, table.exits([0.6, 0.6]))
    assert same(values, table.predictions[np.arange(400), exits])
    assert len(set(exits.tolist())) > 1
    for row in range(10):
        assert same(reg.predict(X_NEW[row : row + 1], threshold=0.6), values[row : row + 1])


def test_it_saves_and_keeps_the_error():
    forest = RandomForestRegressor(20, random_state=0)
    reg = quick([("tree", DecisionTreeRegressor(max_depth=6)), ("forest", forest)]).fit(X, Y)
    assert reg.operating_point_.request.value == 0.01
    report = reg.exit_report(X_NEW, Y_NEW, plain=reg.estimators_[-1])
    assert report.overall.rise < 0.05
    assert report.overall.plain_error == pytest.approx(report.overall.last_error)
    assert reg.score(X_NEW, Y_NEW) > 0.7
    reg.calibrate(X_NEW, Y_NEW, ErrorRise(0.1))
    assert reg.operating_point_.cost < 1


def test_several_targets_and_losses():
    two = np.column_stack([Y, 100 - Y])
    reg = quick(loss="absolute_error", combine="mean").fit(X, two)
    assert reg.predict(X_NEW).shape == (400, 2)
    assert reg.n_outputs_ == 2
    staged = list(reg.staged_predict(X_NEW))
    first, second = (each.predict(X_NEW) for each in reg.estimators_)
    np.testing.assert_allclose(staged[1], (first + second) / 2, rtol=1e-9)
    with pytest.raises(ValueError, match="required with loss='quantile'"):
        quick(loss="quantile").fit(X, Y)


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
@pytest.mark.parametrize("n_targets", [1, 2])
def test_losses_are_in_standard_deviations(loss, n_targets):
    y = Y if n_targets == 1 else np.column_stack([Y, 50 - Y**2])
    reg = quick(loss=loss, policy="change", calibration=None).fit(X, y)
    overall = reg.exit_report(X, y, threshold=np.inf).overall
    errors = np.abs(reg.predict(X, threshold=np.inf) - y) / y.std(axis=0)
    squares, constant = errors**2, ((y - y.mean(axis=0)) / y.std(axis=0)) ** 2
    if loss == "huber":
        from_median = np.abs(y - np.median(y, axis=0)) / y.std(axis=0)
        squares, constant = (
            np.where(each <= 0.5, each**2 / 2, (each - 0.25) / 2) for each in (errors, from_median)
        )
    assert overall.explained == pytest.approx(1 - squares.mean() / constant.mean(), rel=1e-4)
    unit = y.std() if n_targets == 1 else 1.0
    error = np.sqrt(squares.mean()) if loss == "squared_error" else squares.mean()
    assert overall.error == pytest.approx(error * unit)


def test_frozen_estimators_are_judged_on_all_samples():
    frozen = [(name, FrozenEstimator(clone(each).fit(X_NEW, Y_NEW))) for name, each in PAIR]
    reg = quick(frozen, policy="change").fit(X, Y)
    assert reg.operating_point_.n_samples == len(X)
    *_, last = reg.staged_predict(X)
    assert same(last, frozen[-1][1].predict(X))


def test_no_estimator_is_judged_on_samples_it_was_fitted_on():
    class Memorizing(DecisionTreeRegressor):
        """Right for samples that it was fitted on, and off by much for all others."""

        def predict(self, X, check_input=True):
            known = {row.tobytes() for row in self.seen_}
            off = np.array([row.tobytes() not in known for row in np.asarray(X)])
            return super().predict(X) + 100.0 * off

        def fit(self, X, y, sample_weight=None):
            self.seen_ = np.asarray(X).copy()
            return super().fit(X, y)

    @estimator_macs.register(Memorizing)
    def _(estimator):
        return 1.0

    reg = quick([("known", Memorizing()), ("linear", Ridge())], policy="change").fit(X, Y)
    error = np.sqrt(np.mean((reg.exit_table(X).predictions[:, 1] - Y) ** 2))
    assert reg.operating_point_.error < 1.2 * error  # no sample exits at the first
    assert reg.operating_point_.shares[0] == 0


def test_kinds_of_estimators():
    with pytest.raises(ValueError, match="should be a regressor"):
        quick([("a", LogisticRegression()), ("b", Ridge())]).fit(X, Y)
    with pytest.raises(ValueError, match="should be a classifier"):
        CascadeClassifier([("a", Ridge())]).fit(X, Y > 14)
    model = make_pipeline(StandardScaler(), quick())
    assert model.fit(X, Y).predict(X_NEW, budget=0.8).shape == (400,)


def test_samples_of_weight_0_do_not_change_the_scale():
    weight = np.ones(len(Y))
    weight[0] = 0
    far = Y.copy()
    far[0] = 1e6
    options = {"policy": "change", "threshold": 0.5, "calibration": None}
    with_it = quick(**options).fit(X, far, sample_weight=weight)
    without = quick(**options).fit(X[1:], Y[1:], sample_weight=weight[1:])
    assert same(with_it.exit_table(X_NEW).scores, without.exit_table(X_NEW).scores)


def test_counts_reach_the_estimators_without_rounding():
    counts = np.random.default_rng(0).poisson(1.3, len(X)).astype(float)
    reg = quick([("counts", PoissonRegressor()), ("tree", PAIR[1][1])], threshold=2).fit(X, counts)
    expected = PoissonRegressor().fit(X, counts).predict(X_NEW)
    np.testing.assert_allclose(next(reg.staged_predict(X_NEW)), expected, rtol=1e-12)


@pytest.mark.parametrize("options", [{"calibration": 0.02}, {"calibration": 0.3, "groups": 3}])
def test_default_policy_with_few_held_out_samples(options):
    options = dict(options)
    groups = np.arange(len(X)) % options.pop("groups") if "groups" in options else None
    reg = quick(**options).fit(X[:200], Y[:200], groups=None if groups is None else groups[:200])
    assert isinstance(reg.cascade_.exit_rule.policy, ChangePolicy)


def test_a_column_vector_of_targets_warns_of_nothing():
    forest = [("linear", Ridge()), ("forest", RandomForestRegressor(5, random_state=0))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        column = quick(forest).fit(X, Y[:, None])
    assert column.predict(X_NEW).shape == (len(X_NEW), 1)
    assert same(column.predict(X_NEW)[:, 0], quick(forest).fit(X, Y).predict(X_NEW))


def test_lists_with_columns():
    reg = quick(columns={"linear": [0, 1]}, threshold=0.5, policy="change").fit(X, Y)
    assert same(reg.predict(X_NEW.tolist()), reg.predict(X_NEW))
