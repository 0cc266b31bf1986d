"""Costs in bytes."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from skearlyexit.costs._base import Cost
from skearlyexit.costs._parts import CostInput, CostMeasurement


class BytesCost(Cost):
    """Size of the parameters of all parts that are used up to each exit, in bytes.

    For torch modules, the size is that of parameters and buffers; tensors that several parts share
    are counted for the first part only. For other estimators, it is the size of their pickle.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import BytesCost, EarlyExitClassifier, MLPBackbone
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"], cost=BytesCost(),
    ...     calibration=None, max_epochs=1, random_state=0)
    >>> print(clf.fit(X, y).cost_table_)
    exit    stage  head  until here  of plain
    stem    2,352   136       2,488  26.9%
    block1  2,248   136       4,872  52.8%
    block3  4,496   136       9,504  102.9%
    in bytes per sample; the plain network costs 9,232
    """

    @property
    def unit_name(self) -> str:
        """Unit of the costs, "bytes"."""
        return "bytes"

    def read(self, parts: Sequence[CostInput]) -> list[CostMeasurement]:
        seen: set[int] = set()
        return [CostMeasurement.exactly(_size(part, seen)) for part in parts]

    def of_cascade(
        self,
        stages: Sequence[CostInput],
        heads: Sequence[CostInput],
        decisions: Sequence[CostInput],
        blocks: np.ndarray,
    ) -> tuple[list[CostMeasurement], list[CostMeasurement], list[CostMeasurement]]:
        readings = self.read([*stages, *heads, *decisions])[len(stages) :]
        known = [CostMeasurement.exactly(value) for value in blocks]
        return known, readings[: len(heads)], readings[len(heads) :]


def _size(part: CostInput, seen: set[int]) -> int:
    size = 0
    for module in (part.pooling, part.model):
        if isinstance(module, torch.nn.Module):
            for tensor in (*module.parameters(), *module.buffers()):
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    size += tensor.numel() * tensor.element_size()
        elif module is not None:
            size += _pickled_size(module)
    return size


def _pickled_size(estimator: Any) -> int:
    try:
        return len(pickle.dumps(estimator))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"BytesCost measures the size of {type(estimator).__name__} by its pickle, but it "
            f"cannot be pickled: {error}. Give another cost."
        ) from error
