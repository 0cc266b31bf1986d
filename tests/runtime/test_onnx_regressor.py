"""Regressors in ONNX Runtime: as a file, and as the runtime of a network."""

import copy

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.tree import DecisionTreeRegressor

from skearlyexit import MLPBackbone
from skearlyexit.runtime import OnnxCascade
from tests._values import check_values
from tests.estimator import test_regressor as regression
from tests.runtime.test_onnx import quiet

onnxruntime = pytest.importorskip("onnxruntime")


def units(y):
    """Targets in units whose standard deviations differ, and one of which is far from 0."""
    return y * [1.0, 1e6] + [0.0, 1e9]


@pytest.fixture(scope="module")
def of_two_targets(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "two.onnx"
    backbone = MLPBackbone(1, width=16, hidden=16)
    reg = regression.quick(backbone=backbone, exits=["stem"])
    reg.fit(regression.X, units(regression.TWO)).to_onnx(path, budget=0.97)
    return reg, OnnxCascade(path, n_threads=1), path


def test_values_are_those_of_the_regressor_in_the_units_of_y(of_two_targets):
    reg, cascade, path = of_two_targets
    check_values(reg, cascade.predict, regression.X_NEW)
    budget = reg.predict(regression.X_NEW, budget=0.97)
    std = budget.std(axis=0)
    np.testing.assert_allclose(cascade.predict(regression.X_NEW) / std, budget / std, atol=1e-5)
    session = onnxruntime.InferenceSession(str(path), quiet())
    X = regression.X_NEW.astype(np.float32)
    predictions, exits = session.run(["predictions", "exits"], {"X": X})
    np.testing.assert_allclose(predictions / std, budget / std, atol=1e-5)
    assert exits.shape == (len(X),)
    # All samples in a leaf of the tree from which the policy is learned have the same score.
    scores = reg.exit_table(regression.X_NEW).scores
    for threshold in np.unique(scores[:, 0])[:10]:
        found = cascade.predict(X, threshold=threshold, return_exits=True)[1]
        np.testing.assert_array_equal(found == 0, scores[:, 0] >= threshold)


def test_a_file_for_single_samples(of_two_targets, tmp_path):
    reg, cascade, _ = of_two_targets
    reg.to_onnx(tmp_path / "single.onnx", budget=0.97, single_sample=True)
    X = regression.X_NEW[:20]
    single, exits = OnnxCascade(tmp_path / "single.onnx").predict(X, return_exits=True)
    expected, expected_exits = cascade.predict(X, return_exits=True)
    np.testing.assert_array_equal(exits, expected_exits)
    np.testing.assert_allclose(single, expected, rtol=1e-6)


def test_the_file_of_a_regressor_has_no_classes(of_two_targets):
    _, cascade, _ = of_two_targets
    with pytest.raises(AttributeError, match="of a regressor, which has no classes"):
        cascade.predict_proba(regression.X_NEW)


def test_as_the_runtime_of_a_regressor():
    """The first head is a tree, which has the same value for many samples."""
    reg = regression.quick(
        backbone=MLPBackbone(1, width=16, hidden=16),
        exits=["stem"],
        head=[DecisionTreeRegressor(max_depth=5), Ridge()],
        combine="mean",
    ).fit(regression.X, regression.Y)
    fast = copy.deepcopy(reg).set_params(runtime="onnx")
    check_values(reg, fast.predict, regression.X_NEW)
    found, exits = fast.to_predictor(threshold=0.6).predict(regression.X_NEW, return_exits=True)
    expected = fast.predict(regression.X_NEW, threshold=0.6, return_exits=True)
    np.testing.assert_array_equal(found, expected[0])
    np.testing.assert_array_equal(exits, expected[1])
    assert not copy.deepcopy(fast).cascade_.compiled
