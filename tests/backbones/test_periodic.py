"""Periodic functions of few features."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from skearlyexit import EarlyExitClassifier, MLPBackbone
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit.backbones._mlp import PeriodicFeatures


def stem_of(X, **params):
    with isolated_random_state(0):
        return MLPBackbone(0, width=16, **params).build(X, 2).blocks[0].eval()


def rows_of(n_samples, n_features):
    return np.random.default_rng(0).normal(size=(n_samples, n_features)).astype(np.float32)


def test_values():
    with isolated_random_state(0):
        layer = PeriodicFeatures(3, 4, 0.5).double()
    x = rows_of(5, 3).astype(np.float64)
    w, b = layer.frequency.detach().numpy(), layer.shift.detach().numpy()
    waves = [np.cos(2 * np.pi * (x[:, [j]] * w[j] + b[j])) for j in range(3)]
    found = layer(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(found, np.hstack([x, *waves]), rtol=1e-12)


@pytest.mark.parametrize(
    ("n_features", "given", "expected"),
    [
        (2, "auto", 16),
        (8, "auto", 16),
        (10, "auto", 12),
        (12, "auto", 10),
        (13, "auto", 0),
        (13, 3, 3),
        (2, 0, 0),
    ],
)
def test_number(n_features, given, expected):
    stem = stem_of(rows_of(20, n_features), n_frequencies=given)
    found = [each for each in stem.modules() if isinstance(each, PeriodicFeatures)]
    assert [tuple(each.frequency.shape) for each in found] == [(n_features, expected)] * len(found)
    assert bool(found) == bool(expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 70), st.data())
def test_a_sample_does_not_depend_on_the_batch(n_features, n_samples, data):
    stem, X = stem_of(rows_of(40, n_features)), torch.tensor(rows_of(80, n_features))
    order = torch.tensor(data.draw(st.permutations(range(80)))[:n_samples])
    padded = torch.cat([X[order], X[:1].expand(-n_samples % 16, -1)])
    with torch.inference_mode():
        assert torch.equal(stem(padded)[:n_samples], stem(X)[order])


def test_first_exit_is_not_linear():
    """A wave of one feature, of which a linear head learns next to nothing."""
    X = np.random.default_rng(0).uniform(-1, 1, size=(600, 2)).astype(np.float32)
    y = np.sin(6 * X[:, 0]) > 0
    score = {}
    for number in ("auto", 0):
        clf = EarlyExitClassifier(
            MLPBackbone(1, n_frequencies=number),
            exits=["stem"],
            calibration=None,
            max_epochs=30,
            random_state=0,
        ).fit(X[:400], y[:400])
        score[number] = clf.score(X[400:], y[400:], threshold=0)
    assert score["auto"] > 0.9 > 0.8 > score[0]


def test_frequency_scale_is_that_of_the_initial_frequencies():
    X = rows_of(20, 8)
    small, large = (stem_of(X, frequency_scale=scale) for scale in (0.1, 1.0))
    with torch.no_grad():
        first, second = (
            next(each for each in stem.modules() if isinstance(each, PeriodicFeatures)).frequency
            for stem in (small, large)
        )
        torch.testing.assert_close(10 * first, second)
