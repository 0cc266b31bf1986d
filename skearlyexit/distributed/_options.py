"""Checks of parameters that all trainings by several workers have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skearlyexit.training import Trainer, TrainingStrategy


def options_of_workers(
    options: Sequence[Mapping[str, Any]] | None, n_workers: int
) -> Sequence[Mapping[str, Any]]:
    """Options of the Ray actor of each worker."""
    if options is None:
        return [{}] * n_workers
    if len(options) != n_workers:
        raise ValueError(
            f"'worker_options' must hold one dict for each of the {n_workers} workers. Got "
            f"{len(options)} of them."
        )
    return options


def check_no_memory(trainer: Trainer, strategy: TrainingStrategy) -> None:
    """Raise a ValueError if phases are to be stored on disk."""
    if trainer.memory is not None:
        raise ValueError(
            f"{type(strategy).__name__} does not store its phases on disk. Give the estimator "
            "memory=None."
        )
