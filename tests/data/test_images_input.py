"""Images: channels first or last, as arrays, PIL images, files and Datasets."""

import pickle
import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.utils.data import Dataset

from skearlyexit import CNNBackbone, EarlyExitClassifier, LayerwiseTraining, TracedBackbone
from skearlyexit._data import _chunks as chunks_module
from skearlyexit.inspection import ExtremeSamplesDisplay
from tests._data import make, same

matplotlib.use("Agg")
RNG = np.random.RandomState(0)
y = np.arange(120) % 3
# Which color a corner has.
LAST = RNG.randint(0, 120, (120, 8, 6, 3)).astype(np.uint8)
LAST[np.arange(120), :4, :3, y] += 120
FIRST = np.ascontiguousarray(np.moveaxis(LAST, -1, 1))
PICTURES = [Image.fromarray(image) for image in LAST]


def quick(**params):
    defaults = {
        "backbone": CNNBackbone((8,), n_blocks=1),
        "exits": ["stem"],
        "training": "joint",
        "max_epochs": 2,
        "calibration": 0.3,
        "threshold": 0.9,
        "random_state": 0,
    }
    return EarlyExitClassifier(**{**defaults, **params})


class Pictures(Dataset):
    def __len__(self):
        return len(y)

    def __getitem__(self, i):
        return PICTURES[i], int(y[i])


@pytest.fixture(scope="module")
def reference():
    return quick().fit(FIRST, y)


@pytest.fixture(scope="module")
def wanted():
    """Answers of a model whose rows are read in more than one block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks_module, "BLOCK_VALUES", 5000)
        return quick().fit(FIRST, y).predict_proba(FIRST)


def mapped(path, rows):
    np.save(path / "rows.npy", rows)
    return np.load(path / "rows.npy", mmap_mode="r")


KINDS = ["array", "doubles", "transposed view", "list", "PIL", "memmap", "dataset", "flat"]


@pytest.mark.parametrize("kind", KINDS)
def test_channels_last_are_answered_like_channels_first(wanted, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks_module, "BLOCK_VALUES", 5000)
    rows = {
        "array": LAST,
        "doubles": LAST.astype(float),
        "transposed view": FIRST.transpose(0, 2, 3, 1),
        "list": list(LAST),
        "PIL": PICTURES,
        "memmap": mapped(tmp_path, LAST),
        "dataset": Pictures(),
        "flat": LAST.reshape(120, -1),
    }[kind]
    clf = quick()
    if kind == "flat":
        clf.set_params(backbone__image_shape=(8, 6, 3))
    with pytest.warns(UserWarning, match="8 x 6 pixels with 3 channels, which come last") as said:
        clf.fit(rows, y)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(clf.predict_proba(rows), wanted)
        assert same(pickle.loads(pickle.dumps(clf)).predict_proba(rows), wanted)
        assert clf.score(rows, y) == np.mean(clf.classes_[wanted.argmax(axis=1)] == y)
        assert clf.exit_table(rows).scores.shape == (120, 2)
        clf.calibrate(rows, y)


def test_the_parameter_decides_and_nothing_is_said(reference):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        last = quick().set_params(backbone__data_format="channels_last").fit(LAST, y)
        assert same(last.predict_proba(LAST), reference.predict_proba(FIRST))
        first = quick().set_params(backbone__data_format="channels_first").fit(LAST, y)
        assert first.stages_[0].blocks[0].layer.in_channels == 8
    # Two channels are too few to be sure.
    two = quick().fit(LAST[..., :2], y)
    assert two.stages_[0].blocks[0].layer.in_channels == 8
    two = quick().set_params(backbone__data_format="channels_last").fit(LAST[..., :2], y)
    assert two.stages_[0].blocks[0].layer.in_channels == 2


@pytest.mark.parametrize(
    ("shape", "n_channels"),
    [((1, 8, 6), 1), ((3, 8, 3), 3), ((4, 8, 1), 4), ((8, 6), 1), ((16, 4, 4), 16)],
)
def test_what_may_be_channels_first_is_left_alone(shape, n_channels):
    rows = np.resize(FIRST, (120, *shape))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = quick(backbone=None, max_epochs=1, exits=1).fit(rows, y)
    assert clf.stages_[0].blocks[0].layer.in_channels == n_channels


def test_training_that_goes_on_says_it_once(reference):
    clf = quick(calibration=None)
    with pytest.warns(UserWarning, match="channels, which come last"):
        clf.partial_fit(PICTURES, y, classes=range(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf.partial_fit(PICTURES[:50], y[:50])
    wanted = quick(calibration=None).partial_fit(FIRST, y, classes=range(3))
    wanted.partial_fit(FIRST[:50], y[:50])
    assert same(clf.predict_proba(LAST), wanted.predict_proba(FIRST))


@pytest.mark.filterwarnings("ignore:Images of shape")
def test_validation_and_further_images():
    stopping = quick(early_stopping=True, max_epochs=1)
    found = stopping.fit(PICTURES, y, X_val=PICTURES[:20], y_val=y[:20]).history_
    wanted = stopping.fit(FIRST, y, X_val=FIRST[:20], y_val=y[:20]).history_
    assert found[0]["valid_loss"] == wanted[0]["valid_loss"]
    local = quick(training=LayerwiseTraining(local="similarity"), max_epochs=1)
    found = local.fit(PICTURES, y, X_unlabeled=PICTURES[:20]).predict_proba(LAST)
    assert same(found, local.fit(FIRST, y, X_unlabeled=FIRST[:20]).predict_proba(FIRST))


def test_gray_pictures(reference):
    gray = [picture.convert("L") for picture in PICTURES]
    clf = quick().fit(gray, y)
    rows = np.stack([np.asarray(picture) for picture in gray])
    together = clf.predict_proba(gray)
    assert same(together, quick().fit(rows, y).predict_proba(rows))
    # With one channel, the axes of channels first and last are the same numbers in memory.
    last = quick(backbone=CNNBackbone((8,), n_blocks=1, data_format="channels_last"))
    last.fit(rows[..., None], y)
    assert same(last.predict_proba(rows[..., None]), together)
    alone = [last.predict_proba(row[None, :, :, None]) for row in rows[:20]]
    assert same(np.concatenate(alone), together[:20])


@pytest.mark.filterwarnings("ignore:Images of shape")
def test_images_of_another_shape_than_in_fit(reference):
    flat, small = FIRST.reshape(len(y), -1), [picture.resize((5, 5)) for picture in PICTURES]
    for rows, shape in (flat, r"\(144,\)"), (small, r"\(5, 5, 3\)"), (FIRST[:, 0], r"\(8, 6\)"):
        with pytest.raises(ValueError, match=rf"samples of shape {shape}, but .* on samples of"):
            reference.predict(rows)
    with pytest.raises(ValueError, match=r"^X_val has samples of shape \(8, 6\)"):
        quick(early_stopping=True).fit(FIRST, y, X_val=FIRST[:, 0], y_val=y)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([*PICTURES[:7], PICTURES[7].resize((5, 8)), *PICTURES[8:]],
         r"different sizes: item 0 has shape \(8, 6, 3\), item 7 has shape \(8, 5, 3\)"),
        ([*PICTURES[:9], PICTURES[9].convert("L"), *PICTURES[10:]],
         "different modes: item 0 has 'RGB', item 9 has 'L'"),
        ([*PICTURES[:9], PICTURES[9].convert("HSV"), *PICTURES[10:]],
         "different modes: item 0 has 'RGB', item 9 has 'HSV'"),
        ([picture.convert("P") for picture in PICTURES], "Item 0 of X is a PIL image of mode 'P'"),
        (FIRST, r"samples of shape \(3, 8, 6\), but .* fitted on samples of shape \(8, 6, 3\)"),
        (PICTURES[0], "is a single PIL image. Give a list of images, such as"),
    ],
    ids=["sizes", "modes", "modes of one size", "palette", "channels first", "alone"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Images of shape")
def test_images_that_are_refused(rows, words):
    clf = quick(max_epochs=1).fit(LAST, y)
    before = clf.predict_proba(LAST)
    for method in (clf.predict, clf.exit_table, lambda X: clf.calibrate(X, y)):
        with pytest.raises(ValueError, match=words + "|features"):
            method(rows)
    if rows is not FIRST:
        with pytest.raises(ValueError, match=words):
            clf.fit(rows, y)
        with pytest.raises(ValueError, match=words.replace("of X", "of X_val")):
            clf.set_params(early_stopping=True).fit(LAST, y, X_val=rows, y_val=y)
    assert same(clf.predict_proba(LAST), before)


@pytest.mark.filterwarnings("ignore:Images of shape")
def test_the_display_shows_pictures():
    clf = quick(max_epochs=1).fit(PICTURES, y)
    display = ExtremeSamplesDisplay.from_estimator(clf, PICTURES, y, n_samples=1)
    plt.close("all")
    wanted = (LAST - float(LAST.min())) / (LAST.max() - LAST.min())
    np.testing.assert_allclose(display.rows, wanted)


@pytest.mark.parametrize(
    "image_shape", [(-8, 18), (8, 0, 3), (8.0, 18), (8, 6, 3, 1), (144,), ("8", 18)], ids=repr
)
def test_image_shapes_that_are_none(image_shape):
    clf = quick(backbone=CNNBackbone(image_shape=image_shape))
    with pytest.raises(ValueError, match="'image_shape' parameter of CNNBackbone must be two or"):
        clf.fit(LAST.reshape(120, -1), y)
    with pytest.raises(NotFittedError):
        clf.predict(LAST)


def test_an_image_shape_that_images_do_not_have():
    with pytest.raises(ValueError, match=r"images of shape \(8, 6, 3\)"):
        quick(backbone=CNNBackbone(image_shape=(3, 8, 6))).fit(LAST, y)
    with pytest.raises(ValueError, match="'data_format' parameter"):
        quick(backbone=CNNBackbone(data_format="last")).fit(LAST, y)


class TestNetworksOfTheUser:
    @pytest.mark.parametrize("wrap", [lambda net: net, TracedBackbone], ids=["chain", "traced"])
    def test_one_that_fails_is_told_of_the_channels(self, wrap):
        net = make(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)))
        with pytest.raises(ValueError, match=r"channels, give np\.moveaxis\(X, -1, 1\)"):
            quick(backbone=wrap(net), exits=1).fit(LAST, y)

    @pytest.mark.parametrize("wrap", [lambda net: net, TracedBackbone], ids=["chain", "traced"])
    def test_one_that_reads_the_height_for_channels_is_warned_of(self, wrap):
        net = make(lambda: nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()))
        with pytest.warns(UserWarning, match="as 8 channels of 6 x 3 pixels"):
            clf = quick(backbone=wrap(net), exits=1, max_epochs=1).fit(LAST, y)
        assert clf.n_features_in_ == 8

    def test_one_that_takes_channels_last_gets_them(self):
        class Own(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 8, 3)

            def forward(self, x):
                return torch.relu(self.conv(x.permute(0, 3, 1, 2)))

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            clf = quick(backbone=make(Own), exits=1, max_epochs=1).fit(LAST, y)
        assert clf.predict(LAST).shape == y.shape


def test_series_may_be_taken_for_images():
    series = FIRST.reshape(120, 1, -1)[:, :, :20]
    with pytest.warns(UserWarning, match=r"images of 1 x 20 pixels\. If they are series, give"):
        quick().fit(series, y)
