"""Early-exit networks against plain ones, boosting, forests, SVMs and perceptrons, on tables.

`_harness/comparison.py` describes what is compared and how. Results go into one JSON file for each
set; an interrupted run can go on, or be extended, and sets can be run side by side. Of Adult 12,000
of its 29,304 training samples are used unless ``--max-train 0`` asks for all; fewer samples are
another run, with an ``--output`` of its own.

    python benchmarks/tabular.py
    python benchmarks/tabular.py --sets letter,magic --seeds 2
    python benchmarks/tabular.py --max-train 500 --output results/tabular-500
    python benchmarks/tabular.py --report
    python benchmarks/tabular.py --quick
"""

import _harness  # noqa: F401 - before everything that starts threads
from _harness.comparison import main

TABLES = [
    *("letter", "magic", "pendigits", "satimage", "optdigits", "spambase"),
    *("segment", "marketing", "german", "contraceptive", "banana", "adult"),
]

if __name__ == "__main__":
    main(__doc__, TABLES, tune_samples=5000, max_train=12_000)
