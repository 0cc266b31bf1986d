"""Execution by Ray: workers that load the model once, and the order of samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from skearlyexit._utils._ray import import_ray
from skearlyexit.bulk._model import Request, n_threads
from skearlyexit.bulk._sources import Part


def ray_data() -> Any:
    """Import Ray with Ray Data."""
    return import_ray("predictions for large sets of samples", "ray.data")


def most_workers(num_cpus: float) -> int:
    """Number of workers for which there are processors. Ray is started unless it runs.

    Parameters
    ----------
    num_cpus : float
        Number of processors of each worker.

    Raises
    ------
    ValueError
        If no machine has as many. Ray would wait for one for ever.
    """
    ray = ray_data()
    if not ray.is_initialized():
        ray.init()
    machines = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    n_workers = sum(int(n_cpus / num_cpus) for n_cpus in machines)
    if not n_workers:
        raise ValueError(
            "'num_cpus' must be at most the number of processors that Ray has on one machine. Got "
            f"{num_cpus}, and the most that a machine has are {max(machines, default=0):g}."
        )
    return n_workers


def mapped(
    dataset: Any, worker: type, content: tuple[Any, ...], num_cpus: float, **options: Any
) -> Any:
    """Dataset of what workers return for the batches of a Dataset, in the same order.

    Parameters
    ----------
    dataset : ray.data.Dataset
        It is not changed.
    worker : type
        Class of the workers.
    content : tuple
        Arguments of the class. They are put into the store of Ray once.
    num_cpus : float
        Number of processors of each worker.
    **options : dict
        Arguments of `map_batches`.
    """
    ray = ray_data()
    ordered = type(dataset).copy(dataset, _deep_copy=True)
    ordered.context.execution_options.preserve_order = True
    # As bytes, since arrays in the store can only be read.
    stored = ray.put(ray.cloudpickle.dumps(content))
    return ordered.map_batches(
        worker,
        # In a list, of which Ray passes on the reference.
        fn_constructor_args=([stored], num_cpus),
        batch_format="pyarrow",
        num_cpus=num_cpus,
        **options,
    )


def _loaded(stored: list[Any], num_cpus: float) -> Any:
    """Content of `mapped`, in a worker, whose threads are limited."""
    import ray

    torch.set_num_threads(n_threads(num_cpus))
    return ray.cloudpickle.loads(ray.get(stored[0]))


class BatchWorker:
    """Predictions for batches of a Dataset."""

    def __init__(self, stored: list[Any], num_cpus: float) -> None:
        self.request: Request
        (self.request,) = _loaded(stored, num_cpus)

    def __call__(self, table: Any) -> Any:
        return self.request.of_table(table)


class PartWorker:
    """Predictions for parts of files, which are read here, so that samples are not in the store."""

    def __init__(self, stored: list[Any], num_cpus: float) -> None:
        self.request: Request
        self.parts: list[Part]
        self.request, self.parts, self.batch_size = _loaded(stored, num_cpus)

    def __call__(self, table: Any) -> Iterator[Any]:
        for index in table["part"].to_pylist():
            yield from self.parts[index].predictions(self.request, self.batch_size)
