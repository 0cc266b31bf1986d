"""One trained cascade for each set and seed, kept with its outputs on samples that it has not seen.

What is compared on them is arithmetic on arrays, so that a second run takes a moment. They are kept
in a folder outside the repository; delete it after the package has changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from _harness.command import CACHE
from _harness.data import SETS
from _harness.measure import seconds
from _harness.networks import NETWORKS, exit_names, fixed_length, make_backbone
from _harness.samples import divide_set
from _harness.store import kept
from skearlyexit import EarlyExitClassifier
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit.costs import CostMeasurement, CostTable, MACsCost
from skearlyexit.costs._compose import RoutedCosts
from skearlyexit.runtime._driver import outputs

EPOCHS = {"letter": 40, "magic": 20, "mnist5k": 16, "fashion": 8}


@dataclass(frozen=True)
class Cascade:
    """A trained cascade and the outputs of its heads.

    Attributes
    ----------
    clf : EarlyExitClassifier
        Fitted without calibration.
    pool, test : ndarray of shape (n_samples, n_exits, n_classes)
        Outputs of the heads for the calibration samples and for the test samples.
    y_pool, y_test : ndarray of shape (n_samples,)
        True classes, by index.
    """

    clf: EarlyExitClassifier
    pool: np.ndarray
    y_pool: np.ndarray
    test: np.ndarray
    y_test: np.ndarray

    @property
    def bare_costs(self) -> RoutedCosts:
        """Costs of the exits, decisions not counted."""
        table = self.clf.cost_table_
        bare = replace(table, decisions=[CostMeasurement.exactly(0.0)] * len(table.names))
        return RoutedCosts(bare.cumulative, bare.savings)

    def costs(self, rule: ExitRule) -> np.ndarray:
        """Cumulative costs of the exits with a fitted exit rule."""
        return self.cost_table(rule).cumulative

    def cost_table(self, rule: ExitRule) -> CostTable:
        """Costs of all parts with a fitted exit rule, counted as a fit would."""
        n_exits, n_classes = self.pool.shape[1:]
        readings = []
        for i in range(n_exits):
            part = rule.cost_input(n_classes, i, last=i == n_exits - 1)
            readings.append(
                CostMeasurement.exactly(0.0) if part is None else MACsCost().read([part])[0]
            )
        return replace(self.clf.cost_table_, decisions=readings)


def load(name: str, seed: int, folder: Path = CACHE) -> Cascade:
    """The cascade of a set and seed, trained if it is not in the folder yet."""
    cascade: Cascade = kept(Path(folder) / f"{name}-{seed}.joblib", lambda: _train(name, seed))
    return cascade


def _train(name: str, seed: int) -> Cascade:
    train, (X_pool, y_pool), (X_test, y_test) = divide_set(name, seed)
    kind = SETS[name].kind
    clf = fixed_length(
        make_backbone(kind, NETWORKS[kind]),
        exits=exit_names(kind, NETWORKS[kind]),
        training="mixed",
        calibration=None,
        max_epochs=EPOCHS[name],
        random_state=seed,
    )
    took = seconds(lambda: clf.fit(*train))
    pool, test = (outputs(clf.cascade_.network, X).probabilities for X in (X_pool, X_test))
    y_pool, y_test = (np.searchsorted(clf.classes_, y) for y in (y_pool, y_test))
    alone = " ".join(f"{value:.2f}" for value in 100 * accuracies(test, y_test))
    print(f"  trained {name}, seed {seed}, in {took:.0f} s; exits alone {alone}", flush=True)
    return Cascade(clf, pool, y_pool, test, y_test)


def accuracies(outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Accuracy of each exit if every sample exited there, shape (n_exits,)."""
    return np.asarray((outputs.argmax(axis=2) == y[:, None]).mean(axis=0))


def splits(
    seed: int, n_known: int, n_samples: int, args: argparse.Namespace
) -> Iterator[tuple[np.ndarray, np.ndarray, np.random.RandomState]]:
    """Calibration and test samples, divided anew, for each of the splits of a seed.

    ``args.splits`` are those of all ``args.seeds`` seeds together. The random state is the one that
    has divided the samples.
    """
    for split in range(args.splits // args.seeds + (seed < args.splits % args.seeds)):
        rng = np.random.RandomState(1000 * seed + split)
        order = rng.permutation(n_samples)
        yield order[:n_known], order[n_known:], rng
