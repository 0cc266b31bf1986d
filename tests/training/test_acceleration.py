"""Training in half the bits, and compiled."""

import pytest
import torch

from skearlyexit import LayerwiseTraining, LocalErrorTraining, MLPBackbone
from skearlyexit.experimental import BottleneckTraining, ReinforcedTraining, TargetTraining
from skearlyexit.training._registry import STRATEGIES
from tests._data import blobs, quick
from tests.fitting.test_continued_training import streaming, weights

X, y, X_test, y_test = blobs()


def test_half_the_bits_train_nearly_the_same():
    exact = streaming(max_epochs=8, lr=0.01).fit(X, y)
    mixed = streaming(max_epochs=8, lr=0.01, mixed_precision=True).fit(X, y)
    assert not torch.equal(weights(mixed), weights(exact))
    assert mixed.score(X_test, y_test) > exact.score(X_test, y_test) - 0.05
    assert all(each.dtype == torch.float32 for each in mixed.stages_[0].parameters())


@pytest.mark.parametrize(
    "training",
    [
        *sorted(set(STRATEGIES) - {"joint", "mixed"}),
        LocalErrorTraining("feedback"),
        LocalErrorTraining("similarity"),
        LayerwiseTraining(local="reconstruction"),
        BottleneckTraining(information="discriminators"),
        ReinforcedTraining(),
        TargetTraining(),
    ],
    ids=str,
)
def test_half_the_bits_in_every_training(training):
    params = {"training": training, "calibration": None, "max_epochs": 2}
    exact = quick(**params).fit(X, y)
    clf = quick(**params, mixed_precision=True).fit(X, y)
    assert not torch.equal(weights(clf), weights(exact))
    losses = [each.history_[-1]["train_loss"] for each in (clf, exact)]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)


def test_every_training_is_compiled():
    """However many there are: torch gives up on one code after some times."""
    graphs = []

    def backend(module, example_inputs):
        graphs.append(module)
        return module

    with torch._dynamo.config.patch(recompile_limit=2):  # it is 8
        for width in (16, 18, 20):
            before = len(graphs)
            params = {
                "backbone": MLPBackbone(2, width=width, dropout=0.0),
                "exits": 2,
                "max_epochs": 1,
            }
            compiled = streaming(**params, compile={"backend": backend}).fit(X, y)
            assert len(graphs) > before
    plain = streaming(**params).fit(X, y)
    torch.testing.assert_close(weights(compiled), weights(plain))


def test_dropout_is_compiled_with_the_rest():
    """Also for batches of several sizes."""
    graphs = []

    def backend(module, example_inputs):
        graphs.append(module)
        return module

    network = MLPBackbone(2, width=16, hidden=16, dropout=0.3)
    params = {"backbone": network, "exits": 2, "max_epochs": 1, "batch_size": 96}
    streaming(**params, compile={"backend": backend, "fullgraph": True}).fit(X, y)
    assert 0 < len(graphs) <= 4


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"mixed_precision": True, "dtype": "float64"}, "cannot keep the precision"),
        ({"mixed_precision": True, "device": "meta"}, "torch cannot use|does not have"),
        ({"compile": "fast"}, "'compile' parameter"),
    ],
)
def test_refused(params, message):
    with pytest.raises(ValueError, match=message):
        streaming(**params).fit(X, y)
