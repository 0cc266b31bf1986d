"""Fit of estimators in a row, of which each also sees what those before it predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel

from skearlyexit._cascade._chain import ROWS_PER_CALL, FittedChain, Link, State
from skearlyexit._cascade._informed import Informed, informed_rows
from skearlyexit._data._given import GivenRows
from skearlyexit._data._samples import Samples
from skearlyexit._data._splits import Split, cross_fitting_splits
from skearlyexit._determinism._classifier import BatchInvariantClassifier
from skearlyexit._fitting._chain_fitter import ChainFitter, is_frozen
from skearlyexit._fitting._network_fitter import MAX_SEED

#: Number of folds, as in `StackingClassifier`.
N_FOLDS = 5


class InformedFitter(ChainFitter):
    """Fits estimators in a row, of which each also sees what those before it predict.

    In training, these probabilities are predicted out of fold, by estimators that were fitted to
    other samples.
    """

    @property
    def in_last(self) -> np.ndarray:
        return np.ones(len(self.estimators), dtype=bool)

    def check(self, *, needs_probabilities: bool, weighted: bool) -> None:
        """As `ChainFitter.check`; only the first estimator may be frozen."""
        super().check(needs_probabilities=needs_probabilities, weighted=weighted)
        for name, estimator in list(zip(self.names, self.estimators, strict=True))[1:]:
            if is_frozen(estimator):
                raise ValueError(
                    "With pass_probabilities=True, only the first estimator may be frozen, since "
                    f"the others are fitted on the probabilities predicted before. Got {name!r} as "
                    "a FrozenEstimator; give the estimator itself."
                )

    def fit(
        self, parts: Sequence[Samples], rows: GivenRows, seeds: np.ndarray
    ) -> list[FittedChain]:
        last = len(self.estimators) - 1
        every = self._names_before(last)
        rows[:1].beside(np.zeros((1, len(every))), every)  # an error before training
        drawing = [check_random_state(int(seed)) for seed in seeds]
        folds = [_folds(part, rng) for part, rng in zip(parts, drawing, strict=True)]
        seen: list[State | None] = [None] * len(parts)
        chains: list[list[Link]] = [[] for _ in parts]
        for i in range(len(self.estimators)):
            names = self._names_before(i)
            informed = [
                replace(part, X=informed_rows(self.seen(i, part.X), state, names))
                for part, state in zip(parts, seen, strict=True)
            ]
            splits = [each if i < last else [] for each in folds]
            fitted = iter(self._fit_all(i, informed, splits, drawing, self.seen(i, rows)))
            for k, part in enumerate(informed):
                chains[k].append(self.of_columns(i, Informed(next(fitted), names)))
                if i < last:
                    found = np.empty((len(part), len(self.classes)))
                    for _, held in splits[k]:
                        found[held] = next(fitted).predict_proba(part.X[held])
                    state = seen[k]
                    passed = [] if state is None else [state.values]
                    seen[k] = State(np.hstack([*passed, found]))
        return [FittedChain(links, len(self.classes)) for links in chains]

    def _names_before(self, i: int) -> list[str]:
        """Names of the features that an estimator sees in addition to those of X."""
        return [f"{name}_{label}" for name in self.names[:i] for label in self.classes]

    def _fit_all(
        self,
        i: int,
        parts: Sequence[Samples],
        splits: Sequence[Sequence[Split]],
        drawing: Sequence[np.random.RandomState],
        rows: GivenRows,
    ) -> list[BatchInvariantClassifier]:
        """Estimator fitted to each part, followed by those fitted to all but each of its folds."""
        n_folds = [len(each) for each in splits]
        if is_frozen(self.estimators[i]):
            frozen = self.copied_frozen()[i]
            shared = BatchInvariantClassifier.of_fitted(frozen, rows, self.classes, ROWS_PER_CALL)
            return [shared] * (len(parts) + sum(n_folds))
        jobs = []
        for k, (part, rng) in enumerate(zip(parts, drawing, strict=True)):
            trained = [part, *(part.take(train) for train, _ in splits[k])]
            where = f"model {k + 1} of {len(parts)}"
            for fold, samples in enumerate(trained):
                title = f"{where}, without fold {fold} of {n_folds[k]}" if fold else where
                jobs.append(self.job(i, samples, int(rng.randint(MAX_SEED)), title))
        fitted: list[BatchInvariantClassifier] = Parallel(n_jobs=self.n_jobs)(jobs)
        return fitted


def _folds(part: Samples, rng: np.random.RandomState) -> list[Split]:
    """Folds in which probabilities are predicted by estimators that were fitted to the others."""
    found = list(cross_fitting_splits(N_FOLDS, part.y, part.groups, rng))
    if not found:
        raise ValueError(
            f"pass_probabilities=True needs at least {N_FOLDS} training samples, or two groups, to "
            f"predict probabilities out of fold. Got {len(part)} samples."
        )
    return found
