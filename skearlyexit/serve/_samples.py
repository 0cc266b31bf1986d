"""From what a request contains to samples of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skearlyexit._utils._frames import import_pandas
from skearlyexit.runtime._part import OnTheWay
from skearlyexit.runtime._row_format import GivenFormat, RowFormat
from skearlyexit.serve._errors import INVALID, RequestError

ADVICE = "Give each sample as numbers, in lists of equal lengths."
#: Of arrays in JSON. All versions of NumPy support as many.
MOST_AXES = 32


@dataclass(frozen=True)
class SampleFormat:
    """What the samples of a model are.

    Attributes
    ----------
    row_format : RowFormat or GivenFormat
        Shape and precision of the samples of the model.
    transformers : sequence of transformers
        Steps of a pipeline before the model.
    feature_names : list of str or None
        Names of the features of a request, if there are any.
    """

    row_format: RowFormat | GivenFormat
    transformers: Sequence[Any]
    feature_names: list[str] | None

    def samples(self, given: np.ndarray | list[Any]) -> OnTheWay:
        """Samples before the first exit.

        Parameters
        ----------
        given : ndarray or list
            Array of numbers, or values of JSON.

        Raises
        ------
        RequestError
            With status 422 if they are not valid for the model, and 413 if there is not enough
            memory for them.
        """
        try:
            rows = self.row_format.checked(self._transformed(self._table(given)))
        except INVALID as error:
            raise RequestError(422, f"The samples are not valid: {error}") from None
        except MemoryError:
            raise RequestError(
                413, "There is not enough memory for the samples. Send fewer in a request."
            ) from None
        return OnTheWay(len(rows), getattr(rows, "content", rows))

    def _table(self, given: np.ndarray | list[Any]) -> Any:
        """Samples as an array, a data frame, or, if they have no features, the list itself."""
        names = self.feature_names
        if isinstance(given, list):
            if isinstance(given[0], dict) and names is not None:
                return _frame(given, names)
            if self._has_no_features():
                return given
            given = _numbers(given)
        if names is not None and given.ndim == 2 and given.shape[1] == len(names):
            pd = import_pandas("A model that was fitted on a data frame")
            return pd.DataFrame(given, columns=names)
        return given

    def _has_no_features(self) -> bool:
        """Whether samples are given to an estimator as they are, such as texts."""
        first = self.transformers[0] if self.transformers else None
        if first is not None:
            return not hasattr(first, "n_features_in_")
        return isinstance(self.row_format, GivenFormat) and self.row_format.n_features is None

    def _transformed(self, table: Any) -> Any:
        for step in self.transformers:
            table = step.transform(table)
        return table


def _numbers(instances: list[Any]) -> np.ndarray:
    """Values of JSON as an array of numbers."""
    # Before NumPy sees them: one long text would make all values of an array as long.
    _check_numbers(instances, "instances")
    try:
        return np.asarray(instances)
    except ValueError:
        raise ValueError(f"the instances have different shapes. {ADVICE}") from None


def _check_numbers(values: list[Any], position: str, n_axes: int = 1) -> None:
    """Raise a ValueError, with the position, for the first value that is no number."""
    types = set(map(type, values))
    if types == {list}:
        if n_axes == MOST_AXES:
            raise ValueError(f"the instances have more than {MOST_AXES} axes. {ADVICE}")
        for i, each in enumerate(values):
            _check_numbers(each, f"{position}[{i}]", n_axes + 1)
        return
    if list in types:
        raise ValueError(f"the instances have different shapes, in {position}. {ADVICE}")
    # The loop below is slow.
    if types <= {bool, float} or (
        types <= {bool, int, float} and min(values) >= -(2**63) and max(values) < 2**63
    ):
        return
    for i, value in enumerate(values):
        if not isinstance(value, int | float):
            found = repr(value) if value is None else f"{type(value).__name__} {_short(value)}"
            raise ValueError(f"the instances must be numbers; {position}[{i}] is {found}. {ADVICE}")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(
                f"the instances must be numbers of 64 bits; {position}[{i}] is {_short(value)}. "
                "Write larger numbers with an exponent, such as 1e30."
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 50 else f"{text[:50]}..."


def _frame(instances: list[Any], names: list[str]) -> Any:
    """Data frame of instances that are objects with the features as keys."""
    for i, each in enumerate(instances):
        if not isinstance(each, dict) or each.keys() != set(names):
            got = list(each)[:20] if isinstance(each, dict) else type(each).__name__
            raise ValueError(f"instances[{i}] must have the features {names[:20]}. Got {got}.")
    pd = import_pandas("A model that was fitted on a data frame")
    return pd.DataFrame(instances, columns=names)
