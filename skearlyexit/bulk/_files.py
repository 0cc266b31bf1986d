"""Predictions for samples in files, written to a file."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from skearlyexit.bulk._model import Request
from skearlyexit.bulk._ray import PartWorker, mapped, most_workers, ray_data
from skearlyexit.bulk._sources import Source, source_of
from skearlyexit.calibration import Budget

#: Bounds of a batch if the user sets none: bytes, and number of samples.
BATCH_BYTES, LARGEST_BATCH = 2**24, 2**16

#: Number of parts for each worker, since workers differ in speed.
PARTS = 8


def predict_files(
    estimator: Any,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    columns: str | Sequence[str] | None = None,
    keep: str | Sequence[str] = (),
    threshold: float | Sequence[float] | None = None,
    budget: float | Budget | None = None,
    return_proba: bool = False,
    batch_size: int | None = None,
    concurrency: int | None = None,
    num_cpus: float = 1,
    overwrite: bool = False,
) -> None:
    """Predict for all samples in files, and write the predictions to a file of type Parquet.

    Workers of Ray read the samples in batches, so that memory does not grow with the files.
    Predictions are those of ``estimator.predict(X, return_exits=True)`` for all samples in one
    array, in the same order.

    Parameters
    ----------
    estimator : EarlyExitClassifier, EarlyExitRegressor, CascadeClassifier, CascadeRegressor, \
            Pipeline, OnnxCascade, str or path-like
        Fitted estimator, fitted pipeline whose last step is one, or a file that `to_onnx` has
        written, as in `predict_dataset`.
    source : str or path-like
        File of type ``.parquet`` or ``.npy``, or a folder, whose files of type ``.parquet`` are
        read in the order of their names. Workers on other machines read it at the same path.
    target : str or path-like
        File of type ``.parquet``. It is written by the calling process, and does not exist until
        all predictions are in it.
    columns : str or sequence of str, default=None
        Names of the features in the order of the fit, or the name of the column whose values are
        whole samples, as in `predict_dataset`. Must be None for an array.
    keep : sequence of str or "all", default=()
        Columns of `source` to copy to `target`. Must be empty for an array.
    threshold : float or sequence of float, default=None
        One threshold for all exits, or one for each exit but the last, as in `predict`.
    budget : float or Budget, default=None
        Maximum mean cost per sample, as in `predict`. It must not be strict.
    return_proba : bool, default=False
        Whether to write class probabilities as well.
    batch_size : int, default=None
        Number of samples that a worker reads at a time. None means 65,536, or as many as are about
        16 MiB in memory if these are fewer; for files of type Parquet, this is estimated from the
        first rows of each.
    concurrency : int, default=None
        Number of workers. None means as many as Ray has processors for.
    num_cpus : float, default=1
        Number of processors of each worker, on which torch uses as many threads.
    overwrite : bool, default=False
        Whether to replace an existing `target`.

    Raises
    ------
    FileExistsError
        If `target` exists and `overwrite` is False.
    FileNotFoundError
        If there is no `source`, or no folder for `target`.
    ImportError
        If Ray is not installed.
    TypeError
        If `estimator` has no exits.
    ValueError
        If an argument is invalid, there are no samples, columns are missing, those of `keep`
        differ between files or have names of predictions, no machine has `num_cpus` processors, a
        budget is strict or cannot be met, or the network is not on the CPU.

    See Also
    --------
    predict_dataset : Columns of the result, and the same for a Dataset of Ray.

    Notes
    -----
    A file of type ``.parquet`` is divided between workers at its row groups, and a worker holds
    the pages of one row group of which it reads rows.

    Examples
    --------
    >>> from skearlyexit.bulk import predict_files
    >>> predict_files(clf, "rows.parquet", "predictions.parquet", keep=["id"], budget=0.4)
    ... # doctest: +SKIP
    """
    request = Request.made(
        estimator,
        threshold=threshold,
        budget=budget,
        columns=columns,
        keep=keep,
        return_proba=return_proba,
        num_cpus=num_cpus,
        batch_size=batch_size,
        concurrency=concurrency,
        overwrite=overwrite,
        caller="predict_files",
    )
    ray = ray_data()
    _check_target(Path(target), Path(source), overwrite)
    files = source_of(Path(source).absolute())
    files.check(request)
    most = most_workers(num_cpus)
    concurrency = concurrency or most
    size = batch_size or max(1, min(LARGEST_BATCH, BATCH_BYTES // max(1, files.row_bytes(request))))
    parts = files.parts(_part_rows(files, size, concurrency))
    predictions = mapped(
        ray.data.from_items(
            [{"part": index} for index in range(len(parts))], override_num_blocks=len(parts)
        ),
        PartWorker,
        (request, parts, size),
        num_cpus,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(concurrency, len(parts))),
    )
    _write(predictions.iter_batches(batch_size=None, batch_format="pyarrow"), Path(target))


def _part_rows(files: Source, batch_size: int, n_workers: int) -> int:
    """Number of samples of a part: whole batches."""
    n_batches = math.ceil(files.n_rows / batch_size)
    return batch_size * math.ceil(n_batches / (PARTS * n_workers))


def _check_target(target: Path, source: Path, overwrite: bool) -> None:
    """Raise an error if a file must not or cannot be written."""
    if target.suffix != ".parquet":
        raise ValueError(f"'target' must be a file of type .parquet; got {str(target)!r}.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(target.parent)!r} for 'target'.")
    if source.resolve() in (target.resolve(), target.resolve().parent):
        raise ValueError(
            f"'target' must not be among the files of 'source'; got {str(target)!r} and "
            f"{str(source)!r}."
        )
    if target.is_dir() or (target.exists() and not overwrite):
        raise FileExistsError(
            f"'target' exists: {str(target)!r}. Give another name, or overwrite=True to replace a "
            "file."
        )


def _write(tables: Iterable[Any], target: Path) -> None:
    """Write tables of pyarrow to a file, which replaces another when it is complete."""
    with _renamed(target) as path:
        from pyarrow.parquet import ParquetWriter

        with contextlib.ExitStack() as stack:
            writer = None
            for table in tables:
                writer = writer or stack.enter_context(ParquetWriter(path, table.schema))
                writer.write_table(table)


@contextlib.contextmanager
def _renamed(target: Path) -> Iterator[Path]:
    """Path of a file that becomes `target` unless there is an error."""
    path = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield path
        path.replace(target)
    finally:
        path.unlink(missing_ok=True)
