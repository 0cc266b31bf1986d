"""Everything that can be wrong with what a user passes, and what is said about it."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import skorch
import torch
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from skearlyexit import (
    AccuracyDrop,
    Budget,
    CNNBackbone,
    CostShare,
    EarlyExitClassifier,
    EarlyExitRegressor,
    EstimatorHead,
    ExactPlacement,
    FixedExits,
    GivenCost,
    JointTraining,
    LinearHead,
    MLPBackbone,
    MLPHead,
    PatiencePolicy,
    RiskControl,
    SeparateTraining,
    TracedBackbone,
)
from tests._data import blobs, make, quick


class Pooled(nn.Module):
    def forward(self, rows):
        return rows.mean(0, keepdim=True)


class Twins(nn.Module):
    def forward(self, rows):
        return rows, rows


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(13, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.out(torch.relu(self.second(torch.relu(self.first(x)))))


class NoBatch(nn.Module):
    def forward(self, rows):
        return rows[:, 0]


def never(parameters, lr):
    raise AssertionError("training started before the error was found")


X, y, X_TEST, Y_TEST = blobs()
WITH_NAN = np.where(X.max() - 1e-9 < X, np.nan, X)


@pytest.mark.parametrize(
    ("rows", "labels", "error", "words"),
    [
        (X[0], y[:1], ValueError, "Expected 2D array, got 1D array"),
        (X, y[:5], ValueError, "inconsistent numbers of samples"),
        (WITH_NAN, y, ValueError, "Input X contains NaN"),
        (X * np.inf, y, ValueError, "(?s)Input X contains .*(NaN|infinity)"),
        (X * 1e300, y, ValueError, "too large for dtype"),
        (scipy.sparse.csr_matrix(X * 1j), y, ValueError, "real numbers.*complex"),
        (X[:0], y[:0], ValueError, r"0 sample\(s\)"),
        (X[:1], y[:1], ValueError, "at least two classes"),
        (X, np.zeros(len(X)), ValueError, "at least two classes; got 1 class"),
        (X, np.linspace(0, 1, len(X)), ValueError, "Unknown label type"),
        (X, np.where(y == 0, np.nan, y), ValueError, "Input y contains NaN"),
        (np.full(X.shape, "a"), y, ValueError, "could not convert string to float.*OneHotEncoder"),
    ],
)
def test_data(rows, labels, error, words):
    with pytest.raises(error, match=words):
        quick(optimizer=never).fit(rows, labels)


def test_text_as_targets_says_nothing_of_the_samples():
    with pytest.raises(ValueError, match="could not convert string") as raised:
        EarlyExitRegressor().fit(X, np.array(["a", "b"], dtype=object)[y % 2])
    assert "X holds" not in str(raised.value)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_columns_of_text_are_named(frame):
    columns = {"size": [1.0, 2.0] * 20, "kind": ["a", "b"] * 20, "place": ["c", "d"] * 20}
    rows = frame(columns)
    words = r"could not convert.*X holds text in column 'kind', column 'place'\. .*OneHotEncoder"
    with pytest.raises(ValueError, match=words):
        quick().fit(rows, y[:40])
    if frame is pd.DataFrame:
        rows = rows.drop(columns="place").astype({"kind": "category"})
        with pytest.raises(ValueError, match=r"X holds text in column 'kind'\. Encode"):
            quick().fit(rows, y[:40])
    # These are numbers, although not by their dtype.
    mixed = frame({"flag": [True, False] * 20, "kind": ["a", "b"] * 20})
    if frame is pd.DataFrame:
        mixed["code"] = np.array([1, 2] * 20, dtype=object)
        mixed["category"] = pd.Categorical([1, 2] * 20)
    with pytest.raises(ValueError, match=r"X holds text in column 'kind'\. Encode"):
        quick().fit(mixed, y[:40])
    numbers = frame({"size": columns["size"], "kind": [0.0, 1.0] * 20})
    clf = quick(early_stopping=True)
    with pytest.raises(ValueError, match=r"X_val holds text in column 'kind'\. Encode"):
        clf.fit(numbers, y[:40], X_val=frame({"size": [1.0], "kind": ["a"]}), y_val=y[:1])
    clf.fit(numbers, y[:40])
    with pytest.raises(ValueError, match=r"X holds text in column 'kind'\. Encode"):
        clf.predict(frame({"size": columns["size"], "kind": columns["kind"]}))


@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        ({"exits": ["stem", "block9"]}, ValueError, r"names 'block9'.*\['stem', 'block1'"),
        ({"exits": [0, 4]}, ValueError, "names 4.*indices 0 to 3"),
        ({"exits": FixedExits([1.5])}, ValueError, r"names 1\.5"),
        ({"exits": 0}, ValueError, "'exits' parameter"),
        ({"head": LinearRegression()}, TypeError, "which is no classifier"),
        ({"head": SVC}, TypeError, "with its parentheses"),
        ({"head": "forest"}, ValueError, r"one of \['linear', 'mlp', 'own'\].*'forest'"),
        ({"head": ["linear", SVC()]}, ValueError, "holds 2 heads for 3 exits"),
        (
            {"head": LinearHead(pooling="max")},
            ValueError,
            r"\['average', 'flatten', 'quarters'\].*'max'",
        ),
        ({"training": "jointly"}, ValueError, "'training' parameter"),
        ({"training": SeparateTraining(1.0)}, ValueError, "'backbone_share' parameter"),
        ({"training": JointTraining("width")}, ValueError, "'weights' parameter.*'depth'"),
        ({"training": JointTraining(-1)}, ValueError, "'weights' parameter"),
        ({"policy": "luck"}, ValueError, "'policy' parameter"),
        ({"backbone": MLPBackbone(width=0)}, ValueError, "'width' parameter of MLPBackbone"),
        ({"exits": CostShare(0)}, ValueError, "'n_exits' parameter of CostShare"),
        ({"policy": PatiencePolicy(0)}, ValueError, "'patience' parameter of PatiencePolicy"),
        ({"threshold": [0.5]}, ValueError, r"2 of them.*shape \(1,\)"),
        ({"threshold": [0.5, -1]}, ValueError, "must not be negative or nan"),
        ({"threshold": -1}, ValueError, "'threshold' parameter"),
        ({"threshold": 0.5, "budget": 0.5}, ValueError, "Got 'threshold' and 'budget'"),
        ({"budget": 0.5, "operating_point": Budget(0.5)}, ValueError, "At most one"),
        ({"budget": 0.05}, ValueError, r"Got 0\.05 instead; the first exit alone costs 0\.\d+"),
        ({"budget": 0}, ValueError, "'budget' parameter"),
        ({"operating_point": Budget(0.05)}, ValueError, "the first exit alone costs"),
        (
            {"operating_point": Budget(0.9, method="luck")},
            ValueError,
            "'method' parameter of Budget",
        ),
        ({"operating_point": AccuracyDrop(2)}, ValueError, "'value' parameter of AccuracyDrop"),
        (
            {"operating_point": RiskControl(confidence_level=1)},
            ValueError,
            "'confidence_level' parameter",
        ),
        ({"calibration": None, "budget": 0.9}, ValueError, "calibration=None holds none out"),
        ({"calibration": 0.0}, ValueError, "'calibration' parameter"),
        ({"calibration": 1000}, ValueError, "n_splits=1000"),
        ({"device": "cuda:7"}, ValueError, "'device' parameter.*'cuda:7'.*torch cannot use"),
        ({"device": "toaster"}, ValueError, "'device' parameter.*'toaster'"),
        ({"dtype": "float16"}, ValueError, "'dtype' parameter"),
        ({"backbone": "rnn"}, ValueError, r"\['cnn', 'conv1d', 'mlp'.*'rnn'"),
        ({"backbone": 3}, TypeError, "'backbone' parameter.*Got 3"),
        ({"backbone": []}, ValueError, "at least one module"),
        ({"backbone": [nn.ReLU(), "relu"]}, TypeError, "part 1 is 'relu'"),
        ({"backbone": nn.Sequential(nn.Softmax(1))}, ValueError, "no module but its softmax"),
        ({"backbone": [Pooled()]}, ValueError, r"turned 2 samples into .* \(1, 13\)"),
        ({"backbone": [NoBatch()]}, ValueError, r"turned 2 samples into .* \(2,\)"),
        ({"backbone": [Twins()]}, ValueError, "returned a tuple of 2.*backbones.Block"),
        ({"backbone": "cnn"}, ValueError, r"needs images.*samples of shape \(13,\)"),
        ({"backbone": CNNBackbone(image_shape=(4, 4))}, ValueError, "16 pixels.*13 values"),
        ({"class_weight": "fair"}, ValueError, "'class_weight' parameter"),
        ({"class_weight": {0: -1.0}}, ValueError, "must not be negative"),
        ({"class_weight": {0: np.nan}}, ValueError, "'class_weight' parameter must be finite"),
        ({"backbone": nn.Identity()}, ValueError, "backbone has no layer"),
        ({"exits": 10**9}, ValueError, "'n_exits' parameter of CostShare.*100000"),
        ({"n_jobs": 0}, ValueError, "'n_jobs' parameter"),
        ({"head": EstimatorHead(None)}, TypeError, "Got None instead, which is no classifier"),
        ({"head": EstimatorHead(LinearRegression())}, TypeError, "which is no classifier"),
        ({"cost": GivenCost([1.0] * 4, heads=np.nan)}, ValueError, "'heads' of GivenCost"),
        ({"cost": GivenCost([1.0] * 4, decision=np.nan)}, ValueError, "'decision' of GivenCost"),
        (
            {"exits": ExactPlacement(2), "calibration": None, "budget": 0.9},
            ValueError,
            "Budget cannot be used without calibration",
        ),
        ({"device": "meta"}, ValueError, "'device' parameter.*'meta'"),
        ({"head": MLPHead((0,))}, ValueError, "'hidden' parameter of MLPHead.*positive"),
        ({"head": MLPHead(64)}, ValueError, "'hidden' parameter of MLPHead"),
        ({"threshold": ["low", "high"]}, ValueError, "must be a number or 2 of them.*'low'"),
    ],
    ids=repr,
)
def test_parameters_before_training(params, error, words):
    with pytest.raises(error, match=f"(?s){words}"):
        quick(**{"optimizer": never, **params}).fit(X, y)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"training": JointTraining([0.5])}, "2 non-negative numbers"),
        ({"head": EstimatorHead(SVC(), pooling="max")}, r"\['average', 'flatten', 'quarters'\]"),
    ],
    ids=repr,
)
def test_parameters_of_strategies(params, words):
    with pytest.raises(ValueError, match=words):
        quick(**params).fit(X, y)


def test_another_default_device():
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match=r"default device must be.*'meta'.*set_default_device"),
    ):
        quick(optimizer=never).fit(X, y)


def test_module_of_another_width():
    module = make(lambda: nn.Sequential(nn.Linear(12, 8), nn.Linear(8, 4)))
    with pytest.raises(ValueError, match=r"backbone fails on samples of shape \(13,"):
        quick(backbone=module, optimizer=never).fit(X, y)


def test_skorch_net_that_is_not_fitted():
    net = skorch.NeuralNetClassifier(nn.Identity)
    with pytest.raises(NotFittedError, match="skorch net given as 'backbone' is not fitted"):
        quick(backbone=net).fit(X, y)


def test_weights():
    with pytest.raises(ValueError, match="Negative values"):
        quick().fit(X, y, sample_weight=-np.ones(len(y)))
    with pytest.raises(ValueError, match="at least two classes"):
        quick().fit(X, y, sample_weight=(y == 0).astype(float))
    with pytest.raises(ValueError, match=r"inconsistent|shape"):
        quick().fit(X, y, sample_weight=np.ones(3))


def test_validation_rows():
    with pytest.raises(ValueError, match="early_stopping=False"):
        quick().fit(X, y, X_val=X_TEST, y_val=Y_TEST)
    stopping = quick(early_stopping=True)
    with pytest.raises(ValueError, match="given together"):
        stopping.fit(X, y, X_val=X_TEST)
    with pytest.raises(ValueError, match="not seen in fit"):
        stopping.fit(X, y, X_val=X_TEST, y_val=Y_TEST + 1)
    with pytest.raises(ValueError, match="expecting 13 features"):
        stopping.fit(X, y, X_val=X_TEST[:, :5], y_val=Y_TEST)


@pytest.fixture(scope="module")
def clf():
    return quick().fit(X, y)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"threshold": 0.5, "budget": 0.5}, "At most one of 'threshold' and 'budget'"),
        ({"threshold": [0.1, 0.2, 0.3]}, r"2 of them.*\(3,\)"),
        ({"threshold": np.nan}, "must not be negative or nan"),
        ({"budget": 0.01}, r"Got 0\.01 instead; the first exit alone costs 0\.\d+"),
        ({"budget": -1}, "positive number.*-1"),
        ({"budget": "low"}, "positive number.*'low'"),
        ({"budget": True}, "positive number.*True"),
    ],
    ids=repr,
)
def test_arguments_of_predict(clf, arguments, words):
    for method in (clf.predict, clf.predict_proba, lambda X, **kw: clf.score(X, Y_TEST, **kw)):
        with pytest.raises(ValueError, match=words):
            method(X_TEST, **arguments)


def test_rows_of_another_shape(clf):
    for method in (clf.predict, clf.exit_table, clf.embed, lambda X: list(clf.staged_predict(X))):
        with pytest.raises(ValueError, match="expecting 13 features"):
            method(X_TEST[:, :4])
        with pytest.raises(ValueError, match="samples of shape"):
            method(X_TEST[:, :, None])
        with pytest.raises(ValueError, match="NaN"):
            method(WITH_NAN)


def test_before_fit():
    for method in ("predict", "predict_proba", "predict_log_proba", "exit_table", "embed"):
        with pytest.raises(NotFittedError):
            getattr(quick(), method)(X)
    with pytest.raises(NotFittedError):
        quick().calibrate(X, y)


def test_calibrate(clf):
    with pytest.raises(ValueError, match=r"not seen in fit: \['a'\]"):
        clf.calibrate(X_TEST, ["a"] * len(X_TEST))
    with pytest.raises(ValueError, match="inconsistent"):
        clf.calibrate(X_TEST, Y_TEST[:3])
    with pytest.raises(ValueError, match="first exit alone costs"):
        clf.calibrate(X_TEST, Y_TEST, Budget(0.01))
    with pytest.raises(TypeError, match=r"must be an object such as Budget.*got 0\.4"):
        clf.calibrate(X_TEST, Y_TEST, 0.4)


def test_embed(clf):
    for exit_ in (3, -4, 1.5, "block9"):
        with pytest.raises(ValueError, match=r"must be one of \['block1'"):
            clf.embed(X_TEST, exit_)


def test_head_that_can_only_vote():
    voting = VotingClassifier([("tree", DecisionTreeClassifier())])
    with pytest.raises(ValueError, match="neither predict_proba nor decision_function"):
        quick(head=voting).fit(X, y)
    clf = quick(head=voting, policy="patience").fit(X, y)
    assert set(np.unique(clf.predict_proba(X_TEST))) == {0.0, 1.0}


def test_answers_that_are_nan():
    class Spoils(nn.Module):
        def forward(self, rows):
            return rows * float("nan")

    with pytest.raises(ValueError, match=r"diverged|NaN"):
        quick(backbone=make(lambda: [nn.Linear(13, 8), Spoils()]), exits=[0]).fit(X, y)


def test_budget_without_calibration_rows():
    clf = quick(calibration=None).fit(X, y)
    with pytest.raises(ValueError, match=r"fitted without any.*calibrate"):
        clf.predict(X, budget=0.9)
    with pytest.raises(ValueError, match="too few samples to hold any out"):
        quick(calibration="auto", budget=0.9).fit(X[[0, 1]], [0, 1])


def test_one_exit_cannot_be_cheaper():
    with pytest.raises(ValueError, match="the first exit alone costs 1"):
        quick(exits=1, budget=0.5).fit(X, y)
    clf = quick(exits=1).fit(X, y)
    with pytest.raises(ValueError, match="the first exit alone costs 1"):
        clf.predict(X, budget=0.5)
    assert np.array_equal(clf.predict(X, budget=1.0), clf.predict(X))


class TestSensibleAnswers:
    def test_few_rows(self):
        for n_rows in (2, 3, 5):
            clf = quick(calibration="auto").fit(X[:n_rows], np.arange(n_rows) % 2)
            assert clf.predict(X_TEST).shape == Y_TEST.shape
            assert clf.operating_point_.certified in (None, False)

    @pytest.mark.parametrize("n_rows", [129, 257])
    def test_a_last_batch_of_one_row(self, n_rows):
        clf = quick(calibration=None).fit(X[:n_rows], y[:n_rows])
        assert all(np.isfinite(epoch["train_loss"]) for epoch in clf.history_)

    def test_batches_of_one_row_are_the_users_choice(self):
        with pytest.raises(ValueError, match="batch of one sample cannot be normalized"):
            quick(batch_size=1).fit(X[:20], y[:20])

    def test_class_absent_from_the_calibration_rows(self):
        labels = y.copy()
        labels[0] = 9  # once
        clf = quick(calibration=0.2).fit(X, labels)
        assert 9 in clf.classes_
        assert clf.predict_proba(X_TEST).shape == (len(X_TEST), 5)

    @pytest.mark.filterwarnings("ignore:SVC has no predict_proba")
    def test_class_absent_from_a_fold(self):
        labels = y.copy()
        labels[:2] = 9
        for head in ("linear", DecisionTreeClassifier(), SVC()):
            clf = quick(calibration="auto", head=head, max_epochs=1).fit(X, labels)
            budget = clf.costs_[1]
            assert clf.predict_proba(X_TEST, budget=budget).shape == (len(X_TEST), 5)

    def test_more_exits_than_the_backbone_holds(self):
        with pytest.warns(UserWarning, match="holds 4 of the 9 exits asked for"):
            assert quick(exits=9).fit(X, y).n_exits_ == 4

    def test_a_network_inside_of_a_chain_has_no_exits(self):
        chain = nn.Sequential(nn.Identity(), make(Nested))
        with pytest.warns(UserWarning, match=r"No sample exits early.*TracedBackbone\(module\)"):
            assert quick(backbone=chain, exits="auto").fit(X, y).n_exits_ == 1
        traced = quick(backbone=TracedBackbone(chain), exits="auto").fit(X, y)
        assert traced.n_exits_ == 2

    @pytest.mark.parametrize("training", ["joint", "mixed", "separate"])
    def test_frozen_network(self, training):
        module = make(
            lambda: nn.Sequential(
                nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)
            )
        ).requires_grad_(False)
        clf = EarlyExitClassifier(
            module, exits=[1], training=training, max_epochs=20, lr=0.02, random_state=0
        ).fit(X, y)
        assert torch.equal(clf.stages_[0].blocks[0].weight, module[0].weight)
        assert torch.equal(clf.heads_[1].body[0].weight, module[4].weight)
        first, last = clf.staged_predict(X_TEST)
        with torch.no_grad():
            plain = module(torch.tensor(X_TEST, dtype=torch.float32)).argmax(1).numpy()
        assert np.array_equal(last, clf.classes_[plain])
        assert np.mean(first == Y_TEST) > 0.4  # its head did learn

    def test_one_row(self, clf):
        labels, exits = clf.predict(X_TEST[:1], budget=0.9, return_exits=True)
        assert labels.shape == exits.shape == (1,)

    def test_strings(self):
        names = np.array(["tulip", "rose", "lily", "fern"])
        clf = quick().fit(X, names[y])
        assert set(clf.predict(X_TEST)) <= set(names)
        assert same_accuracy(clf, names[Y_TEST])


def same_accuracy(clf, labels):
    return clf.score(X_TEST, labels) == np.mean(clf.predict(X_TEST) == labels)
