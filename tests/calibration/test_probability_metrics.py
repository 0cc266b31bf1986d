"""Operating points by metrics of probabilities, compared with functions of scikit-learn."""

from itertools import product

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    make_scorer,
    roc_auc_score,
)

from skearlyexit import AccuracyDrop, Budget, EstimatorHead, RiskControl, TargetAccuracy
from skearlyexit.calibration import CalibrationData, compute_frontier
from skearlyexit.calibration._metric import metric_frontier, value_at
from tests._calibration_data import labeled
from tests._data import blobs, quick, same

X, y, X_TEST, Y_TEST = blobs()
WORDS = np.array(["no", "yes"])
BINARY = {
    "roc_auc": lambda y, p: roc_auc_score(y == 1, p[:, 1]),
    "average_precision": lambda y, p: average_precision_score(y == 1, p[:, 1]),
    "neg_brier_score": lambda y, p: -brier_score_loss(y == 1, p[:, 1]),
    "neg_log_loss": lambda y, p: -log_loss(y, p),
}
MULTICLASS = {
    "roc_auc_ovr": lambda y, p: roc_auc_score(y, p, multi_class="ovr"),
    "roc_auc_ovo": lambda y, p: roc_auc_score(y, p, multi_class="ovo"),
    "neg_log_loss": lambda y, p: -log_loss(y, p),
}
CASES = [(2, *case) for case in BINARY.items()] + [(3, *case) for case in MULTICLASS.items()]


def value(data, thresholds, function):
    exits = data.exits(thresholds)
    return function(data.y, data.probabilities[np.arange(len(exits)), exits])


@pytest.mark.parametrize(("n_classes", "metric", "function"), CASES)
class TestValues:
    def test_a_budget_is_best_by_it(self, n_classes, metric, function):
        data = labeled(3, n_rows=120, n_classes=n_classes)
        frontier = compute_frontier(data)
        common = [np.full(2, t) for t in np.quantile(data.scores[:, :-1], np.linspace(0, 1, 30))]
        for budget in (0.5, 0.7):
            found = Budget(budget, metric=metric).thresholds(data, frontier)
            assert data.evaluate(found)[0] <= budget + 1e-9
            others = [Budget(budget).thresholds(data, frontier)]
            others += [t for t in common if data.evaluate(t)[0] <= budget]
            best = max(value(data, t, function) for t in others)
            assert value(data, found, function) >= best - 0.01 * abs(best)

    def test_a_drop_is_kept(self, n_classes, metric, function):
        data = labeled(4, n_rows=120, n_classes=n_classes)
        end = value(data, np.full(2, np.inf), function)
        found = AccuracyDrop(0.03, metric=metric).thresholds(data, compute_frontier(data))
        assert value(data, found, function) >= end - 0.03 - 1e-9
        assert data.evaluate(found)[0] < 1.0

    def test_a_target(self, n_classes, metric, function):
        data = labeled(5, n_rows=120, n_classes=n_classes)
        target = value(data, np.full(2, np.inf), function) - 0.05
        found = TargetAccuracy(target, metric=metric).thresholds(data, compute_frontier(data))
        assert value(data, found, function) >= target - 1e-12


def test_weights_are_repetitions():
    data = labeled(6, n_rows=200, n_classes=2)
    times = np.random.default_rng(0).integers(1, 4, 200)
    rows = np.repeat(np.arange(200), times)
    weighted = CalibrationData(
        data.scores,
        data.correct,
        data.costs,
        times.astype(float),
        data.labels,
        data.y,
        probabilities=data.probabilities,
        classes=data.classes,
    )
    repeated = data.take(rows)
    for metric, thresholds in product(BINARY, ([0.5, 0.5], [0.9, 0.7], [np.inf, np.inf])):
        found, expected = (
            value_at(each, each.exits(np.array(thresholds)), metric)
            for each in (weighted, repeated)
        )
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("metric", BINARY)
@pytest.mark.parametrize(
    "params",
    [{}, {"calibration": 3}, {"temperature_scaling": True}, {"combine": "mean"}],
    ids=str,
)
def test_of_a_fitted_model(metric, params):
    # Only some scorers of scikit-learn find the positive class among labels that are words.
    labels = WORDS if metric in ("roc_auc", "neg_log_loss") else np.array([0, 1])
    # Few samples and exits: a scorer takes a millisecond for each choice of exits.
    clf = quick(operating_point=Budget(0.8, metric=metric), exits=2, **params)
    clf.fit(X[:100], labels[y[:100] % 2])
    assert clf.operating_point_.cost <= 0.8
    rows, truth = X_TEST[:60], Y_TEST[:60] % 2
    clf.calibrate(rows, labels[truth])
    data = CalibrationData.from_table(clf.exit_table(rows), truth, clf.costs_, classes=clf.classes_)
    assert same(
        clf.thresholds_, Budget(0.8, metric=metric).thresholds(data, compute_frontier(data))
    )


def test_fit_is_calibration_on_the_samples_held_out():
    """A head that is always the same: what is held out decides alone."""
    head = EstimatorHead(LogisticRegression())
    clf = quick(operating_point=Budget(0.8, metric="neg_log_loss"), head=head).fit(X, y)
    by_labels = quick(operating_point=Budget(0.8), head=head).fit(X, y)
    assert same(clf.costs_, by_labels.costs_)
    assert clf.operating_point_.n_samples == by_labels.operating_point_.n_samples
    # What is best by one is not best by the other.
    assert clf.operating_point_.accuracy <= by_labels.operating_point_.accuracy
    assert not same(clf.thresholds_, by_labels.thresholds_)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("kind", [Budget, AccuracyDrop, TargetAccuracy])
class TestBeforeTraining:
    def test_binary_only(self, kind):
        message = r"probabilities of 4 classes\. Got 'roc_auc' instead.*also \[.*'roc_auc_ovr'"
        with pytest.raises(ValueError, match=message):
            quick(operating_point=kind(0.8, metric="roc_auc")).fit(X, y)

    def test_labels_only(self, kind):
        with pytest.raises(ValueError, match=r"Got 'f1' instead.*'f1_macro'"):
            quick(operating_point=kind(0.8, metric="f1")).fit(X, y)

    def test_scores_of_no_classifier(self, kind):
        scorer = make_scorer(roc_auc_score, response_method="decision_function")
        with pytest.raises(ValueError, match=r"AttributeError.*decision_function"):
            quick(operating_point=kind(0.8, metric=scorer)).fit(X, y % 2)

    def test_labels_that_are_words(self, kind):
        with pytest.raises(ValueError, match="pos_label"):
            quick(operating_point=kind(0.8, metric="average_precision")).fit(X, WORDS[y % 2])

    def test_a_scorer_without_weights(self, kind):
        scorer = make_scorer(lambda true, now: 1.0)
        weight = np.linspace(1, 2, len(y))
        with pytest.raises(ValueError, match=r"4 classes, with weights\..*sample_weight"):
            quick(operating_point=kind(0.8, metric=scorer)).fit(X, y, sample_weight=weight)


def test_a_metric_is_asked_once_for_the_same_exits():
    data, seen = labeled(3, n_rows=60), []

    def own(estimator, rows, truth):
        seen.append(estimator.predict_proba(rows).tobytes())
        return 0.5

    metric_frontier(data, compute_frontier(data), own)
    assert len(seen) == len(set(seen)) > 10


def test_a_scorer_that_is_any_function():
    def own(estimator, rows, truth):
        found = estimator.predict_proba(rows)
        return float(
            found[np.arange(len(truth)), np.searchsorted(estimator.classes_, truth)].mean()
        )

    clf = quick(operating_point=AccuracyDrop(0.05, metric=own)).fit(X, WORDS[y % 2])
    assert clf.operating_point_.cost < clf.costs_[-1]


def test_probabilities_are_kept_only_where_they_are_asked_for(monkeypatch):
    clf = quick(calibration=None).fit(X, y)
    kept = []
    real = CalibrationData.from_table.__func__

    def seen(cls, table, *args):
        kept.append(hasattr(table, "probabilities"))
        return real(cls, table, *args)

    monkeypatch.setattr(CalibrationData, "from_table", classmethod(seen))
    for point in (Budget(0.8), Budget(0.8, metric="f1_macro"), RiskControl(0.5)):
        clf.calibrate(X_TEST, Y_TEST, point)
    assert kept == [False] * 3
    clf.calibrate(X_TEST, Y_TEST, Budget(0.8, metric="neg_log_loss"))
    assert kept[3]
