"""Validation of training samples, with encoded labels or standardized targets, and weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_y,
    check_consistent_length,
    column_or_1d,
    validate_data,
)

from skearlyexit._data._input import advice_for_text, check_range, given_dtype, plain_input
from skearlyexit._data._labels import check_labels, encode_labels
from skearlyexit._data._samples import Samples
from skearlyexit._data._sources import labels_of
from skearlyexit._data._streamed import is_streamed, rows_at, streamed
from skearlyexit._data._targets import Targets
from skearlyexit._data._weights import checked_weight, scaled
from skearlyexit._utils._interrupts import quietly


def classification_rows(
    X: Any,
    y: np.ndarray,
    sample_weight: Any,
    class_weight: dict | str | None,
    groups: Any,
    *,
    name: str,
    classes: np.ndarray | None = None,
) -> tuple[Samples, np.ndarray, np.ndarray | None]:
    """Samples for the training of a classifier, without those of weight 0.

    Parameters
    ----------
    X : ndarray or StreamedRows of shape (n_samples, ...)
    y : ndarray of shape (n_samples,)
        Labels.
    sample_weight, class_weight, groups
        Parameters of the estimators.
    name : str
        Name of the estimator, for error messages.
    classes : ndarray of shape (n_classes,) or None, default=None
        Sorted labels of the classes, if they are known. None takes the labels that occur.

    Returns
    -------
    rows : Samples
        Their weight is the product of sample weight and class weight, divided by its mean.
    classes : ndarray of shape (n_classes,)
    weight : ndarray of shape (n_samples,) or None
        Sample weights as given, for the samples of positive weight.

    Raises
    ------
    ValueError
        If labels, weights or groups do not fit, or fewer than two classes are left.
    """
    groups = None if groups is None else checked_groups(groups, X)
    check_classification_targets(y)
    if classes is None:
        classes, encoded = np.unique(y, return_inverse=True)
    else:
        encoded = encode_labels(y, X, classes)
    weight = None if sample_weight is None else checked_weight(sample_weight, X)
    index = None
    if weight is not None and not (weight > 0).all():
        used = weight > 0
        index = np.flatnonzero(used)
        X, y, encoded, weight = rows_at(X, used), y[used], encoded[used], weight[used]
        groups = None if groups is None else groups[used]
    if len(np.unique(encoded)) < 2:
        raise ValueError(
            f"{name} needs samples of at least two classes; got {len(np.unique(encoded))} class."
        )
    training_weight = _training_weight(weight, class_weight, y)
    if training_weight is not None:
        training_weight = training_weight / training_weight.mean()
    return Samples(X, encoded, training_weight, groups, index=index), classes, weight


def regression_rows(
    X: Any,
    y: np.ndarray,
    sample_weight: Any,
    groups: Any,
    targets: Targets | None = None,
    make: Callable[[np.ndarray], Targets] = Targets.of,
) -> tuple[Samples, Targets, np.ndarray | None]:
    """Samples for the training of a regressor, without those of weight 0.

    Parameters
    ----------
    X : ndarray or StreamedRows of shape (n_samples, ...)
    y : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Targets.
    sample_weight, groups
        Parameters of the estimators.
    targets : Targets or None, default=None
        Mean and scale of the targets, if they are known. None computes them.
    make : callable, default=Targets.of
        Computes them from the targets of the samples of positive weight.

    Returns
    -------
    rows : Samples
        Their weight is the sample weight, divided by its mean.
    targets : Targets
    weight : ndarray of shape (n_samples,) or None
        Sample weights as given, for the samples of positive weight.

    Raises
    ------
    ValueError
        If targets, weights or groups do not fit.
    """
    groups = None if groups is None else checked_groups(groups, X)
    weight = None if sample_weight is None else checked_weight(sample_weight, X)
    index = None
    if weight is not None:
        used = weight > 0
        if not used.any():
            raise ValueError("All samples have weight 0; there is nothing to learn from.")
        if not used.all():
            index = np.flatnonzero(used)
            X, y, weight = rows_at(X, used), y[used], weight[used]
            groups = None if groups is None else groups[used]
    relative = _training_weight(weight, None, y)
    if relative is not None:
        relative = relative / relative.mean()
    found = make(y) if targets is None else targets
    rows = Samples(X, found.standardized(y), relative, groups, index=index)
    return rows, found, weight


def rows_of_known_classes(
    X: Any,
    y: np.ndarray,
    sample_weight: Any,
    class_weight: dict | str | None,
    classes: np.ndarray,
    dtype: str,
) -> Samples:
    """Samples of some of the known classes for further training, without those of weight 0.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
    y : ndarray of shape (n_samples,)
        Labels.
    sample_weight, class_weight
        Parameters of the estimators.
    classes : ndarray of shape (n_classes,)
        Sorted labels of all classes, at least two.
    dtype : {"float32", "float64"}
        Precision of the network, and thus of the weights.

    Returns
    -------
    rows : Samples

    Raises
    ------
    ValueError
        If labels or weights do not fit, all weights are 0, or the dtype cannot hold the weights,
        which are not normalized.
    """
    if len(classes) < 2:
        raise ValueError(f"At least two classes are needed; got {len(classes)}.")
    encoded = encode_labels(y, X, classes)
    weight = None if sample_weight is None else checked_weight(sample_weight, X)
    if class_weight is not None:
        # For all classes, whether these samples contain them or not.
        by_class = _training_weight(None, class_weight, classes)
        assert by_class is not None
        own = by_class[encoded]
        given = weight
        weight = own if given is None else quietly(lambda: own * given, "over", "under")
    if weight is None:
        return Samples(X, encoded)
    return _weighted_rows(X, encoded, weight, dtype)


def rows_of_known_targets(
    X: Any, y: np.ndarray, sample_weight: Any, targets: Targets | None, dtype: str
) -> tuple[Samples, Targets]:
    """Samples for further training of a regressor, without those of weight 0.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
    y : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Targets.
    sample_weight
        Parameter of the estimators.
    targets : Targets or None
        Mean and scale of the targets. None computes them.
    dtype : {"float32", "float64"}
        Precision of the network, and thus of the weights.

    Returns
    -------
    rows : Samples
    targets : Targets

    Raises
    ------
    ValueError
        As in `rows_of_known_classes`.
    """
    rows = Samples(X, y)
    if sample_weight is not None:
        rows = _weighted_rows(X, y, checked_weight(sample_weight, X), dtype)
    found = Targets.of(rows.y) if targets is None else targets
    return replace(rows, y=found.standardized(rows.y)), found


def _weighted_rows(X: Any, y: np.ndarray, weight: np.ndarray, dtype: str) -> Samples:
    """Samples of positive weight, whose weights are not normalized."""
    used = weight > 0
    if not used.any():
        raise ValueError("All samples have weight 0; there is nothing to learn from.")
    holds, largest = np.finfo(dtype), weight.max()
    if not holds.tiny <= largest <= holds.max:
        raise ValueError(
            f"The weights of partial_fit are not normalized, and {dtype} cannot hold the largest, "
            f"{largest:g}. Divide them by their mean."
        )
    return Samples(rows_at(X, used), y[used], weight[used], index=np.flatnonzero(used))


def _training_weight(
    weight: np.ndarray | None, class_weight: dict | str | None, y: np.ndarray
) -> np.ndarray | None:
    """Product of sample weights and class weights, scaled."""
    if class_weight is None:
        return weight if weight is None else scaled(weight)
    by_class = compute_sample_weight(class_weight, y)
    if not (np.isfinite(by_class) & (by_class >= 0)).all() or not (by_class > 0).any():
        raise ValueError(
            "The 'class_weight' parameter must be finite, must not be negative, nor 0 for all "
            "classes. Got "
            f"{class_weight!r} instead."
        )
    return np.asarray(by_class if weight is None else scaled(by_class) * scaled(weight))


def labeled_rows(
    estimator: Any, X: Any, y: Any, *, reset: bool, numeric: bool
) -> tuple[Any, np.ndarray]:
    """Validate training samples and their labels or targets.

    Parameters
    ----------
    estimator : object
        Estimator that is fitted; its `n_features_in_` is set.
    X : array-like, sparse matrix, memmap or Dataset of shape (n_samples, ...)
    y : array-like of shape (n_samples,) or None
        None uses the labels in the items of a Dataset.
    reset : bool
        Whether to set the number of features of the estimator, rather than to check it.
    numeric : bool
        Whether y holds targets, which are numbers, rather than labels.

    Returns
    -------
    X : ndarray or StreamedRows of shape (n_samples, ...)
        StreamedRows if the samples are read as needed.
    y : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Of several columns only if `numeric` is True.
    """
    options = {"multi_output": True, "y_numeric": True} if numeric else {}
    if is_streamed(X):
        rows = streamed(X, estimator.dtype)
        y = labels_of(X, y)
        _, y = validate_data(estimator, rows, y, reset=reset, skip_check_array=True)
        if not numeric:
            check_labels(y)
        y = _check_y(y, estimator=estimator, **options)
        check_consistent_length(rows, y)
        return rows, y
    if y is not None and not numeric:
        check_labels(y)
    X = plain_input(X)
    dtype = np.dtype(given_dtype(X, estimator.dtype))
    # Values that the dtype cannot hold become infinite, for which an error is raised.
    validate = partial(
        validate_data, estimator, X, y, reset=reset, dtype=dtype, allow_nd=True, **options
    )
    X, y = _numbers(validate, X)
    check_range(X, estimator.dtype)
    return X, y


def further_rows(estimator: Any, X: Any, row_shape: tuple[int, ...], name: str = "X") -> Any:
    """Validate samples for a fitted estimator.

    Parameters
    ----------
    estimator : object
    X : array-like, sparse matrix, memmap or Dataset of shape (n_samples, ...)
    row_shape : tuple of int
        Shape of the samples that the estimator was fitted on.
    name : str, default="X"
        Name of the argument, for error messages.

    Returns
    -------
    X : ndarray or StreamedRows of shape (n_samples, ...)
        StreamedRows if the samples are read as needed.
    """
    if is_streamed(X):
        rows = streamed(X, estimator.dtype, name)
        validate_data(estimator, rows, reset=False, skip_check_array=True)
        check_row_shape(estimator, rows, row_shape, name)
        return rows
    X = plain_input(X, name)
    shape = getattr(X, "shape", None)
    if isinstance(shape, tuple) and max(len(shape) - 1, len(row_shape)) > 1:
        # Before scikit-learn checks the number of features, which images do not have.
        check_row_shape(estimator, X, row_shape, name)
    dtype = np.dtype(given_dtype(X, estimator.dtype))
    validate = partial(validate_data, estimator, X, reset=False, dtype=dtype, allow_nd=True)
    X = _numbers(validate, X, name)
    check_range(X, estimator.dtype, name)
    check_row_shape(estimator, X, row_shape, name)
    return X


def _numbers(validate: Callable[[], Any], X: Any, name: str = "X") -> Any:
    """Result of a validation, whose error for text in X says what to do."""
    try:
        return quietly(validate, "over", "invalid")
    except ValueError as error:
        advice = advice_for_text(X, name) if "could not convert string" in str(error) else ""
        if not advice:
            raise
        raise ValueError(f"{error}. {advice}") from error


def check_row_shape(estimator: Any, X: Any, row_shape: tuple[int, ...], name: str = "X") -> None:
    """Raise a ValueError unless samples have the shape of those that an estimator was fitted on."""
    if X.shape[1:] != row_shape:
        raise ValueError(
            f"{name} has samples of shape {X.shape[1:]}, but {type(estimator).__name__} was fitted "
            f"on samples of shape {row_shape}."
        )


def checked_groups(groups: Any, X: Any) -> np.ndarray:
    """Check that there is a group for each of the samples, and return the groups as an array."""
    check_labels(groups, "groups")
    found: np.ndarray = column_or_1d(groups, input_name="groups")
    check_consistent_length(X, found)
    missing = np.isnan(found) if found.dtype.kind == "f" else np.zeros(len(found), dtype=bool)
    if missing.any():
        raise ValueError(
            f"Input groups contains NaN or None: entry {int(missing.argmax())} is nan. Give every "
            "sample a group."
        )
    return found
