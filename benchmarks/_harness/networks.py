"""Networks of the comparison, with early exits and without, and their search spaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from _harness.backbones import exit_names, make_backbone, smaller_shapes
from _harness.spec import Context, Params
from skearlyexit import EarlyExitClassifier, LinearHead

#: Of all networks alike, with early exits and without.
LINEAR = LinearHead(normalize=True)


def _network(params: Params, context: Context, seed: int, **options: Any) -> EarlyExitClassifier:
    return EarlyExitClassifier(
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
    """Classical head; `size` are trees or iterations or neighbors, `leaf` the least rows in one.

    Fully grown trees are always sure of themselves, so that nobody would go on.
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
    return EarlyExitClassifier(
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
