"""Probabilities add up to 1 as others ask for it, and are a row's own."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.naive_bayes import GaussianNB

from skearlyexit.combination._registry import COMBINATIONS
from skearlyexit.heads._base import PooledModule
from skearlyexit.heads._neural import NeuralExit
from tests._data import blobs, quick, same
from tests._estimators import OnlyIndices

X, y, X_TEST, Y_TEST = blobs()

VARIANTS = {
    **{f"combine={name}": {"combine": name} for name in COMBINATIONS if name != "trained"},
    "temperature": {"temperature_scaling": True},
    "gated": {"training": "gated"},
    "combiner": {"training": "combiner"},
    "combined": {"training": "combined", "policy": "learned"},
    "float64": {"dtype": "float64"},
    "scikit-learn": {"head": ["mlp", GaussianNB(), OnlyIndices()], "combine": "mean"},
}


@pytest.mark.parametrize("params", VARIANTS.values(), ids=VARIANTS)
def test_sums(params):
    clf = quick(**params, max_epochs=2, calibration=0.4).fit(X, y)
    table = clf.exit_table(X_TEST)
    thresholds = np.median(table.scores[:, :-1], axis=0)
    found = {
        "exit_table": table.probabilities,
        "predict_proba": clf.predict_proba(X_TEST, threshold=thresholds),
        "staged": np.stack(list(clf.staged_predict_proba(X_TEST)), axis=1),
    }
    for name, probabilities in found.items():
        assert np.abs(probabilities.sum(axis=-1) - 1).max() < 1e-12, name
    # As exact as they are, they stay a row's own, and those of the table.
    answers, exits = clf.predict_proba(X_TEST, threshold=thresholds, return_exits=True)
    assert same(answers, table.probabilities[np.arange(len(exits)), exits])
    some = np.random.RandomState(0).permutation(len(X_TEST))[:37]
    assert same(clf.predict_proba(X_TEST[some], threshold=thresholds), answers[some])


def test_what_others_ask_of_them():
    clf = quick(max_epochs=2).fit(X, y)
    probabilities = clf.predict_proba(X_TEST)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_loss(Y_TEST, probabilities)
    rng = np.random.default_rng(0)
    for row in probabilities:
        assert rng.choice(4, p=row) in range(4)


@pytest.mark.parametrize("asked", [{}, {"budget": 0.8}, {"threshold": [0.4, 0.6]}], ids=str)
def test_logarithms(asked):
    """Heads that give labels only have probabilities of 0, and no warning is raised for them."""
    clf = quick(max_epochs=2, head=["mlp", OnlyIndices(), "mlp"]).fit(X, y)
    probabilities, exits = clf.predict_proba(X_TEST, return_exits=True, **asked)
    found, found_exits = clf.predict_log_proba(X_TEST, return_exits=True, **asked)
    with np.errstate(divide="ignore"):
        assert same(found, np.log(probabilities))
    assert same(found_exits, exits)
    assert same(clf.predict_log_proba(X_TEST, **asked), found)


def test_saturated_heads_are_told_apart():
    """Two confident answers differ where single precision would round both to 1."""
    logits = torch.tensor([[20.0, 0.0], [25.0, 0.0], [0.0, float("-inf")]])
    module = PooledModule(torch.nn.Identity(), torch.nn.Identity())
    found = NeuralExit(module, module.pooling).predict_proba(logits)
    np.testing.assert_allclose(found[:2, 1], [np.exp(-20.0), np.exp(-25.0)], rtol=1e-6)
    assert found[0, 0] < found[1, 0] < 1
    assert np.array_equal(found[2], [1.0, 0.0])
