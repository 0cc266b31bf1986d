"""A machine that runs a part of the model."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from numbers import Integral


@dataclass(frozen=True)
class Tier:
    """Machine, or group of equal machines, that runs the stages and heads of some exits.

    Parameters
    ----------
    name : str
        Name of the tier, such as "device", "edge" or "cloud".
    rate : float
        What the tier computes in a second, in the unit of `cost_table_`: MACs per second for costs
        in MACs. If costs are in seconds, it is how many times as fast as the measured machine the
        tier is.
    power : float, default=0.0
        Energy per second of computation, such as watts.
    price : float, default=0.0
        Price per second of computation.
    overhead : float, default=0.0
        Seconds that each call takes in addition to the computation. Without other load, a sample
        needs one call of each tier that computes something for it.
    n_workers : int, default=1
        Number of calls that the tier executes at the same time. It matters under load only, in
        `TierPlan.simulate`.
    max_batch_size : int, default=1
        Maximum number of samples of a call, in `TierPlan.simulate`.
    max_batch_wait : float, default=0.0
        Seconds that a sample waits at most for others of its batch, in `TierPlan.simulate`.

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
    rate: float
    power: float = 0.0
    price: float = 0.0
    overhead: float = 0.0
    n_workers: int = 1
    max_batch_size: int = 1
    max_batch_wait: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"The name of a Tier must be a string. Got {self.name!r} instead.")
        if not self.rate > 0:
            raise ValueError(
                f"The rate of {self.name!r} must be positive: what it computes in a second, in the "
                f"unit of the cost table. Got {self.rate!r}."
            )
        for what in ("power", "price", "overhead", "max_batch_wait"):
            value = getattr(self, what)
            if not (value >= 0 and isfinite(value)):
                raise ValueError(
                    f"The '{what}' of {self.name!r} must be a finite number of at least 0. Got "
                    f"{value!r}."
                )
        for what in ("n_workers", "max_batch_size"):
            value = getattr(self, what)
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(
                    f"The '{what}' of {self.name!r} must be an integer of at least 1. Got "
                    f"{value!r}."
                )
