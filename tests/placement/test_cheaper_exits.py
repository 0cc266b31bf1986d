"""A budget that cannot be met: the error names the candidate that would make it possible."""

import re

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from skearlyexit import Budget, MLPBackbone
from tests._data import blobs, digits, quick

X, y, X_TEST, Y_TEST = blobs()
BACKBONE = MLPBackbone(4, width=32, hidden=32, dropout=0.0)
MESSAGE = r"first exit alone costs (\S+)\. An exit after 'stem' .* about (\S+):"


def asked(error):
    """Least cost of the model, and of the candidate, as the error states them."""
    return [float(number) for number in re.search(MESSAGE, str(error)).groups()]


@pytest.mark.parametrize("params", [{}, {"cost": "bytes"}, {"head": "mlp"}], ids=str)
class TestBudget:
    def budget(self, params):
        """Costs of a model with an exit at each of two candidates, and a budget in between."""
        both = quick(backbone=BACKBONE, exits=["stem", "block3"], **params).fit(X, y)
        alone = quick(backbone=BACKBONE, exits=["block3"], **params).fit(X, y)
        assert both.costs_[0] < alone.costs_[0]
        return both.costs_[0], alone, (both.costs_[0] + alone.costs_[0]) / 2

    def test_after_fit(self, params):
        cost, clf, budget = self.budget(params)
        for call in (
            lambda: clf.predict(X_TEST, budget=budget),
            lambda: clf.exit_report(X_TEST, Y_TEST, budget=budget),
            lambda: clf.calibrate(X_TEST, Y_TEST, Budget(budget)),
        ):
            with pytest.raises(ValueError, match=MESSAGE) as error:
                call()
            assert asked(error.value) == pytest.approx([clf.costs_[0], cost], rel=0.02)

    def test_before_training(self, params, monkeypatch, request):
        cost, clf, budget = self.budget(params)
        request.getfixturevalue("untrained")
        with pytest.raises(ValueError, match=MESSAGE) as error:
            quick(backbone=BACKBONE, exits=["block3"], budget=budget, **params).fit(X, y)
        assert asked(error.value) == pytest.approx([clf.costs_[0], cost], rel=0.02)

    def test_what_is_named_makes_it_possible(self, params):
        _, _, budget = self.budget(params)
        clf = quick(backbone=BACKBONE, exits=["stem", "block3"], budget=budget, **params).fit(X, y)
        assert clf.operating_point_.cost <= budget


def test_no_candidate_is_cheap_enough():
    clf = quick(backbone=BACKBONE, exits=["block3"]).fit(X, y)
    with pytest.raises(ValueError, match=r"No candidate .* the cheapest, an exit after 'stem'.*0"):
        clf.predict(X_TEST, budget=0.001)


def test_the_first_candidate_has_an_exit():
    clf = quick(backbone=BACKBONE, exits=["stem"]).fit(X, y)
    with pytest.raises(ValueError, match="No candidate of the backbone is cheaper"):
        clf.predict(X_TEST, budget=0.001)


def test_a_plain_network():
    with pytest.raises(ValueError, match=r"alone costs 1\. An exit after 'stem'"):
        quick(exits=1, backbone=BACKBONE, budget=0.5).fit(X, y)


def test_a_budget_that_cannot_be_met_after_training():
    """The costs of scikit-learn heads are known only then."""
    clf = quick(backbone=BACKBONE, exits=["block3"], head=LogisticRegression(), budget=0.3)
    with pytest.raises(ValueError, match=MESSAGE):
        clf.fit(X, y)
    assert not hasattr(clf, "cascade_")


def test_images():
    """The heads of earlier candidates have fewer channels: the cost is an estimate."""
    images = digits()[0].reshape(-1, 1, 8, 8)[:300]
    labels = digits()[1][:300]
    clf = quick(backbone="cnn", exits=["group2.block1"], max_epochs=1).fit(images, labels)
    with pytest.raises(ValueError, match="An exit after") as error:
        clf.predict(images, budget=0.98 * clf.costs_[0])
    name = re.search("An exit after '(.*?)'", str(error.value)).group(1)
    cheaper = quick(backbone="cnn", exits=[name, "group2.block1"], max_epochs=1).fit(images, labels)
    stated = float(re.search(r"about (\S+):", str(error.value)).group(1))
    assert stated == pytest.approx(cheaper.costs_[0], rel=0.3)
    assert np.isfinite(stated)
