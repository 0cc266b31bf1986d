"""What executes the stages and heads of a cascade for the driver."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from skearlyexit._exit_table import Outputs
from skearlyexit.combination import Combination


class Executor(metaclass=ABCMeta):
    """Base class of executors.

    What a stage hands on, the carry, and its embeddings are objects of the executor. They may hold
    more samples than those of interest, which are the first ones.

    Attributes
    ----------
    n_exits, n_classes : int
        Number of exits, including the last one, and of classes.
    combiner : Combination or None
        Combination of the heads that was learned with the network.
    has_gates : bool
        Whether the outputs include those of gates.
    """

    n_exits: int
    n_classes: int
    combiner: Combination | None
    has_gates: bool

    @abstractmethod
    def context(self) -> AbstractContextManager[Any]:
        """Context in which all other methods are called."""

    @abstractmethod
    def slab_rows(self, output_bytes: int) -> int:
        """Number of samples of a slab, given the memory of the outputs for one sample."""

    @abstractmethod
    def load(self, X: np.ndarray) -> Any:
        """Carry of the first stage for samples."""

    @abstractmethod
    def stage(self, exit_: int, carry: Any, n_rows: int) -> tuple[Any, Any]:
        """Compute the stage before an exit.

        Parameters
        ----------
        exit_ : int
            Index of the exit.
        carry : object
            Carry of the previous stage, or of `load` or `take`.
        n_rows : int
            Number of samples.

        Returns
        -------
        carry : object
            Input of the next stage.
        embedding : object
            Input of the head.
        """

    @abstractmethod
    def output(self, exit_: int, embedding: Any, n_rows: int) -> Outputs:
        """Outputs of the head and the gate at an exit, in contiguous memory."""

    @abstractmethod
    def take(self, exit_: int, carry: Any, rows: np.ndarray) -> Any:
        """Carry of some of the samples, by index, that continue after an exit."""
