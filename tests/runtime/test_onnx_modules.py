"""Modules of known types are converted to ONNX without the exporter of torch."""

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.datasets import load_digits

from skearlyexit import EarlyExitClassifier, EarlyExitRegressor, MLPHead
from skearlyexit._onnx._convert import from_module
from skearlyexit._onnx._modules import known_module
from skearlyexit.backbones import PaddedLinear
from skearlyexit.backbones._images import ImageLayout, Images
from skearlyexit.backbones._mlp import PeriodicFeatures, SmoothClip
from skearlyexit.heads import GlobalAveragePooling, NeuralHead, QuarterPooling
from tests._data import make

X, y = load_digits(return_X_y=True)
X = X[:300].astype(np.float32)
y = y[:300]

MODULES = {
    "linear layers": (
        torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(6, 5, bias=False),
            torch.nn.BatchNorm1d(5, affine=False),
            torch.nn.ReLU(inplace=True),
            torch.nn.Dropout(),
            torch.nn.Linear(5, 3),
        ),
        (2, 3),
    ),
    "convolutions": (
        torch.nn.Sequential(
            torch.nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(0, 1), dilation=2, groups=2),
            torch.nn.BatchNorm2d(6),
            torch.nn.Identity(),
            torch.nn.Conv2d(6, 2, 1, bias=False),
        ),
        (4, 9, 7),
    ),
    "normalizations without a shift": (
        torch.nn.Sequential(
            torch.nn.BatchNorm2d(3, bias=False),
            torch.nn.Flatten(),
            torch.nn.BatchNorm1d(12, bias=False),
        ),
        (3, 2, 2),
    ),
    "quarters of odd sides": (QuarterPooling(), (3, 5, 7)),
    "quarters of even sides": (QuarterPooling(), (3, 2, 6)),
    "quarters of one line": (QuarterPooling(), (3, 1, 6)),
    "quarters of vectors": (QuarterPooling(), (3,)),
    "mean of a series": (GlobalAveragePooling(), (3, 5)),
    "channels last": (Images(ImageLayout((4, 5, 3), channels_last=True)), (60,)),
    "channels first": (Images(ImageLayout((3, 4, 5), channels_last=False)), (60,)),
    "periodic functions": (torch.nn.Sequential(SmoothClip(2.0), PeriodicFeatures(3, 4, 0.5)), (3,)),
}


@pytest.fixture
def no_exporter(monkeypatch):
    """The exporter of torch is not called."""

    def called(*args, **kwargs):
        raise AssertionError("the exporter of torch was called")

    monkeypatch.setattr(torch.export, "export", called)


def _trained(module):
    """The module in evaluation mode, with statistics of normalizations that are not 0 and 1."""
    for each in module.modules():
        if isinstance(each, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            each.running_mean.copy_(torch.linspace(-1, 1, each.num_features))
            each.running_var.copy_(torch.linspace(0.5, 2, each.num_features))
            if each.weight is not None:
                each.weight.data.copy_(torch.linspace(2, 1, each.num_features))
    return module.eval()


@pytest.mark.parametrize("name", MODULES)
def test_values_are_those_of_torch(name, no_exporter):
    module, shape = MODULES[name]
    module = _trained(module)
    example = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    given = example.clone()
    model = from_module(module, example, name)
    assert torch.equal(example, given)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for n_rows in (1, 4):
        rows = example[:n_rows]
        (found,) = session.run(None, {session.get_inputs()[0].name: rows.numpy()})
        with torch.no_grad():
            expected = module(rows.clone()).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "shape"),
    [
        (EarlyExitClassifier(exits=3), (64,)),
        (EarlyExitClassifier(exits=2, head="mlp"), (8, 8)),
        (EarlyExitClassifier(head=MLPHead(normalize=True)), (1, 8, 8)),
        (EarlyExitRegressor(exits=3), (64,)),
    ],
    ids=["table", "images", "normalized heads", "regressor"],
)
def test_default_networks(estimator, shape, no_exporter, tmp_path):
    samples = X.reshape(-1, *shape)
    estimator.set_params(max_epochs=1, calibration=None, threshold=0.3, random_state=0)
    estimator.fit(samples, y).to_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    found, exits = session.run([session.get_outputs()[0].name, "exits"], {"X": samples})
    expected, expected_exits = estimator.predict(samples, return_exits=True)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(exits, expected_exits)


def test_values_far_from_zero_in_double_precision(no_exporter, tmp_path):
    """They are centered before they are rounded."""
    far = X.astype(np.float64) + 1e7
    clf = EarlyExitClassifier(max_epochs=2, calibration=None, threshold=0.3, random_state=0)
    clf.fit(far, y).to_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert session.get_inputs()[0].type == "tensor(double)"
    found = session.run(["probabilities"], {"X": far})[0]
    np.testing.assert_allclose(found, clf.predict_proba(far), atol=1e-4)


class _Doubled(torch.nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def _hooked():
    module = torch.nn.Linear(3, 2)
    module.register_forward_hook(lambda module, given, output: 2 * output)
    return module


def _patched():
    module = torch.nn.Linear(3, 2)
    module.forward = lambda x: x
    return module


@pytest.mark.parametrize(
    "module",
    [_Doubled(3, 2), _hooked(), _patched(), torch.nn.Tanh(), torch.nn.Flatten(0)],
    ids=["derived", "hook", "forward", "unknown", "of the samples"],
)
def test_other_modules_are_left_to_the_exporter(module):
    assert known_module(torch.nn.Sequential(module), torch.zeros(2, 3)) is None


class _DoubledPadded(PaddedLinear):
    def forward(self, x):
        return 2 * super().forward(x)


class _HookedPadded(torch.nn.Sequential):
    def __init__(self, n_in, n_out):
        super().__init__(PaddedLinear(n_in, n_out))
        self[0].register_forward_hook(_doubled)


def _doubled(module, given, output):
    return 2 * output


class _OwnHead(NeuralHead):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def body(self, n_features, n_classes):
        return torch.nn.Sequential(self.layer(n_features, n_classes))


@pytest.mark.parametrize("layer", [_DoubledPadded, _HookedPadded], ids=["derived", "hook"])
def test_layers_that_compute_more_than_those_of_the_package(layer):
    """They are not replaced by layers of torch, neither in a stage nor in a head."""
    tanh = torch.nn.Tanh()
    backbone = make(
        lambda: torch.nn.Sequential(layer(64, 20), tanh, layer(20, 20), tanh, layer(20, 10))
    )
    clf = EarlyExitClassifier(backbone, exits=2, head=_OwnHead(layer), calibration=None)
    clf.set_params(max_epochs=1, random_state=0).fit(X, y)
    expected = clf.predict_proba(X, threshold=0.3)
    without_padding = clf.to_predictor(threshold=0.3, batch_invariant=False)
    np.testing.assert_allclose(without_padding.predict_proba(X), expected, atol=1e-5)
    clf.set_params(runtime="onnx")
    np.testing.assert_allclose(clf.predict_proba(X, threshold=0.3), expected, atol=1e-5)
