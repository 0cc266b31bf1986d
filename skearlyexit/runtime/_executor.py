"""What executes the stages and heads of a cascade for the driver."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from skearlyexit._exit_table import Outputs
from skearlyexit.combination import Combination


@dataclass(frozen=True)
class Largest:
    """What of the outputs of a head the confidence and the label depend on.

    Attributes
    ----------
    labels : ndarray of shape (n_samples,)
        Index of the most probable class.
    probabilities : ndarray of shape (n_samples,)
        Its probability.
    """

    labels: np.ndarray
    probabilities: np.ndarray


class Store(metaclass=ABCMeta):
    """Carry of samples that wait before a stage."""

    @abstractmethod
    def add(self, carry: Any, rows: np.ndarray) -> None:
        """Add a copy of the carry of some samples, by index in ascending order."""

    @abstractmethod
    def taken(self) -> Any:
        """Take the carry of all samples. It is valid until others are added."""


class Executor(metaclass=ABCMeta):
    """Base class of executors.

    The carry, which is what a stage passes to the next one, and the inputs of a head are objects of
    the executor, which may divide the samples into batches. They may hold more samples than those
    of interest, which are the first ones.

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
    def slab_rows(self, output_bytes: int, *, large: bool) -> int:
        """Number of samples of a slab.

        Parameters
        ----------
        output_bytes : int
            Memory of the outputs for one sample.
        large : bool
            Whether to choose the largest number that the memory allows, and not the fastest.
        """

    @abstractmethod
    def load(self, X: np.ndarray) -> Any:
        """Carry of samples to the first stage."""

    @abstractmethod
    def stage(
        self, exit_: int, carry: Any, n_rows: int, *, with_head: bool
    ) -> tuple[Any, list[Any]]:
        """Compute the stage before an exit.

        Parameters
        ----------
        exit_ : int
            Index of the exit.
        carry : object
            Carry of the samples to this stage.
        n_rows : int
            Number of samples.
        with_head : bool
            Whether the head is computed afterwards.

        Returns
        -------
        carry : object
            Carry of the samples to the next stage.
        inputs : list of objects
            What the head and the gate need of the embeddings, one object for each batch. Empty
            without the head.
        """

    @abstractmethod
    def output(self, exit_: int, inputs: list[Any], n_rows: int) -> Outputs:
        """Outputs of the head and the gate at an exit, in contiguous memory.

        Parameters
        ----------
        exit_ : int
            Index of the exit.
        inputs : list of objects
            What `stage` returned for the head.
        n_rows : int
            Number of samples.
        """

    @abstractmethod
    def largest(self, exit_: int, inputs: list[Any], n_rows: int) -> Largest:
        """Most probable class, and its probability, of the head at an exit; see `output`."""

    @abstractmethod
    def store(self, exit_: int, n_rows: int) -> Store:
        """Store for the carry of at most so many samples to the stage before an exit."""

    def take(self, exit_: int, carry: Any, rows: np.ndarray) -> Any:
        """Carry of some samples, by index in ascending order, to the stage before an exit."""
        store = self.store(exit_, len(rows))
        store.add(carry, rows)
        return store.taken()
