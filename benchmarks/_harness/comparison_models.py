"""Models of the comparison on tables and images, and their settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from _harness.comparison_base import Context, Model
from _harness.comparison_peers import PEERS
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
} | PEERS
