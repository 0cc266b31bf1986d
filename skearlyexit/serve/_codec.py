"""Bodies of requests and answers: JSON, and arrays in NumPy's format. Nothing is unpickled."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable, Mapping
from io import BytesIO
from typing import Any

import numpy as np

from skearlyexit.serve._errors import RequestError

JSON, NPY = "application/json", "application/x-npy"
#: Largest header of an array, which is parsed as Python literals.
HEADER_BYTES = 10_000


async def read_bounded(
    headers: Mapping[str, str],
    chunks: AsyncIterator[bytes],
    max_bytes: int,
    count: Callable[[int], None],
) -> bytes:
    """Read a body of limited size.

    Parameters
    ----------
    headers : mapping of str to str
        Headers of the request, in lower case.
    chunks : async iterator of bytes
        The body.
    max_bytes : int
        Largest number of bytes, of which no more are read.
    count : callable
        Called with numbers of bytes before they are kept: the declared length, and what exceeds it.

    Raises
    ------
    RequestError
        With status 413 if the body is larger.
    """
    declared = headers.get("content-length", "")
    n_counted = int(declared) if declared.isdecimal() and len(declared) < 20 else 0
    if n_counted > max_bytes:
        raise _too_large(declared, max_bytes)
    count(n_counted)
    parts, size = [], 0
    async for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(f"at least {size}", max_bytes)
        if size > n_counted:
            count(size - n_counted)
            n_counted = size
        parts.append(chunk)
    return b"".join(parts)


def _too_large(size: str, max_bytes: int) -> RequestError:
    return RequestError(
        413,
        f"The body has {size} bytes, and at most {max_bytes} are accepted. Send fewer samples in a "
        "request.",
    )


def read_json(body: bytes) -> dict[str, Any]:
    """Read a body that is an object in JSON.

    Raises
    ------
    RequestError
        With status 400 if it is anything else.
    """
    try:
        content = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error) or "the values are nested too deeply"
        raise RequestError(400, f"The body is not valid JSON: {reason}.") from None
    if not isinstance(content, dict):
        raise RequestError(
            400, f"The body must be an object in JSON. Got {type(content).__name__}."
        )
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


def read_instances(body: bytes, max_rows: int) -> list[Any]:
    """Read the samples of a body ``{"instances": [...]}``.

    Raises
    ------
    RequestError
        With status 400 if it is anything else, and 413 if there are more than `max_rows`.
    """
    content = read_json(body)
    instances = content.get("instances")
    if not isinstance(instances, list) or not instances or len(content) > 1:
        got = ", ".join(
            f"{key[:50]!r}: {type(value).__name__}" for key, value in list(content.items())[:5]
        )
        raise RequestError(
            400,
            'The body must be {"instances": [...]} with at least one sample and nothing else. Got '
            f"{{{got}}}{' without samples' if instances == [] else ''}.",
        )
    _check_rows(len(instances), max_rows)
    return instances


def read_npy(body: bytes, max_rows: int) -> np.ndarray:
    """Read samples from an array of numbers in NumPy's format.

    Parameters
    ----------
    body : bytes
        The body. No memory is allocated for what its header states.
    max_rows : int
        Largest number of samples.

    Returns
    -------
    X : ndarray of shape (n_samples, ...)
        Read-only array in the memory of the body.

    Raises
    ------
    RequestError
        With status 400 if it is not such an array, and 413 if there are more samples.
    """
    stream = BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, is_fortran, dtype = read(stream, max_header_size=HEADER_BYTES)
    except Exception as error:  # whatever a header that is not valid makes the parser raise
        raise RequestError(
            400,
            f"The body is not an array in NumPy's format: {_first_line(error)}. Write it by "
            f"numpy.save, and send it as {NPY}.",
        ) from None
    if dtype.kind not in "biuf":
        raise RequestError(
            400,
            f"The array must hold real numbers. Got dtype {str(dtype)[:50]}; objects are never "
            "unpickled.",
        )
    n_bytes, expected = len(body) - stream.tell(), math.prod(shape) * dtype.itemsize
    if not shape or min(shape) < 1 or expected != n_bytes:
        raise RequestError(
            400,
            f"An array of shape {str(shape)[:100]} and dtype {dtype} is {max(expected, 0)} bytes. "
            f"Got {n_bytes} bytes; it must be of shape (n_samples, ...) with at least one sample.",
        )
    _check_rows(shape[0], max_rows)
    flat = np.frombuffer(body, dtype, offset=stream.tell())
    try:
        return flat.reshape(shape, order="F" if is_fortran else "C")
    except (TypeError, ValueError) as error:  # such as for too many axes
        raise RequestError(
            400, f"There is no array of shape {str(shape)[:100]}: {_first_line(error)}."
        ) from None


def _check_rows(n_rows: int, max_rows: int) -> None:
    if n_rows > max_rows:
        raise RequestError(
            413, f"A request has at most {max_rows} samples. Got {n_rows}; send them in parts."
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")


def write_json(content: Mapping[str, Any]) -> bytes:
    """Body of an answer in JSON; arrays become lists, and dates and other objects texts."""
    return json.dumps(content, default=_in_json, allow_nan=False).encode()


def _in_json(value: Any) -> Any:
    if getattr(value, "dtype", np.dtype(object)).kind in "mM":
        return value.astype(str).tolist()
    return value.tolist() if hasattr(value, "tolist") else str(value)


def write_npy(columns: Mapping[str, np.ndarray]) -> bytes:
    """Body of an answer as one array in NumPy's format, with a field for each column."""
    arrays = {
        name: values.astype(str) if values.dtype == object else values
        for name, values in columns.items()
    }
    n_rows = len(next(iter(arrays.values())))
    fields = [(name, values.dtype, values.shape[1:]) for name, values in arrays.items()]
    table = np.empty(n_rows, dtype=fields)
    for name, values in arrays.items():
        table[name] = values
    stream = BytesIO()
    np.lib.format.write_array(stream, table, allow_pickle=False)
    return stream.getvalue()
