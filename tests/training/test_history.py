"""What a training tells of itself."""

import numpy as np
import pytest
from scipy.special import log_softmax
from skorch.callbacks import Callback

from skearlyexit import (
    EarlyExitClassifier,
    FreezeOutTraining,
    JointTraining,
    LayerwiseTraining,
    LocalErrorTraining,
    MLPBackbone,
)
from skearlyexit.runtime._driver import outputs
from tests._data import blobs, quick

X, y, X_test, y_test = blobs()


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
        said = outputs(clf.cascade_.network, X_test).probabilities
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
                logs = log_softmax(logits.astype(np.float64), axis=2)
                # A tenth of the target is spread over all classes.
                losses = -0.9 * logs[:, rows, labels] - 0.1 * logs.mean(axis=2)
                seen.append((losses.mean(axis=1), (logits.argmax(axis=2) == labels).mean(axis=1)))

        params = {"training": "joint", "calibration": None, "max_epochs": 1, "batch_size": 1000}
        params["label_smoothing"] = 0.1
        clf = quick(**params, callbacks=[Watch()]).fit(X, y)
        np.testing.assert_allclose(clf.history_[0]["train_exit_losses"], seen[0][0], rtol=1e-5)
        np.testing.assert_allclose(clf.history_[0]["train_exit_accuracies"], seen[0][1])

    def test_stages_without_labels_have_nothing_to_tell(self):
        training = LayerwiseTraining(local="reconstruction", local_share=1)
        clf = quick(training=training).fit(X, y)
        assert [epoch["exits"] for epoch in clf.history_] == [[]] * 18 + [[0, 1, 2]] * 6
        assert clf.history_[0]["train_exit_losses"] == []
