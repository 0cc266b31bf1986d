"""The trees of gradient boosting in a row."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.linear_model import LogisticRegression

from skearlyexit import CascadeClassifier
from skearlyexit.costs import estimator_macs
from tests._data import blobs, same

X, y, X_TEST, Y_TEST = blobs()
N = 20


def lightgbm(**params):
    return pytest.importorskip("lightgbm").LGBMClassifier(
        n_estimators=N, n_jobs=2, verbose=-1, **params
    )


def xgboost(**params):
    return pytest.importorskip("xgboost").XGBClassifier(
        n_estimators=N, n_jobs=2, max_depth=3, **params
    )


def histograms(**params):
    return HistGradientBoostingClassifier(
        max_iter=N, early_stopping=False, random_state=0, **params
    )


def trees(**params):
    return GradientBoostingClassifier(n_estimators=N, random_state=0, **params)


KINDS = {"trees": trees, "histograms": histograms, "lightgbm": lightgbm, "xgboost": xgboost}
#: Libraries whose sums are those of the ensemble itself to the last bit.
EXACT = [name for name in KINDS if name != "lightgbm"]


def fitted(kind, labels=y, **params):
    return KINDS[kind](**params).fit(X[:300], labels[:300])


def cascade(ensemble, labels=y, **params):
    defaults = {"cost": [3, 5, 12], "random_state": 0, "budget": 0.5}
    clf = CascadeClassifier.from_ensemble(ensemble, [3, 8], **{**defaults, **params})
    return clf.fit(X[300:], labels[300:])


def staged(ensemble, stop):
    """Probabilities after some iterations, as the library itself predicts them."""
    kind = type(ensemble).__name__
    if kind == "LGBMClassifier":
        return ensemble.predict_proba(X_TEST, num_iteration=stop)
    if kind == "XGBClassifier":
        return ensemble.predict_proba(X_TEST, iteration_range=(0, stop))
    return list(ensemble.staged_predict_proba(X_TEST))[stop - 1]


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_every_exit_predicts_as_the_ensemble_after_its_iterations(kind, n_classes):
    labels = y % n_classes
    ensemble = fitted(kind, labels)
    clf = cascade(ensemble, labels)
    assert clf.exit_names_ == ["3", "8", "20"]
    for found, stop in zip(clf.staged_predict_proba(X_TEST), (3, 8, N), strict=True):
        np.testing.assert_allclose(found, staged(ensemble, stop), rtol=1e-5, atol=1e-7)
    last = clf.predict_proba(X_TEST, threshold=np.inf)
    assert same(clf.predict(X_TEST, threshold=np.inf), ensemble.predict(X_TEST))
    if kind in EXACT:
        assert same(last, ensemble.predict_proba(X_TEST))
    else:
        np.testing.assert_allclose(last, ensemble.predict_proba(X_TEST), rtol=1e-13, atol=1e-15)
    # And with heads that are computed, at which no sample exits.
    assert same(clf.exit_table(X_TEST).probabilities[:, -1], last)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_run_equals_table_and_batches_do_not_matter(kind, n_classes):
    labels = y % n_classes
    clf = cascade(fitted(kind, labels), labels)
    table = clf.exit_table(X_TEST)
    thresholds = np.quantile(table.scores[:, :2], 0.5, axis=0, method="nearest")
    found, exits = clf.predict_proba(X_TEST, threshold=thresholds, return_exits=True)
    assert len(np.unique(exits)) == 3
    assert same(exits, table.exits(thresholds))
    assert same(found, table.probabilities[np.arange(len(exits)), exits])
    for rows in (slice(1), slice(5, 12), slice(300)):
        assert same(clf.predict_proba(X_TEST[rows], threshold=thresholds), found[rows])
    twin = pickle.loads(pickle.dumps(clf))
    assert same(twin.predict_proba(X_TEST, threshold=thresholds), found)


def test_many_classes():
    # NumPy adds the classes of one sample in another order than those of several.
    labels = np.arange(len(y)) % 10
    ensemble = fitted("histograms", labels)
    clf = cascade(ensemble, labels)
    whole = clf.predict_proba(X_TEST, threshold=np.inf)
    assert same(whole, ensemble.predict_proba(X_TEST))
    by_one = [clf.predict_proba(X_TEST[i : i + 1], threshold=np.inf) for i in range(50)]
    assert same(np.concatenate(by_one), whole[:50])


def test_no_tree_is_called_twice_or_for_samples_that_have_exited(monkeypatch):
    clf = cascade(fitted("histograms", y % 2), y % 2)
    asked = []
    own = TreePredictor.predict
    monkeypatch.setattr(
        TreePredictor,
        "predict",
        lambda self, X, **options: asked.append((id(self), len(X))) or own(self, X, **options),
    )
    _, exits = clf.predict(X_TEST, threshold=[0.6, 0.7], return_exits=True)
    reach = np.array([len(exits), np.sum(exits > 0), np.sum(exits > 1)])
    assert 0 < reach[2] < reach[1] < reach[0]
    rounded = reach + -reach % 16
    assert [n for _, n in asked] == np.repeat(rounded, [3, 5, 12]).tolist()
    assert len({tree for tree, _ in asked}) == N


@pytest.mark.parametrize("kind", ["lightgbm", "xgboost"])
def test_each_exit_asks_for_its_own_iterations_only(kind, monkeypatch):
    ensemble = fitted(kind)
    clf = cascade(ensemble)
    scores = clf.exit_table(X_TEST).scores[:, :2]
    thresholds = np.quantile(scores, 0.5, axis=0, method="nearest")
    asked = []
    own = type(ensemble).predict

    def recorded(self, X, **options):
        if kind == "xgboost":
            start, stop = options["iteration_range"]
        else:
            start, stop = options["start_iteration"], options["num_iteration"]
            stop += start
        asked.append((start, stop, len(X)))
        return own(self, X, **options)

    monkeypatch.setattr(type(ensemble), "predict", recorded)
    _, exits = clf.predict(X_TEST, threshold=thresholds, return_exits=True)
    reach = np.array([len(exits), np.sum(exits > 0), np.sum(exits > 1)])
    assert 0 < reach[2] < reach[1] < reach[0]
    rounded = reach + -reach % 16
    assert asked == list(zip((0, 3, 8), (3, 8, N), rounded, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_ensemble_is_not_changed_and_costs_are_measured(kind):
    ensemble = fitted(kind)
    before = pickle.dumps(ensemble)
    clf = cascade(ensemble, cost="seconds", budget=None, threshold=0.6)
    assert pickle.dumps(ensemble) == before
    assert np.all(np.diff(clf.costs_, prepend=0) > 0)
    assert cascade(ensemble).costs_.tolist() == [3 / 20, 8 / 20, 1.0]
    clf = cascade(ensemble, cost="bytes", budget=None, threshold=0.6)
    assert clf.costs_[-1] == 1.0


@pytest.mark.parametrize("kind", ["trees", "histograms"])
def test_operations_are_those_of_the_ensemble(kind):
    ensemble = fitted(kind)
    clf = cascade(ensemble, cost="macs")
    assert clf.cost_table_.plain == pytest.approx(estimator_macs(ensemble))


@pytest.mark.parametrize("kind", ["lightgbm", "xgboost"])
def test_operations_that_are_not_counted(kind):
    with pytest.raises(ValueError, match=r"no count of operations.*cost='seconds'"):
        cascade(fitted(kind), cost="macs")


@pytest.mark.parametrize("kind", ["lightgbm", "xgboost"])
def test_early_stopping_leaves_the_best_iterations(kind):
    model = KINDS[kind](learning_rate=1.0, early_stopping_rounds=2)
    if kind == "lightgbm":
        held = {"eval_X": X[100:300], "eval_y": y[100:300]}
    else:
        held = {"eval_set": [(X[100:300], y[100:300])], "verbose": False}
    ensemble = model.fit(X[:100], y[:100], **held)
    clf = CascadeClassifier.from_ensemble(ensemble, [1], cost=[1, 2], random_state=0)
    n_best = ensemble.best_iteration_ if kind == "lightgbm" else ensemble.best_iteration + 1
    assert clf.estimators[-1][0] == str(n_best) != str(N)
    clf.fit(X[300:], y[300:])
    found = clf.predict_proba(X_TEST, threshold=np.inf)
    np.testing.assert_allclose(found, ensemble.predict_proba(X_TEST), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_data_frames(kind):
    frame = pd.DataFrame(X, columns=[f"feature {i}" for i in range(X.shape[1])])
    ensemble = KINDS[kind]().fit(frame[:300], y[:300])
    clf = CascadeClassifier.from_ensemble(ensemble, [5], cost=[5, 15], random_state=0)
    clf.fit(frame[300:], y[300:])
    found = clf.predict_proba(frame, threshold=np.inf)
    np.testing.assert_allclose(found, ensemble.predict_proba(frame), rtol=1e-12)
    with pytest.raises(ValueError, match="must be in the same order"):
        clf.predict(frame.iloc[:, ::-1])


def test_labels_that_are_not_integers():
    names = np.array(["a", "b", "c", "d"])[y]
    for kind in ("trees", "histograms", "lightgbm"):
        ensemble = fitted(kind, names)
        found = cascade(ensemble, names).predict(X_TEST, threshold=np.inf)
        assert same(found, ensemble.predict(X_TEST))


def test_other_starts_and_losses():
    start = LogisticRegression(max_iter=999)
    for ensemble in (
        fitted("trees", y % 2, loss="exponential"),
        fitted("trees", y % 2, init=start),
        fitted("trees", y % 2, init="zero"),
        fitted("trees", y % 2, subsample=0.5),
    ):
        found = cascade(ensemble, y % 2).predict_proba(X_TEST, threshold=np.inf)
        assert same(found, ensemble.predict_proba(X_TEST))


def test_categories_and_missing_values():
    rng = np.random.RandomState(0)
    table = X.copy()
    table[:, 0] = rng.randint(5, size=len(X))
    table[rng.uniform(size=X.shape) < 0.1] = np.nan
    ensemble = histograms(categorical_features=[0]).fit(table[:300], y[:300])
    clf = CascadeClassifier.from_ensemble(ensemble, [5], cost=[5, 15], random_state=0)
    clf.fit(table[300:], y[300:])
    assert same(clf.predict_proba(table, threshold=np.inf), ensemble.predict_proba(table))


def test_a_sigmoid_that_is_not_the_standard_one():
    ensemble = fitted("lightgbm", y % 2, sigmoid=2.0)
    found = cascade(ensemble, y % 2).predict_proba(X_TEST, threshold=np.inf)
    raw = ensemble.predict(X_TEST, raw_score=True)
    np.testing.assert_allclose(found[:, 1], expit(2 * raw), rtol=1e-12)


def test_ensembles_whose_trees_are_not_a_sum():
    with pytest.raises(ValueError, match="Got 'multiclassova'"):
        CascadeClassifier.from_ensemble(fitted("lightgbm", objective="multiclassova"), [3])
    averaged = {"boosting_type": "rf", "subsample": 0.5, "subsample_freq": 1}
    with pytest.raises(ValueError, match="Got 'multiclass' and 'rf'"):
        CascadeClassifier.from_ensemble(fitted("lightgbm", **averaged), [3])
    booster = xgboost(booster="dart").fit(X[:300], y[:300])
    with pytest.raises(ValueError, match=r"booster='gbtree'\. Got booster='dart'"):
        CascadeClassifier.from_ensemble(booster, [3])


def test_an_ensemble_with_other_members_is_refused():
    for kind in KINDS:
        ensemble = fitted(kind)
        clf = CascadeClassifier.from_ensemble(ensemble, [3], cost=[1, 2], random_state=0)
        name = "max_iter" if kind == "histograms" else "n_estimators"
        ensemble.set_params(**{name: 9}).fit(X[:300], y[:300])
        with pytest.raises(ValueError, match="has 9 members, and had 20"):
            clone(clf).fit(X[300:], y[300:])
