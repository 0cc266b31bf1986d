"""Policies, combinations and gates in the ONNX format, compared with those in NumPy."""

import copy
from functools import cache, partial

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeRegressor

from skearlyexit import (
    ChangePolicy,
    CostSensitivePolicy,
    EarlyExitRegressor,
    EntropyPolicy,
    LearnedConfidencePolicy,
    LearnedErrorPolicy,
    MarginPolicy,
    MLPBackbone,
    PatiencePolicy,
    ScheduledPolicy,
    TolerancePolicy,
)
from skearlyexit._exit_table import Outputs
from skearlyexit._onnx._graph import Graph, import_onnx
from skearlyexit.backbones import Block
from skearlyexit.combination import (
    CostWeightedCombination,
    GeometricCombination,
    MaxCombination,
    MeanCombination,
    MostConfidentCombination,
    OwnCombination,
    ProductCombination,
    TemperatureScaling,
    WeightedCombination,
)
from skearlyexit.combination._gated import GatedCombination
from skearlyexit.combination._recurrent import OutputReader, RecurrentCombination
from skearlyexit.experimental import ReinforcedPolicy
from skearlyexit.policies import ConfidencePolicy, GatePolicy
from skearlyexit.policies._constant import ConstantPolicy
from skearlyexit.runtime import OnnxCascade
from tests._data import blobs, make, quick

onnxruntime = pytest.importorskip("onnxruntime")

N_EXITS, N_CLASSES = 3, 5
COSTS = np.array([0.2, 0.5, 1.0])


def outputs(n_rows, seed, concentration):
    """Outputs of heads: certain ones, equal ones, and others."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(N_CLASSES, concentration), (n_rows, N_EXITS))
    probabilities[::5, 1:] = np.eye(N_CLASSES)[rng.integers(N_CLASSES, size=N_EXITS - 1)]
    probabilities[2::5, 1] = 1 / N_CLASSES
    return probabilities, rng.random((n_rows, N_EXITS))


def values(n_rows, seed, size):
    """Standardized values of several targets: some change from exit to exit, others do not."""
    rng = np.random.default_rng(seed)
    changes = rng.normal(size=(n_rows, N_EXITS, N_CLASSES))
    changes[:, 1:] *= size
    changes[::3, 1:] = 0
    return changes.cumsum(axis=1), rng.random((n_rows, N_EXITS))


@cache
def held_out():
    probabilities, _ = outputs(300, 0, 0.3)
    y = np.where(np.arange(300) % 3, probabilities[:, 2].argmax(axis=1), np.arange(300) % N_CLASSES)
    return probabilities, y


def learned(policy, seen=None):
    return policy.fit(*(seen or held_out()), costs=COSTS, sample_weight=np.ones(300), seed=0)


def always_right(policy):
    probabilities, _ = held_out()
    y = probabilities[:, 0].argmax(axis=1)
    probabilities = np.repeat(probabilities[:, :1], N_EXITS, axis=1)
    return policy.fit(probabilities, y, costs=COSTS, sample_weight=np.ones(300), seed=0)


def fitted(combination):
    return combination.fit(*held_out(), costs=COSTS, sample_weight=np.ones(300))


def reader():
    made = make(lambda: OutputReader(N_CLASSES, 16))
    with torch.no_grad():
        made.correction.weight.normal_(generator=torch.Generator().manual_seed(0))
    return RecurrentCombination(made.eval())


POLICIES = {
    "confidence": ConfidencePolicy,
    "margin": MarginPolicy,
    "entropy": EntropyPolicy,
    "gate": GatePolicy,
    "patience 1": PatiencePolicy,
    "patience 3": partial(PatiencePolicy, 3),
    "learned": lambda: learned(LearnedConfidencePolicy()),
    "learned, sorted": lambda: learned(
        LearnedConfidencePolicy(GaussianNB(), features="probabilities")
    ),
    "learned, always right": lambda: always_right(LearnedConfidencePolicy()),
    "cost-sensitive": lambda: learned(
        CostSensitivePolicy(RandomForestClassifier(5, max_depth=3, random_state=0))
    ),
    "scheduled": lambda: learned(ScheduledPolicy(max_iter=20)),
    "reinforced": lambda: learned(ReinforcedPolicy(features="probabilities", max_iter=20)),
}
POLICIES_OF_VALUES = {
    "change": partial(ChangePolicy, 0.3),
    "tolerance": partial(TolerancePolicy, 2, tolerance=0.4),
    "constant": ConstantPolicy,
    "learned error": lambda: learned(LearnedErrorPolicy(), values(300, 0, 0.3)),
    "learned error, tree": lambda: learned(
        LearnedErrorPolicy(DecisionTreeRegressor(max_depth=6)), values(300, 0, 0.3)
    ),
}
COMBINATIONS = {
    "own": OwnCombination,
    "mean": MeanCombination,
    "cost-weighted": lambda: fitted(CostWeightedCombination()),
    "max": MaxCombination,
    "most confident": MostConfidentCombination,
    "product": ProductCombination,
    "weighted": lambda: WeightedCombination([0.5, 2.0, 0.0]),
    "weighted, free": lambda: WeightedCombination([0.5, -1.0, 2.0], normalize=False),
    "geometric": lambda: fitted(GeometricCombination()),
    "gated": GatedCombination,
    "recurrent": reader,
}


def session_of(add):
    """Session of a graph whose inputs are the outputs of all heads and gates.

    `add(graph, probabilities, gates)` adds nodes to it, and returns the names of its outputs.
    """
    helper, kind = import_onnx().helper, import_onnx().TensorProto.DOUBLE
    names = [(f"p{i}", f"g{i}") for i in range(N_EXITS)]
    graph = Graph()
    found = add(graph, *zip(*names, strict=True))
    graph.nodes += [
        helper.make_node("Identity", [name], [f"out{i}"]) for i, name in enumerate(found)
    ]
    given = [helper.make_tensor_value_info(p, kind, ["n", N_CLASSES]) for p, _ in names]
    given += [helper.make_tensor_value_info(g, kind, ["n"]) for _, g in names]
    out = [helper.make_tensor_value_info(f"out{i}", kind, None) for i in range(len(found))]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "rule", given, out, graph.constants),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=9,
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def chain(part, n_exits, graph, probabilities, gates):
    """Outputs of a policy or a combination at the first exits."""
    state, found = None, []
    for exit_ in range(n_exits):
        name, state = part.onnx(graph, state, probabilities[exit_], exit_, gates[exit_])
        assert (state is not None) == part.has_memory
        found.append(name)
    return found


@cache
def policy_session(name):
    policy = (POLICIES | POLICIES_OF_VALUES)[name]()
    return policy, session_of(partial(chain, policy, N_EXITS - 1))  # the last one has no score


@cache
def combination_session(name):
    combination = COMBINATIONS[name]()
    return combination, session_of(partial(chain, combination, N_EXITS))


def run(session, probabilities, gates):
    given = {f"p{i}": probabilities[:, i] for i in range(N_EXITS)}
    given |= {f"g{i}": gates[:, i] for i in range(N_EXITS)}
    used = {each.name for each in session.get_inputs()}
    return np.stack(session.run(None, {k: v for k, v in given.items() if k in used}), axis=1)


heads_outputs = given(
    n_rows=st.integers(1, 20),
    seed=st.integers(0, 2**16),
    concentration=st.sampled_from([0.02, 0.3, 3.0]),
)


@pytest.mark.parametrize("name", [*POLICIES, *POLICIES_OF_VALUES])
@settings(max_examples=20, deadline=None)
@heads_outputs
@example(n_rows=5, seed=3981, concentration=0.02)  # a logit that is a knot but for rounding
def test_policies(name, n_rows, seed, concentration):
    policy, session = policy_session(name)
    draw = values if name in POLICIES_OF_VALUES else outputs
    probabilities, gates = draw(n_rows, seed, concentration)
    expected, state = [], None
    for exit_ in range(N_EXITS - 1):
        score, state = policy.judge(state, Outputs(probabilities, gates).at(exit_), exit_)
        expected.append(score)
    # Estimators compute in single precision.
    np.testing.assert_allclose(
        run(session, probabilities, gates), np.stack(expected, axis=1), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("name", COMBINATIONS)
@settings(max_examples=20, deadline=None)
@heads_outputs
def test_combinations(name, n_rows, seed, concentration):
    combination, session = combination_session(name)
    probabilities, gates = outputs(n_rows, seed, concentration)
    expected = combination.answers(probabilities, gates)
    np.testing.assert_allclose(run(session, probabilities, gates), expected, rtol=0, atol=1e-5)


def test_a_part_in_several_places_is_converted_once():
    """For a reader, that is seconds at each exit."""
    part, made = object(), []
    graph = Graph()
    for each in (graph, graph.branch(), graph, Graph()):
        assert each.once(part, lambda: made.append("model") or made[-1]) == "model"
    assert len(made) == 2
    # The conversion of a pooling depends on the shape of the map.
    shapes = [graph.once(part, lambda s=shape: s, shape) for shape in ((4, 4), (6, 6), (4, 4))]
    assert shapes == [(4, 4), (6, 6), (4, 4)]


def test_temperature_scaling():
    probabilities, gates = outputs(20, 0, 0.3)
    scaling = TemperatureScaling().fit(*held_out(), np.ones(300))
    session = session_of(
        lambda graph, names, _: [scaling.onnx(graph, name, i) for i, name in enumerate(names)]
    )
    expected = [scaling.step(probabilities[:, i], i) for i in range(N_EXITS)]
    found = run(session, probabilities, gates)
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-12)


WHOLE = {
    "mean, learned": {
        "combine": "mean",
        "policy": LearnedConfidencePolicy(),
        "temperature_scaling": True,
    },
    "gated": {"training": "gated", "policy": "gate", "combine": "trained"},
    "combiner, then patience": {
        "training": "combiner",
        "combine": "trained",
        "policy": PatiencePolicy(2),
    },
}


@cache
def whole(name, folder):
    X, y, X_test, _ = blobs()
    backbone = MLPBackbone(2, width=16, hidden=16)
    clf = quick(backbone=backbone, exits=["stem", "block1"], **WHOLE[name]).fit(X, y)
    clf.to_onnx(folder / "rule.onnx")
    return clf, OnnxCascade(folder / "rule.onnx", n_threads=1), X_test.astype(np.float32)


@pytest.mark.parametrize("name", WHOLE)
def test_classifiers(name, tmp_path_factory):
    clf, cascade, X = whole(name, tmp_path_factory.mktemp("onnx"))
    table = clf.exit_table(X)
    fast = copy.deepcopy(clf).set_params(runtime="onnx")
    low, median = np.quantile(table.scores[:, :-1], [0.2, 0.5], axis=0)
    for thresholds in (median + 1e-4, low + 1e-4, [np.inf, low[1] + 1e-4], [median[0], np.inf]):
        expected, exits = clf.predict_proba(X, threshold=thresholds, return_exits=True)
        found, found_exits = cascade.predict_proba(X, threshold=thresholds, return_exits=True)
        near = np.abs(table.scores[:, :-1] - thresholds).min(axis=1) < 1e-4
        np.testing.assert_array_equal(found_exits[~near], exits[~near])
        np.testing.assert_allclose(found[~near], expected[~near], atol=1e-5)
        predict_proba = fast.to_predictor(threshold=thresholds).predict_proba
        single = [predict_proba(X[i : i + 1], return_exits=True) for i in range(50)]
        alone, exits_alone = (np.concatenate(each) for each in zip(*single, strict=True))
        np.testing.assert_array_equal(exits_alone[~near[:50]], exits[:50][~near[:50]])
        np.testing.assert_allclose(alone[~near[:50]], expected[:50][~near[:50]], atol=1e-5)


class Roots(Block):
    """Its head gets NaN for negative numbers, while the next block gets the numbers themselves."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(13, 16)

    def forward(self, rows):
        return rows.abs(), self.linear(rows.sqrt())


@pytest.mark.parametrize(
    "model",
    [quick(), quick(policy="patience"), EarlyExitRegressor(max_epochs=2, random_state=0)],
    ids=["confidence", "patience", "regressor"],
)
def test_samples_without_an_answer_do_not_exit_later(model, tmp_path):
    X, y, X_test, _ = blobs()
    layers = make(lambda: [Roots(), torch.nn.Linear(13, 16), torch.nn.ReLU()])
    model.set_params(backbone=layers, exits=2, calibration=None)
    model.fit(abs(X), y).to_onnx(tmp_path / "roots.onnx")
    rows = abs(X_test[:9])
    rows[[2, 5], 3] = -1
    cascade = OnnxCascade(tmp_path / "roots.onnx")
    for threshold in (0.5, 1.0):
        for each in (model, cascade):
            with pytest.raises(ValueError, match=r"NaN .* 2 samples, the first of them X\[2\]"):
                each.predict(rows, threshold=threshold)
