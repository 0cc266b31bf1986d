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
            With status 422 if they are not valid for the model.
        """
        try:
            rows = self.row_format.checked(self._transformed(self._table(given)))
        except INVALID as error:
            raise RequestError(422, f"The samples are not valid: {error}") from None
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
    advice = "Give each sample as numbers, in lists of equal lengths."
    try:
        found = np.asarray(instances)
    except (ValueError, OverflowError):
        raise ValueError(f"the instances have different shapes. {advice}") from None
    if found.dtype.kind not in "biuf":
        shown = repr(found.flat[0])[:50] if found.size else "none"
        raise ValueError(f"the instances must be numbers; the first value is {shown}. {advice}")
    return found


def _frame(instances: list[Any], names: list[str]) -> Any:
    """Data frame of instances that are objects with the features as keys."""
    for i, each in enumerate(instances):
        if not isinstance(each, dict) or each.keys() != set(names):
            got = list(each)[:20] if isinstance(each, dict) else type(each).__name__
            raise ValueError(f"instances[{i}] must have the features {names[:20]}. Got {got}.")
    pd = import_pandas("A model that was fitted on a data frame")
    return pd.DataFrame(instances, columns=names)
