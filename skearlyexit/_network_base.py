"""Base class of estimators that fit a neural network with exits."""

from __future__ import annotations

import copy
import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from joblib import Memory
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted

from skearlyexit._base import BaseEarlyExit
from skearlyexit._cascade._cascade import FittedNetwork
from skearlyexit._data._encode import check_row_shape, further_rows, labeled_rows
from skearlyexit._data._samples import Samples
from skearlyexit._data._sources import labels_of
from skearlyexit._data._streamed import checked, in_precision
from skearlyexit._fitting._fit import FittedModel, fit_model
from skearlyexit._fitting._options import AUTO
from skearlyexit._fitting._partial_fit import UpdateState, update_model
from skearlyexit._task._base import Task
from skearlyexit._utils._interrupts import quietly
from skearlyexit._utils._resolve import resolve
from skearlyexit._utils._warnings import warn
from skearlyexit.calibration import Budget
from skearlyexit.combination import Combination
from skearlyexit.combination._registry import COMBINATIONS
from skearlyexit.costs import Cost
from skearlyexit.costs._registry import COSTS
from skearlyexit.placement import Placement, PlacementReport
from skearlyexit.runtime._onnx import write
from skearlyexit.runtime._predictor import Predictor, onnx_predictor, own_predictor
from skearlyexit.runtime._row_format import RowFormat
from skearlyexit.runtime._torch import TorchExecutor, embed, unpadded_executor
from skearlyexit.training import MultiExitNetwork, TrainingStrategy
from skearlyexit.training._options import OPTIMIZERS, SCHEDULES
from skearlyexit.training._registry import STRATEGIES, check_unlabeled
from skearlyexit.training._trainer import to_main_memory

#: Number of values up to which it is faster to check each than to add them up.
FEW_VALUES = 4096


class BaseEarlyExitNetwork(BaseEarlyExit):
    """Base class of estimators that fit a neural network with exits."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseEarlyExit._parameter_constraints,
        "backbone": "no_validation",
        "exits": [
            Interval(Integral, 1, None, closed="left"),
            "array-like",
            Placement,
            StrOptions({"auto"}),
        ],
        "head": "no_validation",
        "training": [StrOptions(set(STRATEGIES)), TrainingStrategy, None],
        "combine": [StrOptions(set(COMBINATIONS)), Combination, None],
        "cost": [StrOptions(set(COSTS)), Cost],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions({*SCHEDULES, "auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "optimizer": [StrOptions({*OPTIMIZERS, "auto"}), callable],
        "weight_decay": [Interval(Real, 0, None, closed="left"), None],
        "gradient_clipping": [Interval(Real, 0, None, closed="neither"), None],
        "weight_averaging": ["boolean"],
        "early_stopping": ["boolean", StrOptions({"auto"})],
        "validation_fraction": [Interval(RealNotInt, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "runtime": [StrOptions({"torch", "onnx"})],
        "warm_start": ["boolean"],
        "mixed_precision": ["boolean"],
        "compile": ["boolean", dict],
        "device": [str],
        "dtype": [StrOptions({"float32", "float64"})],
        "memory": [str, os.PathLike, Memory, None],
        "callbacks": [list, tuple, None],
    }

    _task_class: ClassVar[type[Task]]
    _own_runtime: ClassVar[str] = "torch"

    # Fitted attributes, besides those of the base class and of scikit-learn.
    placement_report_: PlacementReport
    history_: list[dict[str, Any]]

    # State from which `partial_fit` and `warm_start` continue.
    _network: MultiExitNetwork
    _optimizer_state: dict[str, Any]
    _n_updates: int
    _had_fit: bool
    _row_shape: tuple[int, ...]

    def __getstate__(self) -> dict[str, Any]:
        # Tensors are stored in main memory, like those of the cascade, whatever the device is.
        state = dict(super().__getstate__())
        if "cascade_" in state and state["cascade_"].network.device != "cpu":
            state["_network"] = copy.deepcopy(state["_network"]).to("cpu")
            state["_optimizer_state"] = to_main_memory(state["_optimizer_state"])
        return state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def set_params(self, **params: Any) -> Self:
        """Set the parameters of this estimator and of objects given as its parameters.

        Parameters
        ----------
        **params : dict
            Estimator parameters. ``<parameter>__<name>`` sets a parameter of the object given as
            ``<parameter>``, such as ``backbone__width``.

        Returns
        -------
        self : object
            Estimator instance.

        Raises
        ------
        ValueError
            If a parameter does not exist, or there is no object that it could be a parameter of.
        """
        own = self.get_params(deep=False)
        for key in params:
            name, nested, inner = key.partition("__")
            value = params.get(name, own.get(name))
            if nested and name in own and not hasattr(value, "set_params"):
                raise ValueError(
                    f"{key!r} sets {inner!r} of the object given as {name!r}, and that is "
                    f"{value!r}. Give an object as {name!r} first, as in "
                    f"{type(self).__name__}(backbone=MLPBackbone()) for backbone__width."
                )
        return super().set_params(**params)

    @property
    def stages_(self) -> list[torch.nn.Module]:
        """Stages of the fitted network, one for each exit.

        Their weights must not be changed, since predictions may use others that were computed from
        them, such as those of a layer merged with a normalization.
        """
        return list(self.cascade_.network.stages)

    @property
    def heads_(self) -> list[Any]:
        """Fitted head of each exit: a torch module or a scikit-learn estimator."""
        return [head.model for head in self.cascade_.network.heads]

    def embed(self, X: Any, exit: int | str = -1) -> np.ndarray:
        """Compute the pooled embeddings that are the input of the head at an exit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples, as in `predict`.
        exit : int or str, default=-1
            Index of the exit, negative to count from the last exit, or its name in `exit_names_`.

        Returns
        -------
        embeddings : ndarray of shape (n_samples, n_embedding)
            Embeddings after pooling. Their number of features depends on the exit.

        Raises
        ------
        ValueError
            If there is no such exit.
        """
        check_is_fitted(self)
        if exit in self.exit_names_:
            index = self.exit_names_.index(exit)
        elif isinstance(exit, Integral) and -self.n_exits_ <= exit < self.n_exits_:
            index = int(exit) % self.n_exits_
        else:
            raise ValueError(
                f"'exit' must be one of {self.exit_names_} or an index from {-self.n_exits_} to "
                f"{self.n_exits_ - 1}; got {exit!r}."
            )
        network = self.cascade_.network
        return embed(
            network.stages,
            {index: network.heads[index].pooling},
            self._validate_rows(X),
            device=network.device,
            dtype=network.dtype,
            row_bytes=network.row_bytes,
        )[index]

    def to_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        single_sample: bool = False,
    ) -> None:
        """Export the fitted model to a single file in the ONNX format.

        The file runs in any ONNX runtime, without this package, torch or scikit-learn. Its inputs
        are ``"X"``, samples of the shape seen in `fit` and of the precision of `dtype`, and
        ``"thresholds"``, which may be left out. Its outputs are ``"labels"`` and
        ``"probabilities"``, or ``"predictions"`` of a regressor, in the units and the shape of y,
        and ``"exits"``. Stages after the exit of a sample are not computed for it, and heads whose
        threshold is above 1 are not computed at all, unless the scores or predictions at later
        exits depend on them. A sample for which the outputs of a head are not finite exits there:
        its probabilities or predictions are NaN, and its label is arbitrary. `OnnxCascade` predicts
        from the file, and raises an error for such samples.

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
            If a part cannot be converted, with the reason. It is a ValueError. Estimators
            that ``skl2onnx`` does not support are not converted, nor policies and combinations
            with a `step` of their own, unless they define the method `onnx`.
        FileNotFoundError
            If the folder does not exist, or `path` is a folder or a device.
        ImportError
            If the packages of ``skearlyexit[onnx]`` are not installed.
        ValueError
            If an argument is invalid.

        Notes
        -----
        Stages, neural heads and gates are converted by torch, other heads and the estimators of
        policies by ``skl2onnx``. Their results are compared on random samples. Probabilities and
        values are the same up to rounding in single precision. Probabilities of scikit-learn heads
        that differ from 1 by less than 6e-8 become 1, so that exits may differ at thresholds this
        close to 1. scikit-learn heads that predict values whose mean is more than about 1,000 times
        their standard deviation are not converted.

        While torch converts modules, it changes the state of the process: no other thread should
        use torch.
        """
        point = self._point(threshold, budget)
        write(self, *self._convertible(), point, path, single_sample=single_sample)

    def to_predictor(
        self,
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        batch_invariant: bool | None = None,
    ) -> Predictor:
        """Return an object for fast predictions of single samples and small batches.

        It predicts the same as `predict`, at an operating point that is determined here, without
        the validation of scikit-learn. Later changes of the estimator do not change it. With
        ``runtime="onnx"``, a graph for single samples at this operating point is compiled, besides
        that of `predict` for batches, and holds the weights once more.

        Parameters
        ----------
        threshold : float or sequence of float, default=None
            Thresholds, as in `predict`.
        budget : float or Budget, default=None
            Maximum mean cost per sample, as in `predict`.
        batch_invariant : bool, default=None
            Whether the result for a sample is bitwise the same in any batch. If False, batches are
            not padded, which takes less time. Probabilities may then differ in the last digits
            between batches, and labels and exits where two probabilities, or a score and a
            threshold, differ by no more than that. scikit-learn heads are called as in `predict`.
            Stages of a network of the user are not padded in any case. None means True, or False
            with ``runtime="onnx"``, with which True is not possible.

        Returns
        -------
        predictor : Predictor
            Object with methods `predict` and `predict_proba`. It is executed by `runtime`, and with
            ``runtime="torch"`` contains a copy of the network.

        Raises
        ------
        ExportError
            If a part cannot be converted for ``runtime="onnx"``. It is a ValueError.
        ValueError
            If an argument is invalid.
        """
        if batch_invariant is not None and not isinstance(batch_invariant, bool | np.bool_):
            raise ValueError(
                f"'batch_invariant' must be True, False or None; got {batch_invariant!r}."
            )
        point = self._point(threshold, budget)
        cascade = self.cascade_
        row_format = self._row_format()
        if not self._in_onnx:
            invariant = batch_invariant is None or batch_invariant
            executor = TorchExecutor if invariant else unpadded_executor
            return own_predictor(cascade, self._task, point, row_format, executor)
        if batch_invariant:
            raise ValueError(
                "'batch_invariant' must be None or False with runtime='onnx', whose results may "
                "differ in the last digits between batches; got True. Set runtime='torch'."
            )
        sessions = self._sessions(point)
        return onnx_predictor(sessions, cascade.costs, self._task, point, row_format)

    def _row_format(self) -> RowFormat:
        return RowFormat(
            self._row_shape,
            np.dtype(str(self.cascade_.network.dtype).removeprefix("torch.")),
            getattr(self, "feature_names_in_", np.empty(0, dtype=object)).tolist() or None,
            self.cascade_.network.check,
        )

    def _convertible(self) -> tuple[FittedNetwork, tuple[int, ...]]:
        return self.cascade_.network, self._row_shape

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        X_val: Any,
        y_val: Any,
        groups: Any,
        X_unlabeled: Any,
    ) -> None:
        """Fit the network and the heads, and calibrate the thresholds; see `fit`."""
        X, y = self._checked_rows(X, y)
        samples, task, weight = self._training_samples(X, y, sample_weight, groups)
        samples = replace(samples, unlabeled=self._unlabeled_rows(X_unlabeled))
        validation = self._validation_rows(X_val, y_val, task)
        start = self._start(task)
        input_dtype = None if start is None else self.cascade_.network.dtype
        known = None if start is None else self._candidates
        model = fit_model(self, samples, task, weight, validation, start, input_dtype, known)
        self._set_model(model, task)

    @abstractmethod
    def _training_samples(
        self, X: Any, y: np.ndarray, sample_weight: Any, groups: Any
    ) -> tuple[Samples, Task, np.ndarray | None]:
        """Samples with encoded y, the task, and the weights in calibration."""

    @property
    def _goes_on(self) -> bool:
        """Whether `fit` continues from the network of the previous call."""
        return bool(self.warm_start) and hasattr(self, "_network")

    def _start(self, task: Task) -> MultiExitNetwork | None:
        """Network from which the training continues, if any."""
        return self._network if self._goes_on else None

    def _update(self, rows: Samples, task: Task, *, first: bool) -> None:
        """Train for one pass over samples, in `partial_fit`."""
        before = None
        if not first:
            before = UpdateState(
                self._network,
                self._optimizer_state,
                self._n_updates,
                self._had_fit,
                self.cascade_.network.dtype,
                self._candidates,
            )
        model = update_model(self, rows, task, before)
        is_first = before is not None and not before.n_updates
        if (
            is_first
            and self.operating_point_.n_samples
            and not np.array_equal(self.thresholds_, model.point.thresholds)
        ):
            # Before the model is replaced, since a warning may be an error.
            warn(
                "The thresholds were calibrated before this call of partial_fit, and do not hold "
                "for the updated network. Until calibrate(X, y) is called with samples on which it "
                "was not trained, "
                + (
                    "no sample exits early."
                    if np.isinf(model.point.thresholds).all()
                    else "those of the parameters are used."
                )
            )
        self._set_model(
            model,
            task,
            n_updates=1 + (before.n_updates if before else 0),
            had_fit=before is not None and before.had_fit,
        )

    def _checked_rows(self, X: Any, y: Any, *, reset: bool = True) -> tuple[Any, np.ndarray]:
        """Validated training samples, as an array or streamed, and their labels."""
        numeric = self._task_class.estimator_type == "regressor"
        X, y = labeled_rows(self, X, y, reset=reset, numeric=numeric)
        if reset:
            self._row_shape = X.shape[1:]
        else:
            check_row_shape(self, X, self._row_shape)
        return X, y

    def _validate_rows(self, X: Any) -> Any:
        """Validate samples for prediction: an array of the network's dtype, or streamed."""
        return checked(self._numeric_rows(X), self.cascade_.network.check)

    def _validate_dense(self, X: Any) -> Any:
        return self._validate_rows(X)

    def _numeric_rows(self, X: Any) -> Any:
        # The dtype in which the network reads samples may be wider than the parameter `dtype`.
        dtype = np.float64 if self.cascade_.network.dtype == torch.float64 else np.float32
        if (
            type(X) is np.ndarray
            and X.dtype.kind == "f"
            and X.shape[1:] == self._row_shape
            and len(X)
            and "feature_names_in_" not in vars(self)
        ):
            # For a plain array, the general checks below, which take 0.1 ms, are not needed.
            if X.size <= FEW_VALUES and X.dtype == dtype and X.dtype == self.dtype:
                if np.logical_and.reduce(np.isfinite(X), axis=None):
                    return X
            else:
                rows, total = quietly(
                    lambda: _cast_and_sum(X, dtype, self.dtype), "over", "invalid"
                )
                if np.isfinite(total):
                    return rows
        return in_precision(further_rows(self, X, self._row_shape), dtype)

    def _unlabeled_rows(self, X_unlabeled: Any) -> np.ndarray | None:
        if X_unlabeled is None:
            return None
        check_unlabeled(resolve(self.training, STRATEGIES, "distillation"))
        try:
            return further_rows(self, X_unlabeled, self._row_shape, "X_unlabeled")
        except ValueError as error:
            raise ValueError(f"X_unlabeled must hold samples like those of X. {error}") from error

    def _validation_rows(self, X_val: Any, y_val: Any, task: Task) -> Samples | None:
        if X_val is None and y_val is None:
            return None
        if X_val is None or (y_val is None and not isinstance(X_val, torch.utils.data.Dataset)):
            raise ValueError("X_val and y_val must be given together; got only one of them.")
        if self.early_stopping != AUTO and not self.early_stopping:
            raise ValueError(
                "X_val and y_val are used by early stopping only; got them with "
                "early_stopping=False. Set it to True, or use them in calibrate after fitting."
            )
        y_val = labels_of(X_val, y_val)
        rows = further_rows(self, X_val, self._row_shape, "X_val")
        return Samples(rows, task.encoded(y_val, rows))

    def _set_model(
        self, model: FittedModel, task: Task, *, n_updates: int = 0, had_fit: bool = True
    ) -> None:
        """Set all fitted attributes, and the state from which the training can continue."""
        self._set_fitted(
            model,
            task,
            model.exit_names,
            placement_report_=model.placement_report,
            history_=model.history,
            _candidates=model.candidates,
            _network=model.trained,
            _optimizer_state=model.optimizer_state,
            _n_updates=n_updates,
            _had_fit=had_fit,
        )


def _cast_and_sum(X: np.ndarray, dtype: Any, of_sum: Any) -> tuple[np.ndarray, Any]:
    rows = X.astype(dtype, copy=False)
    return rows, rows.sum(dtype=of_sum)
