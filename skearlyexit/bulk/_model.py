"""What is asked of a model for each batch of a large set of samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from skearlyexit.bulk._checks import check_options
from skearlyexit.bulk._columns import Columns, chosen_columns, samples_of
from skearlyexit.bulk._fitted import ExportedModel, FittedEstimator, fitted_of


@dataclass(frozen=True)
class Request:
    """A model, and what its predictions are to contain. It can be pickled.

    Attributes
    ----------
    model : FittedEstimator or ExportedModel
        Fitted model.
    thresholds : ndarray of shape (n_exits - 1,)
        Thresholds in use.
    columns : str, list of str or None
        Columns that hold the samples; see `chosen_columns`.
    keep : "all" or list of str
        Columns of the input that are columns of the output, too.
    return_proba : bool
        Whether there are columns with probabilities.
    """

    model: FittedEstimator | ExportedModel
    thresholds: np.ndarray
    columns: Columns | None
    keep: str | list[str]
    return_proba: bool

    @classmethod
    def made(
        cls,
        model: Any,
        *,
        threshold: Any,
        budget: Any,
        columns: str | Sequence[str] | None,
        keep: str | Sequence[str],
        return_proba: bool,
        num_cpus: float,
        caller: str,
        **options: Any,
    ) -> Self:
        """Check the arguments of the user.

        Parameters
        ----------
        model, threshold, budget, columns, keep, return_proba, num_cpus
            Arguments of `predict_dataset`.
        caller : str
            Name of the function of the user, for error messages.
        **options : dict
            Further options of this function by name, which are only checked.

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid, or a budget is strict.
        """
        check_options(caller, return_proba=return_proba, num_cpus=num_cpus, **options)
        fitted = fitted_of(model, n_threads(num_cpus))
        thresholds = fitted.thresholds(threshold, budget)
        if return_proba and fitted.classes is None:
            raise ValueError(
                "'return_proba' must be False for a regressor, which predicts no probabilities."
            )
        if isinstance(keep, str) and keep != "all":
            raise ValueError(f"'keep' must be a list of names of columns or 'all'; got {keep!r}.")
        return cls(
            fitted,
            thresholds,
            columns if columns is None or isinstance(columns, str) else list(columns),
            keep if isinstance(keep, str) else list(keep),
            return_proba,
        )

    def of_columns(self, available: Sequence[str]) -> tuple[Columns, list[str]]:
        """Columns of a table that hold the samples, and those to keep.

        Raises
        ------
        ValueError
            If there are no such columns, or predictions have names of columns to keep.
        """
        keep = list(available) if self.keep == "all" else list(self.keep)
        missing = [name for name in keep if name not in available]
        if missing:
            raise ValueError(
                f"The columns {missing[:20]}, which 'keep' names, are missing. There are "
                f"{list(available)[:20]}."
            )
        taken = [name for name in keep if self._is_taken(name)]
        if taken:
            raise ValueError(
                f"The columns {taken[:20]} have names that columns of predictions have, too. "
                "Rename them, or give 'keep' without them."
            )
        names, n_features = self.model.feature_names, self.model.n_features
        return chosen_columns(self.columns, available, names, n_features), keep

    def _is_taken(self, name: str) -> bool:
        """Whether a column of predictions has, or for several targets can have, this name."""
        classes = self.model.classes
        if classes is None:
            return re.fullmatch(r"exit|prediction(_\d+)?", name) is not None
        labels = classes if self.return_proba else ()
        return name in {"prediction", "exit", *(f"probability_{label}" for label in labels)}

    def read_columns(self, available: Sequence[str]) -> list[str]:
        """Columns that have to be read."""
        columns, keep = self.of_columns(available)
        wanted = {columns} if isinstance(columns, str) else set(columns)
        return [name for name in available if name in wanted.union(keep)]

    def of_table(self, table: Any) -> Any:
        """Predictions for the samples in a table of pyarrow, as such a table.

        Raises
        ------
        ValueError
            If the table lacks columns, or predictions have names of columns to keep.
        """
        columns, keep = self.of_columns(table.column_names)
        as_frame = self.model.feature_names is not None
        predictions = self.of_samples(samples_of(table, columns, as_frame=as_frame))
        for name in reversed(keep):
            predictions = predictions.add_column(0, table.schema.field(name), table[name])
        return predictions

    def of_samples(self, X: Any) -> Any:
        """Predictions for samples, as a table of pyarrow."""
        import pyarrow

        found = self.model.answers(X, self.thresholds, with_probabilities=self.return_proba)
        columns = _named("prediction", found.labels, range(found.labels.shape[-1]))
        columns["exit"] = found.exits
        if found.probabilities is not None:
            columns |= _named("probability", found.probabilities, self.model.classes)
        return pyarrow.table(
            {name: pyarrow.array(np.ascontiguousarray(each)) for name, each in columns.items()}
        )


def n_threads(num_cpus: float) -> int:
    """Number of threads of a process that is granted so many processors."""
    return max(1, int(num_cpus))


def _named(name: str, values: np.ndarray, parts: Any) -> dict[str, np.ndarray]:
    """Columns of an array by name. If there are several, that of the part follows."""
    if values.ndim == 1:
        return {name: values}
    return {f"{name}_{part}": column for part, column in zip(parts, values.T, strict=True)}
