"""Fitted estimators in a row."""

from __future__ import annotations

from dataclasses import dataclass

from skearlyexit._determinism._classifier import BatchInvariantClassifier


@dataclass(frozen=True)
class FittedChain:
    """Fitted classifiers in a row, each of which is an exit.

    Attributes
    ----------
    estimators : list of BatchInvariantClassifier
        Classifier of each exit, which is called with the samples themselves.
    n_classes : int
        Number of classes.
    """

    estimators: list[BatchInvariantClassifier]
    n_classes: int

    @property
    def n_exits(self) -> int:
        """Number of exits, including the last one."""
        return len(self.estimators)
