"""Rows of a data set, split for every seed, and the file with its results."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.model_selection import train_test_split

from _harness.data import SETS, Arrays


class Data:
    """Test rows, the same for all seeds, and training and validation rows, new for each.

    Parameters
    ----------
    name : str
        Key of `SETS`.
    max_train, max_test : int or None
        At most so many rows, drawn from all that there are; a quarter as many rows as are trained
        on are for validation.
    """

    def __init__(self, name: str, max_train: int | None, max_test: int | None) -> None:
        self.set = SETS[name]
        X, labels = self.set.load()
        y = np.unique(labels, return_inverse=True)[1]
        n_test = self.set.n_test
        if n_test:
            self.rest, self.test = (X[:-n_test], y[:-n_test]), (X[-n_test:], y[-n_test:])
        else:
            self.rest, self.test = _split(X, y, 0.25, 0)
        if max_test and max_test < len(self.test[0]):
            self.test = _split(*self.test, max_test, 0)[1]
        self.max_train = max_train
        self.n_classes = int(y.max()) + 1

    def parts(self, seed: int) -> tuple[Arrays, Arrays]:
        """Training and validation rows of a seed."""
        X, y = self.rest
        if self.max_train and self.max_train < 0.8 * len(X):
            X, y = _split(X, y, self.max_train * 5 // 4, seed)[1]
        return _split(X, y, 0.2, seed)


def _split(X: np.ndarray, y: np.ndarray, size: float, seed: int) -> tuple[Arrays, Arrays]:
    """Stratified; the second part has this size."""
    X_a, X_b, y_a, y_b = train_test_split(X, y, test_size=size, stratify=y, random_state=seed)
    return (X_a, y_a), (X_b, y_b)


def subsample(rows: Arrays, n_rows: int) -> Arrays:
    """At most so many of the rows, stratified."""
    return rows if len(rows[0]) <= n_rows else _split(*rows, n_rows, 0)[1]


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
        by seed; ``options`` and sizes of the run.
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
        """Write the file at once, so that a run that is cut off leaves a whole one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.content, indent=1))
        os.replace(part, self.path)

    def model(self, name: str) -> dict[str, Any]:
        """Results of a model, to be read and written."""
        return self.content["models"].setdefault(name, {"seeds": {}})

    def _model_path(self, model: str, seed: int) -> Path:
        return self.folder / "models" / f"{self.name}-{model}-{seed}.joblib"

    def keep(self, model: str, seed: int, fitted: Any) -> None:
        """Keep a fitted model for the clock, which compares all models of a seed in one process."""
        path = self._model_path(model, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        joblib.dump(fitted, path)

    def fitted(self, model: str, seed: int) -> Any:
        """Load a model kept by `keep`."""
        return joblib.load(self._model_path(model, seed))
