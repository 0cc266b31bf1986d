"""Fit of estimators in a row, for the final model and for each fold."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils._user_interface import _print_elapsed_time
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from skearlyexit._cascade._chain import (
    ROWS_PER_CALL,
    Alone,
    FittedChain,
    Link,
    OfColumns,
)
from skearlyexit._data._given import GivenRows
from skearlyexit._data._samples import Samples
from skearlyexit._determinism._estimator import (
    BatchInvariantEstimator,
    Calls,
    as_stored,
    takes_weights,
)
from skearlyexit._fitting._network_fitter import MAX_SEED
from skearlyexit._task._base import Task


@dataclass(frozen=True)
class ChainFitter:
    """Fits estimators in a row to different samples.

    Attributes
    ----------
    names : list of str
        Name of each estimator.
    estimators : list of estimator
        Estimators, which are cloned. One that is frozen is used as it is.
    columns : list of ndarray of int, or None
        Positions of the columns of each estimator. None for all columns.
    task : Task
        What is predicted.
    n_jobs : int or None
        Number of estimators that are fitted in parallel.
    verbose : bool
        Whether the time of each fit is printed.
    batch_invariant : bool
        Whether predictions do not depend on the batch.
    title : str
        Name of the cascade, which is printed with the time.
    """

    names: list[str]
    estimators: list[Any]
    columns: list[np.ndarray | None]
    task: Task
    n_jobs: int | None
    verbose: bool
    batch_invariant: bool
    title: str

    @property
    def calls(self) -> Calls:
        """How the fitted estimators are called."""
        return Calls(ROWS_PER_CALL, self.batch_invariant)

    @property
    def is_fitted(self) -> bool:
        """Whether all estimators are frozen, so that there is nothing to fit."""
        return all(map(is_frozen, self.estimators))

    @property
    def continuing(self) -> list[str]:
        """Names of the estimators that depend on what those before them compute."""
        pairs = zip(self.names, self.estimators, strict=True)
        return [name for name, each in pairs if _is_part(each)]

    @property
    def in_last(self) -> np.ndarray:
        """Whether the last estimator includes what each of them computes, shape (n_exits,)."""
        included, last = np.zeros(len(self.estimators), dtype=bool), self.estimators[-1]
        for i in reversed(range(len(included))):
            each = self.estimators[i]
            if not (_is_part(each) and _is_part(last) and each.ensemble is last.ensemble):
                break
            included[i] = True
        return included

    def check(self, *, needs_probabilities: bool, weighted: bool, routed: bool) -> None:
        """Check before training that the estimators can do what is required of them.

        Parameters
        ----------
        needs_probabilities : bool
            Whether the exit rule depends on predicted probabilities.
        weighted : bool
            Whether sample weights are given.
        routed : bool
            Whether samples may skip estimators.

        Raises
        ------
        ValueError
            If an estimator has no `predict_proba`, does not support sample weights, or cannot be
            skipped.
        """
        for name, estimator in zip(self.names, self.estimators, strict=True):
            kind = type(estimator).__name__
            if routed and _is_part(estimator):
                raise ValueError(
                    f"The estimator {name!r} is a part of an ensemble, which continues what the "
                    "part before it has computed, so that none can be skipped. Give router=None."
                )
            if needs_probabilities and not hasattr(estimator, "predict_proba"):
                raise ValueError(
                    f"The estimator {name!r} ({kind}) has no predict_proba, which the policy, "
                    "the combination or train_share needs. Give CalibratedClassifierCV of it, or "
                    "policy='patience' and train_share=1."
                )
            if weighted and not is_frozen(estimator) and not takes_weights(estimator):
                raise ValueError(
                    f"sample_weight was given, and the estimator {name!r} ({kind}) does not "
                    "support it in fit. Give another estimator, or no weights."
                )

    def fit(
        self, parts: Sequence[Samples], rows: GivenRows, seeds: np.ndarray
    ) -> list[FittedChain]:
        """Fit the estimators to each of several sets of samples.

        Parameters
        ----------
        parts : sequence of Samples
            Training samples of each chain.
        rows : GivenRows
            All samples, with some of which frozen estimators are tested.
        seeds : ndarray of shape (n_parts,)
            Seed of random numbers for each chain.

        Returns
        -------
        chains : list of FittedChain
            Fitted estimators for each set of samples, which share those that are frozen.
        """
        shared = self.shared_links(rows)
        fitting = [i for i in range(len(self.estimators)) if i not in shared]
        jobs = []
        for k, (part, seed) in enumerate(zip(parts, seeds, strict=True)):
            drawn = check_random_state(int(seed)).randint(MAX_SEED, size=len(self.estimators))
            for i in fitting:
                seen = replace(part, X=self.seen(i, part.X))
                jobs.append(self.job(i, seen, int(drawn[i]), f"model {k + 1} of {len(parts)}"))
        fitted = iter(Parallel(n_jobs=self.n_jobs)(jobs))
        return [
            FittedChain(
                [
                    shared[i] if i in shared else self.of_columns(i, Alone(next(fitted)))
                    for i in range(len(self.estimators))
                ],
                self.task.n_outputs,
                self.task.kind,
            )
            for _ in parts
        ]

    def seen(self, i: int, rows: GivenRows) -> GivenRows:
        """Samples with the columns of an estimator only."""
        columns = self.columns[i]
        return rows if columns is None else rows.of_columns(columns)

    def of_columns(self, i: int, link: Link) -> Link:
        """Link that is given the columns of an estimator only."""
        columns = self.columns[i]
        return link if columns is None else OfColumns(link, columns)

    def shared_links(self, rows: GivenRows) -> dict[int, Link]:
        """Links of copies of the frozen estimators, by index.

        Parameters
        ----------
        rows : GivenRows
            All samples, with some of which they are tested.
        """
        copies = self._copied_frozen()
        return {
            i: self.of_columns(i, self._link(each, self.seen(i, rows)))
            for i, each in copies.items()
        }

    def _copied_frozen(self) -> dict[int, Any]:
        """Copies of the frozen estimators, by index.

        Raises
        ------
        ValueError
            If one cannot be copied.
        """
        copies: dict[int, Any] = {}
        memo: dict[int, Any] = {}  # one for all, since several may be parts of the same ensemble
        for i, each in enumerate(self.estimators):
            if is_frozen(each):
                try:
                    copies[i] = copy.deepcopy(each, memo)
                except Exception as error:
                    raise ValueError(
                        f"The frozen estimator {_described(self.names[i], each)} cannot be copied: "
                        f"{error}. The cascade keeps a copy, since later changes of the estimator "
                        "must not change its predictions. Give one that copy.deepcopy supports."
                    ) from error
        parts = {i: each for i, each in copies.items() if _is_part(each)}
        return copies | as_stored(parts)

    def job(self, i: int, samples: Samples, seed: int, title: str) -> Any:
        """Delayed fit of an estimator, whose time is printed with a title."""
        message = f"({title}) Fitting {self.names[i]}" if self.verbose else None
        return delayed(_fit)(
            self.names[i],
            self.estimators[i],
            samples,
            self.task,
            seed,
            self.title,
            message,
            self.calls,
        )

    def _link(self, frozen: Any, rows: GivenRows) -> Link:
        """Link of a frozen estimator, which is changed."""
        if _is_part(frozen):
            return self.task.link_of_part(frozen, rows, self.batch_invariant)
        return Alone(self.task.of_fitted(frozen, rows, self.calls))


def is_frozen(estimator: Any) -> bool:
    """Whether an estimator is used as it is, without a fit."""
    return isinstance(estimator, FrozenEstimator)


def _is_part(estimator: Any) -> bool:
    """Whether an estimator continues what the one before it has computed."""
    return is_frozen(estimator) and hasattr(estimator, "as_link")


def _described(name: str, frozen: Any) -> str:
    """Name of a frozen estimator in the cascade, and its kind."""
    return f"{name!r} ({type(frozen.estimator).__name__})"


def frozen_classes(names: Sequence[str], estimators: Sequence[Any]) -> np.ndarray | None:
    """Sorted classes of the frozen estimators, or None if there are none.

    Raises
    ------
    NotFittedError
        If a frozen estimator is not fitted.
    ValueError
        If a frozen estimator has no `classes_`, or they were fitted on different classes.
    """
    found: dict[str, np.ndarray] = {}
    for name, estimator in zip(names, estimators, strict=True):
        if is_frozen(estimator):
            check_is_fitted(estimator)
            if not hasattr(estimator, "classes_"):
                raise ValueError(
                    f"The frozen estimator {_described(name, estimator)} has no classes_. Give a "
                    "classifier that sets classes_ to the labels that it was fitted on."
                )
            found[name] = np.unique(estimator.classes_)
    if not found:
        return None
    first, *others = found
    for other in others:
        if not np.array_equal(found[first], found[other]):
            raise ValueError(
                "Frozen estimators must have been fitted on the same classes. Got "
                f"{found[first][:20].tolist()} for {first!r}, and {found[other][:20].tolist()} for "
                f"{other!r}. Fit them on the same labels."
            )
    return found[first]


def _fit(
    name: str,
    estimator: Any,
    part: Samples,
    task: Task,
    seed: int,
    title: str,
    message: str | None,
    calls: Calls,
) -> BatchInvariantEstimator:
    with _print_elapsed_time(title, message):
        try:
            return task.fit_estimator(
                estimator,
                part.X,
                part.y,
                part.weight,
                seed=seed,
                calls=calls,
            )
        except Exception as error:
            error.add_note(f"The error was raised in fitting the estimator {name!r}.")
            raise
