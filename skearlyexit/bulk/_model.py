"""What is asked of a model for each batch of a large set of samples."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from skearlyexit._utils._unwrap import last_step, model_of
from skearlyexit.bulk._columns import Columns, chosen_columns, samples_of
from skearlyexit.runtime._onnx_cascade import OnnxCascade


@dataclass(frozen=True)
class Request:
    """A model, and what its predictions are to contain. It can be pickled.

    Attributes
    ----------
    model : estimator, Pipeline or OnnxCascade
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

    model: Any
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
    ) -> Self:
        """Check the arguments of the user.

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid, or a budget is strict.
        """
        if isinstance(model, str | os.PathLike):
            # A worker may be in another folder.
            model = OnnxCascade(os.path.abspath(model), n_threads=n_threads(num_cpus))
        thresholds = _thresholds(model, threshold, budget)
        if return_proba and not hasattr(model, "classes_"):
            raise ValueError(
                "'return_proba' must be False for a regressor, which predicts no probabilities."
            )
        if isinstance(keep, str) and keep != "all":
            raise ValueError(f"'keep' must be a list of names of columns or 'all'; got {keep!r}.")
        return cls(
            model,
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
        names, n_features = _features(self.model)
        return chosen_columns(self.columns, available, names, n_features), keep

    def _is_taken(self, name: str) -> bool:
        """Whether a column of predictions has, or for several targets can have, this name."""
        if not hasattr(self.model, "classes_"):
            return re.fullmatch(r"exit|prediction(_\d+)?", name) is not None
        labels = self.model.classes_ if self.return_proba else ()
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
        names, _ = _features(self.model)
        predictions = self.of_samples(samples_of(table, columns, as_frame=names is not None))
        for name in reversed(keep):
            predictions = predictions.add_column(0, table.schema.field(name), table[name])
        return predictions

    def of_samples(self, X: Any) -> Any:
        """Predictions for samples, as a table of pyarrow."""
        import pyarrow

        predicted, exits, probabilities = self._answers(X)
        columns = _named("prediction", predicted, range(predicted.shape[-1])) | {"exit": exits}
        if probabilities is not None:
            columns |= _named("probability", probabilities, self.model.classes_)
        return pyarrow.table(
            {name: pyarrow.array(np.ascontiguousarray(each)) for name, each in columns.items()}
        )

    def _answers(self, X: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Predictions, exits and, if they are asked for, probabilities."""
        asked = {"with_probabilities": self.return_proba}
        if isinstance(self.model, OnnxCascade):
            answers = self.model._run(X, self.thresholds, None, **asked)
            return self.model._decoded(answers.labels), answers.exits, answers.probabilities
        model, rows = last_step(self.model, X)
        answers = model._run(rows, model._point(self.thresholds, None), **asked)
        return model._task.decoded(answers.labels), answers.exits, answers.probabilities


def n_threads(num_cpus: float) -> int:
    """Number of threads of a process that is granted so many processors."""
    return max(1, int(num_cpus))


def _named(name: str, values: np.ndarray, parts: Any) -> dict[str, np.ndarray]:
    """Columns of an array by name. If there are several, that of the part follows."""
    if values.ndim == 1:
        return {name: values}
    return {f"{name}_{part}": column for part, column in zip(parts, values.T, strict=True)}


def _thresholds(model: Any, threshold: Any, budget: Any) -> np.ndarray:
    """Thresholds for the arguments of a prediction, the same for all batches."""
    if isinstance(model, OnnxCascade):
        return model._thresholds(threshold, budget)
    last = model_of(model)
    point = last._point(threshold, budget)
    if point.strict_budget is not None:
        raise ValueError(
            "A strict budget is kept on the samples of one call, and the samples are predicted in "
            "many calls here. Give a budget that is not strict, or a threshold."
        )
    device = getattr(last.cascade_.network, "device", "cpu")
    if device != "cpu":
        raise ValueError(
            f"The model computes on the device {device!r}, and workers are given processors only. "
            "Fit it with device='cpu', or export it with to_onnx and give the path of the file."
        )
    return point.thresholds


def _features(model: Any) -> tuple[list[str] | None, int | None]:
    """Names and number of the features in the fit, as far as there are any."""
    if isinstance(model, OnnxCascade):
        return model.metadata_["feature_names"], model.metadata_["row_shape"][0]
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else list(names), getattr(model, "n_features_in_", None)
