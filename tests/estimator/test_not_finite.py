"""Outputs that are NaN or infinite are an error that says whose, and never a label."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from torch import nn

from skearlyexit import EarlyExitClassifier, MLPBackbone
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._exit_table import Outputs
from skearlyexit.combination import MeanCombination, OwnCombination
from skearlyexit.policies import ConfidencePolicy
from tests._data import blobs, make, quick, same
from tests._estimators import OfOutputs

X, y, X_TEST, Y_TEST = blobs()
HUGE = 3.4e38


class Fails(nn.Module):
    """Divides by zero for samples of which a feature is large."""

    def forward(self, rows):
        return rows / (rows.abs().amax(1, keepdim=True) < 1e6)


def network(last):
    return make(
        lambda: [nn.Linear(13, 16), nn.ReLU(), last, nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)]
    )


def with_bad(rows, positions, value=1e9):
    rows = rows.copy()
    rows[positions] = value
    return rows


@pytest.fixture(scope="module")
def clf():
    """Three exits, of which the first answers samples for which the others have no answer."""
    return quick(backbone=network(Fails()), exits=[1, 3], max_epochs=3).fit(X, y)


BAD = with_bad(X_TEST, [7, 30, 399])
SAYS = r"outputs of exit [12] are NaN or negative for 3 samples, the first of them X\[7\]\."


@pytest.mark.parametrize(
    "ask",
    [
        lambda clf: clf.predict(BAD, threshold=np.inf),
        lambda clf: clf.predict_proba(BAD, threshold=np.inf),
        lambda clf: clf.score(BAD, Y_TEST, threshold=np.inf),
        lambda clf: list(clf.staged_predict(BAD)),
        lambda clf: list(clf.staged_predict_proba(BAD)),
        lambda clf: clf.exit_table(BAD),
        lambda clf: clf.exit_report(BAD, Y_TEST),
        lambda clf: clf.calibrate(BAD, Y_TEST),
        lambda clf: clf.partial_calibrate(BAD),
    ],
)
def test_every_method_says_which(clf, ask):
    before = clf.predict_proba(X_TEST), clf.thresholds_
    with pytest.raises(ValueError, match=SAYS):
        ask(clf)
    assert same(clf.predict_proba(X_TEST), before[0])
    assert clf.thresholds_ is before[1]


def test_embeddings(clf):
    assert np.isfinite(clf.embed(BAD, 0)).all()
    with pytest.raises(ValueError, match=r"embeddings of exit 1 are .* 3 samples.*X\[7\]"):
        clf.embed(BAD, 1)


def test_samples_that_exit_before_have_an_answer(clf):
    labels, exits = clf.predict(BAD, threshold=[0, 0], return_exits=True)
    assert np.array_equal(exits, np.zeros(400))
    # The three are very confident at the first exit, and leave there; others go on.
    labels, exits = clf.predict(BAD, threshold=0.99, return_exits=True)
    assert np.array_equal(exits[[7, 30, 399]], [0, 0, 0])
    assert exits.max() == 2
    others = np.setdiff1d(np.arange(400), [7, 30, 399])
    assert same(labels[others], clf.predict(X_TEST, threshold=0.99)[others])


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_a_sample_alone(clf, method):
    alone, says = BAD[7:8], r"exit [12] are NaN or negative for 1 sample, X\[0\]"
    with pytest.raises(ValueError, match=says):
        getattr(clf, method)(alone, threshold=np.inf)
    with pytest.raises(ValueError, match=says):
        getattr(clf.to_predictor(threshold=np.inf), method)(alone)
    assert getattr(clf, method)(alone, threshold=0, return_exits=True)[1] == 0


def test_all_slabs_are_counted(clf):
    rows = np.repeat(X_TEST, 100, axis=0)
    rows[[20_000, 39_000]] = 1e9
    with pytest.raises(ValueError, match=r"for 2 samples, the first of them X\[20000\]"):
        clf.predict(rows, threshold=np.inf)


def test_an_overflow():
    clf = quick(max_epochs=2).fit(X, y)
    rows = X_TEST.copy()
    rows[3] = -HUGE
    with pytest.raises(ValueError, match=r"exit \d are .* for 1 sample, X\[3\]\. Check"):
        clf.predict(rows)


@pytest.mark.parametrize(
    ("head", "policy"),
    [
        (LogisticRegression(max_iter=300), None),
        (HistGradientBoostingClassifier(max_iter=2), None),  # takes NaN for a missing value
        (GaussianNB(), "learned"),
        (["linear", GaussianNB(), "mlp"], "patience"),
    ],
    ids=str,
)
def test_scikit_learn_heads(head, policy):
    clf = quick(
        backbone=network(Fails()),
        exits=[1, 3],
        max_epochs=2,
        head=head,
        policy=policy,
        cost="bytes",
    ).fit(X, y)
    with pytest.raises(ValueError, match=SAYS):
        clf.predict(BAD, threshold=np.inf)
    first = clf.predict(BAD, threshold=[0, 0])
    others = np.setdiff1d(np.arange(400), [7, 30, 399])
    assert same(first[others], next(clf.staged_predict(X_TEST))[others])


def large_to(value, X, k):
    found = np.full((len(X), k), 1 / k)
    found[np.abs(X).max(axis=1) > 1e6] = value
    return found


@pytest.mark.parametrize(
    "function",
    [
        lambda X, k: large_to(np.nan, X, k),
        lambda X, k: large_to(-1.0, X, k),
        lambda X, k: large_to(0.0, X, k),
        lambda X, k: large_to(np.inf, X, k),
    ],
    ids=["nan", "negative", "zero", "infinite"],
)
def test_heads_that_return_no_probabilities(function):
    backbone = MLPBackbone(3, width=32, hidden=32, smooth_clip=None)
    clf = quick(backbone=backbone, head=OfOutputs(function), max_epochs=1, calibration=None).fit(
        X, y
    )
    with pytest.raises(ValueError, match=r"exit \d are NaN.*2 samples.*X\[5\]"):
        clf.predict(with_bad(X_TEST, [5, 6]))


class NanAt(ConfidencePolicy):
    """Has no score for answers that are not confident."""

    def step(self, state, probabilities, exit_=0):
        score, state = super().step(state, probabilities, exit_)
        return np.where(score < 0.4, np.nan, score), state


class NanMean(MeanCombination):
    def step(self, state, probabilities, exit_=0):
        answer, state = super().step(state, probabilities, exit_)
        answer[answer.max(axis=1) < 0.4] = np.nan
        return answer, state


def test_policies_and_combinations():
    for part, words in (
        (ExitRule(None, OwnCombination(), NanAt()), "scores of NanAt"),
        (ExitRule(None, NanMean(), ConfidencePolicy()), "probabilities of NanMean"),
    ):
        outputs = np.tile([0.7, 0.1, 0.1, 0.1], (20, 2, 1))
        part.tabulate(Outputs(outputs))
        outputs[[8, 11]] = 0.25
        with pytest.raises(ValueError, match=rf"{words} are NaN.*2 samples.*X\[8\]"):
            part.tabulate(Outputs(outputs))


class TestInFit:
    @pytest.mark.parametrize("head", ["linear", GaussianNB()])
    def test_held_out_samples_are_named_as_given(self, head):
        """By their place in the X of the user, also where samples of weight 0 are left out."""
        module = network(Fails())
        calibrating = [(np.arange(300), np.arange(300, 490))]

        class Splitter:
            def split(self, *args, **kwargs):
                return iter(calibrating)

            def get_n_splits(self, *args, **kwargs):
                return 1

        weight = np.ones(len(X))
        weight[:10] = 0
        rows = with_bad(X, [400, 450])
        clf = quick(backbone=module, exits=[1, 3], head=head, max_epochs=1, calibration=Splitter())
        with pytest.raises(ValueError, match=r"exit 1 .* 2 samples.*X\[400\]\. Training may have"):
            clf.fit(rows, y, sample_weight=weight)
        assert not hasattr(clf, "classes_")

    def test_scores_of_a_policy(self):
        with pytest.raises(ValueError, match=r"scores of NanAt .* \d+ samples.*X\["):
            quick(policy=NanAt(), max_epochs=1).fit(X * 0.01, y)


class TestDivergence:
    @pytest.mark.parametrize("calibration", [None, 0.3])
    @pytest.mark.parametrize("lr", [1e6, 1e12])
    def test_a_learning_rate_that_is_too_high(self, lr, calibration):
        deep = MLPBackbone(12, width=32, hidden=32)
        for params in ({"max_epochs": 1, "batch_size": 500}, {"max_epochs": 4}):
            clf = quick(backbone=deep, lr=lr, calibration=calibration, lr_schedule="constant")
            clf.set_params(**params)
            with pytest.raises(ValueError, match=r"(diverged.*[Ll]ower lr)"):
                clf.fit(X, y)

    def test_partial_fit(self):
        deep = MLPBackbone(12, width=32, hidden=32)
        clf = EarlyExitClassifier(deep, calibration=None, random_state=0).partial_fit(
            X, y, classes=np.arange(4)
        )
        before = clf.predict_proba(X_TEST)
        with pytest.raises(ValueError, match=r"(diverged.*[Ll]ower lr)"):
            clf.set_params(lr=1e12).partial_fit(X, y)
        assert same(clf.predict_proba(X_TEST), before)

    def test_statistics_of_batch_normalization(self):
        class Overflows(nn.BatchNorm1d):
            def forward(self, rows):
                if self.training:
                    super().forward(rows.detach())
                    self.running_var.fill_(torch.inf)
                return rows

        module = make(lambda: [nn.Linear(13, 16), Overflows(16), nn.ReLU(), nn.Linear(16, 4)])
        with pytest.raises(ValueError, match="statistics of batch normalization are no longer"):
            quick(backbone=module, exits=[0]).fit(X, y)
