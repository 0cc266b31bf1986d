"""Export to a single ONNX file, and predictions from it."""

import copy
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from skearlyexit import (
    Budget,
    CNNBackbone,
    EarlyExitClassifier,
    MLPBackbone,
)
from skearlyexit._determinism._softmax import softmax
from skearlyexit._onnx import _graph
from skearlyexit._onnx._convert import add_softmax
from skearlyexit.backbones import RecurrentBackbone, TransformerBackbone
from skearlyexit.heads._neural import NeuralExit
from skearlyexit.runtime import OnnxCascade, _onnx_session
from skearlyexit.runtime._onnx_graphs import UNREACHED, SampleGraph
from skearlyexit.runtime._onnx_parts import ConvertedParts
from tests._data import blobs, digits, make, quick, same

onnxruntime = pytest.importorskip("onnxruntime")

CONFIGURATIONS = {
    "neural": {"exits": ["stem", "block1"], "calibration": 0.3},
    "margin, float64": {"exits": 2, "policy": "margin", "dtype": "float64"},
    "entropy, scaled": {"exits": 2, "policy": "entropy", "temperature_scaling": True},
    "estimators": {
        "exits": ["stem", "block1"],
        "head": [LogisticRegression(), DecisionTreeClassifier(max_depth=4), "mlp"],
    },
    "neighbors, boosting": {
        "exits": ["stem", "block1"],
        "head": [
            KNeighborsClassifier(),
            HistGradientBoostingClassifier(max_iter=5),
            make_pipeline(StandardScaler(), GaussianNB()),
        ],
    },
    "one exit": {"exits": 1, "calibration": None},
    "images": {"backbone": CNNBackbone((5, 9), n_blocks=1), "exits": 2, "images": (8, 8)},
    "transformer": {
        "backbone": TransformerBackbone(1, width=16),
        "exits": ["stem"],
        "images": (8, 8),
    },
    "patience": {"exits": ["stem", "block1"], "policy": "patience"},
    # Of four steps, each of which the exporter of torch goes through, and with three carries.
    "recurrent": {"backbone": RecurrentBackbone(width=16), "exits": 2, "images": (16, 4)},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@cache
def fitted(name):
    params = dict(CONFIGURATIONS[name])
    shape = params.pop("images", None)
    X, y, X_test, _ = digits() if shape else blobs(n_classes=4)
    if shape:
        X, X_test = X.reshape(-1, *shape), X_test.reshape(-1, *shape)
    clf = quick(**{"backbone": MLPBackbone(2, width=16, hidden=32), **params})
    clf.fit(X[:400], np.array(["a", "b", "c", "d", *"efghij"])[y[:400]])
    return clf, X_test[:150].astype(clf.dtype)


@cache
def exported(name, folder):
    clf, X = fitted(name)
    path = folder / f"{name}.onnx"
    clf.to_onnx(path)
    return clf, OnnxCascade(path, n_threads=1), X, path


def distance(scores, thresholds):
    """Distance of each sample's scores from the thresholds."""
    return np.abs(scores[:, : len(thresholds)] - thresholds).min(axis=1, initial=np.inf)


@pytest.mark.parametrize("name", CONFIGURATIONS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_predictions_are_those_of_the_classifier(name, folder, data):
    clf, cascade, X, _ = exported(name, folder)
    table = clf.exit_table(X)
    medians = np.median(table.scores[:, :-1], axis=0)
    value = st.one_of(st.floats(0, 1), st.just(np.inf), st.sampled_from([*medians, 1.0]))
    thresholds = np.array([data.draw(value) for _ in medians])
    rows = np.arange(data.draw(st.integers(1, len(X))))
    expected, exits = clf.predict_proba(X[rows], threshold=thresholds, return_exits=True)
    found, found_exits = cascade.predict_proba(X[rows], threshold=thresholds, return_exits=True)
    # Labels and exits may differ only where rounding decides.
    clear = distance(table.scores[rows], thresholds) > 1e-5
    np.testing.assert_array_equal(found_exits[clear], exits[clear])
    same_exit = found_exits == exits
    at_median = np.isclose(thresholds, medians, rtol=0, atol=1e-5).any()
    assert same_exit.mean() > 0.9 or at_median
    np.testing.assert_allclose(found[same_exit], expected[same_exit], atol=5e-6)
    ranked = np.sort(expected, axis=1)
    clear &= ranked[:, -1] - ranked[:, -2] > 1e-5
    labels = cascade.predict(X[rows], threshold=thresholds)
    np.testing.assert_array_equal(labels[clear], clf.predict(X[rows], threshold=thresholds)[clear])


def test_defaults_and_budgets_are_those_of_the_classifier(folder):
    clf, cascade, X, path = exported("neural", folder)
    assert cascade.exit_names_ == clf.exit_names_
    assert cascade.n_exits_ == clf.n_exits_
    np.testing.assert_array_equal(cascade.classes_, clf.classes_)
    np.testing.assert_array_equal(cascade.costs_, clf.costs_)
    np.testing.assert_array_equal(cascade.predict(X), clf.predict(X))
    for budget in (clf.costs_[0], 0.6, Budget(0.6), Budget(1e6, unit="MACs")):
        labels, exits = clf.predict(X, budget=budget, return_exits=True)
        found = cascade.predict(X, budget=budget, return_exits=True)
        np.testing.assert_array_equal(found[0], labels)
        np.testing.assert_array_equal(found[1], exits)
    found, exits = cascade.predict_log_proba(X, budget=0.6, return_exits=True)
    np.testing.assert_allclose(found, clf.predict_log_proba(X, budget=0.6), atol=1e-4)
    np.testing.assert_array_equal(exits, clf.predict(X, budget=0.6, return_exits=True)[1])
    assert cascade.predict_log_proba(X[:2]).shape == (2, 4)
    clf.to_onnx(path.with_name("cheap.onnx"), budget=float(clf.costs_[0]))
    assert not OnnxCascade(path.with_name("cheap.onnx")).predict(X, return_exits=True)[1].any()


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_single_samples_are_predicted_as_in_a_batch(name):
    clf, X = fitted(name)
    fast = copy.deepcopy(clf).set_params(runtime="onnx")
    scores = clf.exit_table(X).scores[:, :-1]
    # Between two scores, at a score, and without the head of an exit.
    median = np.median(scores, axis=0)
    for thresholds in (median + 1e-4, scores[0], np.where(np.arange(len(median)), median, np.inf)):
        predictor = fast.to_predictor(threshold=thresholds)
        expected, exits = predictor.predict_proba(X[:30], return_exits=True)
        for i in range(30):
            if (np.abs(scores[i] - thresholds) < 1e-5).any() and i:  # rounding decides
                continue
            found, exit_ = predictor.predict_proba(X[i : i + 1], return_exits=True)
            np.testing.assert_array_equal(exit_, exits[i : i + 1])
            np.testing.assert_allclose(found, expected[i : i + 1], atol=5e-6)
            assert predictor.predict(X[i : i + 1]) == clf.classes_[found.argmax()]


@pytest.mark.parametrize("name", ["neural", "estimators", "one exit"])
def test_a_file_for_single_samples(name, tmp_path):
    clf, X = fitted(name)
    path = tmp_path / "single.onnx"
    threshold = None if clf.n_exits_ == 1 else 0.6
    clf.to_onnx(path, threshold=threshold, single_sample=True)
    session = onnxruntime.InferenceSession(str(path), quiet())
    assert [each.name for each in session.get_inputs()] == ["X"]
    assert not session.get_overridable_initializers()  # as the thresholds of other files are
    cascade = OnnxCascade(path)
    labels, exits = clf.predict(X, threshold=threshold, return_exits=True)
    for i in range(5):
        found = session.run(["labels", "exits"], {"X": X[i : i + 1]})
        assert (found[0][0], found[1][0]) == (labels[i], exits[i])
    found, found_exits = cascade.predict(X, return_exits=True)
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_array_equal(found_exits, exits)
    np.testing.assert_allclose(
        cascade.predict_proba(X), clf.predict_proba(X, threshold=threshold), atol=5e-6
    )
    for asked in ({"threshold": 0.5}, {"budget": 0.9}):
        with pytest.raises(ValueError, match=r"single_sample=True, and its thresholds are fixed"):
            cascade.predict(X, **asked)


def test_single_samples_do_not_go_through_the_graph_for_batches():
    clf, X = fitted("neural")
    predictor = copy.deepcopy(clf).set_params(runtime="onnx").to_predictor(threshold=0.6)
    object.__setattr__(predictor._run, "session", None)
    assert predictor.predict(X[:1]) == clf.predict(X[:1], threshold=0.6)
    with pytest.raises(AttributeError):
        predictor.predict(X[:2])
    # Without early exits, there is nothing to save.
    plain = copy.deepcopy(fitted("one exit")[0]).set_params(runtime="onnx").to_predictor()
    assert plain._run.of_one is plain._run.session


def test_a_predictor_leaves_the_network_as_it_is():
    clf, X = fitted("images")
    clf = copy.deepcopy(clf)
    kinds = [type(module) for module in clf.cascade_.network.modules()]
    probabilities = clf.predict_proba(X)
    clf.set_params(runtime="onnx").to_predictor()
    assert [type(module) for module in clf.cascade_.network.modules()] == kinds
    np.testing.assert_array_equal(clf.set_params(runtime="torch").predict_proba(X), probabilities)


@pytest.mark.parametrize("training", ["gated", "combiner"])
def test_predictors_of_several_threads_at_once(training):
    """The exporter of torch, which converts gates and readers, runs in one thread at a time."""
    X, y, X_test, _ = blobs()
    backbone = MLPBackbone(2, width=16, hidden=16)
    clf = quick(backbone=backbone, exits=["stem", "block1"], training=training, combine="trained")
    clf.fit(X, y).set_params(runtime="onnx").predict(X_test[:1])
    thresholds = [0.5, 0.6, 0.7, 0.8]
    with ThreadPoolExecutor(4) as pool:
        predictors = list(pool.map(lambda each: clf.to_predictor(threshold=each), thresholds))
    clf.set_params(runtime="torch")
    for predictor, threshold in zip(predictors, thresholds, strict=True):
        assert predictor.predict(X_test[:1]) == clf.predict(X_test[:1], threshold=threshold)


def test_a_single_sample_without_an_answer_is_an_error():
    X, y, _, _ = blobs()
    network = make(lambda: nn.Sequential(Root(), nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 4)))
    clf = quick(backbone=network, exits=1, calibration=None, runtime="onnx").fit(abs(X), y)
    predictor = clf.to_predictor()
    rows = abs(X[:2]).astype(np.float32)
    rows[1, 0] = -1.0
    assert predictor.predict(rows[:1]) == clf.predict(rows[:1])
    for predict in (predictor.predict, predictor.predict_proba):
        with pytest.raises(ValueError, match=r"NaN or negative for 1 sample"):
            predict(rows[1:])


def test_as_the_runtime_of_a_classifier(folder):
    clf, X = fitted("neural")
    fast = copy.deepcopy(clf).set_params(runtime="onnx")
    for arguments in ({}, {"threshold": 0.7}, {"budget": 0.6}, {"threshold": np.inf}):
        labels, exits = clf.predict(X, return_exits=True, **arguments)
        found = fast.predict(X, return_exits=True, **arguments)
        np.testing.assert_array_equal(found[0], labels)
        np.testing.assert_array_equal(found[1], exits)
        np.testing.assert_allclose(
            fast.predict_proba(X, **arguments), clf.predict_proba(X, **arguments), atol=5e-6
        )
    compiled = fast.cascade_.compiled["onnx"]
    fast.predict(X[:1])
    assert fast.cascade_.compiled["onnx"] is compiled  # once
    for copied in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert not copied.cascade_.compiled
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fast)).predict(X), clf.predict(X))
    # Another fit is another model.
    again = clone(fast).set_params(random_state=1).fit(X, clf.predict(X))
    np.testing.assert_array_equal(
        again.predict(X), copy.deepcopy(again).set_params(runtime="torch").predict(X)
    )
    with pytest.raises(ValueError, match="Set runtime='torch'"):
        fast.predict(X, budget=Budget(0.6, strict=True))


def test_values_that_are_not_finite_are_an_error(folder):
    clf, cascade, X, path = exported("estimators", folder)
    bad = X.astype(np.float64)
    bad[3, 0], bad[7, 1] = np.nan, 1e300
    with pytest.raises(ValueError, match=r"infinity in precision float32 in 2 samples.*X\[3\]"):
        cascade.predict(bad)
    fast = copy.deepcopy(clf).set_params(runtime="onnx")
    with pytest.raises(ValueError, match="NaN"):
        fast.predict(bad)
    # The file itself, at each exit: a tree would take NaN for a missing value.
    with np.errstate(over="ignore"):
        bad = bad.astype(np.float32)
    for exit_, threshold in enumerate([[0.0, 2.0], [2.0, 0.0], [2.0, 2.0]]):
        session = onnxruntime.InferenceSession(str(path), quiet())
        _, found, exits = session.run(None, {"X": bad, "thresholds": np.array(threshold)})
        assert np.isnan(found[[3, 7]]).all()
        assert not np.isnan(np.delete(found, [3, 7], axis=0)).any()
        assert (np.delete(exits, [3, 7]) == exit_).all()


def test_a_hook_of_a_head_is_converted(tmp_path):
    clf, X = fitted("neural")
    hooked = copy.deepcopy(clf)
    body = hooked.cascade_.network.heads[0].model.body
    body.register_forward_hook(lambda module, args, logits: -logits)
    labels = hooked.predict(X, threshold=0.0)
    assert (labels != clf.predict(X, threshold=0.0)).any()
    hooked.to_onnx(tmp_path / "hooked.onnx", threshold=0.0)
    np.testing.assert_array_equal(OnnxCascade(tmp_path / "hooked.onnx").predict(X), labels)


def test_a_probability_of_0_has_the_logarithm_of_minus_infinity(folder):
    clf, cascade, X, _ = exported("estimators", folder)
    found = cascade.predict_log_proba(X, threshold=[2.0, 0.0])  # of a decision tree
    assert np.isneginf(found).any()
    np.testing.assert_allclose(found, clf.predict_log_proba(X, threshold=[2.0, 0.0]), atol=1e-5)


def test_outputs_that_are_not_finite_are_found_in_all_calls():
    X, y, _, _ = blobs()
    network = make(lambda: nn.Sequential(Root(), nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 4)))
    clf = quick(backbone=network, exits=1, calibration=None, runtime="onnx").fit(abs(X), y)
    X = np.tile(abs(X), (4, 1))
    X[[700, 1900], 0] = -1.0
    with pytest.raises(ValueError, match=r"NaN or negative for 2 samples, .* X\[700\]"):
        clf.predict(X)


def test_calls_have_fewer_samples_with_many_classes(monkeypatch):
    n_classes, sizes = 500, []
    X = np.random.default_rng(0).normal(size=(3 * n_classes, 5)).astype(np.float32)
    backbone = MLPBackbone(0, width=16)
    clf = quick(backbone=backbone, exits=1, calibration=None, max_epochs=1, runtime="onnx")
    clf.fit(X, np.arange(len(X)) % n_classes).predict(X[:1])
    session = clf.cascade_.compiled["onnx"]._session

    class Watched:
        def run(self, outputs, given):
            sizes.append(len(given["X"]))
            return session.run(outputs, given)

    monkeypatch.setattr(clf.cascade_.compiled["onnx"], "_session", Watched())
    labels = clf.predict(X)
    assert sum(sizes) == len(X)
    assert max(sizes) * n_classes * 8 <= _onnx_session.CALL_BYTES / 4
    np.testing.assert_array_equal(labels, clf.set_params(runtime="torch").predict(X))


def test_features_in_another_order_are_refused(folder):
    X, y, _, _ = blobs()
    frame = pd.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])])
    clf = quick(backbone=MLPBackbone(0, width=16), exits=1, calibration=None).fit(frame, y)
    clf.to_onnx(folder / "frame.onnx")
    cascade = OnnxCascade(folder / "frame.onnx")
    np.testing.assert_array_equal(cascade.predict(frame), clf.predict(frame))
    with pytest.raises(ValueError, match="in the same order"):
        cascade.predict(frame[frame.columns[::-1]])


def test_copies_open_the_file_again(folder):
    _, cascade, X, _ = exported("neural", folder)
    for copied in (copy.deepcopy(cascade), pickle.loads(pickle.dumps(cascade))):
        np.testing.assert_array_equal(copied.predict_proba(X), cascade.predict_proba(X))


def test_thresholds_of_infinity_are_kept(folder):
    clf, _, _, path = exported("neural", folder)
    clf.to_onnx(path.with_name("never.onnx"), threshold=np.inf)
    stored = OnnxCascade(path.with_name("never.onnx"))
    assert np.isinf(stored.thresholds_).all()
    np.testing.assert_array_equal(stored.frontier_.thresholds, clf.frontier_.thresholds)


def quiet():
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options


def nodes_run(path, given, folder):
    """Kinds of the nodes that ONNX Runtime executes, with repetitions."""
    options = quiet()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(str(path), options)
    session.run(None, given)
    with open(session.end_profiling()) as file:
        events = json.load(file)
    return [
        event["args"]["op_name"]
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]


def test_stages_and_heads_that_nobody_needs_do_not_run(folder):
    _, _, X, path = exported("images", folder)

    def count(threshold, kinds):
        kinds_run = nodes_run(path, {"X": X, "thresholds": np.array([threshold])}, folder)
        return sum(kind.startswith(kinds) for kind in kinds_run)

    convolutions = ("Conv", "FusedConv")
    assert 0 < count(0.0, convolutions) < count(1.0, convolutions)
    assert count(1.0, convolutions) == count(2.0, convolutions)
    heads = ("Gemm", "FusedGemm", "MatMul")
    assert count(0.0, heads) == count(2.0, heads) < count(1.0, heads)
    assert count(UNREACHED, heads) == count(1.0, heads)


def test_heads_run_as_long_as_a_later_score_depends_on_them(folder):
    _, _, X, path = exported("patience", folder)

    def n_heads(thresholds):
        given = {"X": X, "thresholds": np.array(thresholds)}
        return nodes_run(path, given, folder).count("Softmax")

    assert n_heads([2.0, 2.0]) == 1  # the last one
    assert n_heads([2.0, 0.0]) == 2
    assert n_heads([0.0, 2.0]) == 1
    assert n_heads([1.0, 2.0]) == 2


@pytest.mark.parametrize(
    ("name", "thresholds", "n_heads"),
    [
        ("patience", [2.0, 2.0], 1),
        ("patience", [2.0, 0.0], 2),
        ("patience", [0.0, 2.0], 1),
        ("patience", [1.0, 2.0], 2),
        ("margin, float64", [2.0], 1),
        ("margin, float64", [0.0], 1),
        ("margin, float64", [1.0], 2),
    ],
)
def test_heads_that_run_for_a_single_sample(name, thresholds, n_heads, folder):
    clf, X = fitted(name)
    parts = ConvertedParts(clf.cascade_.network, clf.cascade_.exit_rule, X.shape[1:])
    path = folder / "single.onnx"
    path.write_bytes(SampleGraph(parts, np.array(thresholds)).model(None, {}).SerializeToString())
    assert nodes_run(path, {"X": X[:1]}, folder).count("Softmax") == n_heads


def test_what_only_torch_needs_is_not_in_the_file(folder):
    _, _, X, path = exported("neural", folder)  # 13 features, which torch pads
    kinds = nodes_run(path, {"X": X, "thresholds": np.array([1.0, 1.0])}, folder)
    assert {"Pad", "Slice", "BatchNormalization"}.isdisjoint(kinds)


def test_probabilities_are_computed_once_where_the_largest_decides(folder):
    _, _, X, path = exported("neural", folder)

    def count(kind, thresholds):
        return nodes_run(path, {"X": X, "thresholds": np.array(thresholds)}, folder).count(kind)

    assert count("Softmax", [1.0, 1.0]) == 3  # two scores, and the probabilities
    assert count("ReduceSum", [1.0, 1.0]) == count("Softmax", [2.0, 2.0]) == 1


class Softened(NeuralExit):
    """Head with a softmax of its own."""

    def predict_proba(self, vectors):
        return softmax(self.model.body(vectors).numpy() / 4)

    def onnx(self, graph, embedding, example):
        logits = self.onnx_logits(graph, embedding, example)
        return add_softmax(graph, graph.op("Div", logits, graph.constant(np.float32(4))))


def test_the_conversion_of_a_derived_head_is_its_own():
    clf, X = fitted("neural")
    clf = copy.deepcopy(clf)
    heads = clf.cascade_.network.heads
    heads[0] = Softened(heads[0].model, heads[0].pooling)
    score = np.sort(clf.exit_table(X).scores[:, 0])
    at = np.diff(score).argmax()
    thresholds = [score[at : at + 2].mean(), 2.0]
    expected, exits = clf.predict_proba(X, threshold=thresholds, return_exits=True)
    assert 0 < exits.mean() < 2
    for i in range(20):
        assert same(clf.predict_proba(X[i : i + 1], threshold=thresholds), expected[i : i + 1])
    assert same(clf.predict(X, threshold=thresholds), clf.classes_[expected.argmax(axis=1)])
    clf.set_params(runtime="onnx")
    found, found_exits = clf.predict_proba(X, threshold=thresholds, return_exits=True)
    np.testing.assert_array_equal(found_exits, exits)
    np.testing.assert_allclose(found, expected, atol=5e-6)


WITHOUT_THE_PACKAGE = """
import sys
for name in ("torch", "sklearn", "skearlyexit", "scipy", "onnx"):
    sys.modules[name] = None  # an import of it fails
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession(sys.argv[1], options)
X = np.load(sys.argv[2])
labels, probabilities, exits = session.run(None, {"X": X})
assert probabilities.shape[0] == exits.shape[0] == len(X)
print(*labels)
"""


def test_the_file_runs_in_onnx_runtime_alone(folder):
    clf, _, X, path = exported("estimators", folder)
    np.save(folder / "X.npy", X)
    command = [sys.executable, "-c", WITHOUT_THE_PACKAGE, str(path), str(folder / "X.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    np.testing.assert_array_equal(done.stdout.split(), clf.predict(X))


def test_numbers_as_classes(folder):
    X, y, X_test, _ = blobs(n_classes=3)
    classes = np.array([-2, 5, 40])
    clf = quick(backbone=MLPBackbone(1, width=16, hidden=16), exits=["stem"])
    clf.fit(X, classes[y]).to_onnx(folder / "numbers.onnx")
    labels = OnnxCascade(folder / "numbers.onnx").predict(X_test)
    assert labels.dtype == clf.classes_.dtype
    np.testing.assert_array_equal(labels, clf.predict(X_test))


def test_a_budget_without_calibration_is_refused(folder):
    X, y, X_test, _ = blobs()
    clf = quick(backbone=MLPBackbone(0, width=16), exits=1, calibration=None).fit(X, y)
    clf.frontier_ = None  # as after partial_fit
    clf.to_onnx(folder / "never.onnx")
    with pytest.raises(ValueError, match="A budget needs calibration samples"):
        OnnxCascade(folder / "never.onnx").predict(X_test, budget=0.5)


class Root(nn.Module):
    """NaN for negative numbers."""

    def forward(self, rows):
        return rows.sqrt()


def test_bad_arguments(folder, monkeypatch, tmp_path):
    clf, cascade, X, path = exported("neural", folder)
    for bad in (X[:, :5], X[:0], X[0], X[0, 0]):
        with pytest.raises(ValueError, match=r"X must be of shape \(n_samples, 13\)"):
            cascade.predict(bad)
    with pytest.raises(ValueError, match="real numbers"):
        cascade.predict(X.astype(complex))
    with pytest.raises(ValueError, match=r"X must be dense.*toarray"):
        cascade.predict(csr_array(X))
    with pytest.raises(ValueError, match="At most one of"):
        cascade.predict(X, threshold=0.5, budget=0.5)
    with pytest.raises(ValueError, match="'threshold' parameter must be a number or 2"):
        cascade.predict(X, threshold=[0.5])
    with pytest.raises(ValueError, match="strict budget"):
        cascade.predict(X, budget=Budget(0.6, strict=True))
    with pytest.raises(ValueError, match="strict budget"):
        clf.to_onnx(tmp_path / "strict.onnx", budget=Budget(0.6, strict=True))
    for n_threads in (0, 1.5, True):
        with pytest.raises(ValueError, match="'n_threads' must be"):
            OnnxCascade(path, n_threads=n_threads)
    with pytest.raises(FileNotFoundError, match="existing folder"):
        clf.to_onnx(tmp_path / "missing" / "cascade.onnx")
    with pytest.raises(FileNotFoundError, match="existing folder"):
        clf.to_onnx(f"{tmp_path}/new/")
    with pytest.raises(ValueError, match="'single_sample' must be True or False; got 'no'"):
        clf.to_onnx(tmp_path / "single.onnx", single_sample="no")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"skearlyexit\[onnx\]"):
        clf.to_onnx(tmp_path / "missing.onnx")
    assert not list(tmp_path.iterdir())


def test_files_of_others_are_refused(tmp_path):
    onnx = _graph.import_onnx()
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    values = [helper.make_tensor_value_info(name, kind, [1]) for name in "ab"]
    graph = helper.make_graph([helper.make_node("Abs", ["a"], ["b"])], "other", *zip(values))
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="was not written by"):
        OnnxCascade(tmp_path / "other.onnx")


def test_a_classifier_that_is_not_fitted_cannot_be_exported(tmp_path):
    with pytest.raises(Exception, match="not fitted"):
        EarlyExitClassifier().to_onnx(tmp_path / "none.onnx")


def test_threads_that_begin_at_once_compile_once(monkeypatch):
    clf, X = fitted("neural")
    clf = copy.deepcopy(clf).set_params(runtime="onnx")
    compile_, calls = _onnx_session.compiled, []
    monkeypatch.setattr(_onnx_session, "compiled", lambda *args: calls.append(0) or compile_(*args))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(clf.predict, [X] * 3))
    assert len(calls) == 1
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("name", ["estimators", "neural"])
def test_a_score_that_equals_a_threshold_exits(name, folder):
    # Calibrated thresholds are scores of samples, and many samples have the same leaf of a tree.
    clf, cascade, X, _ = exported(name, folder)
    table = clf.exit_table(X)
    for row in range(0, 150, 10):
        thresholds = table.scores[row, :-1]
        exits = cascade.predict(X, threshold=thresholds, return_exits=True)[1]
        np.testing.assert_array_equal(exits, table.exits(thresholds))


def test_no_sample_exits_at_a_threshold_just_above_1(folder):
    clf, cascade, X, _ = exported("estimators", folder)
    assert clf.exit_table(X).scores[:, 1].max() == 1
    above = np.nextafter(1.0, 2.0)
    _, exits = cascade.predict(X, threshold=above, return_exits=True)
    assert (exits == 2).all()
    row = clf.exit_table(X).scores[:, 1].argmax()
    single = copy.deepcopy(clf).set_params(runtime="onnx")
    for threshold, expected in ((above, 2), ([np.inf, 1.0], 1)):
        predictor = single.to_predictor(threshold=threshold)
        assert predictor.predict(X[row : row + 1], return_exits=True)[1] == expected
