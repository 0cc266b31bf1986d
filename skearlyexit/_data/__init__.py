"""Validation of the input, samples that are read as needed, and splits."""
