"""Fit of estimators in a row, each of which depends on what those before it predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel

from skearlyexit._cascade._chain import Alone, FittedChain, Link, State
from skearlyexit._cascade._informed import Informed, PassedOn
from skearlyexit._data._given import GivenRows
from skearlyexit._data._samples import Samples
from skearlyexit._data._splits import Split, cross_fitting_splits
from skearlyexit._fitting._chain_fitter import ChainFitter, is_frozen
from skearlyexit._fitting._network_fitter import MAX_SEED

#: Number of folds, as in `StackingClassifier`.
N_FOLDS = 5


@dataclass(frozen=True)
class SuccessiveFitter(ChainFitter):
    """Fits estimators in a row, each of which depends on what those before it predict.

    In training, these outputs, probabilities or values, are predicted out of fold, by estimators
    that were fitted to other samples.

    Attributes
    ----------
    passes : bool
        Whether the outputs are further features of the estimators after.
    share : float
        Share of the training samples of an estimator to which the next one is fitted: those of
        which the largest probability is lowest. It is 1 in regression.
    """

    passes: bool
    share: float

    @property
    def continuing(self) -> list[str]:
        return self.names[1:] if self.passes else super().continuing

    @property
    def in_last(self) -> np.ndarray:
        return np.ones(len(self.estimators), dtype=bool) if self.passes else super().in_last

    def check(self, *, needs_probabilities: bool, weighted: bool, routed: bool) -> None:
        """As `ChainFitter.check`; only the first may be frozen if outputs are passed on."""
        super().check(
            needs_probabilities=needs_probabilities or self.share < 1,
            weighted=weighted,
            routed=routed,
        )
        if routed and self.passes:
            raise ValueError(
                f"With pass_{self.task.kind.noun}=True, an estimator needs what those before it "
                "predict, so that none can be skipped. Give router=None."
            )
        for name, estimator in list(zip(self.names, self.estimators, strict=True))[1:]:
            if self.passes and is_frozen(estimator):
                noun = self.task.kind.noun
                raise ValueError(
                    f"With pass_{noun}=True, only the first estimator may be frozen, since the "
                    f"others are fitted on the {noun} of those before. Got {name!r} as a "
                    "FrozenEstimator; give the estimator itself."
                )

    def fit(
        self, parts: Sequence[Samples], rows: GivenRows, seeds: np.ndarray
    ) -> list[FittedChain]:
        last = len(self.estimators) - 1
        if self.passes:
            every = self._passed_to(last)
            zeros = State(np.zeros((1, len(every.names))))
            every.beside(rows[:1], zeros)  # an error before training
        shared = self.shared_links(rows)
        drawing = [check_random_state(int(seed)) for seed in seeds]
        reasons = [f"pass_{self.task.kind.noun}=True"] if self.passes else []
        reason = " and ".join([*reasons, *(["train_share"] if self.share < 1 else [])])
        reached = [_reached(part, rng, reason) for part, rng in zip(parts, drawing, strict=True)]
        chains: list[list[Link]] = [[] for _ in parts]
        for i in range(len(self.estimators)):
            splits = [each.splits() if i < last else [] for each in reached]
            fitted = self._links(i, reached, splits, drawing, shared)
            for k, (whole, *of_folds) in enumerate(fitted):
                chains[k].append(whole)
                if i < last:
                    found = reached[k].predicted(splits[k], of_folds, self.task.n_outputs)
                    reached[k] = reached[k].after(found, self.share, passes=self.passes)
        return [FittedChain(links, self.task.n_outputs, self.task.kind) for links in chains]

    def _link(self, frozen: Any, rows: GivenRows) -> Link:
        if not self.passes:
            return super()._link(frozen, rows)
        steady = self.task.of_fitted(frozen, rows, self.calls)
        return Informed(steady, self._passed_to(0))

    def _passed_to(self, i: int) -> PassedOn:
        """Features that an estimator sees in addition to those of X."""
        task = self.task
        names = [f"{name}_{label}" for name in self.names[:i] for label in task.output_labels]
        return PassedOn(names, task.output_scale, task.kind.noun)

    def _links(
        self,
        i: int,
        reached: Sequence[_Reached],
        splits: Sequence[Sequence[Split]],
        drawing: Sequence[np.random.RandomState],
        shared: dict[int, Link],
    ) -> list[list[Link]]:
        """Estimator fitted to each part, followed by those fitted to all but each of its folds."""
        if i in shared:
            return [[shared[i]] * (1 + len(each)) for each in splits]
        passed, jobs = self._passed_to(i), []
        for k, (part, rng) in enumerate(zip(reached, drawing, strict=True)):
            given = passed.beside(self.seen(i, part.samples.X), part.state)
            samples = replace(part.samples, X=given)
            trained = [samples, *(samples.take(train) for train, _ in splits[k])]
            where = f"model {k + 1} of {len(reached)}"
            for fold, each in enumerate(trained):
                title = f"{where}, without fold {fold} of {len(splits[k])}" if fold else where
                jobs.append(self.job(i, each, int(rng.randint(MAX_SEED)), title))
        fitted = iter(Parallel(n_jobs=self.n_jobs)(jobs))

        def link() -> Link:
            one = next(fitted)
            return self.of_columns(i, Informed(one, passed) if self.passes else Alone(one))

        return [[link() for _ in range(1 + len(each))] for each in splits]


@dataclass(frozen=True)
class _Reached:
    """Training samples that an estimator is fitted to.

    Attributes
    ----------
    samples : Samples
        The samples.
    folds : ndarray of shape (n_samples,)
        Number of the fold of each sample, which is the same for all estimators.
    state : State or None, default=None
        Outputs of the estimators before, if they are passed on.
    """

    samples: Samples
    folds: np.ndarray
    state: State | None = None

    def splits(self) -> list[Split]:
        """Splits of the samples into all but a fold, and this fold."""
        each = [self.folds == fold for fold in np.unique(self.folds)]
        return [(np.flatnonzero(~held), np.flatnonzero(held)) for held in each]

    def predicted(
        self, splits: Sequence[Split], links: Sequence[Link], n_outputs: int
    ) -> np.ndarray:
        """Outputs of shape (n_samples, n_outputs) from the estimator of each fold."""
        found = np.empty((len(self.samples), n_outputs))
        for (_, held), link in zip(splits, links, strict=True):
            rows = self.samples.X[held]
            before = None if self.state is None else self.state.take(held)
            found[held] = link.predict_proba(rows, link.advance(rows, before))
        return found

    def after(self, found: np.ndarray, share: float, *, passes: bool) -> _Reached:
        """Samples that the next estimator is fitted to, given the outputs of this one."""
        passed = [found] if self.state is None else [self.state.values, found]
        kept = replace(self, state=State(np.hstack(passed)) if passes else None)
        if share == 1:
            return kept
        n_kept = ceil(share * len(found))
        rows = np.sort(np.argsort(found.max(axis=1), kind="stable")[:n_kept])
        if len(np.unique(self.folds[rows])) < 2 or len(np.unique(self.samples.y[rows])) < 2:
            raise ValueError(
                f"train_share={share:g} leaves {n_kept} of {len(found)} training samples for an "
                "estimator, which are of a single class or fold. Give a larger share."
            )
        state = None if kept.state is None else kept.state.take(rows)
        return _Reached(self.samples.take(rows), self.folds[rows], state)


def _reached(part: Samples, rng: np.random.RandomState, reason: str) -> _Reached:
    """Training samples in folds that are predicted by estimators fitted to the others."""
    splits = list(cross_fitting_splits(N_FOLDS, part.strata, part.groups, rng))
    if not splits:
        raise ValueError(
            f"Fits with {reason} need at least {N_FOLDS} training samples, or two groups, to "
            f"predict out of fold. Got {len(part)} samples."
        )
    folds = np.empty(len(part), dtype=np.intp)
    for fold, (_, held) in enumerate(splits):
        folds[held] = fold
    return _Reached(part, folds)
