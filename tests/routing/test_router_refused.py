"""What a router cannot be combined with."""

import copy

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from skearlyexit import Budget, CascadeClassifier, ExitRouter
from tests._data import blobs, quick
from tests.routing._routed import COSTS, three

X, y, X_TEST, Y_TEST = blobs()


def two(**params):
    clf = three(cost=COSTS[1:], **params)
    return clf.set_params(estimators=clf.estimators[1:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: three(policy="patience"), "PatiencePolicy depends on the outputs of all exits"),
        (lambda: three(combine="mean"), "MeanCombination depends on the outputs of all exits"),
        (lambda: three(pass_probabilities=True), "pass_probabilities=True, an estimator needs"),
        (lambda: three(feature_costs=[1.0] * 13), "paid for at the first estimator that needs it"),
        (lambda: three(budget=Budget(0.5, strict=True)), "does not support ExitRouter"),
        (lambda: three(calibration=None), "ExitRouter cannot be used without calibration samples"),
        (lambda: quick(router=ExitRouter(), policy="patience"), "PatiencePolicy depends"),
        (lambda: quick(router=ExitRouter(), training="combined"), "CombinedTraining learns"),
        (lambda: quick(router=ExitRouter(), runtime="onnx"), "cannot be converted to ONNX"),
        (lambda: three(router=ExitRouter(max_samples=0)), "'max_samples' parameter of ExitRouter"),
        (lambda: two(router=ExitRouter(), policy="patience"), "PatiencePolicy depends on"),
        (lambda: two(router=ExitRouter(max_samples=0)), "'max_samples' parameter of ExitRouter"),
    ],
)
def test_what_cannot_be_combined_is_refused_before_training(make, message, untrained):
    with pytest.raises(ValueError, match=message):
        make().fit(X, y)


class TestRefusedLater:
    def test_estimators_that_cannot_be_compared(self):
        with pytest.raises(ValueError, match=r"operations of \['bayes'\] cannot be counted"):
            three(cost="seconds").fit(X, y)

    def test_parts_of_an_ensemble(self):
        forest = RandomForestClassifier(10, random_state=0).fit(X, y)
        clf = CascadeClassifier.from_ensemble(forest, [2, 5], router=ExitRouter())
        with pytest.raises(ValueError, match="'2' is a part of an ensemble"):
            clf.fit(X_TEST, Y_TEST)

    @pytest.mark.parametrize(
        "ask",
        [
            lambda clf: clf.predict(X_TEST, budget=Budget(0.9, strict=True)),
            lambda clf: clf.calibrate(X_TEST, Y_TEST, Budget(0.9, strict=True)),
        ],
    )
    def test_strict_budgets(self, chain, ask):
        with pytest.raises(ValueError, match=r"does not support ExitRouter: samples that skip"):
            ask(copy.deepcopy(chain))

    def test_partial_calibration(self, chain):
        with pytest.raises(ValueError, match=r"with a router the mean cost also depends"):
            chain.partial_calibrate(X_TEST)

    @pytest.mark.parametrize("kind", ["chain", "network"])
    def test_exports(self, kind, request, tmp_path):
        clf = request.getfixturevalue(kind)
        with pytest.raises(ValueError, match="ExitRouter cannot be converted to ONNX"):
            clf.to_onnx(tmp_path / "model.onnx")

    def test_incremental_training(self):
        with pytest.raises(AttributeError, match="held-out samples are required by router"):
            quick(router=ExitRouter(), calibration=None).partial_fit(X, y, classes=np.unique(y))
