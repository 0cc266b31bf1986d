"""partial_fit, warm_start, and what a training tells of itself."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.tree import DecisionTreeClassifier
from skorch.callbacks import Callback

from skearlyexit import (
    CombinedTraining,
    EarlyExitClassifier,
    ExactPlacement,
    FreezeOutTraining,
    JointTraining,
    LocalErrorTraining,
    MLPBackbone,
)
from skearlyexit.runtime import outputs
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
            *("joint", "mixed", "distillation", "combiner", "gated", "auxiliary"),
            CombinedTraining(every_exit=True),
            LocalErrorTraining("feedback"),
        ],
        ids=str,
    )
    def test_learns_from_rows_as_they_come(self, training):
        clf = streaming(training=training)
        first = passes(clf, 1).score(X_test, y_test)
        assert passes(clf, 11).score(X_test, y_test) > max(0.5, first)

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

    def test_no_training_rows_judge_the_thresholds(self):
        clf = quick(training="joint", budget=0.6).fit(X, y)
        assert clf.frontier_ is not None
        clf.partial_fit(X, y)
        assert clf.frontier_ is None
        assert (clf.predict(X_test, return_exits=True)[1] == clf.n_exits_ - 1).all()
        assert "calibrate" in clf.operating_point_.reason
        clf.calibrate(X_test[:200], y_test[:200])
        assert clf.operating_point_.cost <= 0.6

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

    def test_an_error_changes_nothing(self):
        clf = passes(streaming(), 1)
        before = weights(clf).clone()
        with pytest.raises(ValueError, match="diverged"):
            clf.set_params(lr=1e30).partial_fit(X, y)
        assert torch.equal(weights(clf), before)
        clf.set_params(lr=0.003).partial_fit(X, y)

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"training": "layerwise"}, "LayerwiseTraining goes through phases"),
            ({"training": "freeze_out"}, "FreezeOutTraining goes through phases"),
            ({"training": "separate"}, "SeparateTraining goes through phases"),
            ({"head": DecisionTreeClassifier()}, "neural heads"),
            ({"early_stopping": True}, "holds rows out"),
            ({"class_weight": "balanced"}, "counts the rows of each class"),
            ({"policy": "learned"}, "LearnedConfidencePolicy learn from held-out rows"),
            ({"exits": ExactPlacement(2, budget=0.8)}, "judges places by held-out rows"),
        ],
    )
    def test_what_needs_all_rows(self, params, message):
        with pytest.raises(ValueError, match=message):
            streaming(**params).partial_fit(X, y, classes=CLASSES)

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
        with pytest.raises(ValueError, match="All rows have weight 0"):
            clf.set_params(class_weight={0: 0.0}).partial_fit(X, y, sample_weight=y == 0)
        with pytest.raises(ValueError, match="another network"):
            clf.set_params(exits=2, backbone=MLPBackbone(4)).partial_fit(X, y)


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
        first = clf.fit(X, y).cascade_.combiner.weights
        second = clf.set_params(max_epochs=1, lr=1e-6).fit(X, y).cascade_.combiner.weights
        np.testing.assert_allclose(first, second, atol=1e-3)
        assert np.abs(np.array(first) - 1 / 3).max() > 0.01

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
            ({"calibration": 0.2}, "may have seen any row"),
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
        with pytest.raises(ValueError, match="classes of the fit before"):
            clf.fit(X, y + 1)

    def test_a_clone_begins_anew(self):
        clf = streaming(warm_start=True).fit(X, y)
        again = clone(clf).fit(X, y)
        assert torch.equal(weights(again), weights(clf))


class TestHistory:
    @pytest.mark.parametrize(
        ("training", "exits"),
        [
            ("joint", [[0, 1, 2]] * 6),
            ("mixed", [[2]] * 3 + [[0, 1, 2]] * 3),
            ("separate", [[2]] * 3 + [[0, 1]] * 3),
            ("layerwise", [[0]] * 6 + [[1]] * 6 + [[2]] * 6),
            ("gated", [[0, 1, 2]] * 6),
            ("local_error", [[0, 1, 2]] * 6),
            (LocalErrorTraining("similarity"), [[0, 1, 2]] * 6),
        ],
        ids=str,
    )
    def test_every_exit_in_every_epoch(self, training, exits):
        clf = quick(training=training, early_stopping=True, n_iter_no_change=50).fit(X, y)
        assert [epoch["exits"] for epoch in clf.history_] == exits
        for epoch in clf.history_:
            for part in ("train", "valid"):
                assert len(epoch[f"{part}_exit_losses"]) == len(epoch["exits"])
                assert np.isfinite(epoch[f"{part}_exit_losses"]).all()
                assert all(0 <= each <= 1 for each in epoch[f"{part}_exit_accuracies"])

    def test_of_validation_rows_it_is_what_the_exits_say(self):
        """Without dropout, the last epoch's numbers are those of the final network."""
        clf = EarlyExitClassifier(
            MLPBackbone(3, width=32, dropout=0.0),
            exits=3,
            training="joint",
            calibration=None,
            max_epochs=5,
            early_stopping=True,
            n_iter_no_change=50,
            dtype="float64",
            lr_schedule="constant",
            random_state=0,
        ).fit(X, y, X_val=X_test, y_val=y_test)
        best = min(clf.history_, key=lambda epoch: epoch["valid_loss"])
        said = outputs(clf.cascade_, X_test)
        rows = np.arange(len(X_test))
        losses = [-np.log(said[rows, i, y_test]).mean() for i in range(3)]
        np.testing.assert_allclose(best["valid_exit_losses"], losses, rtol=1e-6)
        hits = (said.argmax(axis=2) == y_test[:, None]).mean(axis=0)
        np.testing.assert_allclose(best["valid_exit_accuracies"], hits)
        assert best["valid_loss"] == pytest.approx(sum(losses), rel=1e-6)

    def test_frozen_exits_are_not_judged_in_training(self):
        clf = quick(training=FreezeOutTraining(0.0, spacing="linear"), max_epochs=9).fit(X, y)
        missing = np.isnan([epoch["train_exit_losses"] for epoch in clf.history_])
        assert not missing[0].any()
        assert missing[-1].tolist() == [True, True, False]

    def test_early_stopping_looks_at_all_exits(self):
        """With growing weights the sum of the losses rises by them alone, and stops nothing."""
        clf = quick(
            training=JointTraining("ramp"),
            early_stopping=True,
            n_iter_no_change=5,
            max_epochs=25,
            lr_schedule="constant",
        ).fit(X, y)
        share = clf.costs_[:-1] / clf.costs_[-1]
        for epoch in clf.history_:
            *early, last = epoch["valid_exit_losses"]
            assert last < epoch["valid_loss"] < last + sum(early)
            assert epoch["valid_loss"] == pytest.approx(last + share @ early, rel=0.1)

    def test_by_hand(self):
        """One batch, one epoch: the loss before the only step is that of the network as built."""
        seen = []

        class Watch(Callback):
            def __deepcopy__(self, memo):
                return self

            def on_batch_end(self, net, batch=None, y_pred=None, **kwargs):
                labels = batch[1][0].numpy()
                logits = np.stack([each.detach().numpy() for each in y_pred])
                rows = np.arange(len(labels))
                losses = -log_softmax(logits.astype(np.float64), axis=2)[:, rows, labels]
                seen.append((losses.mean(axis=1), (logits.argmax(axis=2) == labels).mean(axis=1)))

        clf = streaming(max_epochs=1, batch_size=1000, callbacks=[Watch()]).fit(X, y)
        np.testing.assert_allclose(clf.history_[0]["train_exit_losses"], seen[0][0], rtol=1e-5)
        np.testing.assert_allclose(clf.history_[0]["train_exit_accuracies"], seen[0][1])


class TestAcceleration:
    def test_half_the_bits_train_nearly_the_same(self):
        exact = streaming(max_epochs=15).fit(X, y)
        mixed = streaming(max_epochs=15, mixed_precision=True).fit(X, y)
        assert not torch.equal(weights(mixed), weights(exact))
        assert mixed.score(X_test, y_test) > exact.score(X_test, y_test) - 0.05
        assert all(each.dtype == torch.float32 for each in mixed.stages_[0].parameters())

    @pytest.mark.parametrize("training", ["separate", "layerwise", "gated", "freeze_out"])
    def test_of_all_trainings(self, training):
        clf = quick(training=training, mixed_precision=True).fit(X, y)
        assert np.isfinite(clf.predict_proba(X_test)).all()

    def test_compiled_is_the_same(self):
        plain = streaming(max_epochs=2).fit(X, y)
        compiled = streaming(max_epochs=2, compile={"backend": "eager"}).fit(X, y)
        assert torch.equal(weights(compiled), weights(plain))

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"mixed_precision": True, "dtype": "float64"}, "cannot keep the precision"),
            ({"mixed_precision": True, "device": "meta"}, "torch cannot use|does not have"),
            ({"compile": "fast"}, "'compile' parameter"),
        ],
    )
    def test_refused(self, params, message):
        with pytest.raises(ValueError, match=message):
            streaming(**params).fit(X, y)
