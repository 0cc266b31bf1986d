"""Metrics of early-exit models, and scorers for model selection."""

from skearlyexit.metrics._curve import cost_accuracy_auc, cost_at_drop
from skearlyexit.metrics._decision import decision_auroc
from skearlyexit.metrics._measures import cost_accuracy, oracle, random_exits
from skearlyexit.metrics._monotonicity import monotonicity
from skearlyexit.metrics._of_estimator import exit_report, exit_table
from skearlyexit.metrics._overthinking import Overthinking, overthinking
from skearlyexit.metrics._regression_report import RegressionReport
from skearlyexit.metrics._reliability import (
    ReliabilityCurve,
    expected_calibration_error,
    reliability_curve,
)
from skearlyexit.metrics._report import ExitReport
from skearlyexit.metrics._scorers import (
    AccuracyAtBudget,
    AccuracyMinusCost,
    CostAccuracyArea,
    ExitScorer,
    MeanCost,
)
from skearlyexit.metrics._speedup import Speedup, speedup

__all__ = [
    "AccuracyAtBudget",
    "AccuracyMinusCost",
    "CostAccuracyArea",
    "ExitReport",
    "ExitScorer",
    "MeanCost",
    "Overthinking",
    "RegressionReport",
    "ReliabilityCurve",
    "Speedup",
    "cost_accuracy",
    "cost_accuracy_auc",
    "cost_at_drop",
    "decision_auroc",
    "exit_report",
    "exit_table",
    "expected_calibration_error",
    "monotonicity",
    "oracle",
    "overthinking",
    "random_exits",
    "reliability_curve",
    "speedup",
]
