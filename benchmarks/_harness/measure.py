"""Time and memory of calls."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
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
        return _status("VmHWM")[0]
    except OSError:
        return math.nan


def _status(*keys: str) -> list[float]:
    """Bytes that Linux reports of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return [1024.0 * int(values[key].split()[0]) for key in keys]


@contextlib.contextmanager
def watched(peaks: dict[str, float]) -> Iterator[None]:
    """Put into `peaks` by how many bytes the memory rises inside.

    ``own`` is the memory of the process itself, ``all`` that with the pages of files. A thread
    reads both every two milliseconds.
    """
    before = np.array(_status("RssAnon", "VmRSS"))
    peak, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = np.maximum(peak[0], _status("RssAnon", "VmRSS"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        peaks["own"], peaks["all"] = (peak[0] - before).tolist()


def memory_is_known() -> bool:
    """Whether the system reports the memory of a process, as Linux does."""
    return Path("/proc/self/status").exists()
