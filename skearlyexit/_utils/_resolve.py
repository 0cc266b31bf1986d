"""Conversion of parameters that are strategies to objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.base import clone


def resolve(value: Any, registry: Mapping[str, type], default: Any) -> Any:
    """Create a strategy from its name, or clone a strategy.

    Parameters
    ----------
    value : str, strategy or None
        None is the default.
    registry : dict of str to class
        Class of each name.
    default : str or strategy

    Returns
    -------
    strategy : object

    Raises
    ------
    ValueError
        If parameters of the strategy are not valid.
    """
    if value is None:
        value = default
    resolved = registry[value]() if isinstance(value, str) else clone(value)
    resolved._validate_params()
    return resolved
