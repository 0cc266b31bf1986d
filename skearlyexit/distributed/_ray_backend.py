"""Workers as actors of Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skearlyexit.distributed._backend import Backend, Key, WorkerLostError


class RayBackend(Backend):
    """Workers as actors of Ray, each in a process of its own, possibly on another machine.

    Raises
    ------
    ImportError
        If Ray is not installed.
    """

    def __init__(self) -> None:
        try:
            import ray
        except ImportError as error:
            raise ImportError(
                "Workers in processes of their own require Ray. Install it by pip install "
                "\"skearlyexit[ray]\", or give backend='sequential', which trains the same model "
                "in this process."
            ) from error
        self.ray = ray
        self._started: list[Any] = []

    def put(self, value: Any) -> Any:
        return self.ray.put(value)

    def start(self, options: Mapping[str, Any], kind: type, *args: Any) -> Any:
        worker: Any = self.ray.remote(kind).options(**options).remote(*args)
        self._started.append(worker)
        return worker

    def call(self, worker: Any, method: str, n_results: int, *args: Any) -> list[Any]:
        called = getattr(worker, method).options(num_returns=n_results).remote(*args)
        return called if n_results > 1 else [called]

    def any_ready(self, calls: Mapping[Key, list[Any]]) -> Key:
        keys = {references[0]: key for key, references in calls.items()}
        ready, _ = self.ray.wait(list(keys), num_returns=1)
        return keys[ready[0]]

    def get(self, reference: Any) -> Any:
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayActorError as error:
            raise WorkerLostError(str(error)) from error
        except self.ray.exceptions.RayTaskError as error:
            # The error of the worker, rather than one that quotes it.
            raise error.cause from None

    def close(self) -> None:
        for worker in self._started:
            self.ray.kill(worker)
        self._started.clear()
