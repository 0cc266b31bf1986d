"""Networks as users may hold them: classes, compiled and parametrized modules."""

import re
import warnings

import pytest
import torch
from sklearn.base import clone
from torch import nn

from skearlyexit import MLPBackbone, SequentialBackbone, TracedBackbone
from tests._data import blobs, make, quick, same

X, y, X_NEW, Y_NEW = blobs()


class Bare(nn.Module):
    """A network that needs no arguments."""

    def __init__(self, width=24):
        super().__init__()
        self.first, self.second, self.last = (
            nn.Linear(13, width),
            nn.Linear(width, width),
            nn.Linear(width, 4),
        )

    def forward(self, x):
        return self.last(self.second(self.first(x).relu()).relu())


class Sized(Bare):
    """One that does."""

    def __init__(self, width):
        super().__init__(width)


def test_a_class_is_made_for_every_training():
    params = {"exits": ["first"], "calibration": None, "max_epochs": 2}
    for training in ("joint", "separate"):
        params["training"] = training
        clf = quick(backbone=Bare, **params).fit(X, y)
        expected = quick(backbone=lambda row_shape, n_classes: Bare(), **params).fit(X, y)
        assert same(clf.predict_proba(X_NEW), expected.predict_proba(X_NEW))
        other = quick(backbone=Bare, **{**params, "random_state": 1}).fit(X, y)
        assert not same(clf.predict_proba(X_NEW), other.predict_proba(X_NEW))
    assert {epoch["phase"] for epoch in clf.history_} == {"backbone", "heads"}
    clf.set_params(backbone=MLPBackbone, exits=2)
    assert isinstance(clf.fit(X, y).stages_[0], nn.Module)


def test_a_class_that_needs_arguments():
    words = r"class Sized, .* missing a required argument: 'width'\. Give an instance.* function of"
    with pytest.raises(TypeError, match=words):
        quick(backbone=Sized).fit(X, y)
    assert quick(backbone=make(lambda: Sized(8)), exits=["first"], max_epochs=1).fit(X, y).n_exits_


@pytest.mark.parametrize("backbone", [dict, int, 3])
def test_what_is_no_backbone(backbone):
    with pytest.raises(
        TypeError, match=rf"must be None, a name, .* Got {re.escape(str(backbone))}"
    ):
        quick(backbone=backbone).fit(X, y)


class Nested(nn.Module):
    """Parts of it are compiled."""

    def __init__(self):
        super().__init__()
        self.body = torch.compile(Bare())
        self.tail = nn.Sequential(nn.ReLU(), torch.compile(nn.Linear(4, 4)))

    def forward(self, x):
        return self.tail(self.body(x))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_networks_are_taken_as_they_were():
    def chain():
        return nn.Sequential(nn.Linear(13, 24), nn.ReLU(), nn.Linear(24, 24), nn.Linear(24, 4))

    plain, params = make(chain), {"exits": [1], "calibration": None, "max_epochs": 2}
    expected = quick(backbone=plain, **params).fit(X, y).predict_proba(X_NEW)
    parts = [*plain[:2], torch.compile(plain[2]), plain[3]]
    compiled = torch.compile(plain)
    kinds = [compiled, parts, nn.Sequential(*parts), SequentialBackbone(compiled)]
    for network in [*kinds, lambda row_shape, n_classes: compiled]:
        clf = quick(backbone=network, training="joint", **params)
        given = quick(backbone=plain, training="joint", **params)
        assert same(clf.fit(X, y).predict_proba(X_NEW), given.fit(X, y).predict_proba(X_NEW))
    assert type(compiled).__name__ == type(parts[2]).__name__ == "OptimizedModule"
    assert same(quick(backbone=plain, **params).fit(X, y).predict_proba(X_NEW), expected)
    nested = quick(backbone=make(Nested), **{**params, "exits": ["body.first", "body"]})
    assert nested.fit(X, y).exit_names_[:2] == ["body.first", "body"]
    traced = quick(backbone=TracedBackbone(torch.compile(make(Bare))), **{**params, "exits": [0]})
    assert traced.fit(X, y).exit_names_[0] == "first"


class Asking(Bare):
    """One that needs the shape of a row and the number of classes."""

    def __init__(self, row_shape, n_classes):
        super().__init__()
        self.last = nn.Linear(24, n_classes)


def test_a_class_that_needs_what_a_function_is_given():
    assert quick(backbone=Asking, exits=["first"], max_epochs=1).fit(X, y).n_exits_ == 2


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "orthogonal"])
def test_parametrized_modules(kind, traced):
    parametrized = getattr(nn.utils.parametrizations, kind)

    def build():
        layers = parametrized(nn.Linear(13, 16)), nn.ReLU(), parametrized(nn.Linear(16, 16))
        return nn.Sequential(*layers, nn.ReLU(), nn.Linear(16, 4))

    network = make(build)
    backbone = TracedBackbone(network) if traced else network
    clf = quick(backbone=backbone, exits=[1], max_epochs=3).fit(X, y)
    labels, exits = clf.predict(X_NEW, threshold=0.5, return_exits=True)
    table = clf.exit_table(X_NEW)
    assert same(exits, table.exits([0.5]))
    assert same(labels, clf.classes_[table.labels[range(len(X_NEW)), exits]])
    assert same(clone(clf).fit(X, y).predict_proba(X_NEW), clf.predict_proba(X_NEW))


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("is_parameter", [False, True])
def test_complex_weights_are_refused(traced, is_parameter):
    network = make(lambda: nn.Sequential(nn.Linear(13, 8), nn.ReLU(), nn.Linear(8, 4)))
    values = torch.ones(3, dtype=torch.complex64)
    if is_parameter:
        network[0].waves = nn.Parameter(values)
    else:
        network[0].register_buffer("waves", values)
    with pytest.raises(ValueError, match=r"'waves' of a Linear of the backbone is complex.*real"):
        quick(backbone=TracedBackbone(network) if traced else network, exits=[0]).fit(X, y)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("traced", [False, True])
def test_weight_norm_by_hooks(traced):
    network = make(
        lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(13, 8)), nn.ReLU(), nn.Linear(8, 4))
    )
    with pytest.raises(ValueError, match=r"Use torch\.nn\.utils\.parametrizations\.weight_norm"):
        quick(backbone=TracedBackbone(network) if traced else network, exits=[0]).fit(X, y)


@pytest.mark.parametrize("wrap", [SequentialBackbone, TracedBackbone])
def test_fewer_outputs_than_classes_are_said(wrap):
    def network(n_outputs):
        return wrap(
            make(lambda: nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, n_outputs)))
        )

    with pytest.warns(UserWarning, match="outputs of size 3, and 4 are needed"):
        clf = quick(backbone=network(3), exits=1, max_epochs=1).fit(X, y)
    assert clf.predict_proba(X[:2]).shape == (2, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n_outputs in (4, 5):  # a classifier, and embeddings
            quick(backbone=network(n_outputs), exits=1, max_epochs=1).fit(X, y)
