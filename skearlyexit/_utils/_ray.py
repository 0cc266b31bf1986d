"""Ray, which is not always installed."""

from __future__ import annotations

import importlib
from typing import Any


def import_ray(purpose: str, module: str = "ray", *, otherwise: str = "") -> Any:
    """Import Ray.

    Parameters
    ----------
    purpose : str
        What Ray is required for, as the object of a sentence.
    module : str, default="ray"
        Module of Ray to import as well, such as ``"ray.data"``.
    otherwise : str, default=""
        What the user can do without Ray, as the end of a sentence.

    Returns
    -------
    ray : module

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        importlib.import_module(module)
        return importlib.import_module("ray")
    except ImportError as error:
        raise ImportError(
            f"Ray is required for {purpose}. Install it with python -m pip install "
            f"'skearlyexit[ray]'{otherwise}."
        ) from error
