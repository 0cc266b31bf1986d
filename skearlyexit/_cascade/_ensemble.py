"""Parts of an ensemble in a row, of which each continues the sum of the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from skearlyexit._cascade._chain import ROWS_PER_CALL, Link, State
from skearlyexit._cascade._members import CLASSIFIERS, Kinds, Members, kind_of_members
from skearlyexit._cascade._regression_members import REGRESSORS
from skearlyexit._data._given import GivenRows
from skearlyexit._data._targets import Targets
from skearlyexit._determinism._estimator import FIXED_ROWS, padded
from skearlyexit._determinism._layers import GROUP
from skearlyexit._determinism._threads import on_single_blas_thread
from skearlyexit.costs import CostInput


class EnsemblePart(BaseEstimator):
    """The first members of a fitted ensemble.

    In a row, a part continues after the members of the part before it. It is frozen there.

    Parameters
    ----------
    ensemble : fitted classifier or regressor
        Forest, bagging or boosting, which is not copied.
    stop : int
        Number of members.
    n_members : int
        Number of all members of the ensemble, which may have been fitted again since.

    Attributes
    ----------
    kinds : mapping
        What computes the sums over the members, by package and name of a class.
    """

    kinds: ClassVar[Kinds]

    def __init__(self, ensemble: Any, stop: int, n_members: int) -> None:
        self.ensemble = ensemble
        self.stop = stop
        self.n_members = n_members

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any, y: Any = None) -> EnsemblePart:
        """Return the part as it is."""
        return self

    def as_link(
        self, rows: GivenRows, targets: Targets | None, *, batch_invariant: bool
    ) -> PartLink:
        """Fitted estimator in a row.

        Parameters
        ----------
        rows : GivenRows
            Samples, with some of which it is tested whether predictions depend on other samples.
        targets : Targets or None
            Scale of the targets in regression.
        batch_invariant : bool
            Whether predictions are not to depend on the batch.

        Returns
        -------
        link : PartLink

        Raises
        ------
        ValueError
            If the ensemble has been fitted again, or predicts another number of targets.
        """
        members = self._members()
        members.run_in_one_job()
        link = PartLink(self, members, targets)
        link.check(rows)
        if members.is_by_sample or not batch_invariant:
            return link
        link = replace(link, multiple=GROUP)
        return replace(link, multiple=FIXED_ROWS) if link.depends_on_others(rows) else link

    def _outputs(self, X: Any) -> np.ndarray:
        """Outputs of the members, shape (n_samples, n_outputs)."""
        link, rows = PartLink(self, self._members()), GivenRows(X)
        return link.predict_proba(rows, link.advance(rows, None))

    def _members(self) -> Members:
        members = kind_of_members(self.ensemble, self.kinds)(self.ensemble)
        if members.n_members != self.n_members:
            raise ValueError(
                f"The ensemble ({type(self.ensemble).__name__}) has {members.n_members} members, "
                f"and had {self.n_members} when the cascade was made of it. Call from_ensemble "
                "again."
            )
        return members


class ClassifierPart(ClassifierMixin, EnsemblePart):
    """The first members of a fitted ensemble of classifiers."""

    kinds = CLASSIFIERS

    @property
    def classes_(self) -> np.ndarray:
        """Class labels."""
        return self.ensemble.classes_

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities of the members."""
        return self._outputs(X)

    def predict(self, X: Any) -> np.ndarray:
        """Most probable labels."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class RegressorPart(RegressorMixin, EnsemblePart):
    """The first members of a fitted ensemble of regressors."""

    kinds = REGRESSORS

    def predict(self, X: Any) -> np.ndarray:
        """Values of the targets, shape (n_samples,) or (n_samples, n_targets)."""
        found = self._outputs(X)
        return found[:, 0] if found.shape[1] == 1 else found


@dataclass(frozen=True)
class Sum(State):
    """Sum over the first members of an ensemble.

    Attributes
    ----------
    values : ndarray of shape (n_samples, n_values)
        Sum of the probabilities, values or raw scores of these members.
    ensemble : fitted classifier or regressor
        The ensemble.
    count : int
        Number of members.
    """

    ensemble: Any
    count: int


@dataclass(frozen=True)
class PartLink(Link):
    """Part of an ensemble, which computes the members that were not computed before.

    Attributes
    ----------
    model : EnsemblePart
        The part.
    members : Members
        All members of the ensemble.
    targets : Targets or None, default=None
        Scale of the targets. None for classes, and for values that are not standardized.
    multiple : int, default=1
        The members are called with a multiple of this number of samples; with exactly so many if it
        is `FIXED_ROWS`, for members whose predictions depend on the number. If it is 1, they are
        not limited to one thread of BLAS.
    """

    model: EnsemblePart
    members: Members
    targets: Targets | None = None
    multiple: int = 1

    def check(self, rows: GivenRows) -> None:
        """Raise a ValueError if the ensemble predicts another number of targets than there are."""
        if self.targets is None:
            return
        n_found = self.advance(rows[:1], None).values.shape[1]
        if n_found != self.targets.n_targets:
            raise ValueError(
                f"The ensemble ({type(self.model.ensemble).__name__}) predicts {n_found} "
                f"target(s), and y holds {self.targets.n_targets}. Give y of the targets that it "
                "was fitted on."
            )

    def advance(self, rows: GivenRows, state: Any) -> Sum:
        start, stop = self._start(state), self.model.stop
        total = self._sums(rows, state.values if start else None, start)
        return Sum(total, self.model.ensemble, stop)

    def _sums(self, rows: GivenRows, total: np.ndarray | None, start: int) -> np.ndarray:
        """Sums over all members of the part, from those over the members before it."""

        def sums(some: GivenRows, before: np.ndarray | None) -> np.ndarray:
            return self.members.add(some.content, before, start, self.model.stop)

        return self._in_calls(sums, rows, total)

    def _in_calls(self, function: Callable[..., np.ndarray], *arrays: Any) -> np.ndarray:
        """Values of a function of some samples, which is called with a number that it supports."""
        n_rows = len(arrays[0])
        n_call = FIXED_ROWS if self.multiple == FIXED_ROWS else ROWS_PER_CALL

        def of_call(call: slice) -> np.ndarray:
            some = [None if each is None else each[call] for each in arrays]
            n_some = min(n_call, n_rows - call.start)
            n_padded = n_some + -n_some % self.multiple
            found = function(*(None if each is None else padded(each, n_padded) for each in some))
            return found[:n_some]

        calls = [slice(i, i + n_call) for i in range(0, n_rows, n_call)]
        if self.multiple == 1:
            return np.concatenate([of_call(call) for call in calls])
        return np.concatenate(on_single_blas_thread(lambda: [of_call(call) for call in calls]))

    def depends_on_others(self, rows: GivenRows) -> bool:
        """Whether predictions differ between small and large calls, be it in the last bits."""
        few = rows[np.arange(64) % len(rows)]
        many = few[np.arange(ROWS_PER_CALL) % len(few)]
        by_few = [self._alone(few[i : i + GROUP]) for i in range(0, len(few), GROUP)]
        in_many = self._alone(many)
        return not all(
            np.array_equal(each[: len(few)], np.concatenate(some))
            for each, some in zip(in_many, zip(*by_few, strict=True), strict=True)
        )

    def _alone(self, rows: GivenRows) -> tuple[np.ndarray, np.ndarray]:
        """Sums and probabilities of samples without any sum before."""
        state = self.advance(rows, None)
        return state.values, self.predict_proba(rows, state)

    def predict_proba(self, rows: GivenRows, state: Any) -> np.ndarray:
        found = self._in_calls(lambda sums: self.members.outputs(sums, state.count), state.values)
        return found if self.targets is None else self.targets.standardized(found)

    def cost_input(self, rows: GivenRows, state: Any) -> CostInput:
        start, stop = self._start(state), self.model.stop
        # The time does not depend on the sum before, for which that of one member is as good.
        before = self.members.add(rows[:1].content, None, 0, 1) if start else None

        def run(some: GivenRows) -> None:
            self._sums(some, None if before is None else before.repeat(len(some), axis=0), start)

        return CostInput(run, rows, self.members.some(start, stop))

    def _start(self, state: Any) -> int:
        """Number of members that were computed before."""
        part = self.model
        continued = isinstance(state, Sum) and state.ensemble is part.ensemble
        return state.count if continued and state.count <= part.stop else 0


def ensemble_parts(
    ensemble: Any, sizes: Sequence[int], part: type[EnsemblePart]
) -> list[EnsemblePart]:
    """Parts of a fitted ensemble, of which the last is all of it.

    Parameters
    ----------
    ensemble : fitted classifier or regressor
        Forest, bagging or boosting.
    sizes : sequence of int
        Number of members up to the end of each part, in ascending order. That of all members is
        added if it is not the last.
    part : class
        Kind of the parts.

    Returns
    -------
    parts : list of EnsemblePart

    Raises
    ------
    NotFittedError, TypeError, ValueError
        As in `CascadeClassifier.from_ensemble`.
    """
    kind = kind_of_members(ensemble, part.kinds)
    check_is_fitted(ensemble)
    n_members = kind(ensemble).n_members
    stops = list(sizes) if np.iterable(sizes) else []
    whole = all(isinstance(each, Integral) and not isinstance(each, bool) for each in stops)
    valid = whole and stops == sorted(set(stops)) and all(1 <= n <= n_members for n in stops)
    if not stops or not valid:
        raise ValueError(
            f"'sizes' must be numbers of members from 1 to {n_members}, in ascending order. Got "
            f"{sizes!r} instead."
        )
    if n_members not in stops:
        stops.append(n_members)
    return [part(ensemble, int(stop), n_members) for stop in stops]
