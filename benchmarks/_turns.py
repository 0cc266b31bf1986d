"""Functions by the clock, called in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def take_turns(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, np.ndarray]:
    """Seconds of each function, called in turns; a first turn that warms up does not count."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in times.items()}


def medians(times: dict[str, np.ndarray]) -> str:
    """Of each function, in seconds."""
    return ", ".join(f"{name} {np.median(values):.2f} s" for name, values in times.items())


def ratio(above: np.ndarray, below: np.ndarray) -> str:
    """Median of the ratio turn by turn, with quartiles."""
    low, middle, high = np.percentile(above / below, [25, 50, 75])
    return f"{middle:.2f} [{low:.2f} .. {high:.2f}]"
