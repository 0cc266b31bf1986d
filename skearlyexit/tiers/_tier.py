"""A machine that runs a part of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Integral

import numpy as np


@dataclass(frozen=True)
class Tier:
    """Machine, or group of equal machines, that runs the stages and heads of some exits.

    Parameters
    ----------
    name : str
        Name of the tier, such as "device", "edge" or "cloud".
    rate : float or sequence of float
        What the tier computes in a second, in the unit of `cost_table_`: MACs per second for costs
        in MACs. If costs are in seconds, it is how many times as fast as the measured machine the
        tier is. One number for each device, if there are several that differ.
    power : float, default=0.0
        Energy per second of computation, such as watts. Of each device, if there are several.
    price : float, default=0.0
        Price per second of computation. Of each device, if there are several.
    overhead : float, default=0.0
        Seconds that each call takes in addition to the computation. Without other load, a sample
        needs one call of each tier that computes something for it.
    n_workers : int, default=1
        Number of calls that the tier executes at the same time. It matters under load only, in
        `TierPlan.simulate`.
    max_batch_size : int, default=1
        Maximum number of samples of a call, in `TierPlan.simulate` and `skearlyexit.serve`. By
        default, samples are not computed together.
    max_batch_wait : float, default=0.0
        Seconds that a sample waits at most for others of its batch, in `TierPlan.simulate` and
        `skearlyexit.serve`.
    n_devices : int, default=1
        Number of devices, each of which sees one view of a sample, for a model with a
        `skearlyexit.MultiViewBackbone`. Only the first tier of a plan can have several.

    Attributes
    ----------
    rates : ndarray of shape (n_devices,)
        Rate of each device.

    Raises
    ------
    TypeError
        If `name` is not a string.
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.tiers import ModelParts, Tier, TierPlan
    >>> plan = TierPlan([Tier("edge", rate=1e9, power=5.0, overhead=0.001)], [], ["edge", "edge"])
    >>> parts = ModelParts(["a", "b"], work=np.array([1e6, 2e6]), n_bytes=np.array([64.0, 64.0]))
    >>> plan.by_exit(parts).latency, plan.by_exit(parts).energy
    (array([0.002, 0.004]), array([0.01, 0.02]))
    """

    name: str
    rate: float | Sequence[float]
    power: float = 0.0
    price: float = 0.0
    overhead: float = 0.0
    n_workers: int = 1
    max_batch_size: int = 1
    max_batch_wait: float = 0.0
    n_devices: int = 1

    @property
    def rates(self) -> np.ndarray:
        """Rate of each device."""
        return np.broadcast_to(np.asarray(self.rate, dtype=np.float64), self.n_devices)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"The name of a Tier must be a string. Got {self.name!r} instead.")
        for what in ("power", "price", "overhead", "max_batch_wait"):
            value = getattr(self, what)
            if not (value >= 0 and isfinite(value)):
                raise ValueError(
                    f"The '{what}' of {self.name!r} must be a finite number of at least 0. Got "
                    f"{value!r}."
                )
        for what in ("n_workers", "max_batch_size", "n_devices"):
            value = getattr(self, what)
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(
                    f"The '{what}' of {self.name!r} must be an integer of at least 1. Got "
                    f"{value!r}."
                )
        rates = np.asarray(self.rate, dtype=np.float64)
        if rates.shape not in ((), (self.n_devices,)) or not (rates > 0).all():
            raise ValueError(
                f"The rate of {self.name!r} must be positive: what it computes in a second, in the "
                "unit of the cost table; one number, or one for each device, of which there "
                f"{'is 1' if self.n_devices == 1 else f'are {self.n_devices}'}. Got {self.rate!r}."
            )
