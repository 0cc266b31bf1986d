"""Training by three workers against one process: bytes, seconds, accuracy, and a lost worker.

A network with three exits is trained for the same epochs in one process and by three workers of Ray
on this machine. Tier by tier, one worker for each exit, layer-wise and with local errors: with
embeddings as they are, in 8 bits, and with a worker whose process is killed in the middle of its
training and is replaced. Federated, three workers among which the samples are divided at random:
with averaged gradients, and with averaged weights once an epoch; the training in one process is
then the joint one.

"sent" are the bytes between workers: embeddings with labels, or gradients, weights and statistics
of batch normalization in both directions; not the samples for the first or for all workers, which
are those of fit. Seconds are those of one fit; "of it training" is the longest time that any worker
trained if all train at once, and the sum if they train in turn. The rest is mostly the start of
processes. "difference" is the greatest difference between predicted probabilities and those of the
training in one process; it is not shown where it is no error, with compression and other batches.

    python benchmarks/in_place.py
    python benchmarks/in_place.py --sets mnist5k --epochs 2
    python benchmarks/in_place.py --print
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import available, make_parser
from _harness.data import SETS
from _harness.measure import MIB
from _harness.networks import SMALL_NETWORKS, fixed_length, make_backbone
from _harness.raw import Raw, print_facts, saved_or_run
from _harness.report import table
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback

from skearlyexit.distributed import FederatedTraining, TieredTraining, training_report

EXITS = {"tabular": ["stem", "block3"], "image": ["block1", "block3"]}
#: The training in one process, that of the workers, and whether one is killed.
WAYS: dict[str, tuple[str, Any, bool]] = {
    "layer-wise": ("layerwise", TieredTraining("layerwise"), False),
    "layer-wise, 8 bits": ("layerwise", TieredTraining("layerwise", compression="int8"), False),
    "layer-wise, killed": ("layerwise", TieredTraining("layerwise"), True),
    "local errors": ("local_error", TieredTraining("local_error"), False),
    "local errors, 8 bits": (
        "local_error",
        TieredTraining("local_error", compression="int8"),
        False,
    ),
    "local errors, killed": ("local_error", TieredTraining("local_error"), True),
    "federated, gradients": ("joint", FederatedTraining("joint", workers=3), False),
    "federated, weights": (
        "joint",
        FederatedTraining("joint", workers=3, average="weights"),
        False,
    ),
}


class Killed(Callback):
    """Kills the first process that gets to an epoch on other inputs than the samples."""

    def __init__(self, note: str, n_features: int, epoch: int) -> None:
        self.note, self.n_features, self.epoch = note, n_features, epoch

    def on_batch_end(self, net: Any, batch: Any = None, training: bool = False, **_: Any) -> None:
        behind = batch[0][0].numel() != self.n_features
        if behind and len(net.history) == self.epoch and not os.path.exists(self.note):
            Path(self.note).touch()
            os.kill(os.getpid(), signal.SIGKILL)


def estimator(name: str, training: Any, epochs: int, callbacks: list[Callback]) -> Any:
    """Not fitted, with three exits."""
    kind = SETS[name].kind
    params = {**SMALL_NETWORKS[kind], "dropout": 0.0}
    return fixed_length(
        make_backbone(kind, params),
        exits=EXITS[kind],
        training=training,
        calibration=None,
        max_epochs=epochs,
        callbacks=callbacks,
        random_state=0,
    )


def seconds_of_training(clf: Any, training: Any) -> float:
    """Time in which workers trained."""
    seconds = training_report(clf).seconds
    in_turn = isinstance(training, TieredTraining) and training.training == "layerwise"
    return float(seconds.sum() if in_turn else seconds.max())


def bytes_between(clf: Any, training: Any) -> int:
    """Bytes between workers."""
    report = training_report(clf)
    if isinstance(training, TieredTraining):
        return int(report.bytes_received[1:].sum())
    return int(2 * report.bytes_sent.sum())


def run(args: Any, raw: Raw) -> None:
    """Train in all ways."""
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    for name in available(args.sets):
        X, y = SETS[name].load()
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, test_size=0.3, random_state=0, stratify=y
        )
        alone: dict[str, np.ndarray] = {}
        for one in dict.fromkeys(one for one, _, _ in WAYS.values()):
            clf = estimator(name, one, args.epochs, [])
            begun = time.perf_counter()
            clf.fit(X_train, y_train)
            seconds = time.perf_counter() - begun
            alone[one] = clf.predict_proba(X_test, threshold=np.inf)
            raw.add(
                set=name,
                way=f"{one}, one process",
                seconds=seconds,
                accuracy=clf.score(X_test, y_test, threshold=np.inf),
            )
        for way, (one, training, is_killed) in WAYS.items():
            with tempfile.TemporaryDirectory() as folder:
                note = str(Path(folder) / "killed")
                killer = Killed(note, X_train[0].size, (args.epochs + 1) // 2)
                clf = estimator(name, training, args.epochs, [killer] if is_killed else [])
                begun = time.perf_counter()
                clf.fit(X_train, y_train)
                seconds = time.perf_counter() - begun
            exact = training.get_params().get("compression") is None and one != "joint"
            report = training_report(clf)
            proba = clf.predict_proba(X_test, threshold=np.inf)
            entry = raw.add(
                set=name,
                way=way,
                seconds=seconds,
                training=seconds_of_training(clf, training),
                sent=bytes_between(clf, training),
                checkpoints=report.checkpoint_bytes.sum(),
                restarts=report.restarts.sum(),
                accuracy=clf.score(X_test, y_test, threshold=np.inf),
                difference=np.abs(proba - alone[one]).max() if exact else None,
            )
            print(f"{name}, {way}: {entry['seconds']:.1f} s", flush=True)
    ray.shutdown()


def report_all(entries: list[dict[str, Any]]) -> None:
    """Print one table for each set."""
    titles = ["", "accuracy", "seconds", "of it training", "sent, MiB", "checkpoints, MiB"]
    for name in dict.fromkeys(entry["set"] for entry in entries):
        lines = []
        for entry in entries:
            if entry["set"] != name:
                continue
            line = [entry["way"], f"{100 * entry['accuracy']:.2f} %", f"{entry['seconds']:.1f}"]
            if "sent" in entry:
                line += [f"{entry['training']:.1f}"]
                line += [f"{entry[key] / MIB:.1f}" for key in ("sent", "checkpoints")]
                line += [str(entry["restarts"])]
                line += ["" if entry["difference"] is None else f"{entry['difference']:.2g}"]
            else:
                line += [""] * 5
            lines.append(line)
        print(f"\n{SETS[name].title}\n\n" + table(lines, [*titles, "restarts", "difference"]))


def main() -> None:
    parser = make_parser(__doc__, sets="letter", raw=True)
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    content = saved_or_run("in_place", args, partial(run, args))
    report_all(content["entries"])
    print_facts(content)


if __name__ == "__main__":
    main()
