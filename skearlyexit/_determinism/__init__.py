"""The same results whatever runs beside: batch-invariant layers and classifiers, seeds, threads."""
