"""What samples without labels add where labels are few: digits with 2 or 3 labels a class.

The few labeled samples are drawn by seed from the first 1,000 of scikit-learn's digits, all of
which are given without labels; accuracy is that of the other 797, a mean over all exits. Trainings
that use such samples are run with and without them.

    python benchmarks/unlabeled.py
"""

from __future__ import annotations

from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.command import make_parser
from _harness.networks import fixed_length
from _harness.report import spread, table
from sklearn.datasets import load_digits

from skearlyexit import DistillationTraining, LayerwiseTraining, MLPBackbone

N_POOL = 1000
TRAININGS = {
    "layer-wise, cross-entropy only": LayerwiseTraining(),
    "layer-wise, reconstruction": LayerwiseTraining(local="reconstruction", local_share=0.9),
    "layer-wise, similarity": LayerwiseTraining(local="similarity", local_share=0.9),
    "distillation": DistillationTraining(),
}


def accuracy(training: Any, X: np.ndarray, y: np.ndarray, few: np.ndarray, **given: Any) -> float:
    """In %, on the samples after the pool, mean over exits."""
    clf = fixed_length(
        MLPBackbone(3, width=32, hidden=32, dropout=0.0, smooth_clip=None, n_frequencies=0),
        exits=3,
        training=training,
        calibration=None,
        max_epochs=60,
        batch_size=32,
        lr=0.01,
        random_state=0,
    ).fit(X[few], y[few], **given)
    labels = clf.classes_[clf.exit_table(X[N_POOL:]).labels]
    return 100 * float((labels == y[N_POOL:, None]).mean())


def main() -> None:
    args = make_parser(__doc__, seeds=10).parse_args()
    X, y = load_digits(return_X_y=True)
    for n_labels in (2, 3):
        rows = []
        for name, training in TRAININGS.items():
            found = []
            for seed in range(args.seeds):
                draw = np.random.default_rng(seed)
                pool = y[:N_POOL]
                drawn = [draw.permutation(np.flatnonzero(pool == c))[:n_labels] for c in range(10)]
                few = np.concatenate(drawn)
                with_others = np.nan
                if training.takes_unlabeled():
                    with_others = accuracy(training, X, y, few, X_unlabeled=X[:N_POOL])
                found.append((accuracy(training, X, y, few), with_others))
            alone, joined = np.array(found).T
            cells = (
                ["-"] * 2 if np.isnan(joined).any() else [spread(joined), spread(joined - alone)]
            )
            rows.append([name, spread(alone), *cells])
        header = ["training", "labeled samples only", "with the others", "gain"]
        print(f"{n_labels} labels a class, {args.seeds} seeds\n\n" + table(rows, header))


if __name__ == "__main__":
    main()
