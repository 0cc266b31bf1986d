"""Counted operations of scikit-learn estimators against measured time, at three sizes of each kind.

Every kind of estimator that has a count is fitted at four sizes, and run as heads are: on one
thread, 256 samples a call. The time of the smallest is subtracted from that of the three others,
and its count from theirs: a call takes a time of its own, which is not counted for torch modules
either. The rest of the time becomes multiply-accumulates at the median rate of the ready-made
networks. Printed is how many times more it is than the count. What exceeds 10 must not be counted,
but timed: "off" marks it, and the script fails if such a kind has a count.

Times are those of the processor, not of the clock, and the shortest of the repetitions.

    python benchmarks/estimator_costs.py
    python benchmarks/estimator_costs.py SVC Random
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from time import process_time
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import make_parser
from costs import NETWORKS
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid, RadiusNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC, NuSVC
from sklearn.tree import DecisionTreeClassifier

from skearlyexit._determinism._classifier import BatchInvariantClassifier
from skearlyexit._determinism._estimator import FIXED_ROWS
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit.costs import UncountedError, estimator_macs
from skearlyexit.costs._modules import module_macs

LARGEST_RATIO = 10.0

#: From a size to an estimator, and samples, features and classes that it is fitted on.
Case = Callable[[int], tuple[Any, int, int, int]]


def by_features(model: Any, *sizes: int) -> tuple[Case, Sequence[int]]:
    """More and more features of 2,000 samples."""
    return lambda n: (model, 2000, n, 10), sizes or (8, 512, 1024, 2048)


def by_rows(model: Any, *sizes: int, n_features: int = 64) -> tuple[Case, Sequence[int]]:
    """More and more training samples."""
    return lambda n: (model, n, n_features, 10), sizes or (100, 500, 1500, 4000)


def by_classes(model: Any) -> tuple[Case, Sequence[int]]:
    """More and more classes."""
    return lambda n: (model, 2000, 64, n), (3, 6, 12, 24)


def by_parameter(
    kind: Any, name: str, *sizes: int, n_rows: int = 1000, **others: Any
) -> tuple[Case, Sequence[int]]:
    """Larger and larger values of a parameter."""
    return lambda n: (kind(**{name: n}, **others), n_rows, 16, 10), sizes or (1, 5, 20, 50)


LINEAR = LogisticRegression(max_iter=30)
KINDS: dict[str, tuple[Case, Sequence[int]]] = {
    "LogisticRegression": by_features(LINEAR),
    "LinearDiscriminantAnalysis": by_features(LinearDiscriminantAnalysis()),
    "RidgeClassifier": by_features(RidgeClassifier()),
    "SGDClassifier": by_features(SGDClassifier(loss="log_loss", max_iter=10)),
    "MLPClassifier": by_parameter(MLPClassifier, "hidden_layer_sizes", 10, 500, 1000, 2000),
    "SVC, linear": by_rows(SVC(kernel="linear")),
    "SVC, rbf": by_rows(SVC()),
    "SVC, poly": by_rows(SVC(kernel="poly")),
    "SVC, sigmoid": by_rows(SVC(kernel="sigmoid")),
    "NuSVC, rbf": by_rows(NuSVC(nu=0.1)),
    "GaussianNB": by_features(GaussianNB()),
    "BernoulliNB": by_features(BernoulliNB()),
    "MultinomialNB": by_features(make_pipeline(MinMaxScaler(), MultinomialNB())),
    "ComplementNB": by_features(make_pipeline(MinMaxScaler(), ComplementNB())),
    "NearestCentroid": by_features(NearestCentroid()),
    "QuadraticDiscriminantAnalysis": by_features(
        QuadraticDiscriminantAnalysis(reg_param=0.1), 4, 16, 64, 128
    ),
    "DecisionTreeClassifier": by_parameter(
        DecisionTreeClassifier, "max_depth", 1, 4, 8, 16, n_rows=4000
    ),
    "RandomForestClassifier": by_parameter(RandomForestClassifier, "n_estimators", random_state=0),
    "ExtraTreesClassifier": by_parameter(ExtraTreesClassifier, "n_estimators", random_state=0),
    "BaggingClassifier": by_parameter(BaggingClassifier, "n_estimators", random_state=0),
    "AdaBoostClassifier": by_parameter(AdaBoostClassifier, "n_estimators", random_state=0),
    "GradientBoostingClassifier": by_parameter(GradientBoostingClassifier, "n_estimators"),
    "HistGradientBoostingClassifier": by_parameter(HistGradientBoostingClassifier, "max_iter"),
    "KNeighborsClassifier, 64 features": by_rows(KNeighborsClassifier()),
    "KNeighborsClassifier, k-d tree": by_rows(KNeighborsClassifier(), n_features=8),
    "KNeighborsClassifier, distances": by_rows(KNeighborsClassifier(weights="distance")),
    "RadiusNeighborsClassifier": by_rows(RadiusNeighborsClassifier(100.0)),
    "OneVsRestClassifier": by_classes(OneVsRestClassifier(LINEAR)),
    "OneVsOneClassifier": by_classes(OneVsOneClassifier(LINEAR)),
    "OutputCodeClassifier": by_classes(OutputCodeClassifier(LINEAR, code_size=2, random_state=0)),
    "CalibratedClassifierCV, features": by_features(
        CalibratedClassifierCV(LinearSVC(max_iter=20), cv=2, ensemble=False)
    ),
    "CalibratedClassifierCV, classes": by_classes(
        CalibratedClassifierCV(LinearSVC(max_iter=20), cv=2, ensemble=False)
    ),
    "VotingClassifier": by_features(
        VotingClassifier([("a", LINEAR), ("b", LinearDiscriminantAnalysis())], voting="soft")
    ),
    "StackingClassifier": by_features(
        StackingClassifier([("a", LINEAR), ("b", LinearDiscriminantAnalysis())], cv=2)
    ),
    **{
        f"{type(step).__name__}, linear": by_features(make_pipeline(step, LINEAR))
        for step in (
            PCA(8),
            StandardScaler(),
            RobustScaler(),
            MinMaxScaler(),
            MaxAbsScaler(),
            Normalizer(),
        )
    },
}


def seconds(run: Callable[[Any], Any], rows: Any, n_repeats: int) -> float:
    """Shortest processor time of a call, per sample."""
    times = []
    for _ in range(n_repeats + 1):
        start = process_time()
        run(rows)
        times.append(process_time() - start)
    return min(times[1:]) / len(rows)


def rate_of_networks(n_repeats: int) -> float:
    """Median multiply-accumulates per second of the ready-made networks."""
    rates = []
    for shape, backbone in NETWORKS.values():
        X = np.random.RandomState(0).randn(FIXED_ROWS, *shape).astype(np.float32)
        with isolated_random_state(0), torch.inference_mode():
            network = backbone.build(X, 10)
            blocks = network.cut([len(network.names) - 1])[0].eval()
            rows = torch.tensor(X)
            macs = module_macs(blocks, rows[:2], 2)[0]
            rates.append(macs / seconds(blocks, rows, n_repeats))
    return float(np.median(rates))


def measured(case: Case, size: int, n_repeats: int) -> tuple[float, float]:
    """Seconds per sample of a fitted estimator, and its count, NaN if there is none."""
    model, n_rows, n_features, n_classes = case(size)
    X, y = make_classification(
        n_rows,
        n_features,
        n_informative=max(n_features // 2, min(n_features, 6)),
        n_redundant=0,
        n_classes=n_classes,
        n_clusters_per_class=1,
        flip_y=0.05,
        random_state=0,
    )
    head = BatchInvariantClassifier.fit(
        model,
        X,
        y,
        None,
        classes=np.unique(y),
        needs_probabilities=False,
        seed=0,
        advice="",
    )
    rows = X[np.arange(FIXED_ROWS) % n_rows]
    try:
        count = estimator_macs(head.model)
    except UncountedError:
        count = np.nan
    return seconds(head.predict_proba, rows, n_repeats), count


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("kinds", nargs="*", help="only those whose names begin like this")
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    rate = rate_of_networks(args.repeats)
    print(f"{1e-9 * rate:.1f} GMAC/s, 1 thread, {FIXED_ROWS} samples a call\n")
    print(f"{'':<34}{'':>8}{'smallest':>12}" + f"{'count':>12}{'time':>12}{'ratio':>8}" * 3)
    failed = []
    for name, (case, sizes) in KINDS.items():
        if args.kinds and not name.startswith(tuple(args.kinds)):
            continue
        (least, least_count), *others = [measured(case, n, args.repeats) for n in sizes]
        line, ratios = f"{name:<34}{least_count:>8,.0f}{least * rate:>12,.0f}", []
        for time, count in others:
            with np.errstate(divide="ignore"):
                ratio = np.divide((time - least) * rate, count - least_count)
            ratios.append(ratio)
            line += f"{count:>12,.0f}{time * rate:>12,.0f}{ratio:>8.2g}"
        if max(ratios) > LARGEST_RATIO:
            failed.append(name)
        print(line + ("  off" if failed[-1:] == [name] else ""), flush=True)
    print(
        "'count': multiply-accumulates a sample; 'time': the same, at that rate; 'ratio': of what "
        "both are more than at the smallest size."
    )
    if failed:
        sys.exit(f"Counted, and off by more than {LARGEST_RATIO:.0f} times: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
