"""Conversions to ONNX are compared with torch and scikit-learn, or refused."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from skearlyexit import (
    LearnedConfidencePolicy,
    MeanCombination,
    OwnCombination,
)
from skearlyexit._onnx._convert import from_classifier
from skearlyexit._onnx._graph import ExportError
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
    with pytest.raises(ExportError, match=r"Halved cannot be converted .* runtime='torch'"):
        clf.fit(X, y)
    assert not hasattr(clf, "history_")


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
        ({"backbone": Squeezed, "exits": 1, "calibration": None}, "Stage 0 .* a batch of 1"),
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


def test_a_classifier_whose_conversion_is_right_for_zeros_only_is_refused():
    X, y, _, _ = blobs()
    model = LogisticRegression().fit(X, y)
    predict = model.predict_proba
    model.predict_proba = lambda vectors: predict(np.maximum(vectors, 0.0))
    with pytest.raises(ExportError, match=r"LogisticRegression was converted .* differ"):
        from_classifier(model, X[:10].astype(np.float32), "LogisticRegression")


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
