"""Execution of a cascade."""
