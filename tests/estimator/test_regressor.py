"""The early-exit regressor: what it predicts, and what it refuses."""

import pickle

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from scipy.stats import norm
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import make_regression
from sklearn.ensemble import StackingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor

from skearlyexit import (
    AccuracyDrop,
    Budget,
    CombinedTraining,
    ConfidencePolicy,
    DistillationTraining,
    EarlyExitClassifier,
    EarlyExitRegressor,
    ErrorRise,
    EstimatorHead,
    ExactPlacement,
    JointTraining,
    LocalErrorTraining,
    MLPBackbone,
    RiskControl,
)
from tests._data import Items, make, same

ALL_X, ALL_Y = make_regression(900, 8, n_informative=6, noise=20.0, random_state=0)
ALL_Y += 0.5 * np.abs(ALL_Y)  # not linear
X, Y, X_NEW, Y_NEW = ALL_X[:600], ALL_Y[:600], ALL_X[600:], ALL_Y[600:]
TWO, TWO_NEW = (np.column_stack([each, 3 - each / 10]) for each in (Y, Y_NEW))


def quick(**params):
    """A small regressor that trains in a tenth of a second."""
    defaults = {
        "backbone": MLPBackbone(3, width=32, hidden=32, dropout=0.0),
        "exits": 3,
        "max_epochs": 15,
        # Two steps an epoch, not four, which take all the time.
        "batch_size": 256,
        "lr": 0.01,
        "early_stopping": False,
        "calibration": 0.3,
        "random_state": 0,
    }
    return EarlyExitRegressor(**{**defaults, **params})


#: Where more than a few large steps matter.
SLOWLY = {"max_epochs": 20, "batch_size": 128, "lr": 0.005}


@pytest.fixture(scope="module")
def fitted():
    return quick().fit(X, Y)


class TestPredictions:
    def test_run_equals_table(self, fitted):
        table = fitted.exit_table(X_NEW)
        for threshold in (0.0, 0.5, 0.9, np.inf):
            values, exits = fitted.predict(X_NEW, threshold=threshold, return_exits=True)
            assert same(exits, table.exits(np.full(2, threshold)))
            assert same(values, table.predictions[np.arange(len(exits)), exits])
        assert same(np.stack(list(fitted.staged_predict(X_NEW)), axis=1), table.predictions)

    def test_a_sample_is_predicted_as_its_own(self, fitted):
        asked = {"threshold": 0.9, "return_exits": True}
        values, exits = fitted.predict(X_NEW, **asked)
        assert set(exits[:20]) == {0, 1, 2}
        order = np.random.RandomState(0).permutation(len(X_NEW))
        assert same(fitted.predict(X_NEW[order], **asked)[0], values[order])
        alone = [fitted.predict(row[None], **asked) for row in X_NEW[:20]]
        assert same(np.concatenate([value for value, _ in alone]), values[:20])
        assert same(np.concatenate([exit_ for _, exit_ in alone]), exits[:20])

    def test_it_learns_in_the_units_of_y(self, fitted):
        assert fitted.score(X_NEW, Y_NEW) > 0.8
        assert fitted.score(X_NEW, Y_NEW) == r2_score(Y_NEW, fitted.predict(X_NEW))

    def test_shift_and_scale_of_y_are_undone(self):
        exact = 2.0**20  # powers of two change no digit of the standardized targets
        plain = quick(calibration=None).fit(X, Y - Y.mean())
        moved = quick(calibration=None).fit(X, exact * (Y - Y.mean()))
        np.testing.assert_allclose(moved.predict(X_NEW), exact * plain.predict(X_NEW), rtol=1e-9)

    def test_targets_far_from_zero_keep_their_digits(self):
        far = quick(calibration=None).fit(X, 1e9 + Y / Y.std())
        assert far.score(X_NEW, 1e9 + Y_NEW / Y.std()) > 0.8

    @pytest.mark.parametrize("factor", [1e300, 1e-300])
    def test_targets_near_the_limits_of_double_precision(self, factor):
        values = quick(calibration=None).fit(X, factor * Y).predict(X_NEW) / factor
        assert r2_score(Y_NEW, values) > 0.8

    @pytest.mark.parametrize(
        "y", [np.array(["a"] * 600), csr_array(Y[:, None]), np.full(600, 1e307)]
    )
    def test_targets_that_are_no_dense_numbers(self, y, untrained):
        with pytest.raises(ValueError, match=r"y must (be a dense array of|hold) numbers"):
            quick().fit(X, y)

    def test_constant_targets(self):
        reg = quick().fit(X, np.full(len(X), 7.0))
        np.testing.assert_allclose(reg.predict(X_NEW), 7.0, atol=0.2)

    @pytest.mark.parametrize("shape", ["flat", "column", "two"])
    def test_shapes_of_targets(self, shape):
        y = {"flat": Y, "column": Y[:, None], "two": TWO}[shape]
        reg = quick(max_epochs=2).fit(X, y)
        assert reg.predict(X_NEW).shape == (len(X_NEW), *y.shape[1:])
        assert reg.n_outputs_ == (2 if shape == "two" else 1)
        assert reg.exit_table(X_NEW).predictions.shape == (len(X_NEW), 3, *y.shape[1:])

    def test_several_targets(self):
        reg = quick().fit(X, TWO)
        assert reg.score(X_NEW, TWO_NEW) > 0.8
        assert reg.score(X_NEW, TWO_NEW) == r2_score(TWO_NEW, reg.predict(X_NEW))

    def test_images_and_own_networks(self):
        images = X.reshape(-1, 2, 2, 2)

        def build():
            layers = [torch.nn.Conv2d(2, 8, 1), torch.nn.ReLU(), torch.nn.Flatten()]
            return torch.nn.Sequential(*layers, torch.nn.Linear(32, 16), torch.nn.Linear(16, 1))

        reg = quick(backbone=make(build), exits=["2"], max_epochs=25).fit(images, Y)
        assert "Linear(in_features=16, out_features=1" in str(reg.heads_[-1])  # its own last layer
        assert reg.score(X_NEW.reshape(-1, 2, 2, 2), Y_NEW) > 0.5

    def test_streamed_samples(self, fitted):
        streamed = quick().fit(Items(X, Y))
        assert same(streamed.predict(X_NEW), fitted.predict(X_NEW))

    def test_same_seed_same_model(self, fitted):
        again = quick().fit(X, Y)
        assert same(again.predict(X_NEW), fitted.predict(X_NEW))
        assert same(pickle.loads(pickle.dumps(again)).predict(X_NEW), fitted.predict(X_NEW))

    def test_embeddings(self, fitted):
        assert fitted.embed(X_NEW, 0).shape == (len(X_NEW), 32)

    def test_predictor(self, fitted):
        predictor = fitted.to_predictor(threshold=0.5)
        expected, exits = fitted.predict(X_NEW, threshold=0.5, return_exits=True)
        assert same(predictor.predict(X_NEW), expected)
        assert same(predictor.predict(X_NEW, return_exits=True)[1], exits)
        with pytest.raises(AttributeError, match="has no classes"):
            predictor.predict_proba(X_NEW)

    def test_what_is_for_classifiers_is_not_there(self, fitted):
        assert not hasattr(fitted, "predict_proba")


class TestLosses:
    @pytest.mark.parametrize("loss", ["absolute_error", "huber"])
    def test_others_learn(self, loss):
        assert quick(loss=loss).fit(X, Y).score(X_NEW, Y_NEW) > 0.8

    def test_quantiles(self):
        low, high = (
            quick(loss="quantile", quantile=q, max_epochs=20).fit(X, Y) for q in (0.2, 0.8)
        )
        shares = [np.mean(reg.predict(X_NEW) > Y_NEW) for reg in (low, high)]
        assert shares[0] < 0.4 < 0.6 < shares[1]

    def test_outliers_move_the_absolute_error_less(self):
        wild = Y.copy()
        wild[::20] += 50 * Y.std()
        square, absolute = (
            quick(loss=loss).fit(X, wild) for loss in ("squared_error", "absolute_error")
        )
        errors = [np.median(np.abs(reg.predict(X_NEW) - Y_NEW)) for reg in (square, absolute)]
        assert errors[1] < errors[0]

    @pytest.mark.parametrize("params", [{"loss": "quantile"}, {"quantile": 0.5}])
    def test_a_quantile_belongs_to_its_loss(self, params):
        with pytest.raises(ValueError, match="required with loss='quantile', and has no effect"):
            quick(**params).fit(X, Y)

    def test_history(self):
        reg = quick(max_epochs=2, calibration=None).fit(X, Y)
        assert [len(epoch["train_exit_losses"]) for epoch in reg.history_] == [3, 3]
        assert "train_exit_accuracies" not in reg.history_[0]


class TestHeads:
    @pytest.mark.parametrize(
        "head",
        ["linear", "mlp", Ridge(), DecisionTreeRegressor(max_depth=6), EstimatorHead(SVR(C=1e3))],
    )
    def test_any_regressor(self, head):
        assert quick(head=head).fit(X, Y).score(X_NEW, Y_NEW) > 0.5

    def test_an_estimator_predicts_in_the_units_of_y(self):
        reg = quick(head=Ridge()).fit(X, Y)
        for i, values in enumerate(reg.staged_predict(X_NEW)):
            expected = reg.heads_[i].predict(reg.embed(X_NEW, i))
            np.testing.assert_allclose(values, expected, rtol=1e-9)

    def test_several_targets(self):
        reg = quick(head=[KNeighborsRegressor(), MultiOutputRegressor(SVR()), Ridge()])
        assert reg.fit(X, TWO).predict(X_NEW).shape == TWO_NEW.shape

    @pytest.mark.parametrize("head", [LinearRegression, "own"])
    def test_invalid(self, head):
        with pytest.raises((TypeError, ValueError), match="head"):
            quick(head=head).fit(X, Y)

    def test_classifiers_are_no_heads_of_regressors_nor_the_reverse(self):
        with pytest.raises(TypeError, match="is no regressor"):
            quick(head=LogisticRegression()).fit(X, Y)
        with pytest.raises(TypeError, match="is no classifier"):
            EarlyExitClassifier(head=Ridge(), random_state=0).fit(X, Y > 0)


class TestTrainings:
    @pytest.mark.parametrize(
        "training",
        [
            "joint",
            "separate",
            "mixed",
            "distillation",
            DistillationTraining("later"),
            "layerwise",
            "local_error",
            LocalErrorTraining("feedback"),
            "freeze_out",
            "auxiliary",
            JointTraining("adaptive"),
        ],
    )
    def test_those_that_need_a_loss_only(self, training):
        reg = quick(training=training, max_epochs=10).fit(X, Y)
        assert reg.score(X_NEW, Y_NEW, threshold=np.inf) > 0.6

    @pytest.mark.parametrize(
        "training",
        [
            "combined",
            "combiner",
            "gated",
            CombinedTraining("mean"),
            JointTraining("reach"),
            LocalErrorTraining("similarity"),
            DistillationTraining(temperature=2.0),
        ],
    )
    def test_those_that_need_classes(self, training, untrained):
        with pytest.raises(ValueError, match="cannot be used in regression: "):
            quick(training=training).fit(X, Y)

    def test_samples_without_targets(self):
        few = quick(max_epochs=3).fit(X[:100], Y[:100])
        more = quick(max_epochs=3).fit(X[:100], Y[:100], X_unlabeled=X[100:])
        assert not same(few.predict(X_NEW), more.predict(X_NEW))

    def test_distillation_draws_exits_to_the_last(self):
        apart, near = (
            np.stack(
                list(
                    quick(training=DistillationTraining(alpha=alpha), calibration=None, **SLOWLY)
                    .fit(X, Y)
                    .staged_predict(X)
                )
            )
            for alpha in (0.0, 3.0)
        )
        distances = [np.square(each[:-1] - each[-1]).mean() for each in (apart, near)]
        assert distances[1] < distances[0]

    def test_weights(self):
        weight = np.where(X[:, 0] > 0, 1.0, 0.0)
        weighted = quick(calibration=None, max_epochs=5).fit(X, Y, sample_weight=weight)
        selected = quick(calibration=None, max_epochs=5).fit(X[weight > 0], Y[weight > 0])
        assert same(weighted.predict(X_NEW), selected.predict(X_NEW))

    def test_partial_fit(self):
        reg = quick()
        for _ in range(15):
            reg.partial_fit(X, Y)
        assert reg.score(X_NEW, Y_NEW) > 0.8
        before = reg._task.targets
        reg.partial_fit(X[:50], Y[:50] + 3)
        assert same(reg._task.targets.mean, before.mean)
        with pytest.raises(ValueError, match="must hold 1 target"):
            reg.partial_fit(X, TWO)

    def test_warm_start(self):
        reg = quick(calibration=None, max_epochs=3, warm_start=True).fit(X, Y)
        first = reg.score(X, Y)
        for _ in range(4):
            reg.fit(X, Y)
        assert reg.score(X, Y) > first

    def test_groups_stay_together(self):
        groups = np.arange(len(X)) % 20
        reg = quick(calibration=5, max_epochs=1).fit(X, Y, groups=groups)
        assert reg.operating_point_.n_samples == len(X)


class TestOperatingPoints:
    def test_the_default_limits_the_rise_of_the_error(self, fitted):
        point = fitted.operating_point_
        assert point.request == ErrorRise() or repr(point.request) == "ErrorRise()"
        assert point.n_samples == 180

    @pytest.mark.parametrize("relative", [True, False])
    def test_error_rise_by_hand(self, relative):
        """The rise is that on the calibration samples, which are given here."""
        reg = quick(policy="change").fit(X, Y)
        value = 0.05 if relative else 2.0
        point = ErrorRise(value, relative=relative, standard_errors=0)
        reg.calibrate(X_NEW, Y_NEW, point)
        *_, last = reg.staged_predict(X_NEW)
        at_end = mean_squared_error(Y_NEW, last) ** 0.5
        error = mean_squared_error(Y_NEW, reg.predict(X_NEW)) ** 0.5
        assert error <= (at_end * 1.05 if relative else at_end + 2.0) + 1e-9
        assert reg.operating_point_.error == pytest.approx(error)
        assert reg.operating_point_.accuracy == pytest.approx(1 - (error / Y.std()) ** 2)
        # No point of the frontier is as cheap and as accurate.
        frontier = reg.frontier_
        cheaper = frontier.costs < reg.operating_point_.cost - 1e-12
        assert (frontier.accuracies[cheaper] < reg.operating_point_.accuracy).all()

    @pytest.mark.parametrize("relative", [True, False])
    @pytest.mark.parametrize("loss", ["squared_error", "absolute_error"])
    def test_standard_errors_of_the_rise(self, relative, loss):
        """The standard error is that of repeated draws of the samples."""
        reg = quick(policy="change", loss=loss).fit(X, Y)
        point = ErrorRise(0.05, relative=relative)
        task, table = reg._task, reg._label_table(X_NEW)
        data = task.calibration_data(table, task.encoded(Y_NEW, X_NEW), reg.costs_)
        exits = np.zeros(len(Y_NEW), dtype=int)
        rise, standard_error = point._rise(data, exits)
        rng = np.random.RandomState(0)
        drawn = [
            point._rise(data.take(rng.randint(len(exits), size=len(exits))), exits)[0]
            for _ in range(400)
        ]
        assert rise == pytest.approx(np.mean(drawn), abs=standard_error)
        assert standard_error == pytest.approx(np.std(drawn), rel=0.25)

    def test_more_standard_errors_let_fewer_samples_exit(self):
        reg = quick(policy="change", lr=0.005).fit(X, Y)
        costs = []
        for n_errors in (0, 1, 5):
            reg.calibrate(X_NEW, Y_NEW, ErrorRise(0.1, standard_errors=n_errors))
            costs.append(reg.operating_point_.cost)
        assert costs == sorted(costs)
        assert costs[0] < costs[-1]
        with pytest.raises(ValueError, match="give only one of them"):
            reg.calibrate(X_NEW, Y_NEW, ErrorRise(metric="r2", standard_errors=2))

    def test_the_default_bounds_the_rise_with_a_confidence_of_95_percent(self):
        reg = quick(policy="change", lr=0.005).fit(X, Y)
        for value in (0.01, 0.05, 0.1):
            asked = {"default": None, "bound": norm.ppf(0.95), "less": 1.0, "more": 2.0}
            cost = {
                name: reg.calibrate(
                    X_NEW, Y_NEW, ErrorRise(value, standard_errors=number)
                ).operating_point_.cost
                for name, number in asked.items()
            }
            assert cost["less"] < cost["default"] == cost["bound"] < cost["more"]

    def test_other_metrics(self):
        reg = quick(policy="change").fit(X, Y)
        point = ErrorRise(0.05, metric="neg_mean_absolute_error")
        reg.calibrate(X_NEW, Y_NEW, point)
        *_, last = reg.staged_predict(X_NEW)
        allowed = 1.05 * np.abs(last - Y_NEW).mean()
        assert np.abs(reg.predict(X_NEW) - Y_NEW).mean() <= allowed + 1e-9
        with pytest.raises(ValueError, match="is positive at the last exit"):
            reg.calibrate(X_NEW, Y_NEW, ErrorRise(0.05, metric="r2"))
        reg.calibrate(X_NEW, Y_NEW, ErrorRise(0.05, metric="r2", relative=False))
        assert reg.score(X_NEW, Y_NEW) >= r2_score(Y_NEW, last) - 0.05 - 1e-9

    def test_budgets(self, fitted):
        reg = clone(fitted).fit(X, Y)
        for budget in (0.7, 0.9):
            reg.calibrate(X_NEW, Y_NEW, Budget(budget))
            _, exits = reg.predict(X_NEW, return_exits=True)
            assert reg.costs_[exits].mean() <= budget + 1e-12
            _, exits = reg.predict(X_NEW, budget=Budget(budget, strict=True), return_exits=True)
            assert reg.costs_[exits].mean() <= budget + 1e-12
        reg.calibrate(X_NEW, Y_NEW, Budget(0.8, metric="neg_median_absolute_error"))
        reg.partial_calibrate(X[:300])

    def test_risk_control_of_a_bounded_loss(self):
        def far(y, at_exit, at_end):
            return (np.abs(at_exit - at_end) > 10).astype(float)

        reg = quick(policy="change", operating_point=RiskControl(0.1, risk=far)).fit(X, Y)
        assert reg.operating_point_.certified
        *_, last = reg.staged_predict(X_NEW)
        away = np.abs(reg.predict(X_NEW) - last)
        assert np.mean(away > 0) > 0
        assert np.mean(away > 10) < 0.15

    @pytest.mark.parametrize("point", [AccuracyDrop(0.01), RiskControl()])
    def test_those_for_classes(self, point, fitted, untrained):
        with pytest.raises(ValueError, match="cannot be used in regression"):
            quick(operating_point=point).fit(X, Y)
        with pytest.raises(ValueError, match="cannot be used in regression"):
            fitted.calibrate(X_NEW, Y_NEW, point)

    def test_rise_of_the_error_is_not_for_classes(self, untrained):
        with pytest.raises(ValueError, match=r"cannot be used in classification: .*AccuracyDrop"):
            EarlyExitClassifier(operating_point=ErrorRise(), random_state=0).fit(X, Y > 0)

    def test_placements_that_compare_accuracies(self, untrained):
        with pytest.raises(ValueError, match="cannot be used in regression"):
            quick(exits=ExactPlacement(2)).fit(X, Y)


class TestPolicies:
    @pytest.mark.parametrize("policy", ["change", "patience", "learned"])
    def test_scores_are_between_0_and_1(self, policy):
        reg = quick(policy=policy, budget=0.9).fit(X, TWO)
        scores = reg.exit_table(X_NEW).scores
        assert scores.min() >= 0
        assert scores.max() <= 1

    def test_the_learned_one_saves_more_than_chance(self):
        reg = quick().fit(X, Y)
        table = reg.exit_table(X_NEW)
        away = np.abs(table.predictions[:, 0] - table.predictions[:, -1])
        assert np.corrcoef(table.scores[:, 0], away)[0, 1] < -0.1

    def test_those_of_probabilities(self, untrained):
        with pytest.raises(ValueError, match="ConfidencePolicy cannot be used in regression"):
            quick(policy=ConfidencePolicy()).fit(X, Y)
        with pytest.raises(ValueError, match="MaxCombination cannot be used in regression"):
            quick(combine="max").fit(X, Y)

    @pytest.mark.parametrize("combine", ["mean", "cost_weighted"])
    def test_means(self, combine):
        reg = quick(combine=combine).fit(X, Y)
        own = quick(combine="own").fit(X, Y).exit_table(X_NEW).predictions
        weights = np.ones(3) if combine == "mean" else reg.cascade_.exit_rule.combination.costs_
        expected = np.cumsum(weights * own, axis=1) / np.cumsum(weights)
        np.testing.assert_allclose(reg.exit_table(X_NEW).predictions, expected)


class TestEcosystem:
    def test_pipeline_and_search(self):
        model = make_pipeline(StandardScaler(), quick(max_epochs=3))
        values, exits = model.fit(X, Y).predict(X_NEW, budget=0.8, return_exits=True)
        assert values.shape == exits.shape
        search = GridSearchCV(model, {"earlyexitregressor__loss": ["huber", "squared_error"]}, cv=2)
        assert search.fit(X, Y).best_score_ > 0
        assert len(cross_val_score(quick(max_epochs=3), X, Y, cv=2)) == 2

    def test_in_other_estimators(self):
        stack = StackingRegressor([("early", quick(max_epochs=3)), ("ridge", Ridge())], cv=2)
        assert stack.fit(X, Y).score(X_NEW, Y_NEW) > 0.5
        logs = TransformedTargetRegressor(
            quick(max_epochs=3), func=np.arcsinh, inverse_func=np.sinh
        )
        assert logs.fit(X, Y).predict(X_NEW).shape == Y_NEW.shape
        each = MultiOutputRegressor(quick(max_epochs=3)).fit(X, TWO)
        assert each.predict(X_NEW).shape == TWO_NEW.shape

    def test_a_failed_fit_keeps_the_model(self, fitted):
        expected = fitted.predict(X_NEW)
        with pytest.raises(ValueError, match="NaN"):
            fitted.fit(X, np.where(np.arange(len(Y)) == 3, np.nan, Y))
        assert same(fitted.predict(X_NEW), expected)


@pytest.mark.parametrize("seed", [31, 39])  # in which a zero would be below 0 by rounding
def test_counts_reach_the_heads_without_rounding(seed):
    counts = np.random.default_rng(seed).poisson(1.3, len(X)).astype(float)
    reg = quick(head=PoissonRegressor(), calibration=None, max_epochs=1).fit(X, counts)
    by_hand = PoissonRegressor().fit(reg.embed(X, 0), counts).predict(reg.embed(X_NEW, 0))
    np.testing.assert_allclose(next(reg.staged_predict(X_NEW)), by_hand, rtol=1e-6)


def test_explained_share_after_partial_fit():
    reg = quick(calibration=None, policy="change", **SLOWLY).fit(X, Y)
    before = reg.calibrate(X_NEW, Y_NEW, Budget(1.0)).operating_point_.accuracy
    with pytest.warns(UserWarning, match=r"Until calibrate.* no sample exits early"):
        reg.partial_fit(X[:2], Y[:2])
    after = reg.calibrate(X_NEW, Y_NEW, Budget(1.0)).operating_point_
    assert after.accuracy == pytest.approx(before, abs=0.3)
    with pytest.warns(UserWarning, match="same value in all samples of the first partial_fit"):
        quick(calibration=None, policy="change").partial_fit(X[:1], Y[:1])


def test_the_metric_of_a_rise_is_an_error():
    with pytest.raises(ValueError, match=r"must be an error of predicted values.*'accuracy'"):
        quick(operating_point=ErrorRise(0.1, relative=False, metric="accuracy")).fit(X, Y)


def test_samples_of_weight_0_do_not_change_the_scale_of_partial_fit():
    weight = np.append(np.ones(50), 0.0)
    far = np.append(Y[:50], 1e6)
    reg = quick(calibration=None, policy="change").partial_fit(X[:51], far, weight)
    without = quick(calibration=None, policy="change").partial_fit(X[:50], Y[:50], weight[:50])
    assert same(reg.predict(X_NEW), without.predict(X_NEW))
