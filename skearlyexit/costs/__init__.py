"""What it costs to leave at each exit, counted in multiply-accumulates per row.

A leaf of the package: imports none of its other rooms.
"""

from skearlyexit.costs._compose import exit_costs
from skearlyexit.costs._estimators import estimator_macs
from skearlyexit.costs._modules import module_macs

__all__ = ["estimator_macs", "exit_costs", "module_macs"]
