"""Classifiers in a row against the last of them alone: time, and accuracy on test samples.

For each set and seed, all models are fitted to the training samples, and the thresholds chosen on
the held-out samples, with a guarantee that at most 0.5 % of new samples are lost: wrong at their
exit, and right at the end. The rows:

- a cheap classifier before an expensive one, beside a rule of a few lines and
  `skfb.ensemble.ThresholdCascadeClassifierCV`, which allow as much on the held-out samples, without
  a guarantee;
- an early-exit network with default parameters, whose own exits are at its default operating point,
  before boosting and before a support vector machine;
- boosting that is fitted only to the half of the samples of which logistic regression is least
  confident, against boosting fitted to all;
- the first members of a forest and of boosting, beside `pred_early_stop` of LightGBM.

Each row and the expensive classifier alone, called as scikit-learn users do, predict all test
samples in turns, on one thread. Printed are the share of the samples that reach the last exit, the
time as a share of that of the expensive one alone and how many times faster this is, how much
accuracy is lost against it, and the share of the test samples that are lost. The last column is how
often the 0.5 % are exceeded: held-out samples are drawn anew from all that were not used for
training, with replacement, and thresholds chosen on them; the share that is lost is that of all.
The guarantee allows 10 % of the draws.

    python benchmarks/chains.py
    python benchmarks/chains.py --sets spambase --seeds 1
    python benchmarks/chains.py --rows "early-exit network, boosting"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.chain_peers import by_hand, by_skfb, early_stopped, lowest_threshold
from _harness.command import available, make_parser
from _harness.measure import take_turns
from _harness.report import spread, table
from _harness.samples import divide_set
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skearlyexit import CascadeClassifier, EarlyExitClassifier, RiskControl
from skearlyexit.calibration import CalibrationData, NotCertifiedError

ALLOWED = 0.005
POINT = RiskControl(ALLOWED, family="common")
HEADER = [
    "set",
    "row",
    "last exit, %",
    "time, %",
    "times faster",
    "accuracy alone",
    "lost, points",
    "wrong early, %",
    "exceeded, % of draws",
]


@dataclass
class Models:
    """Models of a set and seed, each fitted when it is first asked for."""

    train: Any
    held_out: Any
    seed: int

    @cached_property
    def linear(self) -> Any:
        """Logistic regression."""
        clf = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        return clf.fit(*self.train)

    @cached_property
    def boosting(self) -> Any:
        """Gradient boosting of scikit-learn."""
        clf = HistGradientBoostingClassifier(early_stopping=False, random_state=self.seed)
        return clf.fit(*self.train)

    @cached_property
    def few_trees(self) -> Any:
        """Forest of 20 trees."""
        return RandomForestClassifier(20, random_state=self.seed).fit(*self.train)

    @cached_property
    def many_trees(self) -> Any:
        """Forest of 500 other trees."""
        return RandomForestClassifier(500, random_state=1000 + self.seed).fit(*self.train)

    @cached_property
    def network(self) -> Any:
        """Early-exit network at its default operating point."""
        clf = make_pipeline(StandardScaler(), EarlyExitClassifier(random_state=self.seed))
        return clf.fit(*self.train)

    @cached_property
    def svm(self) -> Any:
        """Support vector machine with probabilities."""
        clf = make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(), ensemble=False))
        return clf.fit(*self.train)

    @cached_property
    def lightgbm(self) -> Any:
        """Gradient boosting of LightGBM."""
        from lightgbm import LGBMClassifier

        clf = LGBMClassifier(n_jobs=1, verbose=-1, random_state=self.seed)
        return clf.fit(*self.train)


def guaranteed(clf: CascadeClassifier, models: Models) -> CascadeClassifier:
    """The cascade with certified thresholds; if there are none, no sample exits early."""
    try:
        return clf.calibrate(*models.held_out, POINT)
    except NotCertifiedError:
        return clf


def cascade(first: str, last: str) -> Callable[[Models], tuple[Any, Any]]:
    """Two fitted models in a row, and the last of them."""

    def make(models: Models) -> tuple[Any, Any]:
        pair = [(name, FrozenEstimator(getattr(models, name))) for name in (first, last)]
        clf = CascadeClassifier(pair, threshold=2.0, random_state=models.seed)
        return guaranteed(clf.fit(*models.held_out), models), getattr(models, last)

    return make


def peer(rule: Callable[..., Any], first: str, last: str) -> Callable[[Models], tuple[Any, Any]]:
    """Two fitted models with a threshold that is chosen otherwise, and the last of them."""

    def make(models: Models) -> tuple[Any, Any]:
        large = getattr(models, last)
        return rule(getattr(models, first), large, models.held_out, ALLOWED), large

    return make


def members(name: str, sizes: list[int]) -> Callable[[Models], tuple[Any, Any]]:
    """The first members of an ensemble in a row, and the ensemble."""

    def make(models: Models) -> tuple[Any, Any]:
        ensemble = getattr(models, name)
        clf = CascadeClassifier.from_ensemble(
            ensemble, sizes, threshold=2.0, random_state=models.seed
        )
        return guaranteed(clf.fit(*models.held_out), models), ensemble

    return make


def hard_half(models: Models) -> tuple[Any, Any]:
    """Boosting fitted to the less certain half of the samples, and boosting fitted to all."""
    pair = [
        ("linear", make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))),
        ("boosting", HistGradientBoostingClassifier(early_stopping=False)),
    ]
    clf = CascadeClassifier(pair, train_share=0.5, calibration=None, random_state=models.seed)
    return guaranteed(clf.fit(*models.train), models), models.boosting


def stopped(models: Models) -> tuple[Any, Any]:
    """LightGBM that stops early by itself, and LightGBM."""
    return early_stopped(models.lightgbm, models.held_out, ALLOWED), models.lightgbm


ROWS: dict[str, Callable[[Models], tuple[Any, Any]]] = {
    "logistic regression, boosting": cascade("linear", "boosting"),
    "the same by hand": peer(by_hand, "linear", "boosting"),
    "the same by skfb": peer(by_skfb, "linear", "boosting"),
    "the same, boosting of the hard half": hard_half,
    "early-exit network, boosting": cascade("network", "boosting"),
    "early-exit network, SVC": cascade("network", "svm"),
    "forest of 20, forest of 500": cascade("few_trees", "many_trees"),
    "forests by hand": peer(by_hand, "few_trees", "many_trees"),
    "forests by skfb": peer(by_skfb, "few_trees", "many_trees"),
    "first 20 and 100 trees of 500": members("many_trees", [20, 100]),
    "first 10 and 30 iterations of boosting": members("boosting", [10, 30]),
    "first 10 and 30 iterations of LightGBM": members("lightgbm", [10, 30]),
    "pred_early_stop of LightGBM": stopped,
}


def figures(row: str, models: Models, test: Any, args: Any) -> list[float] | None:
    """Figures of one row for one division of the samples."""
    found, alone = ROWS[row](models)
    if found is None:
        return None
    X, y = test
    times = take_turns(
        {"row": lambda: found.predict(X), "alone": lambda: alone.predict(X)}, args.turns
    )
    share = float(np.median(times["row"] / times["alone"]))
    labels, last = np.asarray(found.predict(X)), alone.predict(X)
    at_end = last
    if isinstance(found, CascadeClassifier):
        *_, at_end = found.staged_predict(X)
    rng = np.random.RandomState(models.seed)
    return [
        100 * last_share(found, X),
        100 * share,
        1 / share,
        100 * np.mean(last == y),
        100 * (np.mean(last == y) - np.mean(labels == y)),
        100 * np.mean((labels != y) & (at_end == y)),
        100 * exceeded(found, models.held_out, test, args.draws, rng),
    ]


def last_share(found: Any, X: np.ndarray) -> float:
    """Share of the samples for which the last model is asked. NaN if it is not known."""
    if isinstance(found, CascadeClassifier):
        _, exits = found.predict(X, return_exits=True)
        return float(np.mean(exits == found.n_exits_ - 1))
    if hasattr(found, "share_of_last"):
        return float(found.share_of_last(X))
    if hasattr(found, "estimators_"):
        return float(found.predict(X).acceptance_rates[-1])
    return float("nan")


def exceeded(
    found: Any, held_out: Any, test: Any, n_draws: int, rng: np.random.RandomState
) -> float:
    """Share of the draws of held-out samples whose thresholds lose too many of all samples."""
    X, y = (np.concatenate(both) for both in zip(held_out, test, strict=True))
    draws = (rng.randint(len(y), size=len(held_out[1])) for _ in range(n_draws))
    if isinstance(found, CascadeClassifier):
        exits = found.exit_table(X)
        right = exits.labels == np.searchsorted(found.classes_, y)[:, None]
        chosen = (certified(found, exits, right, draw) for draw in draws)
        at = (exits.exits(thresholds) for thresholds in chosen)
        lost = [right[:, -1] & ~right[np.arange(len(y)), each] for each in at]
    elif hasattr(found, "share_of_last"):
        probabilities = found.small.predict_proba(X)
        scores = probabilities.max(axis=1)
        right_early = found.small.classes_[probabilities.argmax(axis=1)] == y
        wrong = ~right_early & (found.large.predict(X) == y)
        by_draw = (lowest_threshold(scores[draw], wrong[draw], ALLOWED) for draw in draws)
        lost = [wrong & (scores >= threshold) for threshold in by_draw]
    else:
        return float("nan")
    return float(np.mean([each.mean() > ALLOWED for each in lost]))


def certified(clf: Any, exits: Any, right: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Thresholds that are certified on some samples."""
    data = CalibrationData(exits.scores[rows], right[rows], clf.costs_, np.ones(len(rows)))
    try:
        return np.asarray(POINT.thresholds(data, None))
    except NotCertifiedError:
        return np.full(clf.n_exits_ - 1, np.inf)


def main() -> None:
    """Measure all rows on the sets of the command line, and print the table."""
    parser = make_parser(__doc__, sets="adult,letter,magic,spambase,mnist5k", seeds=2)
    parser.add_argument("--turns", type=int, default=5, help="repetitions of each measured time")
    parser.add_argument("--draws", type=int, default=200, help="draws of held-out samples")
    parser.add_argument("--rows", default=";".join(ROWS), help="rows, separated by semicolons")
    args = parser.parse_args()
    rows = []
    for name in available(args.sets):
        divided = [divide_set(name, seed) for seed in range(args.seeds)]
        models = [Models(*parts[:2], seed) for seed, parts in enumerate(divided)]
        for title in args.rows.split(";"):
            found = [
                figures(title, each, parts[2], args)
                for each, parts in zip(models, divided, strict=True)
            ]
            known = [each for each in found if each is not None]
            if known:
                cells = (spread(column) for column in np.transpose(known))
                rows.append([name, title, *(cell.replace("nan ± nan", "-") for cell in cells)])
                print(*rows[-1], sep=" | ", flush=True)
    print(table(rows, HEADER))


if __name__ == "__main__":
    main()
