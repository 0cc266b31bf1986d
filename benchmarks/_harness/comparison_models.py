"""Models of the comparison on tables and images, and their settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ParameterGrid
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from _harness.networks import Params, exit_names, fixed_length, make_backbone
from skearlyexit import (
    AccuracyDrop,
    Budget,
    EarlyExitClassifier,
    LinearHead,
    RiskControl,
    Threshold,
)
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit.backbones import Backbone
from skearlyexit.backbones._measure import measure_blocks
from skearlyexit.calibration import OperatingPoint

#: Operating points, calibrated on validation samples. The claims are about CLAIMED.
CLAIMED = "drop 0.2 %"
POINTS: dict[str, OperatingPoint] = {
    "full": Threshold(float("inf")),
    "drop 0 %": AccuracyDrop(0.0),
    CLAIMED: AccuracyDrop(0.002),
    "budget 0.5": Budget(0.5),
    "budget 0.3": Budget(0.3),
    "risk 1 %": RiskControl(0.01),
}
#: The point of models that have but one.
ONLY = "only"

#: Blocks and width of the smaller perceptrons, whose inner size follows from their cost.
SHAPES = [(6, 128), (4, 128), (2, 128), (6, 64), (3, 64), (2, 64), (1, 128)]

#: Widths and blocks in a group of the smaller convolutional networks.
IMAGE_SHAPES = [
    (widths, n_blocks)
    for widths in ((16,), (16, 16), (16, 32), (16, 16, 16), (16, 16, 32), (16, 32, 32))
    for n_blocks in (1, 2)
] + [((16, 32, 48), 1), ((16, 32, 64), 1), ((16, 32, 64), 2)]

#: Of all networks alike, with early exits and without.
LINEAR = LinearHead(pooling="average", normalize=True)


def entry_name(model: str, point: str) -> str:
    """Name of a model at one of its points."""
    return model if point == ONLY else f"{model}, {point}"


@dataclass
class Context:
    """What a model may depend on besides its own setting.

    Attributes
    ----------
    kind : {"tabular", "image"}
    X : ndarray of shape (n_samples, n_features)
        Training samples, for shapes and the variance of a kernel; no model is fitted on them here.
    n_classes : int
    max_epochs : int
        Upper bound of a setting's epochs, and a third of that of iterations, for trials.
    plain : dict or None
        Setting of the plain network.
    linear : dict or None
        Setting of early exits with linear heads.
    macs : float or None
        Cost that the smaller plain network has to reach.
    network : EarlyExitClassifier or None
        Trained network with linear heads, on whose stages classical heads are fitted.
    """

    kind: str
    X: np.ndarray
    n_classes: int
    max_epochs: int
    plain: Params | None = None
    linear: Params | None = None
    macs: float | None = None
    network: EarlyExitClassifier | None = None


@dataclass(frozen=True)
class Model:
    """A model that takes part.

    Attributes
    ----------
    title : str
    build : callable
        ``build(params, context, seed)`` returns an estimator.
    first : callable
        ``first(context)`` returns the setting that is tried first.
    space : callable or None
        ``space(context)`` returns grids for `ParameterGrid`; None: nothing is searched.
    size : callable
        ``size(params, context)``: work of a fit, in any unit, for predicting how long it takes.
    early_exits : bool, default=False
        Whether it has operating points.
    """

    title: str
    build: Callable[[Params, Context, int], Any]
    first: Callable[[Context], Params]
    space: Callable[[Context], Any] | None
    size: Callable[[Params, Context], float]
    early_exits: bool = False

    def candidates(self, context: Context, rng: np.random.RandomState) -> list[Params]:
        """The first setting, and all others in random order."""
        first = self.first(context)
        grid = [] if self.space is None else list(ParameterGrid(self.space(context)))
        others = [grid[i] for i in rng.permutation(len(grid))]
        return [first, *(params for params in others if params != first)]


def _network(params: Params, context: Context, seed: int, **options: Any) -> EarlyExitClassifier:
    return fixed_length(
        make_backbone(context.kind, params),
        head=LINEAR,
        calibration=None,
        max_epochs=min(params["epochs"], context.max_epochs),
        lr=params["lr"],
        batch_size=params["batch_size"],
        random_state=seed,
        **options,
    )


def build_plain(params: Params, context: Context, seed: int) -> EarlyExitClassifier:
    return _network(params, context, seed, exits=1, training="joint")


def first_plain(context: Context) -> Params:
    if context.kind == "image":
        return {"widths": (16, 32, 64), "n_blocks": 2, "lr": 0.003, "epochs": 8, "batch_size": 64}
    return {
        "n_blocks": 6,
        "width": 128,
        "hidden": 256,
        "lr": 0.003,
        "dropout": 0.1,
        "epochs": 40,
        "batch_size": 256,
    }


def _learning(context: Context) -> Params:
    """How a network is trained: the same choices for the plain and the smaller one."""
    if context.kind == "image":
        return {"lr": [0.001, 0.002, 0.003, 0.006], "epochs": [8, 12], "batch_size": [64, 128]}
    return {
        "lr": [0.001, 0.002, 0.003, 0.006],
        "dropout": [0.0, 0.1, 0.2, 0.4],
        "epochs": [15, 40],
        "batch_size": [256],
    }


def space_plain(context: Context) -> Params:
    if context.kind == "image":
        return _learning(context) | {"widths": [(16, 32, 64), (16, 32, 48)], "n_blocks": [2]}
    return _learning(context) | {"n_blocks": [4, 6], "width": [128], "hidden": [128, 256]}


def size_network(params: Params, context: Context) -> float:
    if context.kind == "image":
        work = params["n_blocks"] * len(params["widths"])
    else:
        work = params["n_blocks"] * params["width"] * params["hidden"]
    return float(work * params["epochs"])


def build_linear(params: Params, context: Context, seed: int) -> EarlyExitClassifier:
    exits = exit_names(context.kind, params)
    return _network(params, context, seed, exits=exits, training=params["training"])


def first_linear(context: Context) -> Params:
    return {**plain_setting(context), "training": "mixed"}


def space_linear(context: Context) -> Params:
    """The plain network, learned in another way."""
    same = {name: [value] for name, value in plain_setting(context).items()}
    return same | _learning(context) | {"training": ["mixed", "joint"]}


def plain_setting(context: Context) -> Params:
    assert context.plain is not None, "the plain network is tuned first"
    return context.plain


def backbone_macs(backbone: Backbone, X: np.ndarray, n_classes: int) -> float:
    """Multiply-accumulates per sample, a linear head included."""
    with isolated_random_state(0):
        facts = measure_blocks(backbone.build(X[:2], n_classes), torch.tensor(X[:2]))
    return float(facts.costs.sum() + facts.embeddings[-1].shape[1] * n_classes)


def smaller_shapes(
    kind: str, X: np.ndarray, n_classes: int, macs: float
) -> Sequence[dict[str, Any]]:
    """Shapes of at least this cost, and little more: up to six, the cheapest first.

    Of a perceptron the inner size is the least multiple of 16 that reaches the cost; of the
    convolutional networks, whose widths are multiples of 16 too, those next above it are taken.
    """
    if kind == "image":
        shapes = [{"widths": widths, "n_blocks": n_blocks} for widths, n_blocks in IMAGE_SHAPES]
    else:
        shapes = []
        for n_blocks, width in SHAPES:
            hidden = (macs - width * (X.shape[1] + n_classes)) / (2 * n_blocks * width)
            hidden = 16 * max(1, math.ceil(hidden / 16))
            shapes.append({"n_blocks": n_blocks, "width": width, "hidden": hidden})
    costs = [
        backbone_macs(make_backbone(kind, {"dropout": 0.0, **s}), X, n_classes) for s in shapes
    ]
    enough = [i for i in np.argsort(costs, kind="stable") if costs[i] >= macs]
    if not enough:
        # Exits at which no sample exits cost more than the plain network.
        enough = [int(np.argmax(costs))]
    near = [i for i in enough if costs[i] <= 1.3 * max(macs, costs[enough[0]])]
    return [shapes[i] for i in near[:6]]


def _shapes(context: Context) -> Sequence[Params]:
    assert context.macs is not None, "early exits with linear heads are fitted first"
    return smaller_shapes(context.kind, context.X, context.n_classes, context.macs)


def first_smaller(context: Context) -> Params:
    return {**plain_setting(context), **_shapes(context)[0]}


def space_smaller(context: Context) -> list[Params]:
    return [
        _learning(context) | {name: [value] for name, value in shape.items()}
        for shape in _shapes(context)
    ]


def _head(params: Params, seed: int) -> Any:
    """Classical head; `size` are trees or iterations or neighbors, `leaf` the least samples in one.

    Fully grown trees give a confidence of 1, with which all samples would exit.
    """
    kind, size, leaf = params["kind"], params.get("size"), params.get("leaf")
    if kind == "tree":
        return DecisionTreeClassifier(min_samples_leaf=leaf, random_state=seed)
    if kind == "forest":
        return RandomForestClassifier(size, min_samples_leaf=leaf, random_state=seed)
    if kind == "boosting":
        return HistGradientBoostingClassifier(
            max_iter=size, max_leaf_nodes=15, early_stopping=False, random_state=seed
        )
    if kind == "neighbors":
        # In few dimensions: on all of them the search would cost more than the network.
        return make_pipeline(PCA(8, random_state=seed), KNeighborsClassifier(size))
    return make_pipeline(StandardScaler(), LogisticRegression(C=params["C"], max_iter=200))


def build_classical(params: Params, context: Context, seed: int) -> EarlyExitClassifier:
    """Classical heads, at all exits or at the first, on the stages of a trained network."""
    network = context.network
    assert network is not None, "early exits with linear heads are fitted first"
    n_classical = network.n_exits_ if params["where"] == "all" else 1
    heads = [_head(params, seed)] * n_classical
    return fixed_length(
        network.stages_,
        exits=[str(i) for i in range(network.n_exits_)],
        head=heads + [LINEAR] * (network.n_exits_ - n_classical),
        training="separate",
        calibration=None,
        max_epochs=min(10, context.max_epochs),
        batch_size=256,
        random_state=seed,
    )


def space_classical(context: Context) -> list[Params]:
    where = {"where": ["all", "first"]}
    return [
        {"kind": ["tree"], "leaf": [5, 10, 20, 40], **where},
        {"kind": ["forest"], "size": [10, 30], "leaf": [1, 3, 10], **where},
        {"kind": ["boosting"], "size": [5, 10, 20], **where},
        {"kind": ["logistic"], "C": [0.1, 1.0, 10.0], **where},
        {"kind": ["neighbors"], "size": [5, 15], "where": ["first"]},
    ]


def size_classical(params: Params, context: Context) -> float:
    """In fits of a tree, roughly."""
    work = {
        "tree": 1.0,
        "forest": 0.1 * params.get("size", 0),
        "boosting": 0.5
        * params.get("size", 0)
        * (context.n_classes if context.n_classes > 2 else 1),
        "logistic": 3.0,
        "neighbors": 1.0,
    }[params["kind"]]
    return 3.0 + work * (6 if params["where"] == "all" else 1)


def first_classical(context: Context) -> Params:
    return {"kind": "forest", "size": 30, "leaf": 3, "where": "first"}


def _build_boosting(params: Params, context: Context, seed: int) -> Any:
    iterations = min(params["max_iter"], 3 * context.max_epochs)
    return HistGradientBoostingClassifier(**params | {"max_iter": iterations}, random_state=seed)


def _first_boosting(context: Context) -> Params:
    return {
        "learning_rate": 0.1,
        "max_iter": 100,
        "max_leaf_nodes": 31,
        "min_samples_leaf": 20,
        "l2_regularization": 0.0,
        "max_features": 0.1 if context.kind == "image" else 1.0,
    }


def _space_boosting(context: Context) -> Params:
    """On pixels 100 iterations of ten classes take minutes already, so that there are no more."""
    image = context.kind == "image"
    return {
        "learning_rate": [0.03, 0.1, 0.2],
        "max_iter": [100] if image else [100, 200, 400],
        "max_leaf_nodes": [15, 31, 63],
        "min_samples_leaf": [5, 20, 50],
        "l2_regularization": [0.0, 1.0, 10.0],
        "max_features": [0.1, 0.3] if image else [0.3, 1.0],
    }


def _build_forest(params: Params, context: Context, seed: int) -> Any:
    return RandomForestClassifier(**params, random_state=seed)


def _size_forest(params: Params, context: Context) -> float:
    share = params["max_features"]
    n_features = context.X.shape[1]
    return params["n_estimators"] * (n_features**0.5 if share == "sqrt" else share * n_features)


def _build_svc(params: Params, context: Context, seed: int) -> Any:
    """`gamma` is in units of what scikit-learn calls "scale"."""
    scaler = StandardScaler() if params["standardize"] else None
    variance = 1.0 if params["standardize"] else float(context.X.var())
    gamma = params["gamma"] / (context.X.shape[1] * variance)
    return make_pipeline(scaler or "passthrough", SVC(C=params["C"], gamma=gamma))


def _space_svc(context: Context) -> Params:
    standardize = [True, False] if context.kind == "image" else [True]
    return {
        "C": [1.0, 3.0, 10.0, 30.0, 100.0],
        "gamma": [0.25, 0.5, 1.0, 2.0, 4.0],
        "standardize": standardize,
    }


def _build_mlp(params: Params, context: Context, seed: int) -> Any:
    mlp = MLPClassifier(**params, max_iter=min(60, 3 * context.max_epochs), random_state=seed)
    return make_pipeline(StandardScaler(), mlp)


def _size_mlp(params: Params, context: Context) -> float:
    widths = [context.X.shape[1], *params["hidden_layer_sizes"], context.n_classes]
    return float(np.dot(widths[:-1], widths[1:])) * (1 if params["early_stopping"] else 2)


MODELS = {
    "plain": Model("plain network", build_plain, first_plain, space_plain, size_network),
    "linear": Model(
        "early exits, linear heads", build_linear, first_linear, space_linear, size_network, True
    ),
    "classical": Model(
        "early exits, classical heads",
        build_classical,
        first_classical,
        space_classical,
        size_classical,
        True,
    ),
    "smaller": Model(
        "smaller plain network", build_plain, first_smaller, space_smaller, size_network
    ),
    "boosting": Model(
        "HistGradientBoosting",
        _build_boosting,
        _first_boosting,
        _space_boosting,
        lambda params, context: params["max_iter"] * params["max_leaf_nodes"],
    ),
    "forest": Model(
        "RandomForest",
        _build_forest,
        lambda context: {"n_estimators": 200, "max_features": "sqrt", "min_samples_leaf": 1},
        lambda context: {
            "n_estimators": [100, 200],
            "max_features": ["sqrt", 0.1, 0.3, 0.6],
            "min_samples_leaf": [1, 2, 5],
            "criterion": ["gini", "entropy"],
        },
        _size_forest,
    ),
    "svc": Model(
        "SVC",
        _build_svc,
        lambda context: {"C": 10.0, "gamma": 1.0, "standardize": True},
        _space_svc,
        lambda params, context: 1.0,
    ),
    "mlp": Model(
        "MLPClassifier",
        _build_mlp,
        lambda context: {
            "hidden_layer_sizes": (256, 256),
            "early_stopping": True,
            "alpha": 1e-4,
            "learning_rate_init": 0.001,
        },
        lambda context: {
            "hidden_layer_sizes": [(100,), (256,), (256, 256), (128, 128, 128)],
            "early_stopping": [True, False],
            "alpha": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1],
            "learning_rate_init": [0.001, 0.003],
        },
        _size_mlp,
    ),
}

#: Other ways than early exits, among which the best peer is.
PEERS = ["boosting", "forest", "svc", "mlp"]
