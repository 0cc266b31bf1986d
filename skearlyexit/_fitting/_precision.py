"""Precision of the inputs of a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from skearlyexit._data._samples import Samples
from skearlyexit._data._streamed import is_single
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit._fitting._measured_network import MeasuredNetwork
from skearlyexit.backbones import Backbone

#: Number of samples whose rounding errors are computed.
N_SAMPLED = 1000


def rows_as_read(
    given: Samples,
    single: Samples,
    plan: MeasuredNetwork,
    backbone: Backbone,
    n_classes: int,
    input_dtype: torch.dtype | None,
) -> Samples:
    """Samples in the precision of the inputs of the network.

    This is the precision of the network, except if the network standardizes its inputs and single
    precision cannot resolve them because they are far from zero. It is then double precision.

    Parameters
    ----------
    given : Samples
        Samples in the precision given by the user.
    single : Samples
        Samples in the precision of the network.
    plan : MeasuredNetwork
        Network measured on `single`.
    backbone : Backbone
        Backbone of the network.
    n_classes : int
        Number of classes.
    input_dtype : torch.dtype or None
        Precision of the inputs of the network from which the training starts, if any.

    Returns
    -------
    samples : Samples
        The samples in one of the two precisions.
    """
    if input_dtype == torch.float64:
        return given.cast(np.float64)
    if is_exact(given, single) or plan.standardize is None or not plan.standardize.may_be_coarse:
        return single
    double = given.cast(np.float64)
    with isolated_random_state(0):
        standardize = backbone.build(double.X, n_classes).standardize
    return double if standardize is not None and standardize.is_coarse else single


def is_exact(given: Samples, single: Samples) -> bool:
    """Whether no value was rounded in `single`."""
    return single.X.dtype == np.float64 or is_single(given.X)


def notice_of_rounding(X: Any) -> str:
    """Warning if single precision cannot resolve the values of a feature; otherwise empty.

    Parameters
    ----------
    X : ndarray or StreamedRows of shape (n_samples, ...)
        Samples in double precision, of which a part at equal distances is used.

    Returns
    -------
    notice : str
        Warning, or an empty string.
    """
    rows = X[:: max(1, len(X) // N_SAMPLED)]
    rows = rows.reshape(len(rows), -1)
    deviation = rows.std(axis=0)
    lost = (rows - rows.astype(np.float32)).std(axis=0)
    varies = deviation > len(rows) * np.finfo(np.float64).eps * np.abs(rows).max(axis=0)
    rounded = varies & (lost > deviation / 100)
    if not rounded.any():
        return ""
    at = int(rounded.argmax())
    return (
        f"Single precision cannot resolve the values of {int(rounded.sum())} features of X. The "
        f"first of them is feature {at}, with a mean of {rows[:, at].mean():.6g} and a standard "
        f"deviation of {deviation[at]:.3g}. A backbone given by the user receives samples in the "
        "precision of 'dtype'. Standardize X first, for example by StandardScaler, or give "
        "dtype='float64'."
    )
