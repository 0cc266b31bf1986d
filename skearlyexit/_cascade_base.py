"""Base class of cascades of estimators: what does not depend on what is predicted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.ensemble._base import _BaseHeterogeneousEnsemble
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import validate_data

from skearlyexit._base import BaseEarlyExit
from skearlyexit._cascade._cascade import Cascade, FittedNetwork
from skearlyexit._cascade._chain import FittedChain
from skearlyexit._data._given import GivenRows, given_rows
from skearlyexit._data._input import check_not_masked
from skearlyexit._data._samples import Samples
from skearlyexit._fitting._chain_columns import chosen_columns
from skearlyexit._fitting._chain_fit import fit_chain
from skearlyexit._fitting._chain_fitter import ChainFitter
from skearlyexit._onnx._graph import ExportError
from skearlyexit._task._base import Task
from skearlyexit._utils._interrupts import quietly
from skearlyexit.calibration import Budget
from skearlyexit.combination import Combination
from skearlyexit.combination._registry import COMBINATIONS
from skearlyexit.costs import Cost
from skearlyexit.costs._registry import COSTS
from skearlyexit.runtime._onnx import write
from skearlyexit.runtime._onnx_chain import as_network
from skearlyexit.runtime._predictor import Predictor, onnx_predictor, own_predictor
from skearlyexit.runtime._row_format import GivenFormat, RowFormat


class BaseCascade(BaseEarlyExit, _BaseHeterogeneousEnsemble):
    """Base class of estimators in a row, each of which is an exit."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseEarlyExit._parameter_constraints,
        "estimators": [list],
        "combine": [StrOptions(set(COMBINATIONS) - {"trained"}), Combination, None],
        "cost": [StrOptions(set(COSTS)), Cost, "array-like"],
        "columns": [dict, None],
        "feature_costs": ["array-like", dict, None],
        "batch_invariant": ["boolean"],
        "runtime": [StrOptions({"sklearn", "onnx"})],
    }

    estimators: list[tuple[str, Any]]
    columns: dict[str, Any] | None
    n_jobs: int | None
    verbose: bool
    batch_invariant: bool
    cascade_: Cascade[FittedChain]
    _own_runtime: ClassVar[str] = "sklearn"

    @property
    def estimators_(self) -> list[Any]:
        """Fitted estimators."""
        return [each.model for each in self.cascade_.network.links]

    def to_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        single_sample: bool = False,
    ) -> None:
        """Export the fitted cascade to a single file in the ONNX format, if its X are numbers.

        The file runs in any ONNX runtime, and `OnnxCascade` predicts from it, as from one of
        `EarlyExitClassifier.to_onnx`, where its inputs and outputs are described. The estimators
        are converted by ``skl2onnx``. Samples are in single precision. The probabilities, or
        values, predicted for those with missing values are NaN, also if the estimators support
        them; their labels have no meaning.

        Parameters
        ----------
        path : str or path-like
            Path of the file, which is replaced.
        threshold : float or sequence of float, default=None
            Thresholds to store as the default, instead of `thresholds_`.
        budget : float or Budget, default=None
            Maximum mean cost per sample for which thresholds are stored as the default, as in
            `predict`. It must not be strict.
        single_sample : bool, default=False
            Whether the file is for one sample at a time. Its thresholds are then fixed, and there
            is no input for them. Small networks take considerably less time.

        Raises
        ------
        ExportError
            If a part cannot be converted, with the reason. It is a ValueError. Parts of an ensemble
            and estimators that see what others predict are not converted, nor regressors that
            predict values whose mean is more than about 1,000 times their standard deviation.
        FileNotFoundError
            If the folder does not exist, or `path` is a folder or a device.
        ImportError
            If the packages of ``skearlyexit[onnx]`` are not installed.
        ValueError
            If an argument is invalid.
        """
        point = self._point(threshold, budget)
        write(self, *self._convertible(), point, path, single_sample=single_sample)

    def to_predictor(
        self,
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
    ) -> Predictor:
        """Return an object for fast predictions of single samples and small batches.

        It predicts the same as `predict`, at an operating point that is determined here, without
        the validation of scikit-learn, but for that of the estimators. Later changes of the cascade
        do not change it. With ``runtime="onnx"``, a graph for single samples at this operating
        point is compiled, besides that of `predict` for batches, and holds the estimators once
        more.

        Parameters
        ----------
        threshold : float or sequence of float, default=None
            Thresholds, as in `predict`.
        budget : float or Budget, default=None
            Maximum mean cost per sample, as in `predict`.

        Returns
        -------
        predictor : Predictor
            Object with the method `predict`, and `predict_proba` of a classifier. It is executed by
            `runtime`, and with ``runtime="sklearn"`` contains copies of the estimators, which are
            given samples as they are.

        Raises
        ------
        ExportError
            If a part cannot be converted for ``runtime="onnx"``. It is a ValueError.
        ValueError
            If an argument is invalid.
        """
        point = self._point(threshold, budget)
        given = self._row_format()
        if self._in_onnx:
            sessions, row_shape = self._sessions(point), self._row_shape()
            row_format = RowFormat(row_shape, np.dtype(np.float32), given.feature_names)
            return onnx_predictor(sessions, self.costs_, self._task, point, row_format)
        return own_predictor(self.cascade_, self._task, point, given)

    def _row_format(self) -> GivenFormat:
        names = getattr(self, "feature_names_in_", np.empty(0, dtype=object)).tolist() or None
        return GivenFormat(getattr(self, "n_features_in_", None), names)

    def _convertible(self) -> tuple[FittedNetwork, tuple[int, ...]]:
        row_shape = self._row_shape()
        return as_network(self.cascade_.network, self.exit_names_, *row_shape), row_shape

    def _row_shape(self) -> tuple[int]:
        """Shape of a sample in ONNX."""
        n_features = getattr(self, "n_features_in_", None)
        if n_features is None:
            raise ExportError(
                "The cascade cannot be converted to ONNX, since it was fitted on samples without "
                "columns, such as texts. Fit it on an array or a data frame of numbers."
            )
        return (n_features,)

    def _chain_fitter(
        self, names: list[str], estimators: list[Any], samples: Samples, task: Task
    ) -> ChainFitter:
        """Fitter of the estimators in use."""
        every = [name for name, _ in self.estimators]
        return ChainFitter(
            names,
            estimators,
            chosen_columns(self.columns, names, every, samples.X),
            task,
            self.n_jobs,
            bool(self.verbose),
            self.batch_invariant,
            type(self).__name__,
        )

    def _fit_chain(self, fitter: ChainFitter, samples: Samples, weight: np.ndarray | None) -> None:
        """Fit the estimators to samples, and set the fitted attributes."""
        model = fit_chain(self, fitter, samples, weight)
        self._set_fitted(model, fitter.task, fitter.names, _candidates=None)

    def _estimators_in_use(self) -> tuple[list[str], list[Any]]:
        """Names and estimators, without those that were dropped."""
        pairs = [
            (name, each)
            for name, each in zip(*self._validate_estimators(), strict=True)
            if each != "drop"
        ]
        return [name for name, _ in pairs], [each for _, each in pairs]

    def _given(self, X: Any, y: Any) -> GivenRows:
        """Training samples as they are given."""
        rows = given_rows(X)
        for name in ("n_features_in_", "feature_names_in_"):
            # Of a fit before. Samples without a second axis do not set them.
            self.__dict__.pop(name, None)
        validate_data(self, X, y, skip_check_array=True)
        if self._in_onnx:
            self._row_shape()
            self._validate_dense(X)  # an error before training
        return rows

    def _validate_rows(self, X: Any) -> GivenRows:
        """Samples as they are given, whose features are those of `fit`."""
        if getattr(X, "ndim", 2) == 1 and hasattr(self, "n_features_in_"):
            raise ValueError(
                f"Expected 2D array, got 1D array instead, of {len(X)} values. Reshape your data "
                "with X.reshape(1, -1) if it is a single sample."
            )
        rows = given_rows(X)
        validate_data(self, X, reset=False, skip_check_array=True)
        return rows

    def _validate_dense(self, X: Any) -> np.ndarray:
        """Samples as ONNX Runtime is given them, in single precision."""
        check_not_masked(X, "X")
        return quietly(
            lambda: validate_data(self, X, reset=False, dtype=np.float32, order="C"), "over"
        )
