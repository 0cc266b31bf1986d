"""From what a user may pass for a strategy to a strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.base import clone


def resolve(value: Any, registry: Mapping[str, type], default: Any) -> Any:
    """Strategy for a name or an object, which is copied; None is the default.

    Parameters
    ----------
    value : str, strategy or None
    registry : dict of str to class
        The names of a room.
    default : str or strategy
        What is meant by None.

    Raises
    ------
    ValueError
        If parameters of the object are not valid.
    """
    if value is None:
        value = default
    resolved = registry[value]() if isinstance(value, str) else clone(value)
    resolved._validate_params()
    return resolved
