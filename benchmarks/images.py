"""Early-exit networks against plain ones, boosting, forests, SVMs and perceptrons, on images.

Networks are residual and convolutional; the other models get flat pixels. `_harness/comparison.py`
describes what is compared and how. Of Fashion-MNIST and MNIST 12,000 training samples are used
unless ``--max-train 0`` asks for all.

    python benchmarks/images.py
    python benchmarks/images.py --sets mnist --max-train 0
    python benchmarks/images.py --report
    python benchmarks/images.py --quick
"""

import _harness  # noqa: F401 - before everything that starts threads
from _harness.comparison import main

if __name__ == "__main__":
    main(__doc__, ["mnist5k", "fashion", "mnist"], tune_samples=2500, max_train=12_000)
