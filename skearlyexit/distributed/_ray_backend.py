"""Workers as actors of Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from skearlyexit._utils._ray import import_ray
from skearlyexit.distributed._backend import Backend, Key, WorkerLostError


class RayBackend(Backend):
    """Workers as actors of Ray, each in a process of its own, possibly on another machine.

    Ray is started if it is not, and stays until ``ray.shutdown()``.

    Parameters
    ----------
    start_timeout : float
        Seconds in which workers must have started when they are waited for.
    alternative : str, default=""
        What the error says of a training without Ray, as the end of a sentence.

    Raises
    ------
    ImportError
        If Ray is not installed.
    """

    def __init__(self, start_timeout: float, alternative: str = "") -> None:
        self.start_timeout = start_timeout
        self.ray = import_ray("workers in processes of their own", otherwise=alternative)
        if not self.ray.is_initialized():
            self.ray.init(include_dashboard=False)
        self._started: list[Any] = []
        #: Options of workers that may not have started, by what is ready when they have.
        self._starting: dict[Any, Mapping[str, Any]] = {}

    def put(self, value: Any) -> Any:
        return self.ray.put(value)

    def start(self, options: Mapping[str, Any], kind: type, *args: Any) -> Any:
        worker: Any = self.ray.remote(kind).options(**options).remote(*args)
        self._started.append(worker)
        self._starting[worker.__ray_ready__.remote()] = options
        return worker

    def await_started(self) -> None:
        references = list(self._starting)
        _, missing = self.ray.wait(
            references, num_returns=len(references), timeout=self.start_timeout
        )
        if missing:
            # Without another number, Ray starts an actor where a processor is free.
            asked = [{"num_cpus": 1, **self._starting[each]} for each in missing]
            raise RuntimeError(
                f"Workers have not started within {self.start_timeout:g} seconds. They need "
                f"{asked}. The cluster has {_shown(self.ray.cluster_resources())}, of which now "
                f"{_shown(self.ray.available_resources())} are free. Give other 'worker_options', "
                "fewer workers, or, if the resources suffice or will be free, a larger "
                "'start_timeout'."
            )
        self._starting.clear()

    def start_meeting(self, kind: type, n_workers: int) -> RemoteMeeting:
        """Start a meeting of workers, and return what they can call."""
        # Each worker occupies a thread while it waits for the others.
        options = {"max_concurrency": n_workers, "num_cpus": 0}
        return RemoteMeeting(self.start(options, kind, n_workers), n_workers)

    def call(self, worker: Any, method: str, n_results: int, *args: Any) -> list[Any]:
        called = getattr(worker, method).options(num_returns=n_results).remote(*args)
        return called if n_results > 1 else [called]

    def any_ready(self, calls: Mapping[Key, list[Any]]) -> Key:
        keys = {references[0]: key for key, references in calls.items()}
        ready, _ = self.ray.wait(list(keys), num_returns=1)
        return keys[ready[0]]

    def get(self, reference: Any) -> Any:
        exceptions = self.ray.exceptions
        try:
            return self.ray.get(reference)
        except (
            exceptions.RayActorError,
            exceptions.OutOfMemoryError,
            exceptions.NodeDiedError,
        ) as error:
            raise WorkerLostError(str(error)) from error
        except exceptions.RayTaskError as error:
            # The error of the worker, rather than one that quotes it.
            raise error.cause from None

    def stop(self, worker: Any) -> None:
        self.ray.kill(worker)
        self._started.remove(worker)

    def close(self) -> None:
        for worker in self._started:
            self.ray.kill(worker)
        self._started.clear()
        self._starting.clear()


def _shown(resources: Mapping[str, float]) -> dict[str, float]:
    """Resources without those by which Ray counts objects and names machines."""
    names = sorted(set(resources) - {"object_store_memory"})
    return {name: resources[name] for name in names if not name.startswith("node:")}


@dataclass(frozen=True)
class RemoteMeeting:
    """A meeting in another process.

    Attributes
    ----------
    actor : ray.actor.ActorHandle
        The meeting.
    n_workers : int
        Number of workers.
    """

    actor: Any
    n_workers: int

    def mean(self, worker: int, weight: float, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """Compute the mean of the tensors of all workers; see `Meeting`."""
        import ray

        means: list[torch.Tensor] = ray.get(self.actor.mean.remote(worker, weight, tensors))
        return means
