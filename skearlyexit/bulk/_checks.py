"""Checks of the arguments that say how predictions are executed."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from sklearn.utils._param_validation import Interval, validate_parameter_constraints

_COUNT = [Interval(Integral, 1, None, closed="left"), None]
_CONSTRAINTS: dict[str, Any] = {
    "return_proba": ["boolean"],
    "batch_size": _COUNT,
    "concurrency": _COUNT,
    "num_cpus": [Interval(Real, 0, None, closed="neither")],
    "overwrite": ["boolean"],
}


def check_options(caller: str, **options: Any) -> None:
    """Raise a ValueError if an option is not valid.

    Parameters
    ----------
    caller : str
        Name of the function of the user.
    **options : dict
        Options by name.
    """
    validate_parameter_constraints(_CONSTRAINTS, options, caller)
