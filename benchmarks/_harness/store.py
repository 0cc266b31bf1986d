"""What is kept on disk: values that are computed once, and the results of one data set."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import joblib


def keep(path: Path, value: Any) -> None:
    """Write a value to a file, which `kept` reads."""
    _write(path, partial(joblib.dump, value))


def kept(path: Path, compute: Callable[[], Any] | None = None) -> Any:
    """Value kept in a file; if there is no such file, it is computed and kept first."""
    if compute is not None and not path.exists():
        keep(path, compute())
    return joblib.load(path)


def write_text(path: Path, text: str) -> None:
    """Write text to a file, at once."""
    _write(path, lambda part: part.write_text(text))


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file at once, so that an interrupted run leaves a whole one or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    write(part)
    os.replace(part, path)


class Store:
    """Every raw number of one data set, in one JSON file, and the fitted models beside it.

    Parameters
    ----------
    folder : Path
    name : str
        Key of `SETS`.

    Attributes
    ----------
    content : dict
        ``models``, by name: ``setting``, ``tuning``, and ``seeds`` by number as text; ``timing``
        by seed; ``facts``: options and sizes of the run.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.path = folder / f"{name}.json"
        self.content: dict[str, Any] = {"set": name, "models": {}, "timing": {}}
        if self.path.exists():
            self.content = json.loads(self.path.read_text())

    def require(self, facts: dict[str, Any]) -> None:
        """Store what the run depends on, and refuse to mix it with results of another."""
        facts = json.loads(json.dumps(facts))
        before = self.content.setdefault("facts", facts)
        if before != facts:
            raise SystemExit(
                f"{self.path} holds results of another run, {before}; this one is {facts}. Remove "
                "it or give another --output."
            )

    def save(self) -> None:
        """Write the file."""
        write_text(self.path, json.dumps(self.content, indent=1))

    def model(self, name: str) -> dict[str, Any]:
        """Results of a model, to be read and written."""
        return self.content["models"].setdefault(name, {"seeds": {}})

    def model_path(self, model: str, seed: int) -> Path:
        """File of a fitted model: the clock compares all models of a seed in one process."""
        return self.folder / "models" / f"{self.name}-{model}-{seed}.joblib"
