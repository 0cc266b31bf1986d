"""Readers of the files that hold the benchmarks' data, by path; no package is imported for them."""

from __future__ import annotations

import gzip
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np


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
    """Features, float32, and labels, text in the last column."""
    lines = (line.strip() for line in path.read_text().splitlines())
    rows = [line.split(",") for line in lines if line and not line.startswith("@")]
    X = np.array([[float(value) for value in row[:-1]] for row in rows], dtype=np.float32)
    return X, np.array([row[-1].strip() for row in rows])


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
    """Flat pixels in [0, 1] and labels, the test rows last; None where a file is absent."""
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
