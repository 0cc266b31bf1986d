"""Training that goes on with rows as they come in."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._available_if import _AvailableIfDescriptor
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from skearlyexit._base import BaseEarlyExit
from skearlyexit._data._encode import rows_of_known_classes
from skearlyexit._data._labels import check_labels
from skearlyexit._data._samples import Samples
from skearlyexit._determinism._random import ending_turns
from skearlyexit._fitting._cascade_fitter import MAX_SEED
from skearlyexit._fitting._exit_rule import unlearned
from skearlyexit._utils._gradients import gradients
from skearlyexit.calibration import CalibratedPoint, nobody
from skearlyexit.combination import resolve_combination
from skearlyexit.heads import resolve_head
from skearlyexit.placement import resolve_placement
from skearlyexit.policies import resolve_policy
from skearlyexit.training import resolve_training


class _AvailableIf(_AvailableIfDescriptor):
    """Method that is there where a check passes; the error says why not, elsewhere."""

    def _check(self, obj: Any, owner: Any) -> None:
        try:
            self.check(obj)
        except Exception as error:
            raise AttributeError(
                f"This {owner.__name__!r} has no attribute {self.attribute_name!r}. {error}"
            ) from error


def _available_if(check: Callable[[Any], None]) -> Callable[[Callable[..., Any]], Any]:
    """As scikit-learn's, whose error leaves out what the check has raised."""
    return lambda method: _AvailableIf(method, check, attribute_name=method.__name__)


def _check_goes_on(estimator: Any) -> None:
    """Raise an error that says why not, unless its parameters allow for rows as they come."""
    training = resolve_training(estimator.training)
    heads = estimator.head if isinstance(estimator.head, list | tuple) else [estimator.head]
    learned = [
        type(part).__name__
        for part in (resolve_combination(estimator.combine), resolve_policy(estimator.policy))
        if part.is_learned
    ]
    learned += ["temperatures"] if estimator.temperature_scaling else []
    needs = ""
    if training.obstacle_to_update():
        needs = training.obstacle_to_update()
    elif not all(resolve_head(head).is_neural for head in heads):
        needs = "scikit-learn heads are fitted on all rows at once"
    elif learned:
        needs = f"held-out rows are learned from by {' and '.join(learned)}"
    elif resolve_placement(estimator.exits).needs_probe:
        needs = f"{type(estimator.exits).__name__} judges places by held-out rows"
    elif estimator.early_stopping:
        needs = "early_stopping=True holds rows out"
    elif estimator.class_weight == "balanced":
        needs = "class_weight='balanced' counts the rows of each class"
    if needs:
        raise AttributeError(
            f"partial_fit makes one pass over rows as they come, and {needs}. Use fit, or other "
            "parameters."
        )


def _distinct(classes: Any) -> np.ndarray:
    """Classes in order, as they were given to partial_fit."""
    check_labels(classes, "classes")
    distinct: np.ndarray = np.unique(column_or_1d(classes))
    check_classification_targets(distinct)
    return distinct


class PartialFitMixin(BaseEarlyExit):
    """Adds `partial_fit` to a classifier."""

    classes_: np.ndarray

    @_available_if(_check_goes_on)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Continue training with one pass over these rows.

        Stages and heads go on from where `fit` or the last call has left them, at a constant
        learning rate. The thresholds are not those of the new network, so that nobody leaves early,
        unless `threshold` is given by hand, until `calibrate` is called with rows that it has not
        been trained on.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,), default=None
            None takes the labels in the items of a torch dataset.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever be seen; needed in the first call, unless `fit` came before.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : object
            On an error nothing is changed.

        Raises
        ------
        ValueError
            If labels are new, or the parameters ask for another network than the one there is.

        Notes
        -----
        The method is there only where training, heads, policy, combination and exits support
        incremental fitting. Batch normalization cannot be trained on a single sample: a call with
        one, as with the end of a stream, is normalized by the statistics of the samples before,
        which it leaves as they are.
        """
        before = dict(vars(self))
        first = not hasattr(self, "cascade_")
        try:
            with gradients():
                ending_turns(lambda: self._partial_fit(X, y, classes, sample_weight, first))
        except BaseException:
            self.__dict__ = before
            raise
        return self

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any, first: bool) -> None:
        if first and classes is None:
            raise ValueError(
                "The first call of partial_fit needs 'classes', all labels that will ever be seen. "
                "Got None."
            )
        given = self.classes_ if classes is None else _distinct(classes)
        known = given if first else self.classes_
        if not np.array_equal(given, known):
            raise ValueError(
                f"'classes' must be those of the first call, {known[:20].tolist()}. Got "
                f"{given[:20].tolist()} instead."
            )
        X, y = self._checked_rows(X, y, reset=first)
        rows = rows_of_known_classes(X, y, sample_weight, self.class_weight, known, self.dtype)
        self._update_cascade(rows, known)
        self.classes_ = known

    def _update_cascade(self, rows: Samples, classes: np.ndarray) -> None:
        first = not hasattr(self, "cascade_")
        request = self._requested_point()
        self._check_device()
        rng = check_random_state(self.random_state)
        recipe = self._recipe(rows, classes, rng, None if first else self.cascade_.dtype)
        rows = recipe.rows
        for notice in recipe.notices if first else []:
            warnings.warn(notice, UserWarning, stacklevel=5)
        placed = recipe.placement.place(recipe.plan.candidates, None)
        recipe.cost.check(len(placed.ends))
        builder = recipe.builder(placed.ends)
        n_exits = len(builder.heads)
        if n_exits > 1:
            builder.decision.combination.check(len(classes), n_exits)
        fixed = nobody(n_exits) if request is None else request.fixed_thresholds(n_exits)
        start, state = (None, {}) if first else (self._network, self._optimizer_state)
        # Every pass has a seed of its own, also where random_state is a number.
        n_before = 0 if first else self._n_updates
        seed = np.random.SeedSequence([rng.randint(MAX_SEED), n_before]).generate_state(1)[0]
        fit = builder.update(rows, int(seed % MAX_SEED), start, state)
        cascade = fit.cascade

        def costs() -> np.ndarray:
            return builder.untimed_costs(cascade, rows.X)

        cascade.decision = unlearned(builder.decision, costs, len(classes) + builder.decision.gated)
        cascade.cost_table = builder.cost_table(cascade, rows.X)
        point = CalibratedPoint(request, fixed, reason=_REASON)
        self._set_fitted(fit, builder, point, None, None)
        self.placement_report_ = placed.report
        self._n_updates = n_before + 1


_REASON = (
    "Trained on since the last calibration, if there was one; calibrate(X, y) finds thresholds."
)
