"""Sample weights of any size: scaled where that is possible, refused where it is not."""

import numpy as np
import pytest
from sklearn.model_selection import PredefinedSplit
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import AccuracyDrop, LearnedConfidencePolicy, RiskControl, metrics
from skearlyexit.inspection import CostAccuracyDisplay
from skearlyexit.metrics._intervals import effective_rows, mean_interval
from tests._data import blobs, quick, same

X, y, X_TEST, Y_TEST = blobs()
N = len(X_TEST)
#: Powers of two, by which no bit changes.
FACTORS = [2.0**1021, 2.0**-1030]
IMPOSSIBLE = {
    "too far apart": np.r_[1e300, np.full(N - 1, 1e-300)],
    "NaN": np.r_[np.nan, np.ones(N - 1)],
    "infinity": np.r_[np.inf, np.ones(N - 1)],
    "Negative": np.r_[-1.0, np.ones(N - 1)],
}


@pytest.fixture(scope="module")
def clf():
    return quick(calibration=None, head=DecisionTreeClassifier(max_depth=4)).fit(X, y)


def everywhere(clf, weight):
    """Each way in for weights, as a function and what it gives."""
    table = clf.exit_table(X_TEST)
    correct = table.labels == Y_TEST[:, None]
    exits = table.exits(np.full(clf.n_exits_ - 1, 0.7))
    costs, kwargs = clf.costs_, {"weight": weight}
    point = np.full((1, clf.n_exits_ - 1), 0.7)
    return {
        "score": lambda: clf.score(X_TEST, Y_TEST, weight, threshold=0.7),
        "exit_report": lambda: str(clf.exit_report(X_TEST, Y_TEST, sample_weight=weight)),
        "scorer": lambda: metrics.MeanCost()(clf, X_TEST, Y_TEST, sample_weight=weight),
        "accuracy minus cost": lambda: metrics.AccuracyMinusCost(0.1)(
            clf, X_TEST, Y_TEST, sample_weight=weight
        ),
        "cost_accuracy": lambda: np.concatenate(
            metrics.cost_accuracy(correct, table.scores, costs, point, **kwargs)
        ),
        "oracle": lambda: metrics.oracle(correct, costs, **kwargs),
        "random_exits": lambda: metrics.random_exits(correct, exits, costs, **kwargs),
        "overthinking": lambda: str(metrics.overthinking(correct, costs, **kwargs)),
        "decision_auroc": lambda: metrics.decision_auroc(table.scores, correct, **kwargs)[0],
        "cost accuracy display": lambda: (
            CostAccuracyDisplay.from_estimator(clf, X_TEST, Y_TEST, sample_weight=weight).accuracies
        ),
        "calibration error": lambda: metrics.expected_calibration_error(
            table.probabilities, Y_TEST, **kwargs
        ),
    }


@pytest.mark.parametrize("factor", FACTORS)
class TestOfAnySize:
    def test_calibration(self, clf, factor):
        weight = np.full(N, factor)
        with pytest.raises(ValueError, match="the least target_level that 400"):
            clf.calibrate(
                X_TEST, Y_TEST, RiskControl(0.001, confidence_level=0.999), sample_weight=weight
            )
        for point in (RiskControl(0.1), AccuracyDrop(0.02)):
            weighted = clf.calibrate(X_TEST, Y_TEST, point, sample_weight=weight)
            found, at = weighted.operating_point_, weighted.frontier_
            plain = clf.calibrate(X_TEST, Y_TEST, point)
            assert same(found.thresholds, plain.operating_point_.thresholds)
            assert found.cost == plain.operating_point_.cost
            assert same(at.costs, plain.frontier_.costs)

    @pytest.mark.parametrize(
        "params",
        [
            {"head": [None, DecisionTreeClassifier(max_depth=4), None]},
            {"class_weight": {0: 1e200, 1: 1e200, 2: 1e200, 3: 2e200}},
            {"policy": LearnedConfidencePolicy(), "temperature_scaling": True},
        ],
    )
    def test_fit(self, factor, params):
        params = params | {"operating_point": RiskControl(0.3)}
        plain = quick(**params).fit(X, y)
        weighted = quick(**params).fit(X, y, sample_weight=np.full(len(X), factor))
        assert same(weighted.predict_proba(X_TEST), plain.predict_proba(X_TEST))
        assert same(weighted.thresholds_, plain.thresholds_)

    def test_measures(self, clf, factor):
        relative = 1.0 + (np.arange(N) % 3)
        plain = everywhere(clf, relative)
        for name, measure in everywhere(clf, factor / 4 * relative).items():
            assert np.array_equal(measure(), plain[name]()), name


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("reason", IMPOSSIBLE)
def test_what_cannot_be_is_refused_everywhere(clf, reason):
    weight = IMPOSSIBLE[reason]
    before = clf.operating_point_
    untrained = quick()
    ways = everywhere(clf, weight) | {
        "fit": lambda: untrained.fit(X_TEST, Y_TEST, weight),
        "partial_fit": lambda: untrained.partial_fit(X_TEST, Y_TEST, np.unique(y), weight),
        "calibrate": lambda: clf.calibrate(X_TEST, Y_TEST, sample_weight=weight),
    }
    message = reason if reason != "too far apart" else "so far apart that float64"
    for way in ways.values():
        with pytest.raises(ValueError, match=message):
            way()
    assert clf.operating_point_ is before


@pytest.mark.parametrize("factor", [1e200, 1e-170])
def test_partial_fit_takes_what_its_dtype_holds(factor):
    clf = quick(calibration=None, dtype="float32").partial_fit(X, y, np.unique(y))
    before = clf.predict_proba(X_TEST, threshold=0.5)
    with pytest.raises(ValueError, match="float32 cannot hold the largest"):
        clf.partial_fit(X, y, sample_weight=np.full(len(X), factor))
    assert same(clf.predict_proba(X_TEST, threshold=0.5), before)


def test_intervals_of_any_size():
    weight = np.array([1.0, 2.0, 0.5, 3.0])
    for factor in FACTORS:
        assert effective_rows(factor / 4 * weight) == pytest.approx(effective_rows(weight))
        assert mean_interval([0, 1, 0, 1], 0, 1, weight=factor / 4 * weight) == (
            pytest.approx(mean_interval([0, 1, 0, 1], 0, 1, weight=weight))
        )


def test_a_training_without_a_weight():
    """A class of weight 0 is all that the first fold trains on."""
    split = PredefinedSplit(np.where(y % 2 == 0, -1, 0))
    clf = quick(class_weight={0: 0.0, 1: 1.0}, calibration=split)
    with pytest.raises(ValueError, match=r"All \d+ samples of this training have weight 0"):
        clf.fit(X, y % 2)
