"""Utilities that are independent of the rest of the package."""
