"""In which precision a network reads rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from skearlyexit._data._samples import Samples
from skearlyexit._data._streamed import is_single
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit._fitting._measured_network import MeasuredNetwork
from skearlyexit.backbones import Backbone

#: Samples that are looked at for what rounding does to them.
N_SAMPLED = 1000


def rows_as_read(
    given: Samples,
    single: Samples,
    plan: MeasuredNetwork,
    backbone: Backbone,
    n_classes: int,
    before: torch.dtype | None,
) -> Samples:
    """Samples in the precision in which the network reads them.

    That of the network itself, unless it standardizes rows and they are so far from zero that
    single precision could not tell them apart: these are read in double precision.

    Parameters
    ----------
    given : Samples
        In the precision in which the user gave them.
    single : Samples
        The same in that of the network.
    plan : MeasuredNetwork
        The network, measured on `single`.
    backbone : Backbone
    n_classes : int
    before : torch.dtype or None
        In which a network that goes on read rows until now.
    """
    if before == torch.float64:
        return given.cast(np.float64)
    if is_exact(given, single) or plan.standardize is None or not plan.standardize.may_be_coarse:
        return single
    double = given.cast(np.float64)
    with isolated_random_state(0):
        standardize = backbone.build(double.X, n_classes).standardize
    return double if standardize is not None and standardize.is_coarse else single


def is_exact(given: Samples, single: Samples) -> bool:
    """Whether nothing was rounded."""
    return single.X.dtype == np.float64 or is_single(given.X)


def notice_of_rounding(X: Any) -> str:
    """What to say where single precision cannot tell the values of a feature apart, or nothing.

    Parameters
    ----------
    X : ndarray or StreamedRows of shape (n_samples, ...)
        In double precision; rows at equal distances are looked at.
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
        f"Single precision cannot tell the values of {int(rounded.sum())} features of X apart, the "
        f"first of them feature {at} with values around {rows[:, at].mean():.6g} and a standard "
        f"deviation of {deviation[at]:.3g}. A backbone of yours gets rows in the precision of "
        "'dtype': standardize them first, for example by StandardScaler, or give dtype='float64'."
    )
