"""Inside the tools that scikit-learn users combine estimators with."""

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import (
    EarlyExitClassifier,
    JointTraining,
    MLPBackbone,
    PatiencePolicy,
    SeparateTraining,
)
from tests._data import blobs, quick, same

X, y, X_TEST, Y_TEST = blobs()


@pytest.mark.parametrize("routing", [False, True])
def test_arguments_of_predict_pass_through_a_pipeline(routing):
    with sklearn.config_context(enable_metadata_routing=routing):
        pipe = make_pipeline(StandardScaler(), quick()).fit(X, y)
        labels, exits = pipe.predict(X_TEST, threshold=0.6, return_exits=True)
        cheap, _ = pipe.predict(X_TEST, budget=0.6, return_exits=True)
        rows = pipe[0].transform(X_TEST)
        expected = pipe[1].predict(rows, threshold=0.6, return_exits=True)
        assert same(labels, expected[0])
        assert same(exits, expected[1])
        assert same(cheap, pipe[1].predict(rows, budget=0.6))
        assert pipe.predict_proba(X_TEST, budget=0.6).shape == (len(X_TEST), 4)
        logarithms = pipe.predict_log_proba(X_TEST, budget=0.6)
        assert same(logarithms, pipe[1].predict_log_proba(rows, budget=0.6))


def test_score_arguments_with_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = make_pipeline(StandardScaler(), quick()).fit(X, y)
        expected = pipe[1].score(pipe[0].transform(X_TEST), Y_TEST, threshold=0.0)
        assert pipe.score(X_TEST, Y_TEST, threshold=0.0) == expected


def test_sample_weight_with_routing():
    weight = np.random.RandomState(0).rand(len(y))
    with sklearn.config_context(enable_metadata_routing=True):
        head = make_pipeline(StandardScaler(), SVC())
        clf = quick(head=head).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipe = make_pipeline(scaler, clf).fit(X, y, sample_weight=weight)
    plain = make_pipeline(StandardScaler(), quick(head=head))
    plain.fit(X, y, earlyexitclassifier__sample_weight=weight)
    assert same(pipe.predict_proba(X_TEST), plain.predict_proba(X_TEST))


def test_grid_over_strategies_and_their_parameters():
    grid = [
        {
            "head": ["linear", DecisionTreeClassifier(max_depth=3)],
            "training": ["joint", SeparateTraining(0.7)],
        },
        {"head": [KNeighborsClassifier()], "head__n_neighbors": [1, 5]},
        {"policy": [PatiencePolicy()], "policy__patience": [1, 2], "threshold": [1.0]},
        {"backbone__n_blocks": [2, 3], "exits": [2], "training": [JointTraining("depth")]},
    ]
    search = GridSearchCV(quick(max_epochs=2, calibration=None), grid, cv=2, error_score="raise")
    search.fit(X[:200], y[:200])
    assert len(search.cv_results_["params"]) == 10
    assert search.best_estimator_.predict(X_TEST).shape == Y_TEST.shape


def test_thresholds_as_a_parameter_trade_accuracy_for_cost():
    search = GridSearchCV(
        quick(calibration=None), {"threshold": [0.0, float("inf")]}, cv=2, refit=False
    ).fit(X, y)
    at_once, never = search.cv_results_["mean_test_score"]
    assert at_once != never


def test_cross_validation():
    clf = quick(budget=0.8, max_epochs=20)
    predicted = cross_val_predict(clf, X, y, cv=3)
    assert np.mean(predicted == y) > 0.5
    proba = cross_val_predict(clf, X, y, cv=3, method="predict_proba")
    assert same(predicted, proba.argmax(axis=1))
    assert cross_val_score(clf, X, y, cv=3).mean() == pytest.approx(
        np.mean(predicted == y), abs=0.01
    )


def test_calibrated_classifier():
    model = CalibratedClassifierCV(quick(), cv=2).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X_TEST).sum(axis=1), 1)


def test_stacking():
    members = [("early", quick()), ("tree", DecisionTreeClassifier(max_depth=3, random_state=0))]
    model = StackingClassifier(members, LogisticRegression(max_iter=1000), cv=2).fit(X, y)
    assert model.score(X_TEST, Y_TEST) > 0.5


def test_permutation_importance():
    rng = np.random.RandomState(0)
    rows = rng.randn(400, 4)
    labels = (rows[:, 2] > 0).astype(int)
    clf = quick().fit(rows, labels)
    importances = permutation_importance(clf, rows, labels, n_repeats=3, random_state=0)
    assert importances.importances_mean.argmax() == 2


def test_frozen():
    clf = quick().fit(X, y)
    frozen = clone(FrozenEstimator(clf)).fit(X_TEST, Y_TEST)
    assert same(frozen.predict(X_TEST), clf.predict(X_TEST))


def test_after_a_step_that_makes_frames():
    frames = make_pipeline(StandardScaler().set_output(transform="pandas"), quick()).fit(X, y)
    arrays = make_pipeline(StandardScaler(), quick()).fit(X, y)
    assert same(frames.predict_proba(X_TEST), arrays.predict_proba(X_TEST))
    assert list(frames[-1].feature_names_in_) == [f"x{i}" for i in range(13)]


def test_clone_keeps_the_parameters():
    clf = quick(backbone=MLPBackbone(2, width=48), head=[SVC(C=3), "mlp", None])
    twin = clone(clf)
    assert twin.backbone is not clf.backbone
    assert twin.backbone.width == 48
    assert str(twin.get_params()) == str(clf.get_params())


@pytest.mark.parametrize(
    "key", ["backbone__width", "policy__patience", "training__weights", "head__hidden"]
)
def test_parameters_of_an_object_that_was_not_given(key):
    clf = EarlyExitClassifier()
    name = key.split("__")[0]
    with pytest.raises(ValueError, match=rf"that is None\. Give an object as '{name}' first"):
        clf.set_params(max_epochs=3, **{key: 32})
    assert clf.max_epochs == EarlyExitClassifier().max_epochs
    assert clf.set_params(backbone=MLPBackbone(), backbone__width=32).backbone.width == 32
    with pytest.raises(ValueError, match="Invalid parameter 'nothing'"):
        clf.set_params(nothing__width=32)
