"""Files with samples, which are read in parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from skearlyexit.bulk._model import Request

#: Bytes of each column of a Parquet file that are read at a time.
BUFFER_BYTES = 2**16

#: Number of rows of each Parquet file of which the size in memory is measured.
MEASURED_ROWS = 100


class Part(Protocol):
    """Part of a file, for which one worker predicts."""

    def predictions(self, request: Request, batch_size: int) -> Iterator[Any]:
        """Read batches of samples, and return the predictions for each as a table of pyarrow."""


class Source(Protocol):
    """Files with samples.

    Attributes
    ----------
    n_rows : int
        Number of samples.
    """

    n_rows: int

    def check(self, request: Request) -> None:
        """Raise a ValueError if columns are not there, or differ between files."""

    def row_bytes(self, request: Request) -> int:
        """Size in memory of what is read for a sample, about."""

    def parts(self, n_rows: int) -> list[Part]:
        """Divide the files into parts of about this number of samples, in order."""


@dataclass(frozen=True)
class NpyPart:
    """Rows of an array in a file."""

    path: Path
    start: int
    stop: int

    def predictions(self, request: Request, batch_size: int) -> Iterator[Any]:
        mapped = np.load(self.path, mmap_mode="r")
        for start in range(self.start, self.stop, batch_size):
            rows = np.array(mapped[start : min(start + batch_size, self.stop)])
            yield _located(request.of_samples, rows, self.path, start)


class NpyFile:
    """Samples in an array in a file."""

    def __init__(self, path: Path) -> None:
        mapped = np.load(path, mmap_mode="r")
        self._path = path
        self.n_rows = mapped.shape[0] if mapped.ndim else 0
        self._row_bytes = mapped.itemsize * math.prod(mapped.shape[1:])

    def check(self, request: Request) -> None:
        if request.columns is not None or request.keep:
            raise ValueError(
                "A file of type .npy has no columns: 'columns' must be None, and 'keep' empty. Got "
                f"{request.columns!r} and {request.keep!r}."
            )

    def row_bytes(self, request: Request) -> int:
        return self._row_bytes

    def parts(self, n_rows: int) -> list[Part]:
        return [
            NpyPart(self._path, start, min(start + n_rows, self.n_rows))
            for start in range(0, self.n_rows, n_rows)
        ]


@dataclass(frozen=True)
class ParquetPart:
    """Row groups of a file, of which `start` is the first row."""

    path: Path
    row_groups: tuple[int, ...]
    start: int

    def predictions(self, request: Request, batch_size: int) -> Iterator[Any]:
        start = self.start
        for table in _tables(self.path, request, batch_size, self.row_groups):
            yield _located(request.of_table, table, self.path, start)
            start += len(table)


class ParquetFiles:
    """Samples in rows of files of type Parquet."""

    def __init__(self, paths: list[Path]) -> None:
        from pyarrow.parquet import read_metadata

        files = {path: read_metadata(path) for path in paths}
        # The types in a file without rows are often not those of the others.
        self._files = {path: each for path, each in files.items() if each.num_rows}
        self.n_rows = sum(each.num_rows for each in self._files.values())

    def check(self, request: Request) -> None:
        first = None
        for path, metadata in self._files.items():
            schema = metadata.schema.to_arrow_schema()
            note = f"This is the file {str(path)!r}."
            _, keep = _noted(partial(request.of_columns, schema.names), note)
            fields = [schema.field(name) for name in keep]
            first = first or (path, fields)
            _noted(partial(_check_same, fields, *first), note)

    def row_bytes(self, request: Request) -> int:
        return max(_row_bytes(path, request) for path in self._files)

    def parts(self, n_rows: int) -> list[Part]:
        parts: list[Part] = []
        for path, metadata in self._files.items():
            groups: list[int] = []
            start = stop = 0
            for group in range(metadata.num_row_groups):
                groups.append(group)
                stop += metadata.row_group(group).num_rows
                if stop - start >= n_rows or group == metadata.num_row_groups - 1:
                    parts.append(ParquetPart(path, tuple(groups), start))
                    groups, start = [], stop
        return parts


def _tables(
    path: Path, request: Request, batch_size: int, row_groups: Sequence[int] | None = None
) -> Iterator[Any]:
    """Batches of rows, as tables of pyarrow with the columns that are needed."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    # By default, all columns of a row group are read at once.
    with ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False) as file:
        columns = request.read_columns(file.schema_arrow.names)
        for batch in file.iter_batches(batch_size, row_groups, columns):
            yield pyarrow.Table.from_batches([batch])


def _row_bytes(path: Path, request: Request) -> int:
    """Mean size in memory of the first rows of a file, or of a number for each column if larger."""
    first = next(_tables(path, request, MEASURED_ROWS))
    return max(math.ceil(first.nbytes / len(first)), 8 * first.num_columns)


def _check_same(fields: list[Any], path: Path, others: list[Any]) -> None:
    """Raise a ValueError if columns to keep are not those of another file."""
    for own, other in zip_longest(fields, others, fillvalue="nothing"):
        if own != other:
            raise ValueError(
                "The columns to keep must be the same in all files, with the same types and in "
                f"the same order. Got {own} instead of {other}, as in the file {str(path)!r}."
            )


def source_of(path: Path) -> Source:
    """Files at a path.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If files are of another type, or there are no samples.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {str(path)!r}.")
    source = _opened(path)
    if not source.n_rows:
        raise ValueError(f"There are no samples in {str(path)!r}.")
    return source


def _opened(path: Path) -> Source:
    if path.is_dir():
        paths = sorted(path.glob("*.parquet"))
        if not paths:
            raise FileNotFoundError(f"There are no files *.parquet in the folder {str(path)!r}.")
        return ParquetFiles(paths)
    if path.suffix == ".parquet":
        return ParquetFiles([path])
    if path.suffix == ".npy":
        return NpyFile(path)
    raise ValueError(
        "'source' must be a file of type .parquet or .npy, or a folder of files of type .parquet. "
        f"Got {str(path)!r}."
    )


def _located(predict: Callable[[Any], Any], samples: Any, path: Path, start: int) -> Any:
    """Predictions, or an error that says which samples could not be predicted."""
    where = f"Row 0 of X is row {start} of the file {str(path)!r}."
    return _noted(partial(predict, samples), where)


def _noted(call: Callable[[], Any], note: str) -> Any:
    """Result of a call. A note is added to an error."""
    try:
        return call()
    except Exception as error:
        error.add_note(note)
        raise
