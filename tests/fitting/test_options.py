"""What "auto" means for the length of the training."""

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier
from skorch.callbacks import Callback
from torch import nn

from skearlyexit import CNNBackbone, EarlyExitClassifier, EstimatorHead, MLPBackbone
from skearlyexit._fitting import _fit
from skearlyexit._fitting._cascade_fitter import CascadeFitter
from skearlyexit.training._options import Patience
from tests._data import blobs, make, quick, same

X, y, X_TEST, Y_TEST = blobs()
#: Options with which early stopping ends the training, and not its last epoch.
STOPS = {"max_epochs": 60, "n_iter_no_change": 1, "lr": 0.05}


def stops(n, clf=None, **given):
    clf = quick(early_stopping="auto", max_epochs=2, calibration=None) if clf is None else clf
    return "valid_loss" in clf.fit(X[:n], y[:n], **given).history_[0]


class TestEarlyStopping:
    def test_with_enough_samples(self):
        assert not stops(99)
        assert stops(100)

    def test_with_enough_groups(self):
        assert not stops(200, groups=np.arange(200) % 9)
        assert stops(200, groups=np.arange(200) % 10)

    @pytest.mark.filterwarnings("ignore:The number of unique classes")
    def test_with_enough_samples_of_a_class(self):
        for n_classes, expected in ((40, True), (41, False), (120, False)):
            clf = quick(early_stopping="auto", max_epochs=2, calibration="auto")
            clf.fit(X[:120], np.arange(120) % n_classes)
            assert ("valid_loss" in clf.history_[0]) is expected

    def test_with_given_samples_however_few(self):
        assert stops(60, X_val=X_TEST, y_val=Y_TEST)

    def test_not_with_warm_start(self):
        clf = quick(early_stopping="auto", warm_start=True, max_epochs=2, calibration=None)
        assert not stops(300, clf)

    def test_partial_fit_holds_nothing_out(self):
        clf = quick(early_stopping="auto", calibration=None)
        clf.partial_fit(X, y, classes=range(4))
        assert "valid_loss" not in clf.history_[0]

    def test_its_samples_are_neither_trained_on_nor_calibrated_on(self):
        seen = []

        class Watch(Callback):
            def __deepcopy__(self, memo):
                return self

            def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
                seen.extend([dataset_train.X.numpy(), dataset_valid.X.numpy()])

        params = {"early_stopping": "auto", "max_epochs": 1, "dtype": "float64"}
        clf = quick(**params, calibration=0.3, callbacks=[Watch()]).fit(X, y)
        assert clf.operating_point_.n_samples == 150
        assert [len(part) for part in seen] == [315, 35]
        assert len(np.unique(np.concatenate(seen), axis=0)) == 350

    def test_folds_stop_by_themselves(self):
        watched = []

        class Watch(Callback):
            def __deepcopy__(self, memo):
                return self

            def on_train_end(self, net, X=None, **kwargs):
                watched.append((len(X), "valid_loss" in net.history[-1]))

        params = {"early_stopping": "auto", "calibration": 2, "max_epochs": 3}
        quick(**params, callbacks=[Watch()]).fit(X, y)
        assert watched == [(225, True), (225, True), (450, True)]
        watched.clear()
        # Of many samples, the final network goes on with the validation samples of the last fold,
        # if early stopping ended it.
        many = np.tile(X, (5, 1)), np.tile(y, 5)
        quick(**params, callbacks=[Watch()]).fit(*many)
        assert watched == [(1125, True), (1125, True), (2250, True)]
        watched.clear()
        quick(**params | STOPS, callbacks=[Watch()]).fit(*many)
        assert watched == [(1125, True), (1125, True), (2375, True)]


def test_default_number_of_samples_in_a_step():
    sizes = []

    class Watch(Callback):
        def __deepcopy__(self, memo):
            return self

        def on_batch_begin(self, net, batch=None, training=False, **kwargs):
            sizes.append(len(batch[0]))

    params = {"batch_size": "auto", "max_epochs": 1, "calibration": None, "callbacks": [Watch()]}
    many = np.tile(X, (8, 1)), np.tile(y, 8)
    images = many[0][:, :12].reshape(-1, 3, 4)
    flattened = CNNBackbone((16,), n_blocks=1, image_shape=(3, 4))
    for clf, rows, expected in (
        (quick(**params), many[0][:3999], 256),
        (quick(**params), many[0], 512),
        (quick(**params, backbone=CNNBackbone((16,), n_blocks=1), exits=1), images, 64),
        (quick(**params, backbone=flattened, exits=1), images.reshape(4000, 12), 64),
    ):
        sizes.clear()
        clf.fit(rows, many[1][: len(rows)])
        assert len(sizes) == -(-len(rows) // expected)
        assert max(sizes) - min(sizes) <= 1


def test_default_optimizer():
    class Watch(Callback):
        def __deepcopy__(self, memo):
            return self

        def on_train_end(self, net, **kwargs):
            self.seen = type(net.optimizer_).__name__
            self.n_matrices = sum("momentum" in each for each in net.optimizer_.state.values())

    watch = Watch()
    params = {"optimizer": "auto", "max_epochs": 1, "calibration": None, "callbacks": [watch]}
    many = np.tile(X, (8, 1)), np.tile(y, 8)
    image_params = {**params, "backbone": CNNBackbone((16,), n_blocks=1), "exits": 1}
    images = X[:, :12].reshape(-1, 3, 4)
    layers = make(lambda: [nn.Linear(X.shape[1], 16), nn.ReLU(), nn.Linear(16, 16)])
    for fit, expected in (
        (lambda: quick(**params).fit(many[0][:3999], many[1][:3999]), "AdamW"),
        (lambda: quick(**params).fit(*many), "Muon"),
        (lambda: quick(**{**params, "calibration": 0.5}).fit(*many), "Muon"),
        (lambda: quick(**params).partial_fit(*many, classes=np.unique(y)), "AdamW"),
        (lambda: quick(**image_params).fit(images, y), "Muon"),
        (lambda: quick(**image_params).partial_fit(images, y, classes=np.unique(y)), "Muon"),
        (lambda: quick(**params).fit(images, y), "AdamW"),
        (lambda: quick(**{**params, "optimizer": "adamw"}).fit(*many), "AdamW"),
        (lambda: quick(**{**params, "backbone": layers, "exits": 1}).fit(*many), "AdamW"),
    ):
        fit()
        assert watch.seen == expected
        assert (watch.n_matrices > 0) is (expected == "Muon")


@pytest.mark.parametrize(
    "validation", [{}, {"X_val": X_TEST, "y_val": Y_TEST}], ids=["own", "given"]
)
def test_the_final_network_goes_on_where_the_last_fold_ended(validation):
    losses = []

    class Watch(Callback):
        def __deepcopy__(self, memo):
            return self

        def on_batch_end(self, net, training=False, loss=None, **kwargs):
            if training:
                losses.append((len(net.history), loss.item()))

    params = {"early_stopping": True, "training": "joint", "max_epochs": 8}
    many = np.tile(X, (5, 1)), np.tile(y, 5)
    quick(**params, calibration=2, callbacks=[Watch()]).fit(*many, **validation)
    first = [loss for epoch, loss in losses if epoch == 1]
    n_steps = len(first) // 3
    assert first[0] == pytest.approx(first[n_steps], rel=0.5)  # both folds start anew
    assert first[-1] < 0.8 * first[n_steps]


class TestTheFinalNetworkStartsAnew:
    """With many samples, wherever it cannot continue the training of the last fold."""

    MANY = np.tile(X, (6, 1)), np.tile(y, 6)
    AUTO = {"early_stopping": "auto", "calibration": "auto", **STOPS}

    def test_if_nothing_is_trained(self):
        layers = make(lambda: [nn.Linear(X.shape[1], 16), nn.ReLU(), nn.Linear(16, 16)])
        head = DecisionTreeClassifier(max_depth=3)
        clf = quick(backbone=layers, exits=2, head=head, training="separate", **self.AUTO)
        assert clf.fit(*self.MANY).history_ == []

    def test_if_its_architecture_depends_on_the_samples(self):
        class Wide(MLPBackbone):
            def build(self, X, n_classes):
                hidden = 16 * (1 + len(X) // 500)  # fewer in a fold
                return MLPBackbone(self.n_blocks, width=16, hidden=hidden).build(X, n_classes)

        clf = quick(backbone=Wide(2), exits=["stem"], **self.AUTO).fit(*self.MANY)
        widths = {len(each) for each in clf.cascade_.network.stages[-1].parameters()}
        assert 16 * (1 + 2700 // 500) in widths

    def test_if_heads_are_cross_fitted(self, monkeypatch):
        starts = []
        original = CascadeFitter.fit

        def fit(self, *args, start=None, **kwargs):
            starts.append(start)
            return original(self, *args, start=start, **kwargs)

        monkeypatch.setattr(CascadeFitter, "fit", fit)
        head = EstimatorHead(DecisionTreeClassifier(max_depth=3), cross_fit=2)
        quick(head=[head, "linear", "linear"], **self.AUTO).fit(*self.MANY)
        assert starts == [None, None]
        quick(**self.AUTO).fit(*self.MANY)
        assert [start is None for start in starts] == [True, True, True, False]


def test_the_fold_is_kept_if_it_is_better(monkeypatch):
    monkeypatch.setattr(_fit, "_least_loss", lambda fit: -len(fit.validation or ()))
    many = np.tile(X, (6, 1)), np.tile(y, 6)
    params = {"early_stopping": "auto", "calibration": "auto", **STOPS}
    clf = quick(**params).fit(*many)
    alone = quick(**params, verbose=0)
    seen = []
    original = CascadeFitter.fit

    def fit(self, *args, **kwargs):
        seen.append(original(self, *args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(CascadeFitter, "fit", fit)
    alone.fit(*many)
    assert alone.history_ == seen[0].history
    assert same(alone.predict_proba(X_TEST), clf.predict_proba(X_TEST))


def test_default_number_of_epochs():
    assert len(quick(max_epochs="auto", calibration=None).fit(X[:90], y[:90]).history_) == 40
    clf = EarlyExitClassifier(
        quick().backbone, calibration=None, n_iter_no_change=200, random_state=0
    )
    assert len(clf.fit(X[:110], y[:110]).history_) == 200


@pytest.mark.parametrize(("n_steps", "n_epochs"), [(1, 30), (4, 8), (9, 4), (16, 3), (1000, 3)])
def test_default_patience(n_steps, n_epochs):
    assert Patience(None).epochs(n_steps) == n_epochs
    assert Patience(7).epochs(n_steps) == 7


@pytest.mark.parametrize("early_stopping", ["auto", False])
def test_learning_rate_decreases_only_without_early_stopping(early_stopping):
    rates = []

    class Watch(Callback):
        def __deepcopy__(self, memo):
            return self

        def on_batch_end(self, net, training=False, **kwargs):
            if training:
                rates.append(net.optimizer_.param_groups[0]["lr"])

    quick(early_stopping=early_stopping, calibration=None, callbacks=[Watch()]).fit(X, y)
    assert (len(set(rates)) == 1) == (early_stopping == "auto")


@pytest.mark.parametrize(
    "params",
    [
        {"early_stopping": "always"},
        {"max_epochs": "many"},
        {"n_iter_no_change": "few"},
        {"weight_decay": -0.1},
        {"label_smoothing": 1.0},
        {"gradient_clipping": 0.0},
        {"lr_schedule": "linear"},
        {"exits": "best"},
    ],
    ids=str,
)
def test_invalid(params):
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter of EarlyExit"):
        quick(**params).fit(X, y)
