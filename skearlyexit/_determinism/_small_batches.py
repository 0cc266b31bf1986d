"""Smallest batches in which the result for a sample does not depend on the other samples."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skearlyexit._determinism._layers import GROUP, round_up

#: Sizes of batches of fewer than `GROUP` samples. Each is tested, so there are few.
SMALL_SIZES = (1, 2, 4, 8)
#: Number of samples of a test.
N_TESTED = 64


def _kernels() -> tuple[str, ...]:
    """What the choice of matrix kernels depends on, besides the size of the product."""
    capability = torch.backends.cpu.get_cpu_capability()
    return str(torch.__version__), np.__version__, str(capability), _processor()


@cache
def _processor() -> str:
    """Name of the processor, as far as it is known."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.processor())


@dataclass(frozen=True)
class SmallBatches:
    """Smallest batch of each stage of a network, and of the pooling of each head.

    A batch has 1, 2, 4 or 8 samples, or a multiple of 16. In all of these that are at least as
    large as the smallest batch of a stage or a pooling, its results for a sample are bitwise the
    same.

    Attributes
    ----------
    stages, poolings : list of int
        Smallest batch of each of them.
    """

    stages: list[int]
    poolings: list[int]
    _kernels: tuple[str, ...] = field(default_factory=_kernels)

    @classmethod
    def untested(cls, n_exits: int) -> SmallBatches:
        """Those of a network that was not tested."""
        return cls([GROUP] * n_exits, [GROUP] * n_exits)

    @classmethod
    def any_size(cls, n_exits: int) -> SmallBatches:
        """Those of a network whose results may depend on the batch."""
        return cls([1] * n_exits, [1] * n_exits)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # On a machine with other kernels, the sizes may be others.
        if state["_kernels"] != _kernels():
            state = vars(SmallBatches.untested(len(state["stages"])))
        self.__dict__.update(state)


def padded_size(n_rows: int, smallest: int) -> int:
    """Size of the batch for so many samples, given the smallest batch."""
    if n_rows > SMALL_SIZES[-1]:
        return round_up(n_rows)
    return max(smallest, 1 << (n_rows - 1).bit_length())


def smallest_batch(function: Callable[[Any], Any], rows: Any) -> int:
    """Smallest batch for which a function returns the same values as for a large one.

    Parameters
    ----------
    function : callable
        Function from a batch, which is a tensor or a tuple of tensors, to tensors, arrays or tuples
        of them, with one row for each sample.
    rows : tensor or tuple of tensors
        A batch of `N_TESTED` samples.

    Returns
    -------
    smallest : int
        1, 2, 4, 8 or 16. All sizes from it on give bitwise the same values. 16 if most of the
        samples or of the values are equal, such as zeros, for which kernels may agree by chance.
    """
    expected = [np.asarray(part) for part in _parts(function(rows))]
    smallest = GROUP
    if not (_vary(_parts(rows)) and _vary(expected)):
        return smallest
    for size in reversed(SMALL_SIZES):
        # All samples, since the values for a few may be the same by chance.
        for start in range(0, N_TESTED, size):
            chosen = slice(start, start + size)
            found = _parts(function(some_rows(rows, chosen)))
            pairs = zip(expected, found, strict=True)
            if not all(np.array_equal(part[chosen], of_few) for part, of_few in pairs):
                return smallest
        smallest = size
    return smallest


def _vary(parts: Iterable[Any]) -> bool:
    """Whether at least half of the samples differ from all others in one of the parts."""
    return any(
        len(np.unique(np.asarray(part).reshape(N_TESTED, -1), axis=0)) >= N_TESTED // 2
        for part in parts
    )


def some_rows(rows: Any, chosen: slice) -> Any:
    """Some samples of a batch, which is a tensor or a tuple of tensors."""
    if isinstance(rows, tuple):
        return tuple(part[chosen] for part in rows)
    return rows[chosen]


def _parts(values: Any) -> Iterator[Any]:
    if isinstance(values, tuple):
        for value in values:
            yield from _parts(value)
    else:
        yield values
