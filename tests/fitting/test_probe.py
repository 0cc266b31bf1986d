"""Placements that ask what heads would answer: which rows they see, and what becomes of them."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import KFold, PredefinedSplit
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from skearlyexit import Budget, GreedyPlacement, LearnedConfidencePolicy, MLPBackbone
from skearlyexit._data._samples import Samples
from skearlyexit._data._splits import calibration_splits
from skearlyexit._fitting._cascade_fitter import CascadeFitter
from skearlyexit._fitting._exit_costs import ExitCosts
from skearlyexit._fitting._exit_probe import PROBE_SHARE, probing_split
from skearlyexit.costs._estimators import SCALAR
from skearlyexit.placement import Placed, Placement, PlacementReport
from skearlyexit.placement._held_out import HeldOut
from tests._data import blobs, make, quick, same

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
    """Samples of every cascade that is fitted, by their first column, and how many exits it has."""
    fitted = []
    original = CascadeFitter.fit

    def fit(self, rows, *args, **kwargs):
        fitted.append((len(self.exits.plan.ends), rows.X[:, 0].copy()))
        return original(self, rows, *args, **kwargs)

    monkeypatch.setattr(CascadeFitter, "fit", fit)
    return fitted


@pytest.fixture
def judged(monkeypatch):
    """Samples of every exit table that is made while fitting."""
    from skearlyexit._fitting import _calibrating, _exit_probe

    tables = []

    def watched(look):
        def watching(network, *args):
            tables.append((network.n_exits, args[-1][:, 0].copy()))
            return look(network, *args)

        return watching

    for module, name in (
        (_calibrating, "outputs"),
        (_calibrating, "label_table"),
        (_exit_probe, "outputs"),
    ):
        monkeypatch.setattr(module, name, watched(getattr(module, name)))
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
    n_rows = len(X) * (0.7 if calibration == 0.3 else 1)
    assert len(asked) == pytest.approx(PROBE_SHARE * n_rows, abs=2)
    assert all(n == 2 for n, _ in (*others, *calibrated))
    for _, held in calibrated:
        # Neither the places nor the weights depend on answers for the rows of the thresholds.
        assert disjoint(held, asked)
    for (_, rows), (_, held) in zip(others, calibrated, strict=False):
        assert disjoint(rows, held)
    if calibration == 0.3:
        assert disjoint(learned, calibrated[0][1])


def test_what_is_probed(curious):
    fit(curious, head=DecisionTreeClassifier(max_depth=3), threshold=0.9, calibration=None)
    (probed,) = curious.seen
    assert list(probed.places) == [0, 1, 2, 3]
    n_rows = len(probed.samples.y)
    assert probed.table.probabilities.shape == (n_rows, 4, 4)
    assert list(probed.stages) == [16 * 16] + [2 * 16 * 16] * 3
    # Comparisons of trees of depth 3.
    assert np.all((probed.heads > 0) & (probed.heads <= 3 * SCALAR))
    assert probed.decisions.tolist() == [4, 4, 4, 0]
    assert (probed.table.labels[:, -1] == probed.samples.y).mean() > 0.3


def test_places_are_judged_by_rows_that_the_decision_has_not_learned_from(curious, monkeypatch):
    learned = []
    original = LearnedConfidencePolicy.fit

    def spy(self, *args, sample_weight, **kwargs):
        learned.append(sample_weight)
        return original(self, *args, sample_weight=sample_weight, **kwargs)

    monkeypatch.setattr(LearnedConfidencePolicy, "fit", spy)
    weight = 1 + np.arange(len(X)) / len(X)  # by which rows are known again
    clf = quick(backbone=BACKBONE, exits=curious, max_epochs=2, policy="learned", combine="mean")
    clf.fit(X, y, sample_weight=weight)
    (probed,) = curious.seen
    assert len(learned[0]) > 0
    assert disjoint(learned[0].round(9), probed.samples.calibration_weight.round(9))
    # Of some of the places, too: what is answered there depends on which there are.
    table, _ = probed.subset([0, 3])
    heads = probed.samples.X.probabilities
    mean = (heads[:, 0] + heads[:, 3]) / 2
    np.testing.assert_allclose(table.probabilities[:, 1], mean, atol=1e-12)


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


@pytest.mark.parametrize("calibration", [0.3, 3, "auto", None])
def test_groups_stay_together(calibration):
    rng = np.random.RandomState(0)
    groups = rng.randint(30, size=len(y))
    rows = Samples(X, y, None, groups)
    splits, _ = calibration_splits(calibration, y, groups, rng)
    (train, held), splits = probing_split(rows, splits, rng)
    assert disjoint(groups[train], groups[held])
    for fit, calibrate in splits:
        assert disjoint(groups[calibrate], groups[held])
        assert disjoint(groups[calibrate], groups[fit])


def test_samples_that_are_held_out_once_are_all_for_the_calibration(curious):
    many = np.tile(X, (6, 1)), np.tile(y, 6)
    clf = quick(backbone=BACKBONE, exits=curious, max_epochs=1, calibration="auto")
    assert clf.fit(*many).operating_point_.n_samples == 600


def test_what_the_splitter_keeps_apart_stays_apart():
    patient = np.repeat(np.arange(50), 10)
    rng = np.random.RandomState(0)
    folds, _ = calibration_splits(PredefinedSplit(patient % 3), y, None, rng)
    (train, held), splits = probing_split(Samples(X, y), folds, rng)
    assert disjoint(patient[train], patient[held])
    assert all(disjoint(patient[fit], patient[calibrate]) for fit, calibrate in splits)


def test_halves_of_the_judged_rows_share_no_group(curious):
    groups = np.arange(len(y)) // 5
    quick(backbone=BACKBONE, exits=curious, max_epochs=2).fit(X, y, groups=groups)
    first, second = (half.probed.samples.groups for half in HeldOut.of(curious.seen[0]).halves())
    assert len(first) > 10
    assert len(second) > 10
    assert disjoint(first, second)


def test_class_weights_are_for_training_only(curious):
    fit(curious, class_weight={0: 100, 1: 1, 2: 1, 3: 1})
    assert set(curious.seen[0].samples.calibration_weight) == {1.0}


@pytest.mark.parametrize(("training", "n_trained"), [("mixed", 4), ("separate", 0)])
def test_given_weights_are_judged_as_they_will_be(curious, training, n_trained):
    module = make(lambda: nn.Sequential(*(nn.Linear(X.shape[1], X.shape[1]) for _ in range(4))))
    before = [value.clone() for value in module.state_dict().values()]
    trained = []
    original = ExitCosts.cascade

    def cascade(self, network, decision, X):
        weights = [value for stage in network.stages for value in stage.state_dict().values()]
        same = [torch.equal(a, b) for a, b in zip(before, weights, strict=True)]
        trained.append(sum(not each for each in same[::2]))
        return original(self, network, decision, X)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExitCosts, "cascade", cascade)
        fit(curious, backbone=module, training=training)
    assert trained[0] == n_trained


def test_validation_rows_serve_the_probe_too(curious, monkeypatch):
    seen = []
    original = CascadeFitter.fit

    def fit_(self, rows, validation, *args, **kwargs):
        seen.append(None if validation is None else len(validation))
        return original(self, rows, validation, *args, **kwargs)

    monkeypatch.setattr(CascadeFitter, "fit", fit_)
    clf = quick(backbone=BACKBONE, exits=curious, max_epochs=2, early_stopping=True)
    clf.fit(X, y, X_val=X_TEST[:50], y_val=Y_TEST[:50])
    assert set(seen) == {50}


def test_a_network_with_one_place_is_not_probed(fits):
    module = make(lambda: nn.Sequential(nn.Linear(X.shape[1], 8)))
    fit(GreedyPlacement(), backbone=module, calibration=None)
    assert len(fits) == 1


def test_too_few_rows():
    rows = Samples(X[:2], np.array([0, 1]))
    with pytest.raises(ValueError, match="needs more samples than 2"):
        probing_split(rows, [], np.random.RandomState(0))


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("params", [{"policy": "learned"}, {"temperature_scaling": True}], ids=str)
def test_what_learns_needs_calibration_samples_before_any_trial(params):
    X, y, _, _ = blobs()
    clf = quick(exits=GreedyPlacement(), calibration=None, threshold=0.5, **params)
    with pytest.raises(ValueError, match="calibration=None"):
        clf.fit(X, y)
