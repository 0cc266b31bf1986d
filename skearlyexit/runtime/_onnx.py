"""Export of a cascade to a single file in the ONNX format."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import sklearn
import torch

from skearlyexit._cascade._cascade import Cascade, FittedNetwork
from skearlyexit._task._base import Task
from skearlyexit._version import __version__
from skearlyexit.calibration import CalibratedPoint, Frontier
from skearlyexit.runtime._driver import OUTPUT_COPIES
from skearlyexit.runtime._onnx_graphs import UNBOUNDED, BatchGraph, CascadeGraph, SampleGraph
from skearlyexit.runtime._onnx_parts import ConvertedParts

#: Prefix of the names of metadata.
METADATA = "skearlyexit."


@dataclass(frozen=True)
class Description:
    """What is stored with a cascade besides the graph.

    Attributes
    ----------
    task : Task
        What is predicted.
    row_shape : tuple of int
        Shape of a sample.
    exit_names : list of str
        Name of each exit.
    thresholds : ndarray of shape (n_exits - 1,)
        Default of the thresholds.
    operating_point : str
        What the thresholds were calibrated for.
    frontier : Frontier or None
        Thresholds for all budgets. None without calibration samples.
    feature_names : list of str or None, default=None
        Names of the features, if the estimator was fitted on a data frame.
    """

    task: Task
    row_shape: tuple[int, ...]
    exit_names: list[str]
    thresholds: np.ndarray
    operating_point: str
    frontier: Frontier | None
    feature_names: list[str] | None = None

    @classmethod
    def of(cls, fitted: Any, row_shape: tuple[int, ...], point: CalibratedPoint) -> Description:
        """Description of a fitted estimator, with an operating point as the default.

        Raises
        ------
        ValueError
            If the operating point is a strict budget.
        """
        if point.strict_budget is not None:
            raise ValueError(
                "A strict budget cannot be exported: it requires the scores of all samples of a "
                "batch. Give a budget that is not strict."
            )
        return cls(
            fitted._task,
            row_shape,
            fitted.exit_names_,
            point.thresholds,
            "" if point.request is None else point.request.description,
            fitted.frontier_,
            getattr(fitted, "feature_names_in_", np.empty(0, dtype=object)).tolist() or None,
        )

    def metadata(self, cascade: Cascade) -> dict[str, str]:
        """Metadata of the file, as JSON."""
        frontier = None
        if self.frontier is not None:
            assert self.frontier.shares is not None
            frontier = {
                "thresholds": _finite(self.frontier.thresholds),
                "costs": self.frontier.costs.tolist(),
                "accuracies": self.frontier.accuracies.tolist(),
                "shares": self.frontier.shares.tolist(),
            }
        table = cascade.cost_table
        values = {
            **self.task.metadata(),
            "feature_names": self.feature_names,
            "row_shape": list(self.row_shape),
            "dtype": str(cascade.network.dtype).removeprefix("torch."),
            "exit_names": self.exit_names,
            "costs": cascade.costs.tolist(),
            "cost_unit": table.unit,
            "plain_cost": float(table.plain),
            "thresholds": _finite(self.thresholds),
            "operating_point": self.operating_point,
            "frontier": frontier,
            "versions": {
                "skearlyexit": __version__,
                "torch": str(torch.__version__),
                "scikit-learn": sklearn.__version__,
            },
        }
        return as_metadata(cascade.network, values)


def as_metadata(network: FittedNetwork, values: dict[str, Any]) -> dict[str, str]:
    """Metadata of a file, with those that its execution depends on."""
    values = {"kind": network.kind.noun, "row_bytes": row_bytes(network), **values}
    return {f"{METADATA}{key}": json.dumps(value) for key, value in values.items()}


def row_bytes(network: FittedNetwork) -> int:
    """Memory for one sample of the largest embeddings, or of the outputs of an exit if larger."""
    outputs = OUTPUT_COPIES * network.n_classes * np.dtype(np.float64).itemsize
    return max(int(network.row_bytes), outputs)


def _finite(thresholds: np.ndarray) -> list[Any]:
    """Thresholds in which 2 stands for infinity, which JSON has no number for."""
    return np.minimum(thresholds, UNBOUNDED).tolist()


def write(
    fitted: Any,
    network: FittedNetwork,
    row_shape: tuple[int, ...],
    point: CalibratedPoint,
    path: str | os.PathLike[str],
    *,
    single_sample: bool,
) -> None:
    """Convert an estimator with exits and write it to a file, which is replaced if this succeeds.

    Parameters
    ----------
    fitted : estimator
        Fitted estimator with exits.
    network : FittedNetwork
        Its network, or its estimators as a network.
    row_shape : tuple of int
        Shape of a sample.
    point : CalibratedPoint
        Operating point whose thresholds are stored.
    path : str or path-like
        Path of the file.
    single_sample : bool
        Whether the graph is for one sample at a time, at these thresholds only.

    Raises
    ------
    ExportError, FileNotFoundError, ImportError, ValueError
        As in `EarlyExitClassifier.to_onnx`.
    """
    if not isinstance(single_sample, bool | np.bool_):
        raise ValueError(f"'single_sample' must be True or False; got {single_sample!r}.")
    cascade = replace(fitted.cascade_, network=network)
    description = Description.of(fitted, row_shape, point)
    goal = Path(path)
    # A folder or a device, for example.
    is_other = goal.exists() and not goal.is_file()
    is_other = is_other or os.fspath(path).endswith(tuple(filter(None, (os.sep, os.altsep))))
    if is_other or not goal.parent.is_dir():
        raise FileNotFoundError(
            f"'path' must be that of a file in an existing folder; got {os.fspath(path)!r}."
        )
    parts = ConvertedParts(network, cascade.exit_rule, row_shape)
    kind: type[CascadeGraph] = SampleGraph if single_sample else BatchGraph
    graph = kind(parts, description.thresholds)
    content = graph.model(description.task, description.metadata(cascade)).SerializeToString()
    unfinished = goal.with_name(f".{goal.name}.{uuid4().hex}")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, goal)
    finally:
        unfinished.unlink(missing_ok=True)
