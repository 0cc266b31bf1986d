"""Execution by Ray: workers that load the model once, and the order of samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from skearlyexit.bulk._model import Request, n_threads
from skearlyexit.bulk._sources import Part


def import_ray() -> Any:
    """Import Ray with Ray Data.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(
            "Predictions for large sets of samples require Ray. You can install it with "
            '`pip install "skearlyexit[ray]"`.'
        ) from error
    return ray


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
    ray = import_ray()
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
