"""What holds whatever the configuration."""

import copy
import pickle
import random
from functools import cache

import numpy as np
import pytest
import skorch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from skearlyexit import (
    CNNBackbone,
    CombinedTraining,
    EarlyExitClassifier,
    LearnedConfidencePolicy,
    LinearHead,
    MLPBackbone,
    MLPHead,
    RiskControl,
)
from skearlyexit.runtime._driver import run, tabulate
from tests._data import blobs, digits, make, quick, same

CONFIGURATIONS = {
    "linear": {},
    "float64": {"dtype": "float64"},
    "odd widths": {"backbone": MLPBackbone(3, width=20, hidden=41), "head": MLPHead((13, 7))},
    "two classes": {"n_classes": 2, "head": "mlp"},
    "entropy": {"policy": "entropy"},
    "margin": {"policy": "margin"},
    "patience": {"policy": "patience"},
    "patience with labels only": {"policy": "patience", "head": SVC()},
    "tree": {"head": DecisionTreeClassifier(max_depth=5)},
    "scaled SVM": {"head": make_pipeline(StandardScaler(), SVC())},
    "forest": {"head": RandomForestClassifier(10, n_jobs=2)},
    "boosting": {"head": HistGradientBoostingClassifier(max_iter=5)},
    "neighbors": {"head": KNeighborsClassifier()},
    "logistic": {"head": LogisticRegression(max_iter=200)},
    "discriminant": {"head": LinearDiscriminantAnalysis()},
    "stochastic": {"head": SGDClassifier(loss="log_loss")},
    "perceptron": {"head": MLPClassifier((13,), max_iter=500, tol=1e-1)},
    "mixed": {"head": [DecisionTreeClassifier(max_depth=4), "mlp", LogisticRegression(C=0.1)]},
    "projected": {"head": make_pipeline(PCA(2), LogisticRegression())},
    "stacked": {"head": StackingClassifier([("tree", DecisionTreeClassifier(max_depth=3))], cv=2)},
    "images": {
        "backbone": CNNBackbone((5, 9), n_blocks=1, image_shape=(8, 8)),
        "exits": 2,
        "images": True,
    },
    "images in float64": {
        "backbone": CNNBackbone((3, 7), n_blocks=1, image_shape=(2, 4, 8)),
        "head": LinearHead(pooling="flatten"),
        "exits": 2,
        "dtype": "float64",
        "images": True,
    },
}
for _policy, _combine, _scaled in (
    ("entropy", None, True),
    ("margin", "mean", False),
    ("patience", "most_confident", False),
    (LearnedConfidencePolicy(DecisionTreeClassifier(max_depth=3)), "cost_weighted", False),
    (LearnedConfidencePolicy(features="probabilities"), "geometric", True),
    ("cost_sensitive", "product", False),
    ("scheduled", None, True),
):
    CONFIGURATIONS[f"{_policy}, {_combine}, {_scaled}"] = {
        "policy": _policy,
        "combine": _combine,
        "temperature_scaling": _scaled,
    }
for _training, _policy, _more in (
    ("combined", "margin", {}),
    (CombinedTraining("free"), "entropy", {"dtype": "float64"}),
    (CombinedTraining("max"), "patience", {"head": DecisionTreeClassifier(max_depth=3)}),
    ("combiner", None, {"temperature_scaling": True}),
    ("combiner", None, {"combine": "mean"}),
    ("gated", "gate", {}),
    ("gated", "gate", {"combine": "own", "head": SVC()}),
    ("gated", "confidence", {"combine": "geometric", "temperature_scaling": True}),
):
    CONFIGURATIONS[f"{_training}, {_policy}, {_more}"] = {
        "training": _training,
        "policy": _policy,
        **_more,
    }


@cache
def fitted(name):
    """Classifier of that configuration, test rows, and medians of their scores as thresholds."""
    params = dict(CONFIGURATIONS[name])
    n_classes = params.pop("n_classes", 4)
    X, y, X_test, _ = digits() if params.pop("images", False) else blobs(n_classes=n_classes)
    clf = quick(**params).fit(X[:300], y[:300])
    # More than a slab, and than a call of a head that depends on the number of rows, each of 256.
    X_test = X_test[:300].astype(clf.dtype)
    return clf, X_test, np.quantile(clf.exit_table(X_test).scores[:, :-1], 0.5, axis=0)


@cache
def of_all_rows(name):
    """Answers and outputs of that classifier for all test rows at once."""
    clf, X, thresholds = fitted(name)
    answers = run(clf.cascade_, X, thresholds, with_probabilities=True)
    return answers, clf.exit_table(X)


@pytest.mark.parametrize("name", CONFIGURATIONS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_run_equals_table(name, data):
    clf, X, medians = fitted(name)
    threshold = st.one_of(st.floats(0, 1), st.just(np.inf), st.sampled_from(list(medians)))
    thresholds = np.array([data.draw(threshold) for _ in medians])
    _, table = of_all_rows(name)
    labels, exits = clf.predict(X, threshold=thresholds, return_exits=True)
    expected = np.array(
        [
            next((i for i, t in enumerate(thresholds) if row[i] >= t), len(thresholds))
            for row in table.scores
        ]
    )
    assert same(exits, expected)
    assert same(exits, table.exits(thresholds))
    assert same(labels, clf.classes_[table.labels[np.arange(len(X)), expected]])
    probabilities = clf.predict_proba(X, threshold=thresholds)
    assert same(probabilities, table.probabilities[np.arange(len(X)), expected])
    assert same(labels, clf.classes_[probabilities.argmax(axis=1)])


@pytest.mark.parametrize("name", CONFIGURATIONS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_the_answer_for_a_row_is_its_own(name, data):
    """Any rows, in any order, in any slab, on any number of threads: the same bits."""
    clf, X, thresholds = fitted(name)
    reference, _ = of_all_rows(name)
    seed = data.draw(st.integers(0, 2**16))
    n_rows = data.draw(st.one_of(st.integers(1, 40), st.integers(1, len(X))))
    rows = np.random.RandomState(seed).permutation(len(X))[:n_rows]
    slab_rows = data.draw(st.sampled_from([16, 48, 256, 4096]))
    n_threads = torch.get_num_threads()
    torch.set_num_threads(data.draw(st.sampled_from([1, 2, 3])))
    try:
        answers = run(
            clf.cascade_, X[rows], thresholds, with_probabilities=True, slab_rows=slab_rows
        )
        table = tabulate(clf.cascade_, X[rows], slab_rows=slab_rows)
    finally:
        torch.set_num_threads(n_threads)
    assert same(answers.exits, reference.exits[rows])
    assert same(answers.probabilities, reference.probabilities[rows])
    assert same(answers.labels, answers.probabilities.argmax(axis=1))
    assert same(table.exits(thresholds), reference.exits[rows])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_rows_one_by_one(name):
    """A single sample has a path of its own."""
    clf, X, thresholds = fitted(name)
    expected, _ = of_all_rows(name)
    for i in range(20):
        label, exit_ = clf.predict(X[i : i + 1], threshold=thresholds, return_exits=True)
        assert same(label, clf.classes_[expected.labels[i : i + 1]])
        assert same(exit_, expected.exits[i : i + 1])
        found = clf.predict_proba(X[i : i + 1], threshold=thresholds)
        assert same(found, expected.probabilities[i : i + 1])


@pytest.mark.parametrize("name", CONFIGURATIONS)
@settings(max_examples=5, deadline=None)
@given(n_rows=st.integers(1, 40), seed=st.integers(0, 1000))
def test_a_predictor_predicts_the_same_to_the_last_bit(name, n_rows, seed):
    clf, X, thresholds = fitted(name)
    expected, _ = of_all_rows(name)
    predictor = clf.to_predictor(threshold=thresholds)
    rows = np.random.RandomState(seed).permutation(len(X))[:n_rows]
    labels, exits = predictor.predict(X[rows], return_exits=True)
    assert same(labels, clf.classes_[expected.labels[rows]])
    assert same(exits, expected.exits[rows])
    probabilities, exits = predictor.predict_proba(X[rows], return_exits=True)
    assert same(probabilities, expected.probabilities[rows])
    assert same(exits, expected.exits[rows])


@pytest.mark.parametrize("name", CONFIGURATIONS)
@settings(max_examples=5, deadline=None)
@given(n_rows=st.integers(1, 40), seed=st.integers(0, 1000))
def test_without_padding_a_predictor_differs_by_rounding_only(name, n_rows, seed):
    clf, X, _ = fitted(name)
    table = of_all_rows(name)[1]
    # Far from the scores, so that rounding does not decide.
    scores = np.sort(table.scores[:, :-1], axis=0)
    gaps = np.diff(scores, axis=0)
    places = gaps.argmax(axis=0), np.arange(gaps.shape[1])
    thresholds = scores[places] + gaps[places] / 2
    predictor = clf.to_predictor(threshold=thresholds, batch_invariant=False)
    rows = np.random.RandomState(seed).permutation(len(X))[:n_rows]
    found, exits = predictor.predict_proba(X[rows], return_exits=True)
    expected = table.exits(thresholds)[rows]
    assert same(exits, expected)
    tolerance = 1e-9 if clf.dtype == "float64" else 1e-4
    np.testing.assert_allclose(found, table.probabilities[rows, expected], rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_stored_model_answers_the_same(name):
    clf, X, thresholds = fitted(name)
    again = pickle.loads(pickle.dumps(clf))
    expected = of_all_rows(name)[0].probabilities
    assert same(again.predict_proba(X, threshold=thresholds), expected)
    assert same(again.predict_proba(X[:40], threshold=thresholds), expected[:40])


@settings(max_examples=12, deadline=None)
@given(
    n_features=st.integers(1, 40),
    n_classes=st.integers(2, 6),
    width=st.integers(1, 40),
    hidden=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_any_width_keeps_rows_apart(n_features, n_classes, width, hidden, seed):
    rng = np.random.RandomState(seed)
    X = rng.randn(80, n_features)
    y = np.arange(80) % n_classes
    clf = quick(backbone=MLPBackbone(2, width=width, hidden=hidden), max_epochs=1, exits=2)
    clf.fit(X, y)
    together = clf.predict_proba(X, threshold=0.4)
    alone = np.concatenate([clf.predict_proba(row[None], threshold=0.4) for row in X])
    assert same(together, alone)


@settings(max_examples=10, deadline=None)
@given(
    channels=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    dtype=st.sampled_from(["float32", "float64"]),
)
@example(channels=1, height=3, width=3, dtype="float64")
@example(channels=3, height=5, width=5, dtype="float64")
def test_images_of_any_shape_are_kept_apart(channels, height, width, dtype):
    rng = np.random.RandomState(0)
    X, y = rng.randn(40, channels, height, width), np.arange(40) % 3
    clf = quick(
        backbone=CNNBackbone((5, 7), n_blocks=1, data_format="channels_first"),
        max_epochs=1,
        exits=["stem"],
        dtype=dtype,
    ).fit(X, y)
    together = clf.predict_proba(X, threshold=0.4)
    alone = np.concatenate([clf.predict_proba(row[None], threshold=0.4) for row in X])
    assert same(together, alone)


@pytest.mark.parametrize("policy", ["confidence", "patience"])
@pytest.mark.parametrize("combine", ["own", "mean"])
def test_rows_that_left_are_not_computed_further(policy, combine):
    X, y, X_test, _ = blobs()
    clf = quick(policy=policy, combine=combine).fit(X, y)
    seen = {i: [] for i in range(clf.n_exits_)}
    hooks = [
        stage.register_forward_hook(lambda module, args, output, i=i: seen[i].append(args[0]))
        for i, stage in enumerate(clf.stages_)
    ]
    scores = clf.exit_table(X_test).scores[:, :-1]
    threshold = np.median(scores, axis=0) if policy == "confidence" else 1.0
    for batches in seen.values():
        batches.clear()
    _, exits = clf.predict(X_test, threshold=threshold, return_exits=True)
    for hook in hooks:
        hook.remove()
    for i, batches in seen.items():
        n_reached = int(np.sum(exits >= i))
        n_computed = sum(len(batch) for batch in batches)
        assert n_reached <= n_computed <= n_reached + 15  # filled up to a multiple of 16
    assert len(np.unique(exits)) > 1


def test_heads_of_exits_that_nobody_can_leave_do_not_run():
    X, y, X_test, _ = blobs()
    clf = quick(head=DecisionTreeClassifier(max_depth=3)).fit(X, y)
    calls = []
    for i, head in enumerate(clf.cascade_.network.heads):
        answer = head.predict_proba
        head.predict_proba = lambda rows, i=i, answer=answer: calls.append(i) or answer(rows)
    clf.predict(X_test, threshold=[np.inf, 0.5])
    assert set(calls) <= {1, 2}


def test_budget_is_kept_on_the_calibration_rows():
    X, y, X_cal, y_cal = blobs()
    clf = quick(calibration=None).fit(X, y).calibrate(X_cal, y_cal)
    for budget in np.linspace(clf.costs_[0], clf.costs_[-1], 15):
        _, exits = clf.predict(X_cal, budget=budget, return_exits=True)
        assert clf.costs_[exits].mean() <= budget + 1e-12


def test_costs_count_everything_that_runs():
    X, y, _, _ = blobs()
    clf = quick().fit(X, y)
    width, n_features, n_classes = 32, 16, 4  # 13 features filled up to 16
    stem, block, head = n_features * width, 2 * width * width, width * n_classes
    plain = stem + 3 * block + head
    assert clf.cost_table_.plain == plain
    expected = np.cumsum([stem + block + head + 4, block + head + 4, block + head]) / plain
    assert clf.exit_names_ == ["block1", "block2", "block3"]
    np.testing.assert_allclose(clf.costs_, expected)


def test_calibration_rows_are_not_learned_from():
    """A tree remembers its own rows; calibrated on them it would look far too good."""
    rng = np.random.RandomState(0)
    X, y = rng.randn(600, 5), rng.randint(2, size=600)  # nothing to learn
    for calibration in (0.4, 3, "auto"):
        clf = quick(head=DecisionTreeClassifier(), calibration=calibration).fit(X, y)
        assert clf.score(X, y) > 0.7  # learned by heart
        assert clf.frontier_.accuracies[-1] < 0.65


def test_early_stopping_rows_are_not_calibration_rows():
    X, y, _, _ = blobs()
    seen = []

    class Spy(skorch.callbacks.Callback):
        def on_train_begin(self, net, X=None, **kwargs):
            training, validation = net.get_split_datasets(X)
            seen.append((training.X.numpy(), validation.X.numpy()))

        def __deepcopy__(self, memo):
            return self

    quick(early_stopping=True, callbacks=[Spy()], calibration=0.3, dtype="float64").fit(X, y)
    rows = {row.tobytes() for row in X}
    training, validation = ({row.tobytes() for row in part} for part in seen[0])
    assert training.isdisjoint(validation)
    held_out = rows - training - validation
    assert len(held_out) == 150
    assert len(validation) == 35


class TestUntouched:
    def test_module_and_its_mode(self):
        X, y, _, _ = blobs()
        module = make(
            lambda: nn.Sequential(
                nn.Linear(13, 32),
                nn.BatchNorm1d(32),
                nn.ReLU(),
                nn.Linear(32, 32),
                nn.Linear(32, 4),
            )
        )
        module[1].eval()
        state = copy.deepcopy(module.state_dict())
        clf = EarlyExitClassifier(module, exits=[2], max_epochs=2, random_state=0).fit(X, y)
        assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())
        assert module.training
        assert not module[1].training
        assert all(parameter.grad is None for parameter in module.parameters())
        assert not torch.equal(clf.stages_[0].blocks[0].weight, module[0].weight)

    def test_estimators(self):
        X, y, _, _ = blobs()
        head = make_pipeline(StandardScaler(), DecisionTreeClassifier())
        before = pickle.dumps(head)
        quick(head=head).fit(X, y)
        assert pickle.dumps(head) == before

    def test_skorch_net(self):
        X, y, _, _ = blobs()
        net = make(
            lambda: skorch.NeuralNetClassifier(
                nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 4)),
                criterion=nn.CrossEntropyLoss,
                max_epochs=1,
                verbose=0,
            ).fit(X.astype("float32"), y)
        )
        state = copy.deepcopy(net.module_.state_dict())
        quick(backbone=net, exits=[0]).fit(X, y)
        assert all(torch.equal(state[key], v) for key, v in net.module_.state_dict().items())
        assert len(net.history) == 1

    def test_clone_carries_no_weights(self):
        X, y, _, _ = blobs()
        clf = quick().fit(X, y)
        assert set(vars(clone(clf))) == set(clf.get_params(deep=False))

    def test_data(self):
        X, y, _, _ = blobs()
        X, y, weight = X.copy(), y.copy(), np.ones(len(y))
        kept = X.copy(), y.copy()
        quick(head=SVC()).fit(X, y, sample_weight=weight).predict(X)
        assert same(X, kept[0])
        assert same(y, kept[1])
        assert np.all(weight == 1)

    def test_a_failed_fit_keeps_the_old_model(self):
        X, y, X_test, _ = blobs()
        clf = quick().fit(X, y)
        before = clf.predict_proba(X_test)
        with pytest.raises(ValueError, match="budget"):
            clf.set_params(budget=0.001).fit(X[:, :5], y)
        assert same(clf.predict_proba(X_test), before)

    def test_a_failed_calibration_keeps_the_old_thresholds(self):
        X, y, X_test, y_test = blobs()
        clf = quick(threshold=0.8).fit(X, y)
        before = clf.thresholds_, clf.frontier_
        with pytest.raises(ValueError, match="target_level"):
            clf.calibrate(X_test, y_test, RiskControl(2.0))
        assert (clf.thresholds_, clf.frontier_) == before

    def test_no_file_is_written(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        X, y, X_test, _ = blobs()
        quick(early_stopping=True, head=SVC()).fit(X, y).predict(X_test)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.changes("python random state")
def test_same_seed_same_model():
    X, y, X_test, _ = blobs()
    params = {"backbone": MLPBackbone(2, width=16, hidden=16, dropout=0.3), "exits": 2}
    first = quick(**params).fit(X, y).predict_proba(X_test)
    random.seed(1)
    second = quick(**params).fit(X, y).predict_proba(X_test)
    other = quick(**params, random_state=1).fit(X, y).predict_proba(X_test)
    assert same(first, second)
    assert not same(first, other)
