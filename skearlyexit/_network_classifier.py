"""What is asked of neural network classifiers, besides what is asked of any network with exits."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from skearlyexit._base_classifier import BaseExitClassifier
from skearlyexit._data._encode import classification_rows, rows_of_known_classes
from skearlyexit._data._labels import check_labels
from skearlyexit._data._samples import Samples
from skearlyexit._fitting._partial_fit import check_goes_on
from skearlyexit._network_base import BaseEarlyExitNetwork
from skearlyexit._task._base import Task
from skearlyexit._task._classification import Classification
from skearlyexit._utils._available_if import available_if
from skearlyexit.policies import Policy
from skearlyexit.policies._registry import POLICIES
from skearlyexit.routing import ExitRouter
from skearlyexit.training import MultiExitNetwork
from skearlyexit.training._criterion import CLASSIFICATION_LOSSES


class BaseNetworkClassifier(BaseExitClassifier, BaseEarlyExitNetwork):
    """Base class of neural network classifiers with exits: how they are fitted."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseEarlyExitNetwork._parameter_constraints,
        "loss": [StrOptions(set(CLASSIFICATION_LOSSES))],
        "policy": [StrOptions(set(POLICIES)), Policy, None],
        "temperature_scaling": ["boolean"],
        "router": [ExitRouter, None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    def _training_samples(
        self, X: Any, y: np.ndarray, sample_weight: Any, groups: Any
    ) -> tuple[Samples, Task, np.ndarray | None]:
        samples, classes, weight = classification_rows(
            X, y, sample_weight, self.class_weight, groups, name=type(self).__name__
        )
        return samples, Classification(classes), weight

    def _start(self, task: Any) -> MultiExitNetwork | None:
        if self._goes_on and not np.array_equal(task.classes, self._task.classes):
            raise ValueError(
                "With warm_start=True, y must hold the classes of the previous fit, "
                f"{self._task.classes[:20].tolist()}. Got {task.classes[:20].tolist()}."
            )
        return super()._start(task)

    @available_if(check_goes_on)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Train for one pass over the given samples.

        Training continues from the weights of `fit` or of the previous call, at a constant learning
        rate, which is `lr`, or a tenth of it after a fit: its weights are means over many steps,
        and large steps would make them less accurate. If the further samples are more than those of
        the fit, or follow another distribution, set `lr` ten times as high before. Thresholds
        calibrated before are discarded, since the network has changed: unless the parameter
        `threshold` is set, no sample exits early until `calibrate` is called with samples that the
        network has not been trained on.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Training samples.
        y : array-like of shape (n_samples,), default=None
            Labels. May be None only if X is a torch Dataset whose items are pairs of a sample and
            its label.
        classes : array-like of shape (n_classes,), default=None
            All labels that may occur in any call. Required in the first call, unless `fit` has been
            called before; later it may be omitted.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights. Unlike in `fit` they are not divided by their mean, which would differ
            between calls. Samples of weight 0 are ignored.

        Returns
        -------
        self : object
            Trained estimator. If an error is raised, nothing is changed.

        Raises
        ------
        ValueError
            If y contains labels that are not in `classes`, the parameters describe another network
            than the fitted one, or X, y or a weight is invalid.

        Notes
        -----
        The method is available only if `training`, `head`, `policy`, `combine` and `exits` support
        incremental training, and neither `temperature_scaling`, `early_stopping` nor
        ``class_weight="balanced"`` is used.

        Batch normalization cannot be trained on a single sample. In a call with one sample, the
        running statistics are used for normalization and are not updated.
        """
        first = not hasattr(self, "cascade_")
        self._or_unchanged(lambda: self._partial_fit(X, y, classes, sample_weight, first))
        return self

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any, first: bool) -> None:
        if first and classes is None:
            raise ValueError(
                "The first call of partial_fit needs 'classes', all labels that may occur in any "
                "call. Got None."
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
        self._update(rows, Classification(known), first=first)


def _distinct(classes: Any) -> np.ndarray:
    """Sorted distinct classes of those given to `partial_fit`."""
    check_labels(classes, "classes")
    distinct: np.ndarray = np.unique(column_or_1d(classes))
    check_classification_targets(distinct)
    return distinct
