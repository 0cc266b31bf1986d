"""How good an early-exit model is: numbers from arrays."""

from skearlyexit.metrics._intervals import effective_rows, mean_interval, proportion_interval
from skearlyexit.metrics._measures import cost_accuracy, oracle, random_exits
from skearlyexit.metrics._report import ExitReport

__all__ = [
    "ExitReport",
    "cost_accuracy",
    "effective_rows",
    "mean_interval",
    "oracle",
    "proportion_interval",
    "random_exits",
]
