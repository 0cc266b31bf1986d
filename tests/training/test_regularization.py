"""Weight decay, label smoothing, clipped gradients, and means of the weights."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from skearlyexit import EarlyExitClassifier, LinearHead
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit.backbones import Conv1DBackbone, MLPBackbone
from skearlyexit.backbones._mlp import Dropout, SmoothClip
from tests._data import blobs, quick, same

X, y, X_TEST, Y_TEST = blobs()


class Watch(Callback):
    """Remembers what it sees after every step, in a list that copies share."""

    def __init__(self, see):
        self.see = see
        self.seen = []

    def __deepcopy__(self, memo):
        return self

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            self.seen.append(self.see(net))


def parameters(module):
    return torch.cat([each.detach().flatten() for each in module.parameters()])


def weights(clf):
    modules = [*clf.stages_, *clf.heads_]
    return torch.cat([parameters(each) for each in modules])


class Branch(torch.nn.Module):
    """Normalization that only the first batches pass, or one of each sample by itself."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.n_calls = kind, 0
        norms = {"skipped": torch.nn.BatchNorm1d, "instance": torch.nn.InstanceNorm1d}
        self.norm = norms[kind](8, track_running_stats=True)

    def forward(self, x):
        self.n_calls += self.training
        return x if self.kind == "skipped" and self.n_calls > 3 else self.norm(x)


class TestAveraging:
    params = {
        "backbone": MLPBackbone(1, width=16, hidden=16),
        "exits": 2,
        "training": "joint",
        "calibration": None,
        "max_epochs": 15,
        "batch_size": 32,
    }

    def test_by_hand(self):
        """The network is the mean of the weights of all steps, in the order of the steps."""
        watch = Watch(lambda net: parameters(net.module_))
        clf = quick(**self.params, callbacks=[watch]).fit(X, y)
        mean = watch.seen[0].clone()
        for step, current in enumerate(watch.seen, start=1):
            mean += (current - mean) / max(1.0, min(20, step / 10))
        assert len(watch.seen) == 240  # more than 200, after which 20 steps count
        torch.testing.assert_close(weights(clf), mean)
        assert not torch.equal(weights(clf), watch.seen[-1])

    def test_the_next_epoch_goes_on_from_the_weights_themselves(self):
        steps = []
        for weight_averaging in (True, False):
            watch = Watch(lambda net: parameters(net.module_))
            params = {**self.params, "weight_averaging": weight_averaging, "early_stopping": True}
            quick(**params, n_iter_no_change=50, callbacks=[watch]).fit(X, y)
            steps.append(torch.stack(watch.seen))
        assert torch.equal(*steps)

    def test_normalization_has_the_statistics_of_the_mean(self):
        clf, plain = (
            quick(**self.params, weight_averaging=averaging).fit(X, y)
            for averaging in (True, False)
        )
        norms = [each.stages_[1].blocks[0].branch[0] for each in (clf, plain)]
        assert not torch.equal(norms[0].running_mean, norms[1].running_mean)
        # What the mean network returns for training samples is normalized by its own statistics.
        normed = norms[0](clf.stages_[0](torch.tensor(X, dtype=torch.float32))[0])
        assert normed.mean(dim=0).abs().max() < 0.3
        assert (normed.std(dim=0) - 1).abs().max() < 0.3

    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_series_are_normalized_by_statistics_of_the_final_weights(self, early_stopping):
        rng = np.random.default_rng(0)
        classes = np.arange(120) % 3
        times = np.linspace(0, 2 * np.pi, 40) * (1 + classes)[:, None]
        series = np.sin(times + rng.uniform(0, 6, (120, 1))) + 0.3 * rng.normal(size=(120, 40))
        series = series[:, None].astype(np.float32)
        backbone = Conv1DBackbone((16, 32), n_blocks=1)
        clf = quick(
            **{**self.params, "backbone": backbone, "batch_size": 16, "max_epochs": 6},
            early_stopping=early_stopping,
        ).fit(series, classes)
        normalizations = [
            part
            for stage in clf.stages_
            for part in stage.modules()
            if isinstance(part, torch.nn.BatchNorm1d)
        ]
        far = []

        def measure(layer, inputs):
            shift = inputs[0].mean(dim=(0, 2)) - layer.running_mean
            far.append(float((shift / layer.running_var.sqrt()).abs().max()))

        for layer in normalizations:
            layer.register_forward_pre_hook(measure)
        with torch.inference_mode():
            carry = torch.from_numpy(series)
            for stage in clf.stages_:
                carry, _ = stage(carry)
        assert len(far) == len(normalizations) == 6
        assert max(far) < 0.08

    @pytest.mark.parametrize("kind", ["skipped", "instance"])
    def test_statistics_of_layers_that_are_not_renewed_are_kept(self, kind):
        with isolated_random_state(0):
            network = torch.nn.Sequential(torch.nn.Conv1d(2, 8, 3), Branch(kind))
        head = LinearHead(normalize=False)
        clf = quick(
            **{**self.params, "backbone": network, "exits": 1, "max_epochs": 6, "head": head},
        )
        rng = np.random.default_rng(0)
        clf.fit(20 + rng.normal(size=(60, 2, 12)).astype(np.float32), np.arange(60) % 3)
        norms = [
            part
            for stage in clf.stages_
            for part in stage.modules()
            if isinstance(part, torch.nn.BatchNorm1d | torch.nn.InstanceNorm1d)
        ]
        assert len(norms) == 1
        assert norms[0].running_mean.abs().min() > 0.01
        assert norms[0].momentum == 0.1

    def test_validation_loss_is_that_of_the_mean(self):
        clf = quick(
            **{**self.params, "backbone": MLPBackbone(2, width=16, dropout=0.0)},
            early_stopping=True,
            n_iter_no_change=100,
            dtype="float64",
        ).fit(X, y, X_val=X_TEST, y_val=Y_TEST)
        best = min(clf.history_, key=lambda epoch: epoch["valid_loss"])
        outputs = clf.exit_table(X_TEST).probabilities
        losses = -np.log(outputs[np.arange(len(Y_TEST)), :, Y_TEST]).mean(axis=0)
        np.testing.assert_allclose(best["valid_exit_losses"], losses, rtol=1e-6)

    @pytest.mark.parametrize("training", ["mixed", "separate", "layerwise", "freeze_out", "gated"])
    def test_every_phase(self, training):
        clf = quick(training=training, max_epochs=12).fit(X, y)
        plain = quick(training=training, max_epochs=12, weight_averaging=False).fit(X, y)
        assert not same(clf.exit_table(X_TEST).scores, plain.exit_table(X_TEST).scores)
        assert clf.score(X_TEST, Y_TEST, threshold=np.inf) > 0.5  # of four classes


def test_gradients_are_clipped():
    def norm(net):
        return float(
            torch.linalg.vector_norm(
                torch.cat([each.grad.flatten() for each in net.module_.parameters()])
            )
        )

    watch, clipped = Watch(norm), Watch(norm)
    params = {"training": "joint", "calibration": None, "max_epochs": 2}
    quick(**params, callbacks=[watch]).fit(X, y)
    quick(**params, callbacks=[clipped], gradient_clipping=0.05).fit(X, y)
    assert min(watch.seen) > 0.05
    np.testing.assert_allclose(clipped.seen, 0.05, rtol=1e-3)


def test_weight_decay_is_that_of_the_optimizer():
    watch = Watch(lambda net: [group["weight_decay"] for group in net.optimizer_.param_groups])
    for optimizer, decay, expected in (
        ("adamw", None, 0.01), ("adam", None, 0), ("sgd", None, 0), ("adam", 0.3, 0.3),
        ("muon", None, 0.01), ("muon", 0.3, 0.3),
    ):  # fmt: skip
        params = {"optimizer": optimizer, "weight_decay": decay, "max_epochs": 1}
        quick(**params, callbacks=[watch]).fit(X, y)
        assert watch.seen[-1] == [expected]


def test_smoothed_labels_give_less_confident_predictions():
    params = {"training": "joint", "calibration": None, "max_epochs": 60, "threshold": np.inf}
    largest = [
        quick(**params, label_smoothing=share).fit(X, y).predict_proba(X).max(axis=1).mean()
        for share in (0.0, 0.4)
    ]
    assert largest[0] > 0.8
    # 0.6 of the target, and a quarter of the rest, are at the class of the sample.
    assert 0.55 < largest[1] < 0.75


class TestDropout:
    def test_rate_and_mean(self):
        layer = Dropout(0.25)
        ones = torch.ones(1000, 101)
        with isolated_random_state(0):
            first, second = layer(ones), layer(ones)
        assert float((first == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
        assert first.unique().tolist() == pytest.approx([0, 1 / 0.75])
        assert float(first.mean()) == pytest.approx(1, abs=0.01)
        both = float(((first == 0) & (second == 0)).float().mean())
        assert both == pytest.approx(0.25**2, abs=0.01)
        # Neighboring values are dropped independently, too.
        beside = float(((first[:, 1:] == 0) & (first[:, :-1] == 0)).float().mean())
        assert beside == pytest.approx(0.25**2, abs=0.01)

    def test_not_in_evaluation(self):
        x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
        assert torch.equal(Dropout(0.5).eval()(x), x)

    @pytest.mark.parametrize("n", [1, 8, 13, 256])
    def test_at_most_eight_samples_share_dropped_units(self, n):
        with isolated_random_state(0):
            out = Dropout(0.5)(torch.ones(n, 64))
        patterns, counts = out.unique(dim=0, return_counts=True)
        assert out.shape == (n, 64)
        assert len(patterns) == -(-n // 8)
        assert int(counts.max()) <= 8

    @pytest.mark.parametrize("n", [16, 13])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_gradient(self, dtype, n):
        x = torch.ones(n, 3, dtype=dtype, requires_grad=True)
        with isolated_random_state(0):
            out = Dropout(0.5)(x)
        out.sum().backward()
        assert torch.equal(x.grad, out.detach())
        assert out.dtype == dtype


def test_smooth_clip():
    x = torch.tensor([-1e6, -3.0, 0.0, 0.01, 3.0, 1e6], dtype=torch.float64)
    expected = [-3, -3 / 2**0.5, 0, 0.01, 3 / 2**0.5, 3]
    np.testing.assert_allclose(SmoothClip(3.0)(x).numpy(), expected, rtol=1e-5)


def test_default_overfits_less_where_nothing_can_be_learned():
    """Labels by chance, for which no log loss is lower than that of equal probabilities."""
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(700, 20)), rng.integers(0, 2, size=700)
    simple = {
        "backbone": MLPBackbone(dropout=0.0, smooth_clip=None),
        "early_stopping": False,
        "weight_averaging": False,
        "label_smoothing": 0.0,
    }
    excess = []
    for params in ({}, simple):
        clf = EarlyExitClassifier(calibration=None, random_state=0, **params)
        clf.fit(rows[:400], labels[:400])
        found = clf.predict_proba(rows[400:], threshold=np.inf)[np.arange(300), labels[400:]]
        excess.append(-np.log(found).mean() - np.log(2))
    assert excess[1] > 5 * excess[0]
