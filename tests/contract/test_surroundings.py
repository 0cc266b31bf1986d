"""What the code around a training may have set in torch: the model is the same."""

import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import CostShare
from tests._data import blobs, make, quick, same

X, y, X_NEW, _ = blobs()


@pytest.mark.parametrize("training", ["joint", "separate", "local_error"])
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_fit_and_partial_fit_where_gradients_are_off(mode, training):
    expected = quick(training=training, max_epochs=2, threshold=0.9).fit(X, y)
    with mode():
        clf = quick(training=training, max_epochs=2, threshold=0.9).fit(X, y)
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() is (mode is torch.inference_mode)
        assert same(clf.predict_proba(X_NEW), expected.predict_proba(X_NEW))
    if training == "joint":
        expected.partial_fit(X_NEW[:40], y[:40])
        with mode():
            clf.partial_fit(X_NEW[:40], y[:40])
    assert same(clf.predict_proba(X_NEW), expected.predict_proba(X_NEW))


def test_a_network_and_rows_made_in_inference_mode():
    def layers():
        return [torch.nn.Linear(13, 16), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 4)]

    with torch.inference_mode():
        network = torch.nn.Sequential(*make(layers))
        rows, labels = torch.from_numpy(X.copy()), torch.from_numpy(y.copy())
    clf = quick(backbone=network, exits=[1], max_epochs=1, training="joint")
    expected = clf.fit(X, y).predict_proba(X_NEW)
    assert same(clf.fit(rows, labels).predict_proba(X_NEW), expected)


@pytest.mark.parametrize("within_pipeline", [False, True])
def test_warnings_point_to_the_line_that_calls(within_pipeline):
    clf = quick(exits=CostShare(30), calibration=None, max_epochs=1)
    model = make_pipeline(StandardScaler(), clf) if within_pipeline else clf
    with pytest.warns(UserWarning, match="of the 30 exits asked for") as caught:
        model.fit(X, y)
    assert {warning.filename for warning in caught} == {__file__}
