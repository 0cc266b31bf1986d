"""What all trainings by several workers have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from skearlyexit.training import Trainer, TrainingStrategy


class WorkersTraining(TrainingStrategy):
    """Base class of trainings by several workers, which run the phases of another training."""

    @abstractmethod
    def _resolved(self) -> TrainingStrategy:
        """Training whose phases are run."""

    def obstacle_to_classification(self) -> str:
        return self._resolved().obstacle_to_classification()

    def obstacle_to_regression(self) -> str:
        return self._resolved().obstacle_to_regression()

    def obstacle_to_hinge(self) -> str:
        return self._resolved().obstacle_to_hinge()


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
