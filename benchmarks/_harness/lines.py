"""Results of runs in a file, one in a line, so that an interrupted script can go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _harness.command import available


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Results in a file, none where it is absent."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run_missing(
    path: Path, names: list[str], n_seeds: int, run: Callable[[str, int], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Run each data set with each seed that is not in a file yet, and return all results.

    Parameters
    ----------
    path : Path
        Of the file, to which results are added.
    names : list of str
        Names of data sets. Absent ones are left out.
    n_seeds : int
    run : callable
        ``run(name, seed)`` returns the results.

    Returns
    -------
    entries : list of dict
        Results of all runs in the file, with ``set`` and ``seed``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {(entry["set"], entry["seed"]) for entry in read_lines(path)}
    with path.open("a") as file:
        for seed in range(n_seeds):
            for name in available(names):
                if (name, seed) not in done:
                    entry = {"set": name, "seed": seed, **run(name, seed)}
                    file.write(json.dumps(entry) + "\n")
                    file.flush()
    return read_lines(path)
