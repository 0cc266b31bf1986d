"""A final model that is worse than the models of the folds, whose thresholds do not hold for it."""

import re

import numpy as np
import pytest
from sklearn.datasets import make_classification, make_regression
from sklearn.linear_model import LinearRegression, LogisticRegression

from skearlyexit import (
    EarlyExitClassifier,
    EarlyExitRegressor,
    LinearHead,
    MLPBackbone,
    RiskControl,
)
from skearlyexit.calibration import NotCertifiedError

N_SAMPLES = 600
X, y = make_classification(
    2 * N_SAMPLES, n_features=8, n_clusters_per_class=1, class_sep=2.0, flip_y=0.0, random_state=0
)
X_new, y_new = X[N_SAMPLES:], y[N_SAMPLES:]
X, y = X[:N_SAMPLES], y[:N_SAMPLES]


class WorseOnAll(LogisticRegression):
    """Classifier that learns nothing from as many samples as the final model has."""

    def fit(self, X, y, sample_weight=None):
        if len(X) == N_SAMPLES:
            y = np.random.default_rng(0).permutation(y)
            X = np.zeros_like(X)
        return super().fit(X, y, sample_weight)


class WorseRegressorOnAll(LinearRegression):
    def fit(self, X, y, sample_weight=None):
        return super().fit(np.zeros_like(X) if len(X) == N_SAMPLES else X, y, sample_weight)


def quick(head, cls=EarlyExitClassifier, **params):
    settings = {"exits": ["block1"], "calibration": 3, "max_epochs": 20, "early_stopping": False}
    backbone = MLPBackbone(2, width=16, hidden=16)
    return cls(backbone, head=[head, LinearHead()], random_state=0, **settings | params)


WORSE = (
    r"[Aa]t exit 0, the final model predicts its training samples with an accuracy of 5\d\.\d %, "
    r"and the models of the folds predict the same samples, which they have not seen, with an "
    r"accuracy of 9\d\.\d %.*final model\. Give another random_state.* with other samples"
)


def test_without_a_request_no_sample_exits_early():
    with pytest.warns(UserWarning, match=WORSE):
        clf = quick(WorseOnAll()).fit(X, y)
    point = clf.operating_point_
    assert point.certified is False
    assert re.search("No sample exits early: " + WORSE, point.reason)
    assert np.isinf(point.thresholds).all()
    assert clf.score(X_new, y_new) == clf.score(X_new, y_new, threshold=np.inf)


def test_a_guarantee_is_refused():
    clf = quick(WorseOnAll(), operating_point=RiskControl(0.1))
    with pytest.raises(NotCertifiedError, match=r"0\.1, .* cannot be certified\. " + WORSE):
        clf.fit(X, y)
    # Held-out samples judge the final model itself.
    assert clf.set_params(calibration=0.3).fit(X, y).operating_point_.certified


def test_regression():
    X_reg, y_reg = make_regression(N_SAMPLES, n_features=8, n_informative=3, random_state=0)

    def risk(y, at_exit, at_last):
        return np.minimum(np.abs(at_exit - at_last) / (100 * y_reg.std()), 1)

    reg = quick(
        WorseRegressorOnAll(), EarlyExitRegressor, operating_point=RiskControl(0.1, risk=risk)
    )
    with pytest.raises(
        NotCertifiedError, match=r"At exit 0, the final .* an error of \d+.* and .* an error of \d"
    ):
        reg.fit(X_reg, y_reg)


def test_nothing_is_said_of_a_final_model_that_is_worse_at_all_exits():
    clf = quick(None, operating_point=RiskControl(0.5)).set_params(head=WorseOnAll())
    clf.fit(X, y)
    assert clf.score(X, y, threshold=0) < 0.6
    assert clf.score(X, y, threshold=np.inf) < 0.6


@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_is_said_of_a_final_model_like_those_of_the_folds(weighted):
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 3, N_SAMPLES).astype(float) if weighted else None
    point = RiskControl(0.1, max_weight=2.0 if weighted else None)
    clf = quick(LogisticRegression(), operating_point=point)
    found = clf.fit(X, y, sample_weight=weight).operating_point_
    assert found.certified
    assert found.n_samples == (N_SAMPLES if weight is None else (weight > 0).sum())
