"""Costs by size."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import torch

from skearlyexit.costs._base import Cost
from skearlyexit.costs._parts import Part, Reading


class BytesCost(Cost):
    """Bytes of parameters that have to be in memory until a row leaves.

    Of a torch module its parameters and buffers, each counted where it is used first; of an
    estimator the size of its pickle.
    """

    @property
    def unit_name(self) -> str:
        """Bytes."""
        return "bytes"

    def read(self, parts: Sequence[Part]) -> list[Reading]:
        """Size of each part; see `Cost.read`."""
        seen: set[int] = set()
        return [Reading.exactly(_size(part, seen)) for part in parts]


def _size(part: Part, seen: set[int]) -> int:
    if part.model is None:
        return 0
    if not isinstance(part.model, torch.nn.Module):
        return len(pickle.dumps(part.model))
    size = 0
    for tensor in (*part.model.parameters(), *part.model.buffers()):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            size += tensor.numel() * tensor.element_size()
    return size
