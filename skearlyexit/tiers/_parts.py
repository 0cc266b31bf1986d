"""What a plan has to know of a model: the work of each exit, and the bytes that are passed on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from scipy import sparse

from skearlyexit._cascade._cascade import Cascade, FittedNetwork
from skearlyexit._cascade._exit_rule import NO_STATE
from skearlyexit._data._given import GivenRows
from skearlyexit._utils._unwrap import last_step
from skearlyexit.runtime._executor import executor_of
from skearlyexit.tiers._compression import check_compression, compressed, tensor_bytes

#: Number of samples of which the size is measured.
N_MEASURED = 16


@dataclass(frozen=True, eq=False)
class ViewParts:
    """What each of several devices does for a model whose first stage runs on each view.

    Parameters
    ----------
    n_views : int
        Number of views of a sample.
    work : float
        Cost per sample of the first stage on one view, in the unit of the cost table.
    output_bytes : float
        Bytes that each device sends to the exit behind this stage, where they are merged.
    n_bytes : ndarray of shape (n_exits,)
        How many of the bytes that each stage is given one device sends at most, if devices send
        them: its view, or what it passes on, with what the policy or the combination remembers.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.tiers import ModelParts, ViewParts
    >>> views = ViewParts(2, work=10.0, output_bytes=8.0, n_bytes=np.array([128.0, 32.0]))
    >>> parts = ModelParts(
    ...     ["a", "b"], work=np.array([21.0, 50.0]), n_bytes=np.array([256.0, 64.0]), views=views)
    >>> parts.views.n_views * parts.views.work  # without the head of the first exit
    20.0
    """

    n_views: int
    work: float
    output_bytes: float
    n_bytes: np.ndarray


@dataclass(frozen=True, eq=False)
class ModelParts:
    """Work of each exit of a model, and bytes that are passed on to each.

    Parameters
    ----------
    names : list of str
        Names of the exits.
    work : ndarray of shape (n_exits,)
        Cost per sample of the stage, the head and the decision of each exit, without links, in the
        unit of the cost table.
    n_bytes : ndarray of shape (n_exits,)
        Bytes per sample that the stage of each exit is given: for the first exit the sample itself,
        for each other one what the stage before passes on, with what the policy or the combination
        remembers of the exits before.
    views : ViewParts or None, default=None
        What each of several devices does, if the model has an exit before the views of a sample are
        merged.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.tiers import ModelParts
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"], calibration=None,
    ...     max_epochs=1, random_state=0)
    >>> parts = ModelParts.of(clf.fit(X, y), X)
    >>> parts.names, parts.work, parts.n_bytes  # 20 features and 16 units of 4 bytes
    (['stem', 'block1', 'block3'], array([ 546.,  546., 1056.]), array([80., 64., 64.]))
    """

    names: list[str]
    work: np.ndarray
    n_bytes: np.ndarray
    views: ViewParts | None = None

    @property
    def n_exits(self) -> int:
        """Number of exits, the last included."""
        return len(self.names)

    @classmethod
    def of(
        cls,
        estimator: Any,
        X: Any,
        *,
        sample_bytes: float | None = None,
        compression: str | None = None,
    ) -> ModelParts:
        """Measure a fitted model.

        Parameters
        ----------
        estimator : EarlyExitClassifier, CascadeClassifier, a regressor of these or Pipeline
            Fitted estimator with exits, or fitted pipeline whose last step is one.
        X : array-like of shape (n_samples, ...)
            Samples, of which the first ones are run.
        sample_bytes : float, default=None
            Size of a sample as it is sent, such as the mean size of a compressed image, of all its
            views together. If None, it is the size of its numbers in memory.
        compression : {"float16", "int8"} or None, default=None
            Format in which embeddings are sent, as in `TierPlan`.

        Returns
        -------
        parts : ModelParts
            Work and bytes of each exit.

        Raises
        ------
        TypeError
            If the estimator is not one with exits.
        ValueError
            If the size of the samples is not known, such as that of texts, and `sample_bytes` is
            not given, if `compression` is invalid, or if the estimator has a router or
            `feature_costs`.
        """
        check_compression(compression)
        model, rows = last_step(estimator, X)
        return parts_of(model, model._validate_rows(rows), sample_bytes, compression)


def parts_of(
    model: Any, rows: Any, sample_bytes: float | None, compression: str | None
) -> ModelParts:
    """Parts of a fitted estimator with exits, measured on validated samples."""
    if sample_bytes is not None and not 0 <= sample_bytes < float("inf"):
        raise ValueError(
            f"'sample_bytes' must be a finite number of at least 0. Got {sample_bytes!r}."
        )
    if model.cascade_.exit_rule.router is not None:
        raise ValueError(
            "What samples save that skip exits is not part of a plan. Got an estimator with "
            f"router={model.cascade_.exit_rule.router!r}; fit it with router=None."
        )
    table = model.cost_table_
    if np.any(table.columns):
        raise ValueError(
            "The cost of getting columns is not that of computing on a tier, and not part of a "
            "plan. Got an estimator with feature_costs; fit it without."
        )
    work = table.stage_costs - table.links + table.head_costs + table.decision_costs
    cascade = compressed(model.cascade_, tuple(range(1, model.n_exits_)), compression)
    passed, remembered = passed_on(cascade, rows[:N_MEASURED], sample_bytes, compression)
    views = views_of(model.cascade_.network, table.stage_costs[0] - table.links[0])
    if views is not None:
        views = replace(views, n_bytes=passed / views.n_views + remembered)
    return ModelParts(list(model.exit_names_), work, passed + remembered, views)


@singledispatch
def views_of(network: Any, work: float) -> ViewParts | None:
    """What each device does for the first stage, given its work; None without an exit of devices.

    The bytes of the stages are missing.
    """
    return None


@views_of.register
def _(network: FittedNetwork, work: float) -> ViewParts | None:
    stage: Any = network.stages[0]
    if stage.n_views == 1:
        return None
    return ViewParts(stage.n_views, work / stage.n_views, stage.output_bytes, np.empty(0))


def passed_on(
    cascade: Cascade, few: Any, sample_bytes: float | None, compression: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean bytes per sample that each stage is given, and of what is remembered, (n_exits,) each.

    Parameters
    ----------
    cascade : Cascade
        Fitted cascade.
    few : ndarray or GivenRows of shape (n_samples, ...)
        Validated samples, which are run through all stages.
    sample_bytes : float or None
        Size of a sample itself. None measures it.
    compression : str or None
        Format in which embeddings are sent.
    """
    executor, n_rows = executor_of(cascade.network), len(few)
    learned, state = None, NO_STATE
    passed, remembered = np.empty(executor.n_exits), np.empty(executor.n_exits)
    with executor.context():
        carry = executor.load(few)
        for exit_ in range(executor.n_exits):
            if exit_ or sample_bytes is None:
                # Samples themselves are not compressed.
                passed[exit_] = _row_bytes(carry[0], sample_bytes, compression if exit_ else None)
            else:
                passed[exit_] = sample_bytes
            remembered[exit_] = sum(_array_bytes(each) for each in (learned, *state))
            carry, inputs = executor.stage(exit_, carry, n_rows)
            output = executor.output(exit_, inputs, n_rows)
            if executor.combiner is not None:
                _, learned = executor.combiner.combine(learned, output, exit_)
            *_, state = cascade.exit_rule.step(state, output, exit_)
    return passed, remembered


def _row_bytes(batch: Any, sample_bytes: float | None, compression: str | None) -> float:
    """Bytes of one sample of what a stage is given: tensors, or a sample and sums over members."""
    if isinstance(batch, torch.Tensor):
        return tensor_bytes(batch, compression)
    if isinstance(batch[0], torch.Tensor):
        return sum(tensor_bytes(part, compression) for part in batch)
    rows, state = batch
    size = _given_bytes(rows) if sample_bytes is None else sample_bytes
    return size + (0.0 if state is None else _array_bytes(state.values))


def _array_bytes(values: np.ndarray | None) -> float:
    return 0.0 if values is None or not len(values) else values.nbytes / len(values)


def _given_bytes(rows: GivenRows) -> float:
    """Mean bytes of a sample of numbers, as an array or sparse, or of a data frame of numbers."""
    content = rows.content
    if sparse.issparse(content):
        return float((content.data.nbytes + content.indices.nbytes) / content.shape[0])
    values = np.asarray(content)
    if values.dtype.kind not in "biuf":
        raise ValueError(
            f"The size of a sample in bytes is not known for samples of type "
            f"{type(content).__name__} that are not numbers. Give 'sample_bytes', the mean size of "
            "a sample as it is sent."
        )
    return values.nbytes / len(values)
