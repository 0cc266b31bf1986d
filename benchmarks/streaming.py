"""Memory and time of a fit and a prediction with samples in a file and in memory.

Each is a process of its own that fits one classifier and predicts all samples. Printed are the peak
of the memory of the process itself, above that before the samples were opened, and the peak with
the pages of the file that are mapped into it, which the system takes back when it needs them.

    python benchmarks/streaming.py
    python benchmarks/streaming.py --mib 2048 --head tree
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import make_parser
from _harness.measure import MIB, memory_is_known, seconds, watched
from _harness.networks import fixed_length
from sklearn.tree import DecisionTreeClassifier
from torch.utils.data import Dataset

from skearlyexit import MLPBackbone

N_FEATURES = 256
N_CLASSES = 4
HEADS: dict[str, Callable[[], Any]] = {
    "linear": lambda: None,
    "tree": lambda: DecisionTreeClassifier(max_depth=6),
}


class Items(Dataset):
    """A file as a torch dataset."""

    def __init__(self, rows: np.memmap) -> None:
        self.rows = rows.view(np.ndarray)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.rows[i]


WAYS: dict[str, Callable[[np.memmap], Any]] = {
    "array": np.array,
    "memmap": lambda rows: rows,
    "dataset": Items,
}


def mapped(folder: Path) -> np.memmap:
    return np.memmap(folder / "rows", np.float32, "r").reshape(-1, N_FEATURES)


def write(folder: Path, mib: int) -> None:
    """Samples about centers that overlap, some thousands of them at a time."""
    rng = np.random.RandomState(0)
    n_rows = mib * MIB // (4 * N_FEATURES)
    y = rng.randint(N_CLASSES, size=n_rows)
    centers = 0.15 * rng.randn(N_CLASSES, N_FEATURES)
    np.save(folder / "y.npy", y)
    with open(folder / "rows", "wb") as file:
        for start in range(0, n_rows, 8192):
            labels = y[start : start + 8192]
            noise = rng.standard_normal((len(labels), N_FEATURES))
            file.write((centers[labels] + noise).astype(np.float32).tobytes())


def measure(folder: Path, way: str, head: str, epochs: int) -> dict[str, Any]:
    """Fit and predict in this process."""
    torch.set_num_threads(1)
    y = np.load(folder / "y.npy")
    clf = fixed_length(
        MLPBackbone(2, width=32, hidden=64, dropout=0.0, smooth_clip=None, n_frequencies=0),
        exits=3,
        head=HEADS[head](),
        training="joint",
        calibration=0.2,
        max_epochs=epochs,
        batch_size=256,
        random_state=0,
    )
    few = mapped(folder)[:2000]
    clf.fit(np.array(few), y[:2000]).predict(few)  # loads all code
    found: dict[str, Any] = {}
    with watched() as memory:
        X = WAYS[way](mapped(folder))
        found["fit"] = seconds(lambda: clf.fit(X, y))
        start = time.perf_counter()
        labels = clf.predict(X)
        found["predict"] = time.perf_counter() - start
    found |= {name: memory.rise(name) for name in ("own", "all")}
    found["accuracy"] = float((labels == y).mean())
    found["labels"] = labels.tobytes().hex()[-64:] + str(labels.sum())
    return found


def run_alone(folder: Path, way: str, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--folder", str(folder), "--way", way]
    command += ["--head", args.head, "--epochs", str(args.epochs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--mib", type=int, default=512, help="size of the samples")
    parser.add_argument("--head", choices=[*HEADS], default="linear")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=[*WAYS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way is not None:
        print(json.dumps(measure(args.folder, args.way, args.head, args.epochs)))
        return
    if not memory_is_known():
        raise SystemExit("Memory is measured on Linux only.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, args.mib)
        print(f"{args.mib} MiB of samples, {args.head} heads, {args.epochs} epochs")
        labels = set()
        for way in WAYS:
            found = run_alone(folder, way, args)
            labels.add(found["labels"])
            own, with_pages = found["own"] / MIB, found["all"] / MIB
            print(
                f"{way:>8}: peak rise {own:.0f} MiB of its own, {with_pages:.0f} with pages of the "
                f"file; fit {found['fit']:.1f} s, predict {found['predict']:.1f} s, accuracy "
                f"{found['accuracy']:.3f}",
                flush=True,
            )
    assert len(labels) == 1, "the ways gave different labels"


if __name__ == "__main__":
    main()
