"""Ready-made networks with an exit after each of their blocks, by kind of data."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone

from skearlyexit import CNNBackbone, EarlyExitClassifier, LinearHead, MLPBackbone, MLPHead
from skearlyexit.backbones import Backbone
from skearlyexit.heads import EstimatorHead, Head

Params = dict[str, Any]

IMAGE_SHAPE = (28, 28)

#: Networks of six blocks.
NETWORKS: dict[str, Params] = {
    "tabular": {"n_blocks": 6, "width": 128, "hidden": 128, "dropout": 0.1},
    "image": {"widths": (16, 32, 64), "n_blocks": 2},
}
#: The same, smaller for images.
SMALL_NETWORKS: dict[str, Params] = {
    **NETWORKS,
    "image": {**NETWORKS["image"], "stem_stride": 3},
}
BATCH_SIZE = {"tabular": 128, "image": 64}

#: A training that is as long as asked, so that comparisons are at equal numbers of operations.
FIXED_LENGTH: Params = {
    "early_stopping": False,
    "weight_averaging": False,
    "label_smoothing": 0.0,
    "lr_schedule": "cosine",
    "optimizer": "adamw",
    "lr": 0.003,
    "batch_size": 128,
    "max_epochs": 40,
    "exits": 4,
}


def fixed_length(*args: Any, head: Any = None, **params: Any) -> EarlyExitClassifier:
    """Make an estimator whose trainings are of fixed length, with heads on global averages."""
    head = [*map(_averaging, head)] if isinstance(head, list) else _averaging(head)
    return EarlyExitClassifier(*args, **{**FIXED_LENGTH, "head": head, **params})


def _averaging(head: Any) -> Any:
    """Head object for a name of a neural head or an estimator, or the head itself."""
    if head is None or (isinstance(head, str) and head == "linear"):
        return LinearHead(pooling="average")
    if isinstance(head, str) and head == "mlp":
        return MLPHead(pooling="average")
    if isinstance(head, EstimatorHead):
        return clone(head).set_params(pooling="average")
    return head if isinstance(head, str | Head) else EstimatorHead(head, pooling="average")


def make_backbone(kind: str, params: Params) -> Backbone:
    """Backbone of a setting; parameters of other kinds are ignored."""
    if kind == "image":
        # At full resolution nearly all of the cost would be before the first exit.
        return CNNBackbone(
            params["widths"],
            n_blocks=params["n_blocks"],
            stem_stride=params.get("stem_stride", 2),
            image_shape=IMAGE_SHAPE,
        )
    return MLPBackbone(
        params["n_blocks"],
        width=params["width"],
        hidden=params["hidden"],
        dropout=params["dropout"],
        smooth_clip=None,
        n_frequencies=0,
    )


def exit_names(kind: str, params: Params) -> list[str]:
    """An exit after every block but the stem."""
    n_blocks = params["n_blocks"]
    if kind == "image":
        groups = range(1, len(params["widths"]) + 1)
        return [f"group{i}.block{j}" for i in groups for j in range(1, n_blocks + 1)]
    return [f"block{i}" for i in range(1, n_blocks + 1)]


def estimator_params(kind: str, network: Params, params: Params) -> Params:
    """Parameters of the estimator for a network with all its exits, and others that replace them.

    Nothing is calibrated.
    """
    return {
        "backbone": make_backbone(kind, network),
        "exits": exit_names(kind, network),
        "batch_size": BATCH_SIZE[kind],
        "calibration": None,
        **params,
    }
