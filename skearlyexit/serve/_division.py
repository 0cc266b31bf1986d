"""A model, divided among tiers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skearlyexit._utils._unwrap import model_of
from skearlyexit.calibration import CalibratedPoint
from skearlyexit.costs import Link
from skearlyexit.runtime import OnnxCascade
from skearlyexit.runtime._part import parts_of
from skearlyexit.runtime._row_format import GivenFormat, RowFormat
from skearlyexit.serve._front import ServedModel
from skearlyexit.serve._points import Points
from skearlyexit.serve._samples import SampleFormat
from skearlyexit.serve._work import ExportedPart, TierWork
from skearlyexit.tiers import TierPlan
from skearlyexit.tiers._compression import compressed

#: Number of calibration samples of an exported model, which does not state it.
N_UNKNOWN = 1000


@dataclass(frozen=True, eq=False)
class Division:
    """Which exits run in which tier.

    Attributes
    ----------
    names : list of str
        Name of each tier.
    exits : list of range
        Exits of each tier, at least one.
    links : list of list of Link
        Links before each tier.
    compression : str or None
        Format in which embeddings are sent.
    """

    names: list[str]
    exits: list[range]
    links: list[list[Link]]
    compression: str | None = None

    @classmethod
    def of(cls, tiers: Any, n_exits: int) -> Division:
        """Division among `tiers`; see `build_app`."""
        if isinstance(tiers, TierPlan):
            return cls._of_plan(tiers, n_exits)
        numbers = [n_exits] if tiers is None else tiers
        if (
            isinstance(numbers, str)
            or not isinstance(numbers, Sequence)
            or not all(isinstance(n, int | np.integer) and n > 0 for n in numbers)
            or sum(numbers) != n_exits
        ):
            raise ValueError(
                "'tiers' must be a TierPlan or the number of exits of each tier, together all "
                f"{n_exits} exits of the model, such as {[1, n_exits - 1] if n_exits > 1 else [1]}"
                f". Got {tiers!r}."
            )
        stops = np.cumsum(numbers).tolist()
        exits = [range(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]
        return cls([f"tier{i}" for i in range(len(exits))], exits, [[] for _ in exits])

    @classmethod
    def _of_plan(cls, plan: TierPlan, n_exits: int) -> Division:
        if len(plan.assignment) != n_exits:
            raise ValueError(
                f"The plan is for {len(plan.assignment)} exits, and the model has {n_exits}. Give "
                "one that assigns each of these."
            )
        used = np.unique(plan.tier_of_exit).tolist()
        bounds = [np.searchsorted(plan.tier_of_exit, [i, i + 1]).tolist() for i in used]
        # A tier without exits only passes on what it receives.
        links = [list(plan.links[before:i]) for before, i in zip([0, *used], used, strict=False)]
        names = [plan.tier_names[i] for i in used]
        return cls(names, [range(*each) for each in bounds], links, plan.compression)


def divided(
    model: Any,
    tiers: Any,
    threshold: Any,
    budget: Any,
    operating_points: Mapping[str, Any],
) -> tuple[ServedModel, list[TierWork], Division]:
    """What answers requests, and what each tier computes; see `build_app`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If the model has no exits.
    ValueError
        If an argument is invalid, or the model does not run in several tiers.
    """
    if isinstance(model, str | os.PathLike):
        model = _read(Path(model))
    transformers: list[Any] = []
    while isinstance(model, Pipeline):
        check_is_fitted(model)
        *steps, model = [step for _, step in model.steps]
        transformers += [step for step in steps if step is not None and step != "passthrough"]
    if isinstance(model, OnnxCascade):
        asked = Asked(tiers, threshold, budget, operating_points, transformers)
        return _of_file(model, asked)
    model = model_of(model)
    check_is_fitted(model)
    if model.runtime != "onnx":
        return _of_estimator(model, Asked(tiers, threshold, budget, operating_points, transformers))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model.to_onnx(path, threshold=threshold, budget=budget)
        return _of_file(OnnxCascade(path), Asked(tiers, None, None, operating_points, transformers))


@dataclass(frozen=True, eq=False)
class Asked:
    """What is asked for; see `build_app`.

    Attributes
    ----------
    transformers : list of transformers
        Steps of a pipeline before the model.
    """

    tiers: Any
    threshold: Any
    budget: Any
    operating_points: Mapping[str, Any]
    transformers: list[Any]

    def format(self, row_format: RowFormat | GivenFormat) -> SampleFormat:
        """What samples are, if those of the model are of a format."""
        names = row_format.feature_names
        if self.transformers:
            found = getattr(self.transformers[0], "feature_names_in_", None)
            names = None if found is None else found.tolist()
        return SampleFormat(row_format, self.transformers, names)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    return OnnxCascade(path) if path.suffix == ".onnx" else joblib.load(path)


def _of_estimator(model: Any, asked: Asked) -> tuple[ServedModel, list[TierWork], Division]:
    division = Division.of(asked.tiers, model.n_exits_)
    # Raises an error if the embeddings cannot be compressed.
    compressed(model.cascade_, (), division.compression)
    has_router = model.cascade_.exit_rule.router is not None
    table = model.cost_table_
    points = Points(
        model.costs_,
        table.unit,
        table.plain,
        model.frontier_,
        None if has_router or model.frontier_ is None else model._recent_scores,
        model.operating_point_.n_samples,
        model._point(asked.threshold, asked.budget),
        asked.operating_points,
    )
    served = ServedModel(
        asked.format(model._row_format()),
        model._task.decoded,
        getattr(model, "classes_", None),
        list(model.exit_names_),
        division.names,
        points,
    )
    parts = parts_of(model.cascade_, division.exits)
    return served, [TierWork(part, division.compression) for part in parts], division


def _of_file(model: OnnxCascade, asked: Asked) -> tuple[ServedModel, list[TierWork], Division]:
    division = Division.of(asked.tiers, model.n_exits_)
    if len(division.exits) > 1:
        raise ValueError(
            "An exported model runs as a whole, in one tier. Got "
            f"{len(division.exits)} tiers; give tiers=None, or the fitted estimator with "
            "runtime='torch'."
        )
    if model._session.is_single:
        raise ValueError(
            "A service takes several samples in a request, and its operating point can be changed, "
            f"but {model._path!r} was written with single_sample=True. Export the model with "
            "single_sample=False."
        )
    metadata = model.metadata_
    thresholds = model._thresholds(asked.threshold, asked.budget)
    frontier = model.frontier_
    shares = None
    if frontier is not None and frontier.shares is not None:
        same = np.flatnonzero((frontier.thresholds == thresholds).all(axis=1))
        shares = frontier.shares[same[0]] if len(same) else None
    points = Points(
        model.costs_,
        metadata["cost_unit"],
        metadata["plain_cost"],
        frontier,
        None,
        N_UNKNOWN,
        CalibratedPoint(None, thresholds, shares=shares),
        asked.operating_points,
    )
    served = ServedModel(
        asked.format(model._row_format),
        _AsDtype(np.dtype(metadata["predicted_dtype"])),
        model.classes_ if "classes" in metadata else None,
        list(model.exit_names_),
        division.names,
        points,
    )
    return served, [TierWork(ExportedPart(Path(model._path).read_bytes()))], division


@dataclass(frozen=True)
class _AsDtype:
    """Conversion of the predictions of a file, which are decoded already."""

    dtype: np.dtype

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        return labels.astype(self.dtype, copy=False)
