"""One trained cascade per data set and seed, kept with its outputs on rows that it has not seen.

What is compared on them is arithmetic on arrays, so that a second run takes a moment. They lie in
a folder outside the repository, which is to be deleted after the package has changed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.model_selection import train_test_split

from _harness.backbones import exit_names, make_backbone
from _harness.data import SETS, Arrays
from _harness.formats import MissingData
from skearlyexit import EarlyExitClassifier
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit.costs import CostMeasurement, CostTable, MACsCost
from skearlyexit.runtime._torch import outputs

DEFAULT_SETS = "letter,magic,mnist5k,fashion"
DEFAULT_CACHE = str(Path(tempfile.gettempdir()) / "skearlyexit-benchmarks")

#: Networks with an exit after each of their six blocks, and how they are trained.
NETWORKS: dict[str, dict[str, Any]] = {
    "tabular": {"n_blocks": 6, "width": 128, "hidden": 128, "dropout": 0.1},
    "image": {"widths": (16, 32, 64), "n_blocks": 2},
}
EPOCHS = {"letter": 40, "magic": 20, "mnist5k": 16, "fashion": 8}
MAX_TRAIN = 12_000


@dataclass(frozen=True)
class Saved:
    """A trained cascade and what its heads say.

    Attributes
    ----------
    clf : EarlyExitClassifier
        Fitted without calibration.
    pool, test : ndarray of shape (n_samples, n_exits, n_classes)
        What the heads say of the calibration rows and of the test rows.
    y_pool, y_test : ndarray of shape (n_samples,)
        True classes, by index.
    """

    clf: EarlyExitClassifier
    pool: np.ndarray
    y_pool: np.ndarray
    test: np.ndarray
    y_test: np.ndarray

    @property
    def bare_costs(self) -> np.ndarray:
        """Cumulative costs of the exits, decisions not counted."""
        table = self.clf.cost_table_
        return replace(
            table, decisions=[CostMeasurement.exactly(0.0)] * len(table.names)
        ).cumulative

    def costs(self, decision: ExitRule) -> np.ndarray:
        """Cumulative costs of the exits with a fitted decision in place."""
        return self.cost_table(decision).cumulative

    def cost_table(self, decision: ExitRule) -> CostTable:
        """Costs of all parts with a fitted decision in place, counted as a fit would."""
        table = self.clf.cost_table_
        n_exits, n_classes = self.pool.shape[1:]
        readings = []
        for i in range(n_exits):
            part = decision.part(n_classes, i, last=i == n_exits - 1)
            readings.append(
                CostMeasurement.exactly(0.0) if part is None else MACsCost().read([part])[0]
            )
        return replace(table, decisions=readings)


def divide(name: str, seed: int) -> tuple[Arrays, Arrays, Arrays]:
    """Training, calibration and test rows, each as (X, y).

    55, 20 and 25 % of the rows, stratified; of sets with test rows of their own at most 12,000
    rows for training and a third as many for calibration.
    """
    data = SETS[name]
    X, y = data.load()
    if data.n_test:
        test = X[-data.n_test :], y[-data.n_test :]
        X, y = X[: -data.n_test], y[: -data.n_test]
        n_pool, n_train = min(MAX_TRAIN // 3, len(X) // 4), min(MAX_TRAIN, len(X) // 2)
    else:
        X, X_test, y, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=seed)
        test = X_test, y_test
        n_pool = round(len(X) * 0.2 / 0.75)
        n_train = min(MAX_TRAIN, len(X) - n_pool)
    X_train, X_pool, y_train, y_pool = train_test_split(
        X, y, train_size=n_train, test_size=n_pool, stratify=y, random_state=seed
    )
    return (X_train, y_train), (X_pool, y_pool), test


def load(name: str, seed: int, folder: str = DEFAULT_CACHE) -> Saved:
    """The cascade of a set and seed, trained if it is not in the folder yet."""
    path = Path(folder) / f"{name}-{seed}.joblib"
    if path.exists():
        saved: Saved = joblib.load(path)
        return saved
    train, (X_pool, y_pool), (X_test, y_test) = divide(name, seed)
    kind = SETS[name].kind
    network = NETWORKS[kind]
    start = time.perf_counter()
    clf = EarlyExitClassifier(
        make_backbone(kind, network),
        exits=exit_names(kind, network),
        training="mixed",
        calibration=None,
        max_epochs=EPOCHS[name],
        random_state=seed,
    ).fit(*train)
    seconds = time.perf_counter() - start
    said, said_test = outputs(clf.cascade_.network, X_pool), outputs(clf.cascade_.network, X_test)
    encoded, encoded_test = (np.searchsorted(clf.classes_, y) for y in (y_pool, y_test))
    saved = Saved(clf, said, encoded, said_test, encoded_test)
    path.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(saved, path)
    alone = " ".join(f"{value:.2f}" for value in 100 * accuracies(said_test, encoded_test))
    print(f"  trained {name}, seed {seed}, in {seconds:.0f} s; exits alone {alone}", flush=True)
    return saved


def accuracies(said: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Accuracy of each exit if every row left there, shape (n_exits,)."""
    return np.asarray((said.argmax(axis=2) == y[:, None]).mean(axis=0))


def available(names: str) -> list[str]:
    """Those of the sets, with commas between, whose data are there."""
    found = []
    for name in names.split(","):
        try:
            SETS[name].load()
        except MissingData as missing:
            print(missing)
        else:
            found.append(name)
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What all comparisons on saved cascades can be told."""
    parser.add_argument("--sets", default=DEFAULT_SETS, help="names, with commas between")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache", default=DEFAULT_CACHE, help="folder of trained cascades")
    parser.add_argument("--output", default="benchmarks/results", help="folder for the tables")
