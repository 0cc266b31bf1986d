"""Warnings that refer to a line of the code of the user."""

from __future__ import annotations

import sys
import warnings

#: Packages whose frames may be between the line of the user and a warning.
_BETWEEN = ("contextlib", "copy", "joblib", "pickle", "skearlyexit", "sklearn", "skorch", "torch")


def warn(message: str) -> None:
    """Issue a warning that refers to the innermost line outside of these packages."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and _package(frame.f_globals) in _BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def _package(space: dict[str, object]) -> str:
    return str(space.get("__name__")).partition(".")[0]
