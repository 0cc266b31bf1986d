"""Reports and tables of fitted pipelines, and of what else users have."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import Budget, EarlyExitClassifier
from skearlyexit.metrics import exit_report, exit_table
from tests._data import Items, blobs, quick, same

X, y, X_TEST, Y_TEST = blobs()
WEIGHT = np.random.default_rng(0).integers(0, 3, len(Y_TEST))
ASKED = [{}, {"budget": 0.7}, {"budget": Budget(0.7, strict=True)}, {"threshold": 0.4}]


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline(StandardScaler(), quick(operating_point=Budget(0.8))).fit(X, y)


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_a_pipeline_has_the_report_of_its_last_step(pipeline, asked):
    rows = pipeline[0].transform(X_TEST)
    expected = pipeline[-1].exit_report(rows, Y_TEST, sample_weight=WEIGHT, **asked)
    for model in (pipeline, make_pipeline(pipeline)):
        found = exit_report(model, X_TEST, Y_TEST, sample_weight=WEIGHT, **asked)
        assert str(found) == str(expected)
    assert str(exit_report(pipeline[-1], rows, Y_TEST, sample_weight=WEIGHT, **asked)) == str(
        expected
    )


def test_the_plain_model_is_given_what_the_pipeline_is(pipeline):
    plain = clone(pipeline).set_params(earlyexitclassifier__exits=1)
    plain.set_params(earlyexitclassifier__operating_point=None).fit(X, y)
    report = exit_report(pipeline, X_TEST, Y_TEST, plain=plain)
    assert report.overall.plain_accuracy == pytest.approx(plain.score(X_TEST, Y_TEST))


def test_a_pipeline_has_the_table_of_its_last_step(pipeline):
    expected = pipeline[-1].exit_table(pipeline[0].transform(X_TEST))
    found = exit_table(pipeline, X_TEST)
    assert same(found.probabilities, expected.probabilities)
    assert same(found.scores, expected.scores)


def test_the_best_estimator_of_a_search():
    model = make_pipeline(StandardScaler(), quick(max_epochs=2, operating_point=Budget(0.8)))
    search = GridSearchCV(model, {"earlyexitclassifier__lr": [0.01]}, cv=2).fit(X, y)
    report = exit_report(search.best_estimator_, X_TEST, Y_TEST)
    assert report.overall.accuracy == pytest.approx(search.score(X_TEST, Y_TEST))
    with pytest.raises(TypeError, match=r"Got GridSearchCV instead\. Give its best_estimator_"):
        exit_report(search, X_TEST, Y_TEST)


def test_a_dataset_with_its_labels():
    clf = quick(operating_point=Budget(0.8)).fit(X, y)
    found = exit_report(clf, Items(X_TEST.astype("float32"), Y_TEST))
    assert str(found) == str(clf.exit_report(X_TEST.astype("float32"), Y_TEST))


@pytest.mark.parametrize("function", [exit_report, exit_table])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda clf: CalibratedClassifierCV(clf, cv=2),
        lambda clf: BaggingClassifier(clf, n_estimators=1, random_state=0),
        lambda clf: StackingClassifier([("early", clf)], cv=2),
    ],
)
def test_models_of_several_are_told_what_to_give(function, wrap):
    model = wrap(quick(max_epochs=2, calibration=None)).fit(X, y)
    args = (X_TEST, Y_TEST) if function is exit_report else (X_TEST,)
    message = rf"Got {type(model).__name__} instead.* Give the fitted .* inside it"
    with pytest.raises(TypeError, match=message):
        function(model, *args)


@pytest.mark.parametrize("function", [exit_report, exit_table])
def test_other_input(function):
    args = (X_TEST, Y_TEST) if function is exit_report else (X_TEST,)
    with pytest.raises(
        TypeError, match=r"must be an estimator with exits.* Got LogisticRegression"
    ):
        function(LogisticRegression().fit(X, y), *args)
    for model in (EarlyExitClassifier(), make_pipeline(StandardScaler(), EarlyExitClassifier())):
        with pytest.raises(NotFittedError):
            function(model, *args)
