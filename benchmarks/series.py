"""Exits in time and exits as hops: JapaneseVowels, and digits as signals on a grid.

JapaneseVowels: which of nine persons speaks, from 12 numbers at each of 7 to 29 points in time. A
recurrent network reads point by point, with an exit after every third, and stops reading a series
when it is confident. Thresholds for a budget are calibrated by cross-fitting on the 270 training
series; accuracy, and the share of its own points that a series was read of, are those of the 370
test series that come with the set.

Digits: each image is a signal on the 64 nodes of a grid (`sklearn.feature_extraction.image.
grid_to_graph`), of which the convolution knows the edges only; an exit is a hop.

    python benchmarks/series.py
"""

from __future__ import annotations

import argparse
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.command import make_parser
from _harness.data import SETS, MissingData
from _harness.networks import fixed_length
from sklearn.datasets import load_digits
from sklearn.feature_extraction.image import grid_to_graph
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import GraphConvBackbone, RecurrentBackbone, pad_series

BUDGETS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.05)


def main() -> None:
    parser = make_parser(__doc__, seeds=5)
    parser.add_argument("--epochs", type=int, default=60)
    args = parser.parse_args()
    try:
        vowels(args)
    except MissingData as error:
        print(error)
    digits(args)


def vowels(args: argparse.Namespace) -> None:
    data = SETS["vowels"]
    series, y = data.load()
    X = pad_series(series)
    lengths = np.array([each.shape[1] for each in series])
    n_test = data.n_test
    X_train, X_test, y_train, y_test = X[:-n_test], X[-n_test:], y[:-n_test], y[-n_test:]
    flat = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    flat.fit(X_train.reshape(len(X_train), -1), y_train)
    base = flat.score(X_test.reshape(n_test, -1), y_test)
    print(f"JapaneseVowels, {args.seeds} seeds; logistic regression on all points {base:.3f}")
    points = [*range(3, X.shape[2], 3)]
    for cell in ("lstm", "gru"):
        runs = []
        for seed in range(args.seeds):
            clf = fixed_length(
                RecurrentBackbone(cell, masked=True),
                exits=[f"step{n}" for n in points],
                training="mixed",
                max_epochs=args.epochs,
                batch_size=32,
                random_state=seed,
            ).fit(X_train, y_train)
            runs.append(clf)
        report(
            cell.upper(), runs, X_test, y_test, np.array([*points, X.shape[2]]), lengths[-n_test:]
        )


def digits(args: argparse.Namespace) -> None:
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    runs = [
        fixed_length(
            GraphConvBackbone(grid_to_graph(8, 8), n_hops=6),
            exits=[f"hop{n}" for n in range(1, 6)],
            training="mixed",
            max_epochs=args.epochs,
            random_state=seed,
        ).fit(X_train, y_train)
        for seed in range(args.seeds)
    ]
    print(f"\nDigits on a grid, {args.seeds} seeds")
    report("hops", runs, X_test, y_test, np.arange(1, 7))


def report(
    title: str,
    runs: list[Any],
    X: np.ndarray,
    y: np.ndarray,
    steps: np.ndarray,
    lengths: np.ndarray | None = None,
) -> None:
    """Accuracy if all samples stop after so many steps, and if each stops when it is confident."""
    tables = [clf.exit_table(X) for clf in runs]
    at = np.array(
        [
            (clf.classes_[table.labels] == y[:, None]).mean(axis=0)
            for clf, table in zip(runs, tables, strict=True)
        ]
    )
    print(f"\n  {title}: all samples stop after the same number of steps")
    print("    steps   " + "".join(f"{step:>7}" for step in steps))
    print("    accuracy" + "".join(f"{value:>7.3f}" for value in at.mean(axis=0)))
    print(f"  {title}: each sample stops when it is confident")
    print("    budget   accuracy (spread)    cost   share of steps")
    for budget in BUDGETS:
        accuracies, costs, shares = [], [], []
        for clf in runs:
            try:
                labels, exits = clf.predict(X, budget=budget, return_exits=True)
            except ValueError:  # its first exit alone costs more
                break
            read = steps[exits]
            whole = np.full(len(X), steps[-1]) if lengths is None else lengths
            accuracies.append((labels == y).mean())
            costs.append(clf.costs_[exits].mean())
            shares.append((np.minimum(read, whole) / whole).mean())
        if len(accuracies) == len(runs):
            print(
                f"    {budget:<8} {np.mean(accuracies):.3f} (+- {np.std(accuracies):.3f})"
                f"{np.mean(costs):>11.2f}{np.mean(shares):>14.2f}"
            )


if __name__ == "__main__":
    main()
