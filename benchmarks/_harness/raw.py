"""Raw results of a script in one JSON file, from which its tables can be printed again."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _harness.store import write_text

PACKAGES = ("skearlyexit", "torch", "onnxruntime", "scikit-learn", "skorch", "numpy")


class Raw:
    """Raw results, written to a file after each entry.

    Parameters
    ----------
    path : Path
        Of the file, which is replaced by the first entry.
    args : argparse.Namespace
        Options of the run.

    Attributes
    ----------
    content : dict
        ``facts`` about the run, and ``entries``.
    """

    def __init__(self, path: Path, args: argparse.Namespace) -> None:
        options = {name: str(value) for name, value in vars(args).items()}
        self.path = path
        self.content: dict[str, Any] = {"facts": facts() | {"options": options}, "entries": []}

    def add(self, **entry: Any) -> dict[str, Any]:
        """Add an entry as it will be read again: arrays as lists, keys as text."""
        entry = json.loads(json.dumps(entry, default=_plain))
        self.content["entries"].append(entry)
        self.content["facts"]["load at the end"] = os.getloadavg()
        write_text(self.path, json.dumps(self.content, indent=1))
        return entry


def saved_or_run(name: str, args: argparse.Namespace, run: Callable[[Raw], None]) -> dict[str, Any]:
    """Content of the file of a script: as it is saved with ``--print``, or else of a new run.

    Parameters
    ----------
    name : str
        Of the file, without its ending.
    args : argparse.Namespace
        Options, among them those of ``make_parser(raw=True)``.
    run : callable
        Adds the entries.
    """
    path = args.output / f"{name}.json"
    if args.print:
        if not path.exists():
            raise SystemExit(f"There is no {path}. Run the script without --print first.")
        return json.loads(path.read_text())
    raw = Raw(path, args)
    run(raw)
    return raw.content


def facts() -> dict[str, Any]:
    """What times depend on: processor, threads, versions, and what else is running."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": datetime.now().isoformat(timespec="minutes"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load at the start": os.getloadavg(),
        "load at the end": os.getloadavg(),
        "python": platform.python_version(),
        "versions": versions,
    }


def print_facts(content: dict[str, Any]) -> None:
    """Print the facts about a run."""
    known = content["facts"]
    packages = ", ".join(f"{name} {number}" for name, number in known["versions"].items())
    loads = [known[key][0] for key in ("load at the start", "load at the end")]
    print(
        f"{known['date']}, {known['processor']}, {known['cores']} cores, {known['threads']} "
        f"thread(s), load {loads[0]:.1f} at the start and {loads[1]:.1f} at the end; Python "
        f"{known['python']}, {packages}\n"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written to JSON.")
