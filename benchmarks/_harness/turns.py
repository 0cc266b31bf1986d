"""Functions by the clock, called in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Functions = Mapping[Any, Callable[[], Any]]
Times = dict[Any, np.ndarray]


def take_turns(functions: Functions, repeats: int) -> Times:
    """Seconds of each function, called in turns after one call each to warm up."""
    for function in functions.values():
        function()
    times: dict[Any, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in times.items()}


def medians(times: Times, unit: float = 1e3, suffix: str = "ms") -> str:
    return ", ".join(
        f"{name} {unit * np.median(values):.2f} {suffix}" for name, values in times.items()
    )


def ratio(above: np.ndarray, below: np.ndarray) -> tuple[float, str]:
    """Median of the ratio turn by turn, and its text with quartiles."""
    low, middle, high = np.percentile(above / below, [25, 50, 75])
    return float(middle), f"{middle:.2f} [{low:.2f} .. {high:.2f}]"
