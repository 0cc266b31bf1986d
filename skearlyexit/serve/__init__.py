"""Serving on Ray Serve, one deployment for each tier of exits."""

from skearlyexit.serve._app import build_app, run

__all__ = ["build_app", "run"]
