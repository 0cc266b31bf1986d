"""Placements that ask what heads would answer: which rows they see, and what becomes of them."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import Budget, MLPBackbone
from skearlyexit._builder import CascadeBuilder, Rows
from skearlyexit._probe import PROBE_SHARE, probing_split
from skearlyexit._splits import calibration_splits
from skearlyexit.placement import Placed, Placement, PlacementReport
from tests._data import blobs, quick, same

X, y, X_TEST, Y_TEST = blobs()
BACKBONE = MLPBackbone(3, width=16, hidden=16)


class Curious(Placement):
    """Asks for everything, keeps what it was told, and places exits after blocks 1 and the last."""

    needs_probe = True
    seen = []

    def place(self, candidates, probe=None):
        places = candidates.places
        self.seen.append(probe(places))
        chosen = np.isin(places, [1, places[-1]])
        names = [candidates.names[i] for i in places]
        shares = candidates.cumulative / candidates.cumulative[-1]
        report = PlacementReport("curious", names, shares, chosen, ["asked"] * len(places))
        return Placed([1, int(places[-1])], report)


@pytest.fixture
def curious():
    Curious.seen.clear()
    return Curious()


@pytest.fixture
def fits(monkeypatch):
    """Rows of every cascade that is fitted, by their first column, and how many exits it has."""
    fitted = []
    original = CascadeBuilder.fit

    def fit(self, rows, *args, **kwargs):
        fitted.append((len(self.plan.ends), rows.X[:, 0].copy()))
        return original(self, rows, *args, **kwargs)

    monkeypatch.setattr(CascadeBuilder, "fit", fit)
    return fitted


@pytest.fixture
def judged(monkeypatch):
    """Rows of every exit table that is made while fitting."""
    from skearlyexit import _base, _probe

    tables = []
    original = _base.tabulate

    def tabulate(cascade, X, **kwargs):
        tables.append((cascade.n_exits, X[:, 0].copy()))
        return original(cascade, X, **kwargs)

    for module in (_base, _probe):
        monkeypatch.setattr(module, "tabulate", tabulate)
    return tables


def fit(placement, **params):
    return quick(**{"backbone": BACKBONE, "exits": placement, "max_epochs": 3, **params}).fit(X, y)


def disjoint(a, b):
    return not np.isin(a, b).any()


@pytest.mark.parametrize("calibration", [0.3, 3, "auto", KFold(3), None])
def test_each_row_serves_one_purpose(curious, fits, judged, calibration):
    fit(curious, calibration=calibration)
    (n_places, learned), *others = fits
    (n_probed, asked), *calibrated = judged
    assert n_places == n_probed == 4
    assert disjoint(learned, asked)
    assert len(asked) == pytest.approx(PROBE_SHARE * (len(learned) + len(asked)), abs=1)
    assert all(n == 2 for n, _ in (*others, *calibrated))
    for _, held in calibrated:
        # Neither the places nor the weights depend on answers for the rows of the thresholds.
        assert disjoint(held, asked)
    for (_, rows), (_, held) in zip(others, calibrated, strict=False):
        assert disjoint(rows, held)
        assert np.isin(asked, rows).all()  # nothing is lost: they are learned from
    if calibration == 0.3:
        assert disjoint(learned, calibrated[0][1])


def test_what_is_probed(curious):
    fit(curious, head=DecisionTreeClassifier(max_depth=3), threshold=0.9, calibration=None)
    (probed,) = curious.seen
    assert list(probed.places) == [0, 1, 2, 3]
    n_rows = len(probed.y)
    assert probed.table.probabilities.shape == (n_rows, 4, 4)
    assert list(probed.stages) == [16 * 16] + [2 * 16 * 16] * 3
    assert np.all((probed.heads > 0) & (probed.heads <= 3))  # comparisons of trees of depth 3
    assert probed.decision == 4
    assert (probed.table.labels[:, -1] == probed.y).mean() > 0.3


def test_heads_for_each_exit_do_not_fit_all_places(curious):
    with pytest.raises(ValueError, match=r"must be a single one\. Got 2"):
        fit(curious, head=["linear", "mlp"])


def test_same_seed_same_places(curious):
    first, second = fit(curious, random_state=3), fit(clone(curious), random_state=3)
    a, b = curious.seen
    assert same(a.table.probabilities, b.table.probabilities)
    assert same(first.predict_proba(X_TEST), second.predict_proba(X_TEST))


def test_report_of_the_estimator(curious):
    clf = fit(curious)
    assert clf.exit_names_ == ["block1", "block3"]
    assert clf.placement_report_.method == "curious"
    assert list(clf.placement_report_.to_frame()["exit"]) == [False, True, False, True]


def test_budget_is_kept_with_probing(curious):
    clf = fit(curious, operating_point=Budget(0.9))
    exits = clf.predict(X_TEST, return_exits=True)[1]
    assert clf.costs_[exits].mean() < 1.0


def test_groups_stay_together():
    rng = np.random.RandomState(0)
    groups = rng.randint(30, size=len(y))
    rows = Rows(X, y, None, groups)
    splits, refit = calibration_splits(0.3, y, groups, rng)
    (train, held), splits = probing_split(rows, splits, refit, rng)
    sets = [set(groups[index]) for index in (train, held, splits[0][1])]
    assert len(set.union(*sets)) == sum(map(len, sets))


def test_too_few_rows():
    rows = Rows(X[:2], np.array([0, 1]))
    with pytest.raises(ValueError, match="needs more rows than 2"):
        probing_split(rows, [], True, np.random.RandomState(0))
