"""Where workers run: in this process, or in processes of Ray."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Hashable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

Key = TypeVar("Key", bound=Hashable)


class WorkerLostError(Exception):
    """The process of a worker has ended."""


class Backend(metaclass=ABCMeta):
    """Base class of what starts workers and calls their methods.

    It is used as a context, at whose end all workers are stopped. Results of calls are references,
    which can be arguments of further calls, so that they pass from worker to worker directly.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def put(self, value: Any) -> Any:
        """Reference to a value."""

    @abstractmethod
    def start(self, options: Mapping[str, Any], kind: type, *args: Any) -> Any:
        """Start a worker, an object of a class, with options of Ray."""

    @abstractmethod
    def await_started(self) -> None:
        """Wait until all workers have started.

        Raises
        ------
        RuntimeError
            If they do not in time.
        """

    @abstractmethod
    def call(self, worker: Any, method: str, n_results: int, *args: Any) -> list[Any]:
        """Call a method of a worker that returns a tuple; a reference to each item."""

    @abstractmethod
    def any_ready(self, calls: Mapping[Key, list[Any]]) -> Key:
        """Wait until one of the calls has ended, and return its key."""

    @abstractmethod
    def get(self, reference: Any) -> Any:
        """Value of a reference.

        Raises
        ------
        WorkerLostError
            If the worker that computes it has ended.
        """

    @abstractmethod
    def stop(self, worker: Any) -> None:
        """Stop a worker. The results of its calls stay."""

    @abstractmethod
    def close(self) -> None:
        """Stop all workers."""


class SequentialBackend(Backend):
    """Workers in this process, whose calls run one after another."""

    def put(self, value: Any) -> Any:
        return value

    def start(self, options: Mapping[str, Any], kind: type, *args: Any) -> Any:
        return kind(*args)

    def await_started(self) -> None:
        """They are objects, which start at once."""

    def call(self, worker: Any, method: str, n_results: int, *args: Any) -> list[Any]:
        return list(getattr(worker, method)(*args))

    def any_ready(self, calls: Mapping[Key, list[Any]]) -> Key:
        return next(iter(calls))

    def get(self, reference: Any) -> Any:
        return reference

    def stop(self, worker: Any) -> None:
        """Nothing is left behind."""

    def close(self) -> None:
        """Nothing is left behind."""
