"""What the scripts share.

A script imports this before numpy and torch: it keeps BLAS and OpenMP to one thread, and they read
the number when they start.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
