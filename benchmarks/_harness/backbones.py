"""Backbones of the comparison, and smaller ones of a given cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from skearlyexit import CNNBackbone, MLPBackbone
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit.backbones import Backbone
from skearlyexit.backbones._measure import measure_blocks

IMAGE_SHAPE = (28, 28)

#: Blocks and width of the smaller perceptrons, whose inner size follows from their cost.
SHAPES = [(6, 128), (4, 128), (2, 128), (6, 64), (3, 64), (2, 64), (1, 128)]

#: Widths and blocks in a group of the smaller convolutional networks.
IMAGE_SHAPES = [
    (widths, n_blocks)
    for widths in ((16,), (16, 16), (16, 32), (16, 16, 16), (16, 16, 32), (16, 32, 32))
    for n_blocks in (1, 2)
] + [((16, 32, 48), 1), ((16, 32, 64), 1), ((16, 32, 64), 2)]


def make_backbone(kind: str, params: dict[str, Any]) -> Backbone:
    """Backbone of a setting; parameters of other kinds are passed over."""
    if kind == "image":
        # At full resolution nearly all of the cost would lie before the first exit.
        return CNNBackbone(
            params["widths"], n_blocks=params["n_blocks"], stem_stride=2, image_shape=IMAGE_SHAPE
        )
    return MLPBackbone(
        params["n_blocks"],
        width=params["width"],
        hidden=params["hidden"],
        dropout=params["dropout"],
    )


def exit_names(kind: str, params: dict[str, Any]) -> list[str]:
    """An exit after every block but the stem."""
    n_blocks = params["n_blocks"]
    if kind == "image":
        groups = range(1, len(params["widths"]) + 1)
        return [f"group{i}.block{j}" for i in groups for j in range(1, n_blocks + 1)]
    return [f"block{i}" for i in range(1, n_blocks + 1)]


def backbone_macs(backbone: Backbone, X: np.ndarray, n_classes: int) -> float:
    """Multiply-accumulates per row, a linear head included."""
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
        # Early exits that nobody takes cost more than the plain network.
        enough = [int(np.argmax(costs))]
    near = [i for i in enough if costs[i] <= 1.3 * max(macs, costs[enough[0]])]
    return [shapes[i] for i in near[:6]]
