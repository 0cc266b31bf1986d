"""Reproducibility: batch-invariant layers and classifiers, random states, BLAS threads."""
