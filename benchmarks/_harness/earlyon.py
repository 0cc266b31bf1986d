"""The calibration of the package earlyon 0.3, called on outputs that are known already.

It is written for a network with hooks, of which it uses the outputs of all heads, the
configuration, and what the exits cost; a stand-in has just these.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

COMMAND = "python -m pip install --no-deps earlyon==0.3.0"

#: From careful to daring, dense near 1; its own has nine values from 0.99 to 0.5.
FINE_GRID = tuple(float(value) for value in 1 - np.linspace(0, 1, 42)[1:-1] ** 3)


def is_installed() -> bool:
    """Whether it can be imported."""
    try:
        import earlyon.core.thresholds  # noqa: F401
    except ImportError:
        return False
    return True


class _StandIn(torch.nn.Module):
    """A network whose input is what its heads say, shape (n_samples, n_exits, n_classes)."""

    def __init__(self, costs: np.ndarray, n_classes: int) -> None:
        from earlyon.core.types import EarlyExitConfig, ExitPoint

        super().__init__()
        names = [f"exit{i}" for i in range(len(costs) - 1)]
        points = [ExitPoint(name, name, n_classes) for name in names]
        self.config = EarlyExitConfig("stand-in", n_classes, points)
        self._flops_at = dict(zip(names, costs[:-1] / costs[-1], strict=True))

    def forward(self, logits: torch.Tensor, mode: str) -> list[torch.Tensor]:
        return list(logits.unbind(dim=1))


@dataclass(frozen=True)
class Calibrated:
    """What it chose.

    Attributes
    ----------
    thresholds : ndarray of shape (n_exits - 1,)
        Infinite where an exit is not used.
    temperatures : ndarray of shape (n_exits,)
    """

    thresholds: np.ndarray
    temperatures: np.ndarray

    def leave(self, outputs: np.ndarray) -> np.ndarray:
        """Exit at which each row leaves, of outputs (n_samples, n_exits, n_classes)."""
        logits = _logits(outputs)
        scores = torch.stack(
            [
                torch.softmax(logits[:, i] / temperature, dim=1).max(dim=1).values
                for i, temperature in enumerate(self.temperatures[:-1])
            ],
            dim=1,
        )
        sure = scores.double().numpy() >= self.thresholds
        return np.where(sure.any(axis=1), sure.argmax(axis=1), len(self.thresholds))


def calibrate(
    outputs: np.ndarray,
    y: np.ndarray,
    costs: np.ndarray,
    drop: float,
    *,
    fine: bool,
    tempered: bool,
) -> Calibrated:
    """Thresholds for a drop of accuracy; temperatures see one half of the rows, if any."""
    from earlyon.core.thresholds import calibrate_thresholds

    model = _StandIn(costs, outputs.shape[2])
    options: dict[str, Any] = {"grid": FINE_GRID} if fine else {}
    half = len(y) // 2 if tempered else 0
    batch = _logits(outputs[half:]), torch.tensor(y[half:])
    if tempered:
        options["temperature_loader"] = [(_logits(outputs[:half]), torch.tensor(y[:half]))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = calibrate_thresholds(
            model, [batch], target_accuracy_drop=drop, fit_temperature=tempered, **options
        )
    thresholds = np.where(result.enabled_exits, result.thresholds, math.inf)
    names = model.config.head_names
    return Calibrated(thresholds, np.array([model.config.temperatures[name] for name in names]))


def _logits(outputs: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.log(np.maximum(outputs, 1e-12)), dtype=torch.float32)
