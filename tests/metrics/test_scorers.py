"""Scorers: their numbers are those of predict, and scikit-learn's searches take them."""

import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import Budget, MLPBackbone
from skearlyexit.metrics import AccuracyAtBudget, AccuracyMinusCost, CostAccuracyArea, MeanCost
from tests._data import blobs, quick

X, y, X_TEST, Y_TEST = blobs()
WEIGHT = np.random.default_rng(0).integers(0, 3, len(Y_TEST))
SCORERS = [AccuracyAtBudget(0.8), AccuracyMinusCost(0.1), MeanCost(), CostAccuracyArea(0.5, 1.0)]


@pytest.fixture(scope="module")
def clf():
    return quick(operating_point=Budget(0.8)).fit(X, np.array(["ant", "bee", "cow", "dog"])[y])


@pytest.fixture(scope="module")
def truth():
    return np.array(["ant", "bee", "cow", "dog"])[Y_TEST]


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_they_are_what_predict_does(clf, truth, weight):
    labels, exits = clf.predict(X_TEST, return_exits=True)
    cost = np.average(clf.costs_[exits], weights=weight)
    accuracy = accuracy_score(truth, labels, sample_weight=weight)
    assert len(np.unique(exits)) > 1
    assert MeanCost()(clf, X_TEST, truth, weight) == pytest.approx(-cost)
    assert MeanCost()(clf, X_TEST, sample_weight=weight) == pytest.approx(-cost)
    found = AccuracyMinusCost(0.3)(clf, X_TEST, truth, weight)
    assert found == pytest.approx(accuracy - 0.3 * cost)
    for budget in (0.6, 0.9):
        expected = clf.score(X_TEST, truth, weight, budget=budget)
        assert AccuracyAtBudget(budget)(clf, X_TEST, truth, weight) == pytest.approx(expected)


def test_the_area_is_the_mean_of_accuracies_at_budgets(clf, truth):
    least, n_budgets = clf.frontier_.costs[0], 100
    for low, high in ((least, 1.0), (0.5 * least, 0.8), (0.7, 0.7), (0.9, 3.0)):
        budgets = low + (np.arange(n_budgets) + 0.5) / n_budgets * (high - low)
        scores = [
            AccuracyAtBudget(b)(clf, X_TEST, truth, WEIGHT) if b >= least else 0.25 for b in budgets
        ]
        area = CostAccuracyArea(low, high, below=0.25)(clf, X_TEST, truth, WEIGHT)
        assert area == pytest.approx(np.mean(scores), abs=5e-3)


def test_a_common_unit(clf, truth):
    plain = clf.cost_table_.plain
    own = [scorer(clf, X_TEST, truth) for scorer in SCORERS]
    halved = [
        AccuracyAtBudget(0.4, plain_cost=2 * plain),
        AccuracyMinusCost(0.2, plain_cost=2 * plain),
        MeanCost(plain_cost=2 * plain),
        CostAccuracyArea(0.25, 0.5, plain_cost=2 * plain),
    ]
    found = [scorer(clf, X_TEST, truth) for scorer in halved]
    assert found == pytest.approx([own[0], own[1], own[2] / 2, own[3]])


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda s: type(s).__name__)
def test_they_are_objects_of_scikit_learn(scorer, clf, truth):
    again = clone(scorer)
    assert again is not scorer
    assert again.get_params() == scorer.get_params()
    assert pickle.loads(pickle.dumps(scorer))(clf, X_TEST, truth) == scorer(clf, X_TEST, truth)
    assert repr(scorer).startswith(f"{type(scorer).__name__}(")


def test_they_say_what_they_are():
    assert repr(AccuracyAtBudget(0.5)) == "AccuracyAtBudget(budget=0.5)"
    assert repr(AccuracyMinusCost(0.1)) == "AccuracyMinusCost(weight=0.1)"
    assert repr(CostAccuracyArea(0.2, 0.9)) == "CostAccuracyArea(high=0.9, low=0.2)"


def test_a_search_with_two_metrics():
    pipeline = make_pipeline(StandardScaler(), quick(max_epochs=2, operating_point=Budget(0.8)))
    search = GridSearchCV(
        pipeline,
        {"earlyexitclassifier__operating_point": [Budget(0.45), Budget(0.9)]},
        scoring={"accuracy": "accuracy", "accuracy@0.7": AccuracyAtBudget(0.7), "cost": MeanCost()},
        refit="accuracy@0.7",
        cv=2,
        error_score="raise",
    ).fit(X[:300], y[:300])
    cheap, dear = search.cv_results_["mean_test_cost"]
    assert -1.1 < dear < cheap < 0
    # The same network on the same rows, asked for the same budget.
    at = search.cv_results_["mean_test_accuracy@0.7"]
    assert at[0] == at[1] == search.best_score_


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda s: type(s).__name__)
def test_alone_in_cross_validation(scorer):
    model = quick(max_epochs=2)
    scores = cross_val_score(model, X[:300], y[:300], cv=2, scoring=scorer, error_score="raise")
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()


def test_a_search_over_the_parameters_of_a_scorer():
    search = GridSearchCV(quick(), {"lr": [0.01]}, scoring=AccuracyAtBudget(0.5))
    search.set_params(scoring__budget=0.7)
    assert search.scoring.budget == 0.7


def test_weights_by_routing():
    weight = np.random.default_rng(1).random(300)
    model = quick(max_epochs=2, operating_point=Budget(0.8))
    with sklearn.config_context(enable_metadata_routing=True):
        model = model.set_fit_request(sample_weight=False)
        weighted, plain = MeanCost(), MeanCost()
        found = cross_validate(
            model,
            X[:300],
            y[:300],
            cv=2,
            scoring={
                "weighted": weighted.set_score_request(sample_weight=True),
                "plain": plain.set_score_request(sample_weight=False),
            },
            params={"sample_weight": weight},
            return_estimator=True,
            return_indices=True,
            error_score="raise",
        )
        clone_asks = clone(weighted).get_metadata_routing().score.requests
    assert clone_asks == {"sample_weight": True}
    for i, rows in enumerate(found["indices"]["test"]):
        fitted = found["estimator"][i]
        costs = fitted.costs_[fitted.predict(X[rows], return_exits=True)[1]]
        assert found["test_weighted"][i] == pytest.approx(-np.average(costs, weights=weight[rows]))
        assert found["test_plain"][i] == pytest.approx(-costs.mean())


def test_weights_without_routing(clf, truth):
    # The one function that hands weights to several scorers at once.
    found = permutation_importance(
        clf,
        X_TEST,
        truth,
        scoring={"cost": MeanCost()},
        n_repeats=1,
        sample_weight=WEIGHT,
        random_state=0,
        max_samples=50,
    )
    assert found["cost"].importances.shape == (X.shape[1], 1)


@pytest.mark.parametrize("scorer", [SCORERS[0], SCORERS[3]], ids=lambda s: type(s).__name__)
def test_a_model_without_frontier_is_told_how_to_get_one(scorer):
    model = quick(calibration=None, max_epochs=1).fit(X, y)
    name = type(scorer).__name__
    with pytest.raises(ValueError, match=rf"{name} needs .*calibration=None.*call calibrate"):
        scorer(model, X_TEST, Y_TEST)
    assert 0 <= scorer(model.calibrate(X_TEST, Y_TEST), X_TEST, Y_TEST) <= 1
    assert MeanCost()(quick(calibration=None, max_epochs=1).fit(X, y), X_TEST) < 0


def test_a_plain_network_can_be_a_candidate():
    model = quick(exits=1, max_epochs=1).fit(X, y)
    accuracy = model.score(X_TEST, Y_TEST)
    assert AccuracyAtBudget(1.0)(model, X_TEST, Y_TEST) == accuracy
    assert CostAccuracyArea(0.5, 1.5)(model, X_TEST, Y_TEST) == pytest.approx(accuracy / 2)
    assert MeanCost()(model, X_TEST) == pytest.approx(-1)


def test_what_is_refused(clf, truth):
    for scorer, message in (
        (AccuracyAtBudget(0.01), "'budget' parameter must be at least"),
        (AccuracyAtBudget("much"), "'budget' parameter of AccuracyAtBudget"),
        (AccuracyAtBudget(0.5, plain_cost=-1), "'plain_cost' parameter must be a positive"),
        (MeanCost(plain_cost="1"), "'plain_cost' parameter must be a positive"),
        (AccuracyMinusCost(-1), "'weight' parameter of AccuracyMinusCost"),
        (AccuracyMinusCost("much"), "'weight' parameter of AccuracyMinusCost"),
        (CostAccuracyArea(0.9, 0.5), "0 <= low <= high"),
        (CostAccuracyArea(0.01, 0.02), "No budget from low=0.01"),
    ):
        with pytest.raises(ValueError, match=message):
            scorer(clf, X_TEST, truth)
    other = LogisticRegression().fit(X_TEST, Y_TEST)
    for scorer in SCORERS:
        with pytest.raises(TypeError, match="must be an estimator with exits"):
            scorer(other, X_TEST, Y_TEST)


def test_networks_of_different_size_in_one_unit():
    small, large = (
        quick(backbone=MLPBackbone(n, width=32, hidden=32), exits=2, max_epochs=1).fit(X, y)
        for n in (2, 5)
    )
    unit = MeanCost(plain_cost=large.cost_table_.plain)
    nobody = [clone(m).set_params(threshold=np.inf).fit(X, y) for m in (small, large)]
    found = [unit(model, X_TEST) for model in nobody]
    ratio = small.cost_table_.plain / large.cost_table_.plain
    assert found == pytest.approx([-ratio * small.costs_[-1], -large.costs_[-1]])
    assert ratio < 0.6


MULTICLASS = {
    "roc_auc_ovr": lambda y, p, w: roc_auc_score(y, p, multi_class="ovr", sample_weight=w),
    "neg_log_loss": lambda y, p, w: -log_loss(y, p, sample_weight=w),
    "f1_macro": lambda y, p, w: f1_score(
        y, np.unique(y)[p.argmax(axis=1)], average="macro", sample_weight=w
    ),
}


@pytest.mark.parametrize("metric", MULTICLASS)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
class TestOtherMetrics:
    def value(self, clf, truth, weight, metric, **asked):
        return MULTICLASS[metric](truth, clf.predict_proba(X_TEST, **asked), weight)

    def test_at_a_budget(self, clf, truth, weight, metric):
        for budget in (0.6, 0.9):
            found = AccuracyAtBudget(budget, metric=metric)(clf, X_TEST, truth, weight)
            assert found == pytest.approx(self.value(clf, truth, weight, metric, budget=budget))

    def test_minus_cost(self, clf, truth, weight, metric):
        found = AccuracyMinusCost(0.3, metric=metric)(clf, X_TEST, truth, weight)
        cost = -MeanCost()(clf, X_TEST, truth, weight)
        assert found == pytest.approx(self.value(clf, truth, weight, metric) - 0.3 * cost)

    def test_area(self, clf, truth, weight, metric):
        """Each point of the frontier counts for the budgets until the next."""
        low, high = clf.frontier_.costs[0], 1.0
        edges = np.append(clf.frontier_.costs[clf.frontier_.costs < high], high)
        values = [self.value(clf, truth, weight, metric, budget=float(cost)) for cost in edges[:-1]]
        expected = np.average(values, weights=np.diff(edges))
        found = CostAccuracyArea(low, high, metric=metric)(clf, X_TEST, truth, weight)
        assert found == pytest.approx(expected)


def test_a_pipeline_by_probabilities():
    model = make_pipeline(StandardScaler(), quick(max_epochs=2))
    scorer = AccuracyAtBudget(0.7, metric="roc_auc")
    found = cross_val_score(model, X[:300], y[:300] % 2, cv=2, scoring=scorer, error_score="raise")
    assert (found > 0.5).all()


@pytest.mark.parametrize(
    "scorer",
    [
        AccuracyAtBudget(0.8, metric="roc_auc"),
        AccuracyMinusCost(0.1, metric="roc_auc"),
        CostAccuracyArea(0.5, 1.0, metric="roc_auc"),
    ],
    ids=lambda s: type(s).__name__,
)
def test_a_metric_of_two_classes_is_refused_for_four(scorer, clf, truth):
    with pytest.raises(ValueError, match=r"of 4 classes\. Got 'roc_auc' instead.*'roc_auc_ovr'"):
        scorer(clf, X_TEST, truth)


@pytest.mark.parametrize("metric", ["roc auc", 3])
def test_no_metric(metric, clf, truth):
    with pytest.raises(ValueError, match=r"'metric' parameter must be .* Got"):
        AccuracyAtBudget(0.8, metric=metric)(clf, X_TEST, truth)
