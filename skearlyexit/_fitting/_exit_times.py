"""Times of the parts of a cascade in the runtime of the estimator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import nnls

from skearlyexit._cascade._cascade import FittedExits, FittedNetwork
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit.costs import CostMeasurement
from skearlyexit.costs._parts import PartMeasurements, repeat
from skearlyexit.policies import Policy
from skearlyexit.runtime._onnx_session import Session, compiled
from skearlyexit.runtime._times import exit_times, part_times

#: Maximum number of different samples. The time of a head may depend on its input.
N_DIFFERENT = 256


class ExitTimer:
    """Measures times by running a network and its exit rule in a runtime.

    Parameters
    ----------
    runtime : {"torch", "onnx"}
        What executes predictions.
    network : FittedNetwork
        Fitted network.
    exit_rule : ExitRule
        Fitted exit rule.
    X : ndarray of shape (n_samples, ...)
        Samples, of which the first ones are used.
    plain : Policy
        Policy without memory, with which the time without heads is measured.

    Attributes
    ----------
    compiled : dict of str to object
        What was compiled to measure the times, as in `Cascade`. Empty if nothing was measured.
    """

    def __init__(
        self,
        runtime: str,
        network: FittedNetwork,
        exit_rule: ExitRule,
        X: np.ndarray,
        plain: Policy,
    ) -> None:
        self.runtime, self.network, self.exit_rule, self.X = runtime, network, exit_rule, X
        self.plain = plain
        self.compiled: dict[str, Any] = {}

    def __call__(self, n_samples: int, n_repeats: int) -> PartMeasurements:
        """Measure the time per sample of all parts.

        Parameters
        ----------
        n_samples : int
            Number of samples in a call.
        n_repeats : int
            Number of measurements, after one that is not used.

        Returns
        -------
        stages, heads, decisions : list of CostMeasurement
            Times of the parts of each exit. With ONNX Runtime, a head includes its decision, and
            the last stage includes the last head.
        """
        X = repeat(np.asarray(self.X[: min(n_samples, N_DIFFERENT)]), n_samples)
        if self.runtime == "torch":
            return times_of_parts(self.network, self.exit_rule, X, n_repeats)
        session = compiled(self.network, self.exit_rule, X.shape[1:])
        self.compiled[self.runtime] = session
        if self.network.combiner is None and not self.exit_rule.has_memory:
            return _parts_in_session(session, session, X, self.network.n_exits, n_repeats)
        # The heads before an exit are always computed: the time without them is that of another.
        plain = compiled(
            replace(self.network, combiner=None),
            ExitRule.plain(self.plain, self.network.kind),
            X.shape[1:],
        )
        return _parts_in_session(session, plain, X, self.network.n_exits, n_repeats)


def times_of_parts(
    network: FittedExits, exit_rule: ExitRule, X: Any, n_repeats: int
) -> PartMeasurements:
    """Time per sample of the parts of each exit in repeated runs of the driver."""
    runs = [part_times(network, exit_rule, X) / len(X) for _ in range(n_repeats + 1)]
    times = np.array(runs[1:])  # the first call may allocate, or start threads
    stages, heads, decisions = (
        [CostMeasurement.of_times(of_exit) for of_exit in part.T]
        for part in np.moveaxis(times, 2, 0)
    )
    return stages, heads, decisions


def _parts_in_session(
    session: Session, plain: Session, X: np.ndarray, n_exits: int, n_repeats: int
) -> PartMeasurements:
    """Times of parts that together explain the measured times of whole runs."""
    runs = [exit_times(session, plain, X, n_exits) for _ in range(n_repeats + 1)]
    times = np.array(runs[1:]).reshape(n_repeats, 2 * n_exits) / len(X)
    low, value, high = (_explained(each) for each in np.percentile(times, [25, 50, 75], axis=0))
    parts = [
        CostMeasurement(float(v), float(min(a, v, b)), float(max(a, v, b)), "measured")
        for a, v, b in zip(low, value, high, strict=True)
    ]
    none = CostMeasurement.exactly(0.0, "measured")
    return parts[:n_exits], [*parts[n_exits:], none], [none] * n_exits


def _explained(times: np.ndarray) -> np.ndarray:
    """Times of stages and heads, which are not negative, from those of whole runs.

    Parameters
    ----------
    times : ndarray of shape (2 * n_exits,)
        Times to exit at each exit, with and without the heads before it.

    Returns
    -------
    parts : ndarray of shape (2 * n_exits - 1,)
        Times of the stages, of which the last one includes its head, and of all heads before.
    """
    n_exits = len(times) // 2
    stages = np.tri(n_exits)
    heads = [np.tri(n_exits, n_exits - 1), np.eye(n_exits, n_exits - 1)]
    return nnls(np.block([[stages, heads[0]], [stages, heads[1]]]), times)[0]
