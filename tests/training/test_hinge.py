"""Training of classifiers with the squared hinge loss, against formulas by hand."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.preprocessing import LabelBinarizer

from skearlyexit.experimental import BottleneckTraining, ReinforcedTraining, TargetTraining
from skearlyexit.training import DistillationTraining, GatedTraining, JointTraining
from skearlyexit.training._criterion import SquaredHinge
from skearlyexit.training._distillation import DistillationLoss
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._registry import STRATEGIES
from tests._data import blobs, quick, same
from tests._tiny import LOGITS, WEIGHT, C, K, Y, target, tensors

X, y, X_TEST, Y_TEST = blobs()
MARGINS = LOGITS / 3
#: Strategies that learn from probabilities, and what the error says of them.
REFUSED = {
    "combined": ("combined", "combine predicted probabilities"),
    "combiner": ("combiner", "correct predicted probabilities"),
    "gated": (GatedTraining(), "log loss of a mixture"),
    "reach": (JointTraining("reach"), "weights samples by predicted probabilities"),
    "temperature": (DistillationTraining(temperature=2.0), "margins have no temperature"),
    "bottleneck": (BottleneckTraining(), "cross-entropy of the head"),
}
WORKING = {name: name for name in STRATEGIES if name not in REFUSED} | {
    "reinforced": ReinforcedTraining(),
    "target": TargetTraining(),
    "discriminators": BottleneckTraining(information="discriminators"),
}


def by_hand(margins, weight, smoothing=0.0):
    """One binary problem for each class, with the sign of each label."""
    signs = LabelBinarizer(neg_label=-1).fit(range(C)).transform(Y)
    right, wrong = (np.maximum(0, 1 - sign * margins) ** 2 for sign in (signs, -signs))
    # A share of the samples is relabeled at random.
    flipped = np.where(signs > 0, smoothing * (C - 1) / C, smoothing / C)
    losses = ((1 - flipped) * right + flipped * wrong).sum(axis=2)
    return (losses * weight).mean(axis=1)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_loss_by_hand(smoothing):
    loss = ExitLoss([0.3, 0.0, 1.0])
    loss.criterion = SquaredHinge(smoothing)
    margins = [torch.tensor(each, requires_grad=True) for each in MARGINS]
    expected = by_hand(MARGINS, WEIGHT, smoothing) @ [0.3, 0.0, 1.0]
    assert loss(margins, target(weighted=True)).item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda *each: loss(each, target()), margins)
    plain = by_hand(MARGINS, 1.0) @ [0.3, 0.0, 1.0]
    assert loss.eval()(margins, target()).item() == pytest.approx(plain, rel=1e-12)


def test_the_best_margin_tells_the_probability():
    """In expectation, the loss is lowest at twice the probability of the class minus 1."""
    labels = torch.tensor([0] * 7 + [1] * 3)
    margins = torch.tensor([[0.4, -0.4]], dtype=torch.float64, requires_grad=True)
    SquaredHinge().losses(margins.expand(10, 2), labels, training=True).mean().backward()
    np.testing.assert_allclose(margins.grad, 0, atol=1e-15)


def test_distillation_by_hand():
    loss = DistillationLoss([1.0] * K, "last", alpha=0.7, temperature=1.0)
    loss.criterion = SquaredHinge()
    differences = ((LOGITS[:-1] - LOGITS[-1]) ** 2).sum(axis=2).mean(axis=1)
    expected = by_hand(LOGITS, 1.0).sum() + 0.7 * differences.sum()
    logits = tensors(requires_grad=True)
    found = loss(logits, target())
    assert found.item() == pytest.approx(expected, rel=1e-12)
    found.backward()
    alone = tensors(requires_grad=True)
    plain = ExitLoss([1.0] * K)
    plain.criterion = SquaredHinge()
    plain(alone, target()).backward()
    assert torch.equal(logits[-1].grad, alone[-1].grad)  # the teacher does not learn from it


@pytest.mark.parametrize("strategy", WORKING)
def test_strategies_learn(strategy):
    params = {"loss": "squared_hinge", "training": WORKING[strategy], "calibration": None}
    clf = quick(**params, max_epochs=12).fit(X, y)
    assert clf.score(X_TEST, Y_TEST) > 0.5  # of four classes


@pytest.mark.parametrize("strategy", REFUSED)
def test_strategies_that_learn_from_probabilities_are_refused(strategy):
    training, reason = REFUSED[strategy]
    expected = rf"cannot be used with loss='squared_hinge': .*{reason}"
    with pytest.raises(ValueError, match=expected):
        quick(loss="squared_hinge", training=training).fit(X, y)


def margins_of(clf):
    embeddings = torch.tensor(clf.embed(X_TEST), dtype=torch.float32)
    return clf.heads_[-1](embeddings).detach().numpy()


@pytest.mark.parametrize("n_classes", [2, 4])
def test_probabilities_are_the_softmax_of_the_margins(n_classes):
    clf = quick(loss="squared_hinge", label_smoothing=0.0, exits=1).fit(X, y % n_classes)
    margins = margins_of(clf)
    np.testing.assert_allclose(clf.predict_proba(X_TEST), softmax(margins, axis=1), rtol=1e-5)
    assert same(clf.predict(X_TEST), margins.argmax(axis=1))


def test_early_stopping_and_history():
    params = {"loss": "squared_hinge", "training": "joint", "label_smoothing": 0.0}
    options = {"early_stopping": True, "weight_averaging": False, "calibration": None}
    clf = quick(**params, **options, exits=1).fit(X, y, X_val=X_TEST, y_val=Y_TEST)
    signs = np.where(np.eye(4)[Y_TEST] > 0, 1, -1)
    margins = margins_of(clf)
    expected = (np.maximum(0, 1 - signs * margins) ** 2).sum(axis=1).mean()
    lowest = min(epoch["valid_loss"] for epoch in clf.history_)
    assert lowest == pytest.approx(expected, rel=1e-5)


def test_memory_keeps_losses_apart(tmp_path):
    for loss in ("log_loss", "squared_hinge"):
        clf = quick(loss=loss, memory=tmp_path, calibration=None).fit(X, y)
        assert same(
            clf.predict_proba(X_TEST),
            quick(loss=loss, calibration=None).fit(X, y).predict_proba(X_TEST),
        )


def test_bad_loss():
    with pytest.raises(ValueError, match="'loss' parameter of EarlyExitClassifier must be a str"):
        quick(loss="hinge").fit(X, y)
