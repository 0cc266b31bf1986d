"""Values of the training parameters for which ``"auto"`` may be given."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from skearlyexit._data._samples import Samples
from skearlyexit._task._base import Task
from skearlyexit.backbones import Backbone
from skearlyexit.backbones._measure import BlockFacts
from skearlyexit.training._options import Patience, TrainingOptions

AUTO = "auto"

#: With fewer samples, groups or samples for each class on average, early_stopping="auto" does not
#: hold any out. One of each class remains in training, also in that of a fold.
LEAST_SAMPLES = 100
LEAST_GROUPS = 10
LEAST_PER_CLASS = 3

#: Values of batch_size="auto". The time of a step on a GPU, or of a small network for vectors, is
#: mostly overhead, so there are more samples in it, and more still of many vectors. The time of a
#: step with images or series on the CPU is that of its samples, and small steps need fewer epochs.
BATCH_SIZE = 256
MANY_SAMPLES, BATCH_SIZE_OF_MANY = 4000, 512
BATCH_SIZE_OF_IMAGES = 64

#: Values of max_epochs="auto" with early stopping and without.
EPOCHS_STOPPING = 200
EPOCHS_FIXED = 40


def always_stops_early(params: Any) -> bool:
    """Whether early stopping is requested, not only where it is possible."""
    return params.early_stopping != AUTO and bool(params.early_stopping)


def stops_early(params: Any, samples: Samples, *, has_validation: bool) -> bool:
    """Whether the training uses early stopping.

    Parameters
    ----------
    params : estimator
        Estimator with the parameters of `EarlyExitClassifier`.
    samples : Samples
        Training and calibration samples.
    has_validation : bool
        Whether validation samples are given.

    Returns
    -------
    stops : bool
        True if validation samples are given or held out.
    """
    if params.early_stopping != AUTO:
        return bool(params.early_stopping)
    if has_validation:
        return True
    n_classes = len(np.unique(samples.strata))
    if params.warm_start or len(samples) < max(LEAST_SAMPLES, LEAST_PER_CLASS * n_classes):
        return False
    return samples.groups is None or len(np.unique(samples.groups)) >= LEAST_GROUPS


def training_options(
    params: Any,
    samples: Samples,
    facts: BlockFacts,
    task: Task,
    backbone: Backbone,
    *,
    stops: bool,
    partial: bool,
) -> TrainingOptions:
    """Options of the training of a network, on all samples or on a part of them."""
    patience = None
    if stops:
        given = params.n_iter_no_change
        patience = Patience(None if given == AUTO else given)
    max_epochs = params.max_epochs
    if max_epochs == AUTO:
        max_epochs = EPOCHS_STOPPING if stops else EPOCHS_FIXED
    batch_size = params.batch_size
    if batch_size == AUTO:
        batch_size = _batch_size(samples, facts, params.device)
    optimizer = params.optimizer
    if optimizer == AUTO:
        optimizer = _optimizer(samples, backbone, partial=partial)
    lr_schedule = params.lr_schedule
    if lr_schedule == AUTO:
        # One that decreases with the progress of the training would rarely reach its end.
        lr_schedule = "constant" if stops else "cosine"
    return TrainingOptions(
        max_epochs=max_epochs,
        batch_size=batch_size,
        lr=params.lr,
        optimizer=optimizer,
        lr_schedule=lr_schedule,
        weight_decay=params.weight_decay,
        criterion=task.criterion(params),
        gradient_clipping=params.gradient_clipping,
        weight_averaging=params.weight_averaging,
        patience=patience,
        callbacks=params.callbacks or (),
    )


def _batch_size(samples: Samples, facts: BlockFacts, device: str) -> int:
    """Value of batch_size="auto"."""
    if samples.X.ndim == 2 and all(each.ndim == 2 for each in facts.embeddings):
        return BATCH_SIZE if len(samples) < MANY_SAMPLES else BATCH_SIZE_OF_MANY
    return BATCH_SIZE_OF_IMAGES if torch.device(device).type == "cpu" else BATCH_SIZE


def _optimizer(samples: Samples, backbone: Backbone, *, partial: bool) -> str:
    """Value of optimizer="auto"."""
    # Calls of partial_fit have any number of samples, and continue with the same optimizer.
    n_samples = 0 if partial else len(samples)
    return "muon" if backbone.muon_from is not None and n_samples >= backbone.muon_from else "adamw"
