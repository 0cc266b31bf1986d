"""The training strategies that are compared, by family, and what they are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from _harness.backbones import exit_names, make_backbone
from _harness.cascades import divide
from _harness.data import SETS
from _harness.store import subsample
from skearlyexit.experimental import BottleneckTraining, ReinforcedTraining, TargetTraining
from skearlyexit.training import (
    AuxiliaryTraining,
    CombinedTraining,
    CombinerTraining,
    DistillationTraining,
    FreezeOutTraining,
    GatedTraining,
    JointTraining,
    LayerwiseTraining,
    LocalErrorTraining,
    MixedTraining,
    SeparateTraining,
)

Params = dict[str, Any]

#: Parameters of the estimator for every strategy, by family.
FAMILIES: dict[str, dict[str, Params]] = {
    "joint": {
        "joint": {"training": JointTraining()},
        "joint, depth": {"training": JointTraining("depth")},
        "joint, ramp": {"training": JointTraining("ramp")},
        "joint, adaptive": {"training": JointTraining("adaptive")},
        "joint, 0.3": {"training": JointTraining(0.3)},
        "joint, equilibrium": {"training": JointTraining(equilibrium=True)},
    },
    "separate": {"separate": {"training": SeparateTraining()}},
    "mixed": {"mixed": {"training": MixedTraining()}},
    "distillation": {
        "distillation, last": {"training": DistillationTraining("last")},
        "distillation, next": {"training": DistillationTraining("next")},
        "distillation, later": {"training": DistillationTraining("later")},
        "distillation, backbone 0.5": {"training": DistillationTraining(backbone_share=0.5)},
    },
    "combined": {
        "combined, softmax": {"training": CombinedTraining("softmax")},
        "combined, free": {"training": CombinedTraining("free")},
        "combined, positive": {"training": CombinedTraining("positive")},
        "combined, mean": {"training": CombinedTraining("mean")},
        "combined, max": {"training": CombinedTraining("max")},
        "combined, softmax, end only": {"training": CombinedTraining("softmax", every_exit=False)},
    },
    "combiner": {"combiner": {"training": CombinerTraining()}},
    "gated": {
        "gated": {"training": GatedTraining()},
        "gated, gate": {"training": GatedTraining(), "policy": "gate"},
        "gated, no own losses": {"training": GatedTraining(head_weight=0.0)},
        "gated, no own losses, gate": {
            "training": GatedTraining(head_weight=0.0),
            "policy": "gate",
        },
    },
    "auxiliary": {"auxiliary": {"training": AuxiliaryTraining()}},
    "layer by layer": {"layerwise": {"training": LayerwiseTraining()}},
    "local errors": {
        "local, decoupled": {"training": LocalErrorTraining("decoupled")},
        "local, feedback": {"training": LocalErrorTraining("feedback")},
        "local, similarity": {"training": LocalErrorTraining("similarity")},
    },
    "freezing": {
        "freeze-out, cubic": {"training": FreezeOutTraining(spacing="cubic")},
        "freeze-out, linear": {"training": FreezeOutTraining(spacing="linear")},
    },
    "experimental": {
        "bottleneck": {"training": BottleneckTraining()},
        "targets": {"training": TargetTraining()},
        "reinforced": {"training": ReinforcedTraining()},
        "reinforced, gate": {"training": ReinforcedTraining(), "policy": "gate"},
    },
}

#: What the budget of all is measured by, and what they are held against.
BASE, REFERENCE, PLAIN = "joint", "mixed", "plain network"

ENTRIES: dict[str, Params] = {
    **{name: params for entries in FAMILIES.values() for name, params in entries.items()},
    PLAIN: {"training": JointTraining(), "exits": 1},
}

#: Networks with an exit after each of their six blocks.
NETWORKS: dict[str, Params] = {
    "tabular": {"n_blocks": 6, "width": 128, "hidden": 128, "dropout": 0.1},
    "image": {"widths": (16, 32, 64), "n_blocks": 2, "stem_stride": 3},
}

#: Training rows at most, and epochs of joint training, by which the budget is measured.
MAX_TRAIN = {"tabular": 4000, "image": 2500}
EPOCHS = {"letter": 40, "magic": 25, "mnist5k": 16, "fashion": 16}
BATCH_SIZE = {"tabular": 128, "image": 64}


def estimator_params(kind: str, params: Params, network: Params | None = None) -> Params:
    """All that the estimator is told of network and strategy."""
    network = NETWORKS[kind] if network is None else network
    backbone = make_backbone(kind, network)
    if "stem_stride" in network:
        backbone.set_params(stem_stride=network["stem_stride"])
    whole = {
        "backbone": backbone,
        "exits": exit_names(kind, network),
        "batch_size": BATCH_SIZE[kind],
    }
    return {**whole, "calibration": None, **params}


def saved_rows(name: str, seed: int, max_train: int, folder: str) -> Path:
    """File with training, validation and test rows of a set, labels as they are.

    Rows are divided as for the saved cascades; of those for training at most `max_train` are left.
    """
    path = Path(folder) / f"rows-{name}-{seed}-{max_train}.npz"
    if not path.exists():
        train, validation, test = divide(name, seed)
        parts = zip(
            ("train", "val", "test"),
            (subsample(train, max_train), validation, test),
            strict=True,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {
            f"{axis}_{part}": rows[i] for part, rows in parts for i, axis in enumerate("Xy")
        }
        np.savez(path, **arrays)
    return path


def kind_of(name: str) -> str:
    """Kind of network for a set."""
    return SETS[name].kind
