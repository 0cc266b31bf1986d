"""Time and memory of predictions for files that are larger than the memory granted.

Samples are written to a file of type npy and to one of type Parquet, and once more a quarter of
them. One process predicts the samples of the array in slabs, and `predict_files` both files with
one and with several workers of Ray, whose store of objects has the smallest size that Ray accepts.
Each way is a program of its own. Where the memory is bounded, it does not grow with the file:

- Memory is the peak, while predictions are made, of the memory of all processes of a program with
  what they share, and its rise above that before they are made. Pages of files that the system can
  take back are not counted.
- Seconds include the start of the workers, but not that of Ray. Workers start for each call. From
  both sizes follow the samples per second once they have started.

It is an error if predictions differ between the ways.

    python benchmarks/bulk.py
    python benchmarks/bulk.py --mib 8192 --workers 8
    python benchmarks/bulk.py --print
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import joblib
import numpy as np
import torch
from _harness.command import make_parser
from _harness.measure import MIB, memory_is_known, seconds, status, watched
from _harness.networks import fixed_length
from _harness.raw import Raw, print_facts, saved_or_run
from _harness.report import table

from skearlyexit import MLPBackbone
from skearlyexit.bulk import predict_files

N_FEATURES = 256
N_CLASSES = 4
GROUP_ROWS = 2**14
SLAB_ROWS = 2**14
#: Bytes of the store of objects, the least that Ray accepts.
STORE_BYTES = 75 * MIB
PARTS = {"small": 4, "large": 1}


def samples(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples about centers that overlap, and their classes."""
    rng = np.random.default_rng(seed)
    centers = 0.15 * np.random.default_rng(0).standard_normal((N_CLASSES, N_FEATURES), np.float32)
    y = rng.integers(N_CLASSES, size=n_rows)
    return centers[y] + rng.standard_normal((n_rows, N_FEATURES), np.float32), y


def write(folder: Path, name: str, n_rows: int) -> None:
    """Write the same samples as an array and as a table, some thousands at a time."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = pa.schema([(f"f{i}", pa.float32()) for i in range(N_FEATURES)])
    shape = (n_rows, N_FEATURES)
    array = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, shape)
    with ParquetWriter(
        folder / f"{name}.parquet", schema, compression="none", use_dictionary=False
    ) as writer:
        for start in range(0, n_rows, GROUP_ROWS):
            X, _ = samples(min(GROUP_ROWS, n_rows - start), 2 + start)
            array[start : start + len(X)] = X
            writer.write_table(pa.table(list(X.T.copy()), schema=schema))
    array.flush()


def fit(folder: Path) -> None:
    clf = fixed_length(
        MLPBackbone(4, width=64, hidden=128),
        exits=3,
        calibration=0.3,
        budget=0.5,
        max_epochs=5,
        random_state=0,
    )
    joblib.dump(clf.fit(*samples(8000, 1)), folder / "model")


def in_slabs(clf: Any, source: Path, target: Path, workers: int) -> None:
    """Predictions of one process, which keeps those of all samples."""
    X = np.load(source, mmap_mode="r")
    slabs = [
        clf.predict(np.array(X[start : start + SLAB_ROWS]), return_exits=True)
        for start in range(0, len(X), SLAB_ROWS)
    ]
    labels, exits = map(np.concatenate, zip(*slabs, strict=True))
    import pyarrow as pa
    from pyarrow.parquet import write_table

    write_table(pa.table({"prediction": labels, "exit": exits}), target)


def by_ray(clf: Any, source: Path, target: Path, workers: int) -> None:
    columns = None if source.suffix == ".npy" else [f"f{i}" for i in range(N_FEATURES)]
    predict_files(clf, source, target, columns=columns, concurrency=workers)


#: Function, type of file, and whether several workers run.
WAYS: dict[str, tuple[Callable[..., None], str, bool]] = {
    "one process, slabs of npy": (in_slabs, ".npy", False),
    "one worker, npy": (by_ray, ".npy", False),
    "workers, npy": (by_ray, ".npy", True),
    "workers, Parquet": (by_ray, ".parquet", True),
}


def measure(folder: Path, way: str, part: str, workers: int) -> dict[str, Any]:
    """Predict in this process and those that it starts."""
    torch.set_num_threads(1)
    predict, kind, is_parallel = WAYS[way]
    workers = workers if is_parallel else 1
    clf = joblib.load(folder / "model")
    clf.predict(samples(2000, 1)[0])  # loads all code
    if predict is by_ray:
        import ray
        from ray.data import DataContext

        ray.init(
            address="local",
            num_cpus=workers,
            object_store_memory=STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
        )
        DataContext.get_current().enable_progress_bars = False
        time.sleep(3)  # until processes that Ray starts in advance have done so
    found: dict[str, Any] = {}
    target = folder / "target.parquet"
    with watched(memory_of_all, 0.2) as memory:
        found["seconds"] = seconds(lambda: predict(clf, folder / f"{part}{kind}", target, workers))
    found["peak"], found["rise"] = memory.peak["all"], memory.rise("all")
    from pyarrow.parquet import read_table

    predictions = read_table(target)
    target.unlink()
    found["rows"] = len(predictions)
    found["predictions"] = hashlib.sha256(
        b"".join(predictions[name].to_numpy().tobytes() for name in ("prediction", "exit"))
    ).hexdigest()
    found["mean exit"] = float(predictions["exit"].to_numpy().mean())
    return found


def memory_of_all() -> dict[str, float]:
    """Bytes of this process and its descendants, of which all share the store of Ray."""
    own, shared = zip(*map(_memory, _descendants()), strict=True)
    return {"all": sum(own) + max(shared)}


def _descendants() -> list[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        parents.setdefault(parent, []).append(int(path.parent.name))
    found = [os.getpid()]
    for each in found:
        found.extend(parents.get(each, []))
    return found


def _memory(process: int) -> tuple[float, float]:
    """Bytes of a process, without the pages of files, and those that it shares."""
    try:
        own, shared = status("RssAnon", "RssShmem", process=process)
    except OSError:
        return 0.0, 0.0
    return own, shared


def run_alone(folder: Path, way: str, part: str, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--folder", str(folder), "--way", way, "--part", part]
    command += ["--workers", str(args.workers)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(args: argparse.Namespace, raw: Raw) -> None:
    """Measure all ways."""
    if not memory_is_known():
        raise SystemExit("Memory is measured on Linux only.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fit(folder)
        for part, divisor in PARTS.items():
            mib = args.mib // divisor
            write(folder, part, mib * MIB // (4 * N_FEATURES))
            found = set()
            for way in WAYS:
                entry = run_alone(folder, way, part, args)
                found.add(entry["predictions"])
                raw.add(way=way, part=part, mib=mib, workers=args.workers, **entry)
            assert len(found) == 1, "the ways gave different predictions"


def report(entries: list[dict[str, Any]]) -> None:
    """Print a table of all ways, with the rate between the small and the large file."""
    rows = []
    for way in dict.fromkeys(entry["way"] for entry in entries):
        small, large = (
            next(each for each in entries if (each["way"], each["part"]) == (way, part))
            for part in PARTS
        )
        rate = (large["rows"] - small["rows"]) / (large["seconds"] - small["seconds"])
        rows.append(
            [
                way,
                *(f"{each['seconds']:.1f}" for each in (small, large)),
                f"{rate / 1000:.0f}",
                *(f"{each['rise'] / MIB:.0f}" for each in (small, large)),
                f"{large['peak'] / MIB:.0f}",
            ]
        )
    sizes = [next(each["mib"] for each in entries if each["part"] == part) for part in PARTS]
    header = ["way", *(f"s, {mib} MiB" for mib in sizes), "1,000 samples/s"]
    header += [*(f"rise, {mib} MiB" for mib in sizes), "peak"]
    print(f"Memory in MiB. {entries[0]['workers']} workers where there are several.\n")
    print(table(rows, header))


def main() -> None:
    """Run all ways, or print what is saved."""
    parser = make_parser(__doc__, raw=True)
    parser.add_argument("--mib", type=int, default=2048, help="size of the samples of a file")
    parser.add_argument("--workers", type=int, default=2, help="where there are several")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=[*WAYS], help=argparse.SUPPRESS)
    parser.add_argument("--part", choices=[*PARTS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way is not None:
        print(json.dumps(measure(args.folder, args.way, args.part, args.workers)))
        return
    content = saved_or_run("bulk", args, partial(run, args))
    report(content["entries"])
    print_facts(content)


if __name__ == "__main__":
    main()
