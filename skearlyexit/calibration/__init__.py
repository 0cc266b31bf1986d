"""Operating points, and the calibration of thresholds on held-out samples."""

from skearlyexit.calibration._accuracy_drop import AccuracyDrop
from skearlyexit.calibration._base import CalibratedPoint, NotCertifiedError, OperatingPoint
from skearlyexit.calibration._budget import Budget
from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._compute_frontier import compute_frontier
from skearlyexit.calibration._conformal_risk_control import ConformalRiskControl
from skearlyexit.calibration._error_rise import ErrorRise
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._risk_control import RiskControl
from skearlyexit.calibration._target_accuracy import TargetAccuracy
from skearlyexit.calibration._threshold import Threshold

__all__ = [
    "AccuracyDrop",
    "Budget",
    "CalibratedPoint",
    "CalibrationData",
    "ConformalRiskControl",
    "ErrorRise",
    "Frontier",
    "NotCertifiedError",
    "OperatingPoint",
    "RiskControl",
    "TargetAccuracy",
    "Threshold",
    "compute_frontier",
]
