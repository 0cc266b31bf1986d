"""Early-exit networks against plain ones, boosting, forests, SVMs and perceptrons, on images.

Networks are residual and convolutional, the others get flat pixels. What is compared and how is
told in `_harness/compare.py`. Of Fashion-MNIST and MNIST (not among the defaults) 12,000 rows are trained
on unless ``--max-train 0`` asks for all.

    python benchmarks/images.py
    python benchmarks/images.py --sets mnist --max-train 0
    python benchmarks/images.py --report
    python benchmarks/images.py --quick
"""

import _harness  # noqa: F401 - before everything that starts threads
from _harness.main import main

if __name__ == "__main__":
    main(__doc__, ["mnist5k", "fashion"], tune_rows=2500, max_train=12_000)
