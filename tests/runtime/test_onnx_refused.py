"""Conversions to ONNX are compared with torch and scikit-learn, or refused."""

import os

import numpy as np
import pytest
import torch
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from skearlyexit import (
    ChangePolicy,
    EarlyExitRegressor,
    LearnedConfidencePolicy,
    MeanCombination,
    OwnCombination,
)
from skearlyexit._data._targets import Targets
from skearlyexit._determinism._regressor import BatchInvariantRegressor
from skearlyexit._onnx._convert import from_module
from skearlyexit._onnx._estimators import from_estimator
from skearlyexit._onnx._graph import ExportError, Graph, check_converts
from skearlyexit.heads import FittedHead
from skearlyexit.heads._neural import NeuralRegression
from skearlyexit.policies import ConfidencePolicy
from skearlyexit.runtime import OnnxCascade
from tests._data import blobs, make, quick

pytest.importorskip("onnxruntime")


class Halved(ConfidencePolicy):
    def step(self, state, probabilities, exit_=0):
        score, state = super().step(state, probabilities, exit_)
        return score / 2, state


def test_a_runtime_is_refused_before_training():
    X, y, _, _ = blobs()
    clf = quick(policy=Halved(), runtime="onnx")
    with pytest.raises(ExportError, match=r"Halved cannot be converted .* the default runtime"):
        clf.fit(X, y)
    assert not hasattr(clf, "history_")


class Doubled(ChangePolicy):
    def step(self, state, probabilities, exit_=0):
        score, state = super().step(state, probabilities, exit_)
        return score**2, state


def test_a_runtime_of_a_regressor_is_refused_before_training(untrained):
    X, y, _, _ = blobs()
    with pytest.raises(ExportError, match=r"Doubled cannot be converted"):
        EarlyExitRegressor(policy=Doubled(), runtime="onnx", random_state=0).fit(X, y)


class Judging(ConfidencePolicy):
    def judge(self, state, answer, exit_):
        score, state = super().judge(state, answer, exit_)
        return score / 2, state


class Reversed(OwnCombination):
    def combine(self, state, output, exit_):
        return output.probabilities[:, ::-1], state


class Shifted(MeanCombination):
    def step(self, state, probabilities, exit_=0):
        return super().step(state, np.roll(probabilities, 1, axis=1), exit_)


class Unknown(LogisticRegression):
    """skl2onnx does not know the class."""


class Squeezed(nn.Module):
    """For a single sample, the axis of the samples is lost."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(13, 16)

    def forward(self, rows):
        return self.linear(rows.squeeze())


class OfPairs(nn.Module):
    """The number of samples decides what is computed."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(13, 16)

    def forward(self, rows):
        return torch.cat([self.linear(part) for part in rows.split(2)])


class Series(nn.Module):
    """A convolution, which ONNX Runtime implements in single precision only."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(1, 16, 13)

    def forward(self, rows):
        return self.convolution(rows.unsqueeze(1)).flatten(1)


class LargeOnly(nn.Module):
    """ONNX Runtime computes the logarithm of 0 for numbers below about -17."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(13, 16)

    def forward(self, rows):
        return self.linear(nn.functional.logsigmoid(rows))


class OtherwiseExported(nn.Module):
    """What is exported is the same for zeros only."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(13, 16)

    def forward(self, rows):
        return self.linear(rows.relu() if torch.compiler.is_compiling() else rows)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"policy": Halved()}, "Halved cannot be converted"),
        ({"combine": Shifted()}, "Shifted cannot be converted"),
        (
            {"policy": LearnedConfidencePolicy(KNeighborsClassifier(weights="distance"))},
            "KNeighborsClassifier of LearnedConfidencePolicy was converted .* differ",
        ),
        ({"head": DecisionTreeClassifier(max_depth=2), "policy": Halved()}, "Halved"),
        ({"policy": Judging()}, "Judging cannot be converted"),
        ({"combine": Reversed()}, "Reversed cannot be converted"),
        ({"head": Unknown()}, "The head Unknown cannot be converted"),
        # skl2onnx ignores the weights.
        (
            {"head": KNeighborsClassifier(weights="distance")},
            "The head KNeighborsClassifier was converted .* random samples differ",
        ),
        ({"backbone": OfPairs, "exits": 1, "calibration": None}, "Stage 0 cannot be converted"),
        (
            {"backbone": Series, "exits": 1, "calibration": None, "dtype": "float64"},
            "Stage 0 was converted .* cannot run it.* in single precision only .*Conv",
        ),
        (
            {"backbone": LargeOnly, "exits": 1, "calibration": None},
            "Stage 0 was converted .* numbers 30 times as large differ .* logarithm of a sigmoid",
        ),
        (
            {"backbone": OtherwiseExported, "exits": 1, "calibration": None},
            "Stage 0 was converted .* random samples differ",
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else str(next(iter(value))),
)
def test_what_cannot_be_converted_is_refused(params, message, tmp_path):
    X, y, _, _ = blobs()
    if "backbone" in params:
        first = params["backbone"]
        network = make(lambda: nn.Sequential(first(), nn.ReLU(), nn.Linear(16, 4)))
        params = {**params, "backbone": network}
    clf = quick(**params).fit(X, y)
    path = tmp_path / "cascade.onnx"
    path.write_text("kept")
    with pytest.raises(ExportError, match=message):
        clf.to_onnx(path)
    assert path.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [path]


def test_a_module_that_fails_for_a_single_sample_is_refused():
    with pytest.raises(ExportError, match=r"A stage .* a batch of 1"):
        from_module(make(Squeezed).eval(), torch.linspace(-1, 1, 52).reshape(4, 13), "A stage")


def test_a_classifier_whose_conversion_is_right_for_zeros_only_is_refused():
    X, y, _, _ = blobs()
    model = LogisticRegression().fit(X, y)
    predict = model.predict_proba
    model.predict_proba = lambda vectors: predict(np.maximum(vectors, 0.0))
    with pytest.raises(ExportError, match=r"LogisticRegression was converted .* differ"):
        from_estimator(model, "predict_proba", X[:10].astype(np.float32), "LogisticRegression")


@pytest.mark.parametrize(
    ("model", "shift", "message"),
    [
        (TransformedTargetRegressor(Ridge()), 0.0, "It cannot be converted to ONNX"),
        # skl2onnx ignores the weights, and the link.
        (KNeighborsRegressor(weights="distance"), 0.0, "It was converted .* differ from those"),
        (
            HistGradientBoostingRegressor(loss="poisson", max_iter=5, random_state=0),
            0.0,
            "It was converted",
        ),
        # What distinguishes the samples is less than single precision can hold.
        (Ridge(), 1e9, "in single precision, but its predictions for 1 random samples differ"),
    ],
)
def test_regressors_that_are_refused(model, shift, message):
    X, y, _, _ = blobs()
    y = y + shift
    model.fit(X, y)
    for targets in (Targets.of(y), Targets.exact(y)):
        with pytest.raises(ExportError, match=message):
            BatchInvariantRegressor(model, targets).onnx(Graph(), "vectors", X[:10], "It")


def test_classes_that_onnx_cannot_store(tmp_path):
    X, y, _, _ = blobs()
    dates = np.array(["2020-01-01", "2021-01-01", "2022-01-01", "2023-01-01"], "datetime64[D]")
    clf = quick(exits=1, calibration=None).fit(X, dates[y])
    with pytest.raises(ExportError, match=r"datetime64\[D\] cannot be stored"):
        clf.to_onnx(tmp_path / "dates.onnx")


def test_only_files_are_replaced(tmp_path):
    X, y, _, _ = blobs()
    clf = quick(exits=1, calibration=None).fit(X, y)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(FileNotFoundError, match="'path' must be that of a file"):
            clf.to_onnx(path)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


class Halving(NeuralRegression):
    """Head whose conversion is not its own."""

    def outputs(self, vectors):
        return super().outputs(vectors) / 2


def test_the_conversion_of_a_base_class_is_not_that_of_a_derived_head():
    with pytest.raises(ExportError, match="Halving cannot be converted"):
        check_converts(Halving(None, None), ["predict_proba", "outputs"], FittedHead)


class Indices(nn.Module):
    """A table of vectors, by indices below 3."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(3, 16)

    def forward(self, rows):
        return self.table(rows.long()).mean(dim=1)


def test_networks_that_do_not_take_all_numbers(tmp_path):
    X, y, X_test, _ = (each % 3 for each in blobs())
    X, X_test = X.astype(int).astype(float), X_test.astype(int).astype(float)
    network = make(lambda: nn.Sequential(Indices(), nn.ReLU(), nn.Linear(16, 3)))
    clf = quick(backbone=network, exits=1, calibration=None).fit(X, y)
    clf.to_onnx(tmp_path / "indices.onnx")
    found = OnnxCascade(tmp_path / "indices.onnx").predict_proba(X_test)
    np.testing.assert_allclose(found, clf.predict_proba(X_test), atol=5e-6)
