"""The interface: what every parameter and method does."""

import pickle
import sys
import warnings
from dataclasses import replace
from typing import ClassVar

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import skorch
import torch
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import PredefinedSplit
from sklearn.tree import DecisionTreeClassifier
from skorch.callbacks import Callback

from skearlyexit import (
    AccuracyDrop,
    Budget,
    CNNBackbone,
    EarlyExitClassifier,
    MixedTraining,
    RiskControl,
    Threshold,
)
from skearlyexit._cascade._cascade import FittedNetwork
from skearlyexit.calibration import NotCertifiedError
from tests._data import blobs, digits, quick, same

X, y, X_TEST, Y_TEST = blobs()


@pytest.fixture(scope="module")
def clf():
    return quick().fit(X, y)


def test_it_learns_and_saves():
    rows, labels, rows_test, labels_test = digits()
    clf = EarlyExitClassifier(calibration=0.3, max_epochs=20, random_state=0).fit(rows, labels)
    assert clf.score(rows_test, labels_test, threshold=np.inf) > 0.9
    predicted, exits = clf.predict(rows_test, budget=0.5, return_exits=True)
    assert np.mean(predicted == labels_test) > 0.9
    assert clf.costs_[exits].mean() < 0.55


def test_thresholds_from_the_extremes(clf):
    _, first = clf.predict(X_TEST, threshold=0, return_exits=True)
    _, last = clf.predict(X_TEST, threshold=np.inf, return_exits=True)
    assert not first.any()
    assert (last == clf.n_exits_ - 1).all()


def test_the_argument_wins_over_the_parameter():
    fitted = quick(threshold=0.0).fit(X, y)
    assert not fitted.predict(X_TEST, return_exits=True)[1].any()
    assert fitted.predict(X_TEST, threshold=np.inf, return_exits=True)[1].all()
    assert same(fitted.predict(X_TEST, budget=0.9), quick().fit(X, y).predict(X_TEST, budget=0.9))


def test_parameters_equal_operating_points():
    for parameter, point in (
        ({"budget": 0.8}, Budget(0.8)),
        ({"threshold": 0.9}, Threshold(0.9)),
    ):
        first = quick(**parameter).fit(X, y)
        second = quick(operating_point=point).fit(X, y)
        assert same(first.thresholds_, second.thresholds_)


def test_the_operating_point_tells_what_it_is(clf):
    point = clf.operating_point_
    assert isinstance(point.request, RiskControl)
    assert point.n_samples == 150
    assert point.request.target_level == 0.02  # 150 rows cannot certify one in a hundred
    assert point.certified
    wanted = quick(operating_point=RiskControl(0.01))
    with pytest.raises(NotCertifiedError, match=r"150 calibration samples can certify is 0\.016"):
        wanted.fit(X, y)
    certain = quick(operating_point=RiskControl(0.3)).fit(X, y).operating_point_
    assert certain.certified
    assert certain.n_samples == 150
    assert "90% confidence" in certain.reason
    assert certain.cost < point.cost


def test_too_few_samples_for_the_default_are_told():
    said = "No sample exits early: .* 90 calibration samples can certify is 0.026"
    with pytest.warns(UserWarning, match=said):
        few = quick().fit(X[:300], y[:300])
    assert few.operating_point_.certified is False
    assert np.isinf(few.thresholds_).all()
    with pytest.warns(UserWarning, match="exits early: the default, RiskControl.* 50 calibration"):
        few.calibrate(X[:50], y[:50])
    with pytest.warns(UserWarning, match="No sample exits early: .* different weights"):
        few.calibrate(X, y, sample_weight=1.0 + y)
    with pytest.warns(UserWarning, match="No sample exits early: there are no calibration samples"):
        quick(calibration="auto").fit(X[[0, -1]], [0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(budget=0.9).fit(X[:300], y[:300])
        quick(calibration=None).fit(X[:300], y[:300])
        quick().fit(X, y)  # certified


def test_calibrate(clf):
    model = pickle.loads(pickle.dumps(clf))
    assert model.calibrate(X_TEST, Y_TEST, AccuracyDrop(0.02)) is model
    table = model.exit_table(X_TEST)
    exits = table.exits(model.thresholds_)
    accuracy = np.mean(table.labels[np.arange(len(exits)), exits] == Y_TEST)
    assert accuracy >= np.mean(table.labels[:, -1] == Y_TEST) - 0.02 - 1e-12
    assert model.operating_point_.accuracy == pytest.approx(accuracy)
    assert model.operating_point_.cost == pytest.approx(model.costs_[exits].mean())


def test_calibrate_uses_weights(clf):
    model = pickle.loads(pickle.dumps(clf))
    weight = np.random.RandomState(0).randint(0, 3, len(Y_TEST))
    repeated = np.repeat(np.arange(len(Y_TEST)), weight)
    # The estimates of the risk have a prior, whose weight depends on the number of samples.
    for method, tolerance in (("search", 1e-9), ("frontier", 0.02)):
        budget = Budget(0.8, method=method)
        model.calibrate(X_TEST, Y_TEST, budget, sample_weight=weight)
        weighted = model.operating_point_
        model.calibrate(X_TEST[repeated], Y_TEST[repeated], budget)
        assert weighted.cost == pytest.approx(model.operating_point_.cost, abs=tolerance)
        assert weighted.accuracy == pytest.approx(model.operating_point_.accuracy, abs=tolerance)


def test_frontier_is_what_predict_looks_up(clf):
    frontier = clf.frontier_
    assert (np.diff(frontier.costs) > 0).all()
    assert (np.diff(frontier.accuracies) > 0).all()
    i = len(frontier) // 2
    by_budget = clf.predict(X_TEST, budget=frontier.costs[i])
    assert same(by_budget, clf.predict(X_TEST, threshold=frontier.thresholds[i]))


def test_staged(clf):
    stages = list(clf.staged_predict(X_TEST))
    probabilities = list(clf.staged_predict_proba(X_TEST))
    assert len(stages) == len(probabilities) == clf.n_exits_
    for i, (labels, proba) in enumerate(zip(stages, probabilities, strict=True)):
        never = [np.inf] * i + [0.0] * (clf.n_exits_ - 1 - i)
        assert same(labels, clf.predict(X_TEST, threshold=never))
        assert same(proba, clf.predict_proba(X_TEST, threshold=never))


def test_embeddings_are_what_heads_see():
    fitted = quick(head=DecisionTreeClassifier(max_depth=4)).fit(X, y)
    for i, labels in enumerate(fitted.staged_predict(X_TEST)):
        vectors = fitted.embed(X_TEST, i)
        assert vectors.shape == (len(X_TEST), 32)
        assert same(labels, fitted.heads_[i].predict(vectors))
        assert same(vectors, fitted.embed(X_TEST, fitted.exit_names_[i]))
    assert same(fitted.embed(X_TEST), fitted.embed(X_TEST, 2))


def test_heads_equal_their_own_fit():
    """A tree at an exit is the tree that one would train on the embeddings by hand."""
    tree = DecisionTreeClassifier(max_depth=4, random_state=3)
    fitted = quick(head=tree, calibration=None).fit(X, y)
    for i, labels in enumerate(fitted.staged_predict(X_TEST)):
        by_hand = DecisionTreeClassifier(max_depth=4, random_state=3).fit(fitted.embed(X, i), y)
        assert same(labels, by_hand.predict(fitted.embed(X_TEST, i)))


def test_score(clf):
    weight = np.random.RandomState(0).rand(len(Y_TEST))
    labels = clf.predict(X_TEST, budget=0.8)
    assert clf.score(X_TEST, Y_TEST, weight, budget=0.8) == accuracy_score(
        Y_TEST, labels, sample_weight=weight
    )


def test_attributes(clf):
    assert clf.n_exits_ == len(clf.stages_) == len(clf.heads_) == len(clf.costs_) == 3
    assert clf.thresholds_.shape == (2,)
    assert clf.exit_names_ == ["block1", "block2", "block3"]
    assert list(clf.classes_) == [0, 1, 2, 3]
    assert [epoch["phase"] for epoch in clf.history_] == ["distillation"] * 6


@pytest.mark.parametrize(
    "frame", [pd.DataFrame, lambda X, **k: pl.DataFrame(X, schema=k["columns"])]
)
def test_frames(frame, clf):
    names = [f"column {i}" for i in range(13)]
    fitted = quick().fit(frame(X, columns=names), y)
    assert list(fitted.feature_names_in_) == names
    assert same(fitted.predict_proba(frame(X_TEST, columns=names)), clf.predict_proba(X_TEST))
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame(X_TEST, columns=names[::-1]))


@pytest.mark.parametrize("labels", [list("dcba"), [3, 1, -7, 10], [True, False], ["no", "yes"]])
def test_labels(labels):
    codes = y % len(labels)
    clf = quick().fit(X, np.array(labels)[codes])
    assert list(clf.classes_) == sorted(set(labels))
    assert clf.score(X, np.array(labels)[codes]) > 0.5
    assert clf.predict_proba(X_TEST).shape == (len(X_TEST), len(labels))


class TestWeights:
    def test_weight_zero_is_absence(self):
        weight = np.ones(len(y))
        weight[::3] = 0
        kept = weight > 0
        for head in ("linear", DecisionTreeClassifier(max_depth=3)):
            first = quick(head=head).fit(X, y, sample_weight=weight)
            second = quick(head=head).fit(X[kept], y[kept], sample_weight=weight[kept])
            assert same(first.predict_proba(X_TEST), second.predict_proba(X_TEST))

    def test_class_weight_is_sample_weight(self):
        weights = {0: 1.0, 1: 2.0, 2: 0.5, 3: 1.0}
        by_class = quick(class_weight=weights, calibration=None).fit(X, y)
        by_row = quick(calibration=None).fit(X, y, sample_weight=[weights[label] for label in y])
        assert same(by_class.predict_proba(X_TEST), by_row.predict_proba(X_TEST))

    def test_balanced_helps_the_rare_class(self):
        rare = (y == 3) & (np.arange(len(y)) % 10 != 0)
        rows, labels = X[~rare], (y[~rare] == 3).astype(int)
        plain = quick(calibration=None).fit(rows, labels)
        balanced = quick(calibration=None, class_weight="balanced").fit(rows, labels)
        assert balanced.predict(X_TEST).mean() > plain.predict(X_TEST).mean()


def test_heads_see_the_labels_themselves():
    """So that class weights of a head mean what they say."""
    names = np.array(["a", "b", "c", "d"])
    weighted = LogisticRegression(class_weight={"b": 50.0}, max_iter=500)
    clf = quick(head=weighted, calibration=None).fit(X, names[y])
    plain = quick(head=LogisticRegression(max_iter=500), calibration=None).fit(X, names[y])
    assert list(clf.heads_[0].classes_) == list(names)
    share = [np.mean(model.predict(X_TEST, threshold=0.0) == "b") for model in (plain, clf)]
    assert share[1] > share[0] + 0.2


class TestImages:
    def test_images_and_flat_pixels_are_the_same(self):
        rows, labels, rows_test, _ = digits()
        images = rows.reshape(-1, 1, 8, 8)
        params = {"exits": 2, "max_epochs": 2, "calibration": 0.3, "random_state": 0}
        flat = EarlyExitClassifier(CNNBackbone((8, 16), image_shape=(8, 8)), **params)
        square = EarlyExitClassifier(CNNBackbone((8, 16)), **params)
        flat.fit(rows[:300], labels[:300])
        square.fit(images[:300], labels[:300])
        expected = flat.predict_proba(rows_test, threshold=0.5)
        answered = square.predict_proba(rows_test.reshape(-1, 1, 8, 8), threshold=0.5)
        assert same(answered, expected)
        assert square.n_features_in_ == 1

    def test_chosen_from_the_shape(self):
        rows, labels, _, _ = digits()
        clf = EarlyExitClassifier(exits=2, max_epochs=1, calibration=None, random_state=0)
        clf.fit(rows[:60].reshape(-1, 1, 8, 8), labels[:60])
        assert clf.exit_names_[-1] == "group3.block2"
        assert clf.embed(rows[:7].reshape(-1, 1, 8, 8), 0).shape[1] in (4 * 16, 4 * 32)


class TestCalibrationRows:
    @pytest.mark.parametrize(
        ("calibration", "n_rows"), [(0.3, 150), (2, 500), ("auto", 500), (None, 0)]
    )
    def test_how_many(self, calibration, n_rows):
        assert quick(calibration=calibration).fit(X, y).operating_point_.n_samples == n_rows

    def test_groups_stay_together(self):
        groups = np.arange(len(y)) // 50
        seen = []

        class Spy(skorch.callbacks.Callback):
            def on_train_begin(self, net, X=None, **kwargs):
                seen.append({row.tobytes() for row in X.X.numpy()})

            def __deepcopy__(self, memo):
                return self

        quick(callbacks=[Spy()], dtype="float64").fit(X, y, groups=groups)
        fitted_groups = [g for g in range(10) if X[g * 50].tobytes() in seen[0]]
        expected = {row.tobytes() for row in X[np.isin(groups, fitted_groups)]}
        assert seen[0] == expected
        assert len(fitted_groups) == 7

    def test_splitter(self):
        from sklearn.model_selection import ShuffleSplit

        clf = quick(calibration=ShuffleSplit(2, test_size=0.2, random_state=0)).fit(X, y)
        assert 100 < clf.operating_point_.n_samples < 200  # those held out twice count once


class TestTrainerParameters:
    def test_early_stopping_stops(self):
        stopped = quick(early_stopping=True, n_iter_no_change=1, max_epochs=200, lr=0.02).fit(X, y)
        assert len(stopped.history_) < 150
        assert all("valid_loss" in epoch for epoch in stopped.history_)

    def test_early_stopping_on_given_rows(self):
        losses = [
            quick(early_stopping=True)
            .fit(X, y, X_val=rows, y_val=labels)
            .history_[-1]["valid_loss"]
            for rows, labels in ((X_TEST, Y_TEST), (X_TEST, (Y_TEST + 1) % 4))
        ]
        assert losses[0] < losses[1]

    @pytest.mark.parametrize("optimizer", ["sgd", "adam", torch.optim.RMSprop])
    def test_optimizers(self, optimizer):
        clf = quick(optimizer=optimizer, lr=0.01, calibration=None, max_epochs=10).fit(X, y)
        assert clf.history_[-1]["train_loss"] < clf.history_[5]["train_loss"]

    def test_schedules_differ(self):
        cosine = quick(calibration=None).fit(X, y)
        constant = quick(calibration=None, lr_schedule="constant").fit(X, y)
        assert not same(cosine.predict_proba(X_TEST), constant.predict_proba(X_TEST))

    def test_callbacks_are_called_and_copied(self):
        class Count(skorch.callbacks.Callback):
            n_epochs = 0

            def on_epoch_end(self, net, **kwargs):
                Count.n_epochs += 1
                self.touched = True

        callback = Count()
        quick(callbacks=[callback], calibration=2).fit(X, y)
        assert Count.n_epochs == 12 + 12 + 6  # folds of half the rows make as many steps
        assert not hasattr(callback, "touched")

    def test_progress_is_one_line_for_each_phase(self, capsys):
        quick(max_epochs=2, verbose=1, calibration=2).fit(X, y)
        shown = capsys.readouterr()
        assert shown.out.splitlines() == [
            "[skearlyexit] fold 1 of 2, distillation: 4 epochs on 250 samples",
            "[skearlyexit] fold 2 of 2, distillation: 4 epochs on 250 samples",
            "[skearlyexit] final, distillation: 2 epochs on 500 samples",
        ]
        assert shown.err == ""
        quick(max_epochs=2, verbose=1, calibration=None, early_stopping=True).fit(X, y)
        assert capsys.readouterr().out == (
            "[skearlyexit] distillation: at most 2 epochs on 450 samples\n"
        )
        quick(max_epochs=2, calibration=None).fit(X, y)
        assert capsys.readouterr().out == ""

    def test_losses_are_printed_without_colors_where_there_are_none(self, capsys):
        quick(max_epochs=2, verbose=2, calibration=None).fit(X, y)
        shown = capsys.readouterr().out
        assert "distillation: 2 epochs on 500 samples" in shown
        assert "train_loss" in shown
        assert "\x1b" not in shown

    def test_progress_on_a_terminal_is_one_bar(self, capsys, monkeypatch):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        quick(max_epochs=2, verbose=1, calibration=2, training="mixed").fit(X, y)
        shown = capsys.readouterr()
        assert shown.out == ""
        states = shown.err.split("\r")
        assert any("fold 1 of 2, backbone, epoch 1 " in state for state in states)
        assert "final, joint, epoch 1 " in states[-1]
        assert "100%" in states[-1]

    def test_the_bar_is_closed_after_an_error(self, capsys, monkeypatch):
        class Breaking(skorch.callbacks.Callback):
            def on_epoch_end(self, net, **kwargs):
                raise KeyboardInterrupt

        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        with pytest.raises(KeyboardInterrupt):
            quick(verbose=1, callbacks=[Breaking()]).fit(X, y)
        assert capsys.readouterr().err.endswith("\n")  # as a bar does that is closed
        quick(max_epochs=2, verbose=1).fit(X, y)
        assert "100%" in capsys.readouterr().err

    def test_epochs_are_shared_by_the_phases(self):
        clf = quick(training=MixedTraining(backbone_share=0.25), max_epochs=8).fit(X, y)
        phases = [epoch["phase"] for epoch in clf.history_]
        assert phases == ["backbone"] * 2 + ["joint"] * 6


class TestStorage:
    @pytest.mark.parametrize("store", ["pickle", "joblib"])
    def test_round_trip(self, store, tmp_path):
        clf = quick(head=[DecisionTreeClassifier(max_depth=3), "linear", "mlp"]).fit(X, y)
        if store == "pickle":
            again = pickle.loads(pickle.dumps(clf))
        else:
            joblib.dump(clf, tmp_path / "model")
            again = joblib.load(tmp_path / "model")
        assert same(again.predict_proba(X_TEST), clf.predict_proba(X_TEST))
        assert same(again.predict(X_TEST, budget=0.9), clf.predict(X_TEST, budget=0.9))

    def test_a_model_of_an_accelerator_loads_without_one(self, clf):
        state = {**pickle.loads(pickle.dumps(clf)).cascade_.network.__dict__, "device": "cuda"}
        loaded = FittedNetwork.__new__(FittedNetwork)
        if torch.cuda.is_available():
            pytest.skip("this machine has the accelerator")
        with pytest.warns(UserWarning, match="trained on 'cuda'.*will run on the CPU"):
            loaded.__setstate__(state)
        model = pickle.loads(pickle.dumps(clf))
        model.cascade_ = replace(model.cascade_, network=loaded)
        assert same(model.predict_proba(X_TEST), clf.predict_proba(X_TEST))

    def test_what_is_stored_lies_in_main_memory(self, clf):
        """Meta tensors stand for those of an accelerator: they cannot be moved back by mistake."""
        model = pickle.loads(pickle.dumps(clf))
        moved = []
        network = replace(model.cascade_.network.moved("cpu"), device="elsewhere")
        for stage in network.stages:
            stage.to = lambda device: moved.append(device)
        with pytest.raises(AttributeError):  # a function cannot be copied by pickle
            pickle.dumps(network)
        network.__getstate__()
        assert set(moved) == {"cpu"}


def test_display(clf):
    assert "EarlyExitClassifier" in clf._repr_html_()


def test_one_exit_is_the_plain_network():
    plain = quick(exits=1).fit(X, y)
    assert plain.n_exits_ == 1
    assert plain.costs_ == pytest.approx([1.0])
    assert plain.thresholds_.shape == (0,)
    assert len(plain.history_) == 6
    assert plain.operating_point_.n_samples == 0
    _, exits = plain.predict(X_TEST, threshold=0.3, return_exits=True)
    assert not exits.any()


def test_a_head_that_knows_nothing_costs_nothing():
    clf = quick(head=[DummyClassifier(), "linear", "linear"], policy="confidence").fit(X, y)
    assert clf.costs_[0] < 0.4
    assert clf.predict_proba(X_TEST, threshold=0.0)[0] == pytest.approx(
        np.bincount(y) / len(y), abs=0.05
    )


class Steps(Callback):
    """Counts the steps of every phase of training, in a list that copies share."""

    counts: ClassVar[list] = []

    def on_train_begin(self, net, **kwargs):
        self.counts.append(0)

    def on_batch_begin(self, net, training=False, **kwargs):
        self.counts[-1] += training


@pytest.mark.parametrize("training", ["joint", "mixed"])
@pytest.mark.parametrize("n_rows", [60, 150, 240])
def test_folds_are_trained_for_as_many_steps_as_the_final_model(training, n_rows):
    # What has made fewer steps is less sure of itself, and its thresholds would be too low.
    Steps.counts.clear()
    X, y, *_ = blobs()
    clf = quick(training=training, calibration=3, max_epochs=6, batch_size=40, callbacks=[Steps()])
    clf.fit(X[:n_rows], y[:n_rows])
    *folds, final = np.reshape(Steps.counts, (4, -1))
    # To half an epoch of each phase.
    n_batches = -(-n_rows // 40)
    assert np.abs(np.array(folds) - final).max() <= n_batches / 2 + 1e-9


def test_a_splitter_must_leave_rows_to_fit_on():
    X, y, *_ = blobs()
    with pytest.raises(ValueError, match=r"'calibration' splitter .* leaves no sample to train on"):
        quick(calibration=PredefinedSplit(np.zeros(len(y)))).fit(X, y)
