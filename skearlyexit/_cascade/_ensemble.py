"""Parts of an ensemble in a row, of which each continues the sum of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import BaggingClassifier
from sklearn.ensemble._forest import ForestClassifier
from sklearn.tree import BaseDecisionTree
from sklearn.utils.validation import check_is_fitted, validate_data

from skearlyexit._cascade._chain import ROWS_PER_CALL, Link, State
from skearlyexit._data._given import GivenRows
from skearlyexit._determinism._classifier import FIXED_ROWS, padded
from skearlyexit._determinism._layers import GROUP
from skearlyexit._determinism._threads import on_single_blas_thread
from skearlyexit.costs import CostInput, estimator_macs
from skearlyexit.costs._estimators import CALL


@singledispatch
def add_members(ensemble: Any, X: Any, start: int, stop: int, total: np.ndarray) -> None:
    """Add the probabilities of members to a sum in place, as the ensemble itself does.

    Parameters
    ----------
    ensemble : fitted classifier
        Forest or bagging.
    X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
        Samples.
    start, stop : int
        The members are ``estimators_[start:stop]``.
    total : ndarray of shape (n_samples, n_classes)
        Sum of the probabilities of the members before.
    """
    raise NotImplementedError


@add_members.register(ForestClassifier)
def _(ensemble: Any, X: Any, start: int, stop: int, total: np.ndarray) -> None:
    X = ensemble._validate_X_predict(X)
    for tree in ensemble.estimators_[start:stop]:
        total += tree.predict_proba(X, check_input=False)


@add_members.register(BaggingClassifier)
def _(ensemble: Any, X: Any, start: int, stop: int, total: np.ndarray) -> None:
    X = validate_data(
        ensemble, X, reset=False, accept_sparse=["csr", "csc"], dtype=None, ensure_all_finite=False
    )
    members = zip(ensemble.estimators_, ensemble.estimators_features_, strict=True)
    for member, features in list(members)[start:stop]:
        columns = X[:, features]
        if hasattr(member, "predict_proba"):
            # A member may not have seen all classes, of which these are indices.
            total[:, member.classes_] += member.predict_proba(columns)
        else:
            total[np.arange(len(total)), member.predict(columns)] += 1


class EnsemblePart(ClassifierMixin, BaseEstimator):
    """The first members of a fitted ensemble.

    In a row, a part continues after the members of the part before it. It is frozen there.

    Parameters
    ----------
    ensemble : fitted classifier
        Forest or bagging, which is not copied.
    stop : int
        Number of members.
    n_members : int
        Number of all members of the ensemble, which may have been fitted again since.
    """

    def __init__(self, ensemble: Any, stop: int, n_members: int) -> None:
        self.ensemble = ensemble
        self.stop = stop
        self.n_members = n_members

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any, y: Any = None) -> EnsemblePart:
        """Return the part as it is."""
        return self

    @property
    def classes_(self) -> np.ndarray:
        """Class labels."""
        return self.ensemble.classes_

    def predict_proba(self, X: Any) -> np.ndarray:
        """Mean of the probabilities of the members."""
        self._check_members()
        link, rows = Members(self), GivenRows(X)
        return link.predict_proba(rows, link.advance(rows, None))

    def predict(self, X: Any) -> np.ndarray:
        """Most probable labels."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def as_link(self, rows: GivenRows) -> Members:
        """Fitted estimator in a row.

        Parameters
        ----------
        rows : GivenRows
            Samples, with some of which it is tested whether predictions depend on other samples.

        Returns
        -------
        link : Members
        """
        self._check_members()
        if all(isinstance(member, BaseDecisionTree) for member in self.ensemble.estimators_):
            # A tree follows the path of each sample by itself.
            return Members(self)
        link = Members(self, GROUP)
        return replace(link, multiple=FIXED_ROWS) if link.depends_on_others(rows) else link

    def _check_members(self) -> None:
        n_members = len(self.ensemble.estimators_)
        if n_members != self.n_members:
            raise ValueError(
                f"The ensemble ({type(self.ensemble).__name__}) has {n_members} members, and had "
                f"{self.n_members} when the cascade was made of it. Call from_ensemble again."
            )


@dataclass(frozen=True)
class SomeMembers:
    """Members of an ensemble, whose operations are counted and whose size is measured."""

    members: list[Any]
    n_classes: int


@estimator_macs.register(SomeMembers)
def _(some: SomeMembers) -> float:
    counts = [estimator_macs(member) for member in some.members]
    return float(sum(counts) + len(counts) * (CALL + some.n_classes))


@dataclass(frozen=True)
class Sum(State):
    """Sum of the probabilities of the first members of an ensemble.

    Attributes
    ----------
    values : ndarray of shape (n_samples, n_classes)
        Sum of the probabilities of these members.
    ensemble : fitted classifier
        The ensemble.
    count : int
        Number of members.
    """

    ensemble: Any
    count: int


@dataclass(frozen=True)
class Members(Link):
    """Part of an ensemble, which computes the members that were not computed before.

    Attributes
    ----------
    model : EnsemblePart
        The part.
    multiple : int, default=1
        The members are called with a multiple of this number of samples; with exactly so many if it
        is `FIXED_ROWS`, for members whose predictions depend on the number.
    """

    model: EnsemblePart
    multiple: int = 1

    def advance(self, rows: GivenRows, state: Any) -> Sum:
        part, start = self.model, self._start(state)
        total = np.zeros((len(rows), len(part.classes_))) if not start else state.values.copy()
        self._add(rows, start, total)
        return Sum(total, part.ensemble, part.stop)

    def _add(self, rows: GivenRows, start: int, total: np.ndarray) -> None:
        """Add the probabilities of the members after the first ones to a sum in place."""
        n_call = FIXED_ROWS if self.multiple == FIXED_ROWS else ROWS_PER_CALL
        calls = [slice(i, i + n_call) for i in range(0, len(rows), n_call)]

        def add_all() -> None:
            for call in calls:
                self._add_padded(rows[call], start, total[call])

        on_single_blas_thread(add_all)

    def _add_padded(self, rows: GivenRows, start: int, total: np.ndarray) -> None:
        n_rows, part = len(rows), self.model
        n_padded = n_rows + -n_rows % self.multiple
        summed = padded(total, n_padded)
        add_members(part.ensemble, padded(rows, n_padded).content, start, part.stop, summed)
        total[:] = summed[:n_rows]

    def depends_on_others(self, rows: GivenRows) -> bool:
        """Whether predictions differ between small and large calls, be it in the last bits."""
        few = rows[np.arange(64) % len(rows)]
        many = few[np.arange(ROWS_PER_CALL) % len(few)]
        by_few = [self.advance(few[i : i + GROUP], None) for i in range(0, len(few), GROUP)]
        in_many = self.advance(many, None).values[: len(few)]
        return not np.array_equal(in_many, Sum.joined(by_few).values)

    def predict_proba(self, rows: GivenRows, state: Any) -> np.ndarray:
        return state.values / state.count

    def cost_input(self, rows: GivenRows, state: Any) -> CostInput:
        part, start = self.model, self._start(state)
        members = part.ensemble.estimators_[start : part.stop]
        n_classes = len(part.classes_)

        def run(some: GivenRows) -> None:
            total = np.zeros((len(some), n_classes))
            self._add(some, start, total)

        return CostInput(run, rows, SomeMembers(members, n_classes))

    def _start(self, state: Any) -> int:
        """Number of members that were computed before."""
        part = self.model
        continued = isinstance(state, Sum) and state.ensemble is part.ensemble
        return state.count if continued and state.count <= part.stop else 0


def ensemble_parts(ensemble: Any, sizes: Sequence[int]) -> list[EnsemblePart]:
    """Parts of a fitted ensemble, of which the last is all of it.

    Parameters
    ----------
    ensemble : fitted classifier
        Forest or bagging.
    sizes : sequence of int
        Number of members up to the end of each part, in ascending order. That of all members is
        added if it is not the last.

    Returns
    -------
    parts : list of EnsemblePart

    Raises
    ------
    NotFittedError, TypeError, ValueError
        As in `CascadeClassifier.from_ensemble`.
    """
    if add_members.dispatch(type(ensemble)) is add_members.dispatch(object):
        raise TypeError(
            "The 'ensemble' must be a RandomForestClassifier, an ExtraTreesClassifier or a "
            f"BaggingClassifier. Got {type(ensemble).__name__} instead."
        )
    check_is_fitted(ensemble)
    n_members = len(ensemble.estimators_)
    stops = list(sizes) if np.iterable(sizes) else []
    whole = all(isinstance(each, Integral) and not isinstance(each, bool) for each in stops)
    valid = whole and stops == sorted(set(stops)) and all(1 <= n <= n_members for n in stops)
    if not stops or not valid:
        raise ValueError(
            f"'sizes' must be numbers of members from 1 to {n_members}, in ascending order. Got "
            f"{sizes!r} instead."
        )
    if getattr(ensemble, "n_outputs_", 1) > 1:
        raise ValueError(
            f"The 'ensemble' must predict a single output. Got {ensemble.n_outputs_} outputs."
        )
    if n_members not in stops:
        stops.append(n_members)
    return [EnsemblePart(ensemble, int(stop), n_members) for stop in stops]
