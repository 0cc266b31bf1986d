"""How often the intervals of the exit report for means cover the truth.

Samples have one of three values: the costs of three exits, or -1, 0 and 1 where two predictions
lost, agreed or gained. For many distributions of these values, most of them with rare ones, the
coverage of an interval at 95 % is computed exactly, over all counts that can be drawn. Compared are

- ``Wald``: the mean, and 1.96 standard errors to either side;
- ``both ends``: Wald's interval after samples are added at both ends at once, two at each for costs
  (Agresti and Coull) and one at each for differences (Bonett and Price);
- ``own side``: `skearlyexit.metrics._intervals.mean_interval`, which the report uses and whose
  limits each have samples added on their own side.

Printed are the least coverage over all distributions, the mean over them, the distribution at which
"both ends" has its least, and the mean ratio of the expected width to that of "both ends".

    python benchmarks/intervals.py
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.command import make_parser
from _harness.report import table
from scipy.special import gammaln, ndtri, xlogy

from skearlyexit.metrics._intervals import mean_interval

Z = float(ndtri(0.975))
COSTS = ((0.1, 0.3, 1.0), (0.25, 0.5, 1.0), (0.3, 0.9, 1.0), (0.6, 0.8, 1.0))
DIFFERENCES = (-1.0, 0.0, 1.0)
#: Probabilities of single values, from which distributions are made besides random ones.
RATES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 0.997, 0.999)

#: From counts of three values (n, 3), and the values, to limits (n, 2).
Intervals = Callable[[np.ndarray, np.ndarray], np.ndarray]


def wald(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    n = counts.sum(axis=1)
    mean = counts @ values / n
    spread = np.maximum(counts @ values**2 / n - mean**2, 0.0)
    return mean[:, None] + Z * np.sqrt(spread / n)[:, None] * np.array([-1.0, 1.0])


def both_ends(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    added = 1.0 if tuple(values) == DIFFERENCES else 2.0
    limits = wald(counts + np.array([added, 0.0, added]), values)
    return np.clip(limits, values[0], values[-1])


def own_side(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.array(
        [mean_interval(np.repeat(values, each), values[0], values[-1], 0.95) for each in counts]
    )


INTERVALS: dict[str, Intervals] = {"Wald": wald, "both ends": both_ends, "own side": own_side}


def distributions(n_random: int) -> np.ndarray:
    """Probabilities of three values, shape (n_distributions, 3)."""
    rng = np.random.RandomState(0)
    made = [(a, b, max(1 - a - b, 0.0)) for a, b in itertools.product(RATES, RATES) if a + b <= 1]
    orders = {order for each in made for order in itertools.permutations(each)}
    drawn = [rng.dirichlet(np.full(3, alpha), n_random // 3) for alpha in (0.1, 0.5, 1.0)]
    return np.concatenate([np.array(sorted(orders)), *drawn])


def outcomes(n: int) -> np.ndarray:
    """All counts of three values among n samples."""
    return np.array([(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)])


def probabilities(counts: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Probability of each outcome under one distribution."""
    log = gammaln(counts[0].sum() + 1) - gammaln(counts + 1).sum(axis=1)
    return np.exp(log + xlogy(counts, shares).sum(axis=1))


def study(values: tuple[float, ...], n: int, shares: np.ndarray) -> np.ndarray:
    """Coverage and expected width, shape (2, n_intervals, n_distributions)."""
    counts, known = outcomes(n), np.array(values)
    limits = np.stack([intervals(counts, known) for intervals in INTERVALS.values()])
    # Limits that are the mean itself up to rounding cover it.
    low, high = limits[..., 0] - 1e-12, limits[..., 1] + 1e-12
    found = np.empty((2, len(INTERVALS), len(shares)))
    for k, each in enumerate(shares):
        probability, truth = probabilities(counts, each), float(each @ known)
        found[0, :, k] = ((low <= truth) & (truth <= high)) @ probability
        found[1, :, k] = (high - low) @ probability
    return found


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--samples", type=int, nargs="+", default=[3, 10, 30, 100, 200])
    parser.add_argument("--distributions", type=int, default=900, help="drawn, besides rare ones")
    args = parser.parse_args()
    shares = distributions(args.distributions)
    rows = []
    for title, kinds in (("costs", COSTS), ("paired differences", (DIFFERENCES,))):
        for n in args.samples:
            found = np.concatenate([study(values, n, shares) for values in kinds], axis=2)
            ratio = found[1, 2] / found[1, 1]
            # Of several kinds of costs the distributions are repeated.
            worst = shares[found[0, 1].argmin() % len(shares)]
            rows.append(
                [
                    title,
                    str(n),
                    *(f"{100 * cover.min():.1f} ({100 * cover.mean():.1f})" for cover in found[0]),
                    " ".join(f"{share:.3f}" for share in worst),
                    f"{ratio.mean():.2f}",
                ]
            )
            print(" | ".join(rows[-1]), flush=True)
    print(f"\n{len(shares)} distributions; least coverage in %, and the mean in brackets\n")
    header = [
        "values",
        "samples",
        *INTERVALS,
        "least of both ends at",
        "width, own side to both ends",
    ]
    print(table(rows, header))


if __name__ == "__main__":
    main()
