"""Time and memory of calls."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MIB = 2**20

Call = Callable[[], Any]
Times = dict[Any, np.ndarray]


def seconds(call: Call) -> float:
    """Seconds of one call, by the clock."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def repeated(call: Call, repeats: int) -> np.ndarray:
    """Seconds of each of several calls."""
    return np.array([seconds(call) for _ in range(repeats)])


def take_turns(calls: Mapping[Any, Call], repeats: int) -> Times:
    """Seconds of each function, called in turns after one call each to warm up."""
    for call in calls.values():
        call()
    times: dict[Any, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return {name: np.array(values) for name, values in times.items()}


def medians(times: Times, unit: float = 1e3, suffix: str = "ms") -> str:
    """Text of the median of each function."""
    return ", ".join(
        f"{name} {unit * np.median(values):.2f} {suffix}" for name, values in times.items()
    )


def ratio(above: np.ndarray, below: np.ndarray) -> tuple[float, str]:
    """Median of the ratio turn by turn, and its text with quartiles."""
    low, middle, high = np.percentile(above / below, [25, 50, 75])
    return float(middle), f"{middle:.2f} [{low:.2f} .. {high:.2f}]"


def once(call: Call) -> tuple[float, float]:
    """Processor seconds, and bytes by which the peak of resident memory is above what was resident.

    Memory that is free is returned to the system first, where the allocator can; to be called once
    in a process all the same. Bytes are nan where Linux does not report them.
    """
    before = _peak_bytes(reset=True)
    start = time.process_time()
    call()
    seconds = time.process_time() - start
    return seconds, _peak_bytes() - before


def _peak_bytes(*, reset: bool = False) -> float:
    """Peak of resident memory; with `reset` it starts anew from what is resident now."""
    try:
        if reset:
            gc.collect()
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
        return status("VmHWM")[0] or math.nan
    except OSError:
        return math.nan


def status(*keys: str, process: int | str = "self") -> list[float]:
    """Bytes that Linux reports of a process; 0 for what it does not, as of one that has ended."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return [1024.0 * int(values.get(key, "0 kB").split()[0]) for key in keys]


def own_memory() -> dict[str, float]:
    """Bytes of this process: ``own``, and ``all`` with the pages of files."""
    own, everything = status("RssAnon", "VmRSS")
    return {"own": own, "all": everything}


@dataclass
class Watched:
    """Bytes of memory before a block of code, and their highest values in it, by name."""

    before: dict[str, float]
    peak: dict[str, float]

    def rise(self, name: str) -> float:
        """By how many bytes the memory of this name rose."""
        return self.peak[name] - self.before[name]


@contextlib.contextmanager
def watched(
    read: Callable[[], dict[str, float]] = own_memory, interval: float = 0.002
) -> Iterator[Watched]:
    """Watch the memory in a block of code.

    Parameters
    ----------
    read : callable, default=own_memory
        Returns bytes by name.
    interval : float, default=0.002
        Seconds between two calls of it, which are in a thread.
    """
    before = read()
    found, done = Watched(before, before), threading.Event()

    def watch() -> None:
        while not done.wait(interval):
            found.peak = {name: max(found.peak[name], now) for name, now in read().items()}

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def memory_is_known() -> bool:
    """Whether the system reports the memory of a process, as Linux does."""
    return Path("/proc/self/status").exists()
