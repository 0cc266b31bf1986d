"""Which of the later exits are asked for a sample."""

from skearlyexit.routing._router import ExitRouter

__all__ = ["ExitRouter"]
