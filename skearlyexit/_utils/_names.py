"""Look-up of the blocks of a network by name or index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any


def block_index(block: Any, names: Sequence[str], aliases: Mapping[str, int]) -> int | None:
    """Index of a block given by name, alternative name or index; None if there is no such block.

    Negative indices count from the end.
    """
    if isinstance(block, str):
        return list(names).index(block) if block in names else aliases.get(block)
    if isinstance(block, Integral) and -len(names) <= int(block) < len(names):
        return int(block) % len(names)
    return None
