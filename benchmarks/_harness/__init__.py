"""Importing this first keeps BLAS and OpenMP to one thread, which they read when they start."""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
