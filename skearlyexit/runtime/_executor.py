"""What executes the stages and heads of a cascade for the driver."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np

from skearlyexit._determinism._softmax import largest_of
from skearlyexit._exit_table import Outputs
from skearlyexit._output_kind import OutputKind
from skearlyexit._utils._not_finite import ADVICE
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
    def add(self, carry: list[Any], rows: np.ndarray) -> None:
        """Add a copy of the carry of some samples, by index in ascending order."""

    @abstractmethod
    def taken(self) -> list[Any]:
        """Take the carry of all samples. It is valid until others are added."""


class Executor(metaclass=ABCMeta):
    """Base class of executors.

    The carry is what a stage passes to the next one, a list of batches. These and the inputs of a
    head are objects of the executor. They may hold more samples than those of interest, which are
    the first ones.

    Attributes
    ----------
    n_exits, n_classes : int
        Number of exits, including the last one, and of classes, or of targets in regression.
    kind : OutputKind
        What the outputs of the heads are.
    combiner : Combination or None
        Combination of the heads that was learned with the network.
    has_gates : bool
        Whether the outputs include those of gates.
    advice : str
        End of the message of an error for outputs that are not valid.
    """

    n_exits: int
    n_classes: int
    kind: OutputKind
    combiner: Combination | None
    has_gates: bool
    advice: str = ADVICE

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
    def load(self, X: np.ndarray) -> list[Any]:
        """Carry of samples to the first stage."""

    def stage(
        self, exit_: int, carry: list[Any], n_rows: int, *, asked: np.ndarray | None = None
    ) -> tuple[list[Any], list[Any]]:
        """Compute the stage before an exit.

        Parameters
        ----------
        exit_ : int
            Index of the exit.
        carry : list of objects
            Carry of the samples to this stage.
        n_rows : int
            Number of samples.
        asked : ndarray of int or None, default=None
            Samples for which the head is computed afterwards, by index in ascending order. None
            means all of them.

        Returns
        -------
        carry : list of objects
            Carry of the samples to the next stage.
        inputs : list of objects
            What the head and the gate need of the embeddings, one object for each batch with such
            samples.
        """
        onward, inputs, start = [], [], 0
        for batch, n_of_batch in self.batches(exit_, carry, n_rows):
            output, embedding = self.stage_of_batch(exit_, batch)
            onward.append(output)
            if asked is None:
                inputs.append(self.input_of_batch(exit_, embedding, n_of_batch))
            elif len(asked):
                stop = start + n_of_batch
                some = asked[np.searchsorted(asked, start) : np.searchsorted(asked, stop)] - start
                if len(some):
                    embedding = self.some_of_batch(embedding, some)
                    inputs.append(self.input_of_batch(exit_, embedding, len(some)))
                start = stop
        return onward, inputs

    @abstractmethod
    def batches(self, exit_: int, carry: list[Any], n_rows: int) -> list[tuple[Any, int]]:
        """Batches on which the stage before an exit is computed, with their numbers of samples."""

    @abstractmethod
    def stage_of_batch(self, exit_: int, batch: Any) -> tuple[Any, Any]:
        """Carry and embeddings of a batch."""

    @abstractmethod
    def some_of_batch(self, embedding: Any, rows: np.ndarray) -> Any:
        """Embeddings of some samples of a batch, by index in ascending order."""

    @abstractmethod
    def input_of_batch(self, exit_: int, embedding: Any, n_rows: int) -> Any:
        """What the head and the gate need of the embeddings of a batch of so many samples."""

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

    def largest(self, exit_: int, inputs: list[Any], n_rows: int) -> Largest:
        """Most probable class, and its probability, of the head at an exit; see `output`."""
        return Largest(*largest_of(self.output(exit_, inputs, n_rows).probabilities))

    def outputs_of_one(self, X: Any, used: Sequence[bool]) -> Iterator[np.ndarray | None]:
        """Compute the stages and heads for a single sample, one exit after the other.

        There must be neither gates nor a combination that was learned with the network.

        Parameters
        ----------
        X : ndarray of shape (1, ...)
            The sample.
        used : sequence of bool
            Whether the head at each exit is computed.

        Yields
        ------
        outputs : ndarray of shape (1, n_classes) or None
            Outputs at the next exit, to the last bit those of `output`. None if the head is not
            computed.
        """
        carry = self.load(X[:1])  # X may be read only when it is sliced
        for exit_, is_used in enumerate(used):
            ((batch, _),) = self.batches(exit_, carry, 1)
            onward, embedding = self.stage_of_batch(exit_, batch)
            if is_used:
                yield self.output_of_one(exit_, self.input_of_batch(exit_, embedding, 1))
            else:
                yield None
            carry = [onward]

    def output_of_one(self, exit_: int, input_: Any) -> np.ndarray:
        """Outputs for a single sample at an exit; see `outputs_of_one`."""
        return self.output(exit_, [input_], 1).probabilities

    @abstractmethod
    def store(self, exit_: int, n_rows: int) -> Store:
        """Store for the carry of at most so many samples to the stage before an exit."""

    def take(self, exit_: int, carry: list[Any], rows: np.ndarray) -> list[Any]:
        """Carry of some samples, by index in ascending order, to the stage before an exit."""
        store = self.store(exit_, len(rows))
        store.add(carry, rows)
        return store.taken()

    @abstractmethod
    def passed_on(self, exit_: int, carry: list[Any], rows: np.ndarray) -> Any:
        """Carry of some samples to the stage before an exit, for an executor in another process.

        It can be pickled, and holds nothing of other samples.
        """

    @abstractmethod
    def joined(self, exit_: int, parts: Sequence[Any]) -> list[Any]:
        """Carry of all samples of several parts that `passed_on` returned.

        For the first exit, parts are the samples themselves.
        """

    def synchronize(self) -> None:  # noqa: B027
        """Wait until an accelerator has finished, before times are taken."""


@singledispatch
def executor_of(fitted: Any) -> Executor:
    """Executor of the fitted part of a cascade, which each executor registers itself for."""
    raise TypeError(f"There is no executor for {type(fitted).__name__}.")
