"""Training that goes on: partial_fit and warm_start."""

import copy
import pickle
from functools import partial
from itertools import count

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.tree import DecisionTreeClassifier
from skorch.callbacks import Callback

from skearlyexit import (
    Budget,
    CombinedTraining,
    EstimatorHead,
    ExactPlacement,
    JointTraining,
    LinearHead,
    LocalErrorTraining,
    MaxCombination,
    MixedTraining,
    MLPBackbone,
    SecondsCost,
    WeightedCombination,
)
from skearlyexit.backbones._mlp import Dropout
from skearlyexit.combination._recurrent import RecurrentCombination
from skearlyexit.costs import CostMeasurement
from skearlyexit.experimental import BottleneckTraining
from tests._data import blobs, quick

X, y, X_test, y_test = blobs()
CLASSES = np.unique(y)


def streaming(**params):
    return quick(calibration=None, **{"training": "joint", **params})


def weights(clf):
    modules = [*clf.stages_, *clf.heads_]
    return torch.cat([each.flatten() for part in modules for each in part.parameters()])


def passes(clf, n_passes, size=100):
    for _ in range(n_passes):
        for start in range(0, len(X), size):
            rows = slice(start, start + size)
            clf.partial_fit(X[rows], y[rows], classes=CLASSES)
    return clf


class TestPartialFit:
    @pytest.mark.parametrize(
        "training",
        [
            *("joint", "mixed", "distillation", "combiner", "gated", "auxiliary", "combined"),
            LocalErrorTraining("similarity"),
        ],
        ids=str,
    )
    def test_learns_from_rows_as_they_come(self, training):
        clf = streaming(training=training, lr=0.02)
        first = passes(clf, 1, size=250).score(X_test, y_test)
        assert passes(clf, 5, size=250).score(X_test, y_test) > max(0.5, first)

    def test_the_steps_are_those_of_an_optimizer_that_goes_on(self):
        """Two passes leave the moments of as many steps, and each draws batches of its own."""
        steps, orders = [], []

        class Watch(Callback):
            def __deepcopy__(self, memo):
                return self

            def on_batch_end(self, net, batch=None, training=False, **kwargs):
                state = net.optimizer_.state_dict()["state"]
                steps.append(int(state[0]["step"]))
                orders.append(batch[1][0][:5].tolist())

        clf = streaming(callbacks=[Watch()], batch_size=100)
        clf.partial_fit(X, y, classes=CLASSES)
        clf.partial_fit(X, y)
        assert steps == list(range(1, 11))
        assert orders[0] != orders[5]

    def test_goes_on_after_fit(self):
        clf = streaming(max_epochs=3).fit(X, y)
        before = weights(clf)
        kept = copy.deepcopy(clf)
        clf.partial_fit(X, y)
        assert 0 < (weights(clf) - before).abs().max() < 0.5
        assert torch.equal(weights(kept), before)

    def test_after_a_fit_steps_are_smaller_than_from_new_weights(self):
        """A step of Adam changes a weight by the learning rate, if it has no moments yet."""

        def largest_change(clf):
            before = weights(clf)
            return float((weights(clf.partial_fit(X[:100], y[:100])) - before).abs().max())

        options = {"lr": 0.004, "optimizer": "adam", "batch_size": 100}
        clf = streaming(max_epochs=3, **options).fit(X, y)
        for expected in (0.0004, 0.0004):  # also after another call, with a new optimizer
            assert largest_change(clf) == pytest.approx(expected, rel=0.05)
            clf._optimizer_state = {}
        clf = streaming(**options).partial_fit(X[:100], y[:100], classes=CLASSES)
        for expected in (0.004, 0.004):
            clf._optimizer_state = {}
            assert largest_change(clf) == pytest.approx(expected, rel=0.05)
        assert largest_change(clf.fit(X, y)) == pytest.approx(0.0004, rel=0.05)

    def test_no_training_rows_judge_the_thresholds(self):
        clf = quick(training="joint", budget=0.6).fit(X, y)
        assert clf.frontier_ is not None
        before = clf.predict_proba(X_test)
        with pytest.raises(UserWarning, match=r"updated network\. .*no sample exits early"):
            clf.partial_fit(X, y)
        np.testing.assert_array_equal(clf.predict_proba(X_test), before)
        with pytest.warns(UserWarning, match=r"updated network\. .*no sample exits early"):
            clf.partial_fit(X, y)
        clf.partial_fit(X, y)  # said once
        assert clf.frontier_ is None
        assert (clf.predict(X_test, return_exits=True)[1] == clf.n_exits_ - 1).all()
        assert "calibrate" in clf.operating_point_.reason
        clf.calibrate(X_test[:200], y_test[:200])
        assert clf.operating_point_.cost <= 0.6
        clf.partial_fit(X, y)

    def test_calibrated_thresholds_are_not_replaced_by_those_of_a_parameter_without_a_word(self):
        clf = quick(training="joint", threshold=0.6, calibration=None).fit(X, y)
        clf.calibrate(X_test, y_test, Budget(0.8))
        with pytest.warns(UserWarning, match=r"updated network\. .*those of the parameters"):
            clf.partial_fit(X, y)
        assert (clf.thresholds_ == 0.6).all()

    @pytest.mark.parametrize("warm", [False, True])
    def test_exits_stay_where_they_are_although_times_differ(self, warm, monkeypatch):
        """In each measurement, another block takes most of the time."""
        measurements, usual = count(), SecondsCost.read

        def read(cost, parts):
            found, i = usual(cost, parts), next(measurements) % len(parts)
            return [*found[:i], CostMeasurement.exactly(1.0, "measured"), *found[i + 1 :]]

        monkeypatch.setattr(SecondsCost, "read", read)
        clf = streaming(backbone=MLPBackbone(6, width=16, hidden=16), exits=3, cost="seconds")
        names = clf.set_params(max_epochs=1, warm_start=warm).fit(X, y).exit_names_
        for _ in range(4):
            clf = clf.fit(X, y) if warm else clf.partial_fit(X, y)
            assert clf.exit_names_ == names
        with pytest.raises(ValueError, match="the parameters describe another network"):
            clf.set_params(exits=["block1"]).partial_fit(X, y)

    def test_a_threshold_by_hand_stays(self):
        clf = streaming(threshold=0.0).partial_fit(X, y, classes=CLASSES)
        assert (clf.predict(X_test, return_exits=True)[1] == 0).all()

    def test_same_seed_same_model_and_stored_ones_go_on_alike(self):
        first, second = passes(streaming(), 1), passes(streaming(), 1)
        assert torch.equal(weights(first), weights(second))
        again = pickle.loads(pickle.dumps(first))
        assert torch.equal(weights(passes(again, 1)), weights(passes(second, 1)))

    def test_some_classes_at_a_time(self):
        clf = streaming()
        for label in CLASSES:
            clf.partial_fit(X[y == label], y[y == label], classes=CLASSES)
        assert np.array_equal(clf.classes_, CLASSES)
        assert clf.predict_proba(X_test).shape == (len(X_test), len(CLASSES))

    def test_rows_of_weight_0_do_not_count(self):
        used = np.arange(len(X)) % 2 == 0
        weighted = streaming().partial_fit(X, y, classes=CLASSES, sample_weight=used)
        left = streaming().partial_fit(X[used], y[used], classes=CLASSES)
        assert torch.equal(weights(weighted), weights(left))

    def test_weights_are_not_relative_to_those_of_the_call(self):
        params = {"optimizer": "sgd", "batch_size": 50, "dtype": "float64"}
        double = streaming(**params, lr=0.01)
        double.partial_fit(X, y, classes=CLASSES, sample_weight=np.full(len(X), 2.0))
        faster = streaming(**params, lr=0.02).partial_fit(X, y, classes=CLASSES)
        torch.testing.assert_close(weights(double), weights(faster))

    def test_class_weights_hold_for_rows_of_some_classes(self):
        weight = {0: 5.0, 1: 0.0}
        clf, by_hand = streaming(class_weight=weight), streaming()
        for label in CLASSES:
            rows = y == label
            by_label = np.full(rows.sum(), weight.get(label, 1.0))
            if label == 1:
                with pytest.raises(ValueError, match="All samples have weight 0"):
                    clf.partial_fit(X[rows], y[rows])
                continue
            clf.partial_fit(X[rows], y[rows], classes=CLASSES)
            by_hand.partial_fit(X[rows], y[rows], classes=CLASSES, sample_weight=by_label)
        assert torch.equal(weights(clf), weights(by_hand))

    def test_another_optimizer_starts_anew(self):
        clf = passes(streaming(), 1)
        sgd = copy.deepcopy(clf).set_params(optimizer="sgd").partial_fit(X, y)
        adamw = sgd.set_params(optimizer="adamw").partial_fit(X, y)
        assert adamw.score(X_test, y_test) > 0.4
        other = copy.deepcopy(clf).set_params(training="combined").partial_fit(X, y)
        assert isinstance(other.cascade_.network.combiner, WeightedCombination)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (torch.optim.AdamW, partial(torch.optim.AdamW, amsgrad=True)),
            (torch.optim.RMSprop, partial(torch.optim.RMSprop, centered=True)),
            (torch.optim.RMSprop, partial(torch.optim.RMSprop, momentum=0.9)),
        ],
    )
    def test_an_optimizer_with_another_state_starts_anew(self, before, after):
        clf = streaming(optimizer=before).partial_fit(X, y, classes=CLASSES)
        weights_ = weights(clf)
        clf.set_params(optimizer=after).partial_fit(X, y)
        assert not torch.equal(weights(clf), weights_)

    def test_settings_of_the_optimizer_are_those_of_now(self):
        def decaying(parameters, lr):
            return torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)

        decay = 0.0
        clf = streaming(optimizer=decaying).partial_fit(X, y, classes=CLASSES)
        kept = copy.deepcopy(clf).partial_fit(X, y)
        decay = 200.0
        assert weights(clf.partial_fit(X, y)).abs().mean() < 0.9 * weights(kept).abs().mean()

    def test_memory_keeps_no_pass_whose_optimizer_it_would_lose(self, tmp_path):
        def run(order, **params):
            clf = streaming(**params)
            for i in order:
                clf.partial_fit(X[100 * i :][:100], y[100 * i :][:100], classes=CLASSES)
            return weights(clf)

        run([0, 1, 2, 3], memory=str(tmp_path))
        assert torch.equal(run([0, 1, 3], memory=str(tmp_path)), run([0, 1, 3]))

    def test_stored_from_another_device_it_goes_on_in_main_memory(self):
        clf = passes(streaming(device="cpu:0"), 1)
        again = pickle.loads(pickle.dumps(clf))
        assert torch.equal(weights(passes(again, 1)), weights(passes(clf, 1)))

    def test_an_error_changes_nothing(self):
        clf = passes(streaming(), 1)
        before = weights(clf).clone()
        with pytest.raises(ValueError, match="diverged"):
            clf.set_params(lr=1e30).partial_fit(X, y)
        assert torch.equal(weights(clf), before)
        fitted = streaming(max_epochs=1, optimizer="sgd").fit(X, y).set_params(lr=1e12)
        with pytest.raises(ValueError, match=r"Lower lr \(it is 1000000000000\.0\)"):
            fitted.partial_fit(X, y)
        clf.set_params(lr=0.003).partial_fit(X, y)

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"training": "layerwise"}, "LayerwiseTraining trains in phases"),
            ({"training": "freeze_out"}, "FreezeOutTraining trains in phases"),
            ({"training": "separate"}, "SeparateTraining trains in phases"),
            ({"head": DecisionTreeClassifier()}, "scikit-learn heads are fitted to all samples"),
            ({"temperature_scaling": True}, "required by temperature_scaling"),
            ({"early_stopping": True}, "holds samples out"),
            ({"class_weight": "balanced"}, "counts the samples of each class"),
            ({"policy": "learned"}, "held-out samples are required by LearnedConfidencePolicy"),
            ({"exits": ExactPlacement(2, budget=0.8)}, "chooses exits by held-out samples"),
            ({"training": JointTraining("ramp")}, "depends on the progress of the training"),
            ({"training": MixedTraining("adaptive")}, "depends on the progress of the training"),
            ({"training": LocalErrorTraining("feedback")}, "the same random matrices"),
            ({"training": BottleneckTraining()}, "BottleneckTraining trains in phases"),
        ],
    )
    def test_what_needs_all_rows(self, params, message):
        clf = streaming(**params)
        assert not hasattr(clf, "partial_fit")
        with pytest.raises(AttributeError) as raised:
            clf.partial_fit(X, y, classes=CLASSES)
        assert message in str(raised.value)
        assert "has no attribute 'partial_fit'" in str(raised.value)

    @pytest.mark.parametrize("training", ["joint", "gated", LocalErrorTraining()], ids=str)
    def test_a_single_sample_and_batch_normalization(self, training):
        head = LinearHead(normalize=True)
        clf = streaming(training=training, head=head)
        clf.partial_fit(X[:40], y[:40], classes=CLASSES)
        before = weights(clf)
        statistics = [
            {k: v.clone() for k, v in part.state_dict().items() if "running" in k}
            for part in clf._network.heads
        ]
        clf.partial_fit(X[40:41], y[40:41])
        assert not torch.equal(weights(clf), before)
        for part, old in zip(clf._network.heads, statistics, strict=True):
            assert old  # the head does normalize
            assert all(torch.equal(part.state_dict()[name], old[name]) for name in old)
        # A stream goes on after it, and its first sample may come alone.
        clf.partial_fit(X[41:80], y[41:80])
        streaming(training=training, head=head).partial_fit(X[:1], y[:1], classes=CLASSES)

    @pytest.mark.parametrize("training", ["gated", "combined", "combiner", "mixed"])
    def test_one_exit_is_the_plain_network(self, training):
        clf = streaming(training=training, exits=1).partial_fit(X, y, classes=CLASSES)
        plain = streaming(exits=1).partial_fit(X, y, classes=CLASSES)
        assert np.array_equal(clf.predict_proba(X_test), plain.predict_proba(X_test))

    def test_a_combination_that_does_not_fit(self):
        with pytest.raises(ValueError, match="Got 2 weights for 3 exits"):
            streaming(combine=WeightedCombination([1, 2])).partial_fit(X, y, classes=CLASSES)

    def test_bad_rows(self):
        clf = streaming()
        with pytest.raises(ValueError, match="needs 'classes'"):
            clf.partial_fit(X, y)
        with pytest.raises(ValueError, match="not seen in fit"):
            clf.partial_fit(X, y, classes=[0, 1])
        with pytest.raises(ValueError, match="At least two classes"):
            clf.partial_fit(X[y == 0], y[y == 0], classes=[0])
        assert not hasattr(clf, "cascade_")
        clf.partial_fit(X, y, classes=CLASSES)
        with pytest.raises(ValueError, match="those of the first call"):
            clf.partial_fit(X, y, classes=[0, 1])
        with pytest.raises(ValueError, match="features"):
            clf.partial_fit(X[:, :-1], y)
        with pytest.raises(ValueError, match="All samples have weight 0"):
            clf.set_params(class_weight={0: 0.0}).partial_fit(X, y, sample_weight=y == 0)
        with pytest.raises(ValueError, match="another network"):
            clf.set_params(class_weight=None, exits=2).partial_fit(X, y)
        with pytest.raises(ValueError, match="another network"):
            clf.set_params(exits=3, backbone=MLPBackbone(4)).partial_fit(X, y)


class TestWarmStart:
    def test_goes_on(self):
        clf = streaming(warm_start=True, max_epochs=5).fit(X, y)
        loss = clf.history_[-1]["train_loss"]
        clf.fit(X, y)
        assert clf.history_[0]["train_loss"] < 1.1 * loss
        assert clf.history_[-1]["train_loss"] < loss
        fresh = streaming(max_epochs=5).fit(X, y)
        assert fresh.history_[0]["train_loss"] > 1.2 * loss

    def test_without_it_a_fit_begins_anew(self):
        clf = streaming().fit(X, y)
        before = weights(clf).clone()
        assert torch.equal(weights(clf.fit(X, y)), before)

    @pytest.mark.parametrize("training", ["mixed", "layerwise", "combined", "gated", "separate"])
    def test_all_trainings(self, training):
        clf = streaming(training=training, warm_start=True, max_epochs=6).fit(X, y)
        first = clf.score(X, y)
        for _ in range(3):
            clf.fit(X, y)
        assert clf.score(X, y) > first

    def test_what_was_learned_beside_the_network_goes_on_too(self):
        clf = streaming(training=CombinedTraining("free"), warm_start=True, max_epochs=10)
        first = clf.fit(X, y).cascade_.network.combiner.weights
        second = clf.set_params(max_epochs=1, lr=1e-6).fit(X, y).cascade_.network.combiner.weights
        np.testing.assert_allclose(first, second, atol=1e-3)
        assert np.abs(np.array(first) - 1 / 3).max() > 0.01

    @pytest.mark.parametrize(
        ("training", "kind"),
        [(CombinedTraining("max"), MaxCombination), ("combiner", RecurrentCombination)],
    )
    def test_another_way_to_combine_begins_anew(self, training, kind):
        clf = streaming(training="combined", warm_start=True).fit(X, y)
        assert isinstance(clf.cascade_.network.combiner, WeightedCombination)
        assert isinstance(
            clf.set_params(training=training).fit(X, y).cascade_.network.combiner, kind
        )

    def test_settings_of_the_network_are_those_of_now(self):
        clf = streaming(backbone=MLPBackbone(3, width=32, dropout=0.1), warm_start=True).fit(X, y)
        clf.set_params(backbone__dropout=0.7).fit(X, y)
        dropouts = [part for part in clf._network.modules() if isinstance(part, Dropout)]
        assert dropouts
        assert all(each.rate == 0.7 for each in dropouts)

    @pytest.mark.changes("numpy random state")
    def test_validation_rows_are_the_same_every_time(self):
        clf = streaming(warm_start=True, early_stopping=True, random_state=None)
        with pytest.raises(ValueError, match="has to hold out the same samples"):
            clf.fit(X, y)
        clf.fit(X, y, X_val=X_test, y_val=y_test)
        clf.set_params(random_state=3).fit(X, y).fit(X, y)

    def test_cross_fitted_heads_would_fall_behind(self):
        head = EstimatorHead(DecisionTreeClassifier(), cross_fit=2)
        with pytest.raises(ValueError, match="warm_start=True does not support"):
            streaming(warm_start=True, head=head).fit(X, y)

    def test_one_exit_holds_nothing_out(self):
        clf = quick(warm_start=True, exits=1, training="joint").fit(X, y)
        loss = clf.history_[-1]["train_loss"]
        assert clf.fit(X, y).history_[-1]["train_loss"] < loss

    def test_frozen_weights_stay_frozen(self):
        def backbone(row_shape, n_classes):
            first = torch.nn.Linear(row_shape[0], 32)
            first.requires_grad_(False)
            return [first, torch.nn.ReLU(), torch.nn.Linear(32, 32), torch.nn.Linear(32, n_classes)]

        clf = streaming(backbone=backbone, exits=[1], warm_start=True).fit(X, y)
        before = [each.clone() for each in clf.stages_[0].parameters()]
        clf.fit(X, y)
        clf.partial_fit(X, y)
        assert any(torch.equal(each, before[0]) for each in clf.stages_[0].parameters())

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"calibration": 0.2}, "may have been trained on any sample"),
            ({"calibration": "auto"}, "may have been trained on any sample"),
            ({"backbone": MLPBackbone(3, width=16)}, "another network"),
            ({"exits": 2}, "another network"),
            ({"head": "mlp"}, "another network"),
            ({"dtype": "float64"}, "another network"),
        ],
    )
    def test_another_network(self, params, message):
        clf = streaming(warm_start=True).fit(X, y)
        before = weights(clf).clone()
        with pytest.raises(ValueError, match=message):
            clf.set_params(**params).fit(X, y)
        assert torch.equal(weights(clf), before)

    def test_other_classes(self):
        clf = streaming(warm_start=True).fit(X, y)
        with pytest.raises(ValueError, match="classes of the previous fit"):
            clf.fit(X, y + 1)

    def test_a_clone_begins_anew(self):
        clf = streaming(warm_start=True).fit(X, y)
        again = clone(clf).fit(X, y)
        assert torch.equal(weights(again), weights(clf))
