"""Methods without lasting evidence; they may change or go without notice."""

from skearlyexit.experimental._reinforced_policy import ReinforcedPolicy

__all__ = ["ReinforcedPolicy"]
