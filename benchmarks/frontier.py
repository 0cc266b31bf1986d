"""The frontier: seconds to compute it, and its difference from trying everything.

Tables are synthetic, of samples whose scores rise with the probability that an exit is right. "By
risk" is the default frontier, and all else is about that of the search.
"Look-up" is the thresholds for one more budget, ``frontier.thresholds[frontier.at_budget(b)]``;
"one budget" is the search for a single one that placement uses. With two and three exits the
frontier is compared with every combination on its grid, with more with every combination on a
coarse grid: above 0, the frontier is better by so many points of accuracy at the same budget, on
these samples. With many exits the search for a single budget is compared with the frontier. Above
10,000 samples the search for the frontier of five and more exits uses 10,000 of them: the last
table compares with a search over all samples.

    python benchmarks/frontier.py
"""

from __future__ import annotations

import itertools
from unittest.mock import patch

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.command import make_parser
from _harness.measure import repeated
from _harness.report import table
from _harness.synthetic import draw

from skearlyexit.calibration import CalibrationData, Frontier, _search, compute_frontier
from skearlyexit.calibration._best_at_budget import best_at_budget
from skearlyexit.calibration._search import GRID_SIZES, quantile_grid, search_frontier

#: Thresholds at each exit that are tried in every combination, by the number of exits.
COARSE = {4: 16, 5: 10, 6: 6}
BUDGETS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def timings(sizes: list[tuple[int, int]], n_repetitions: int) -> str:
    """Times for tables of so many samples and exits."""
    rows = []
    for n_rows, n_exits in sizes:
        data = draw(n_rows, n_exits, 0).calibration_data()
        times = repeated(lambda e=data: search_frontier(e), n_repetitions)
        by_risk = np.median(repeated(lambda e=data: compute_frontier(e), n_repetitions))
        low, middle, high = np.percentile(times, [25, 50, 75])
        frontier = search_frontier(data)
        look_up = np.median(repeated(lambda f=frontier: f.thresholds[f.at_budget(0.5)], 1000))
        one = np.median(repeated(lambda e=data: best_at_budget(e, 0.5), n_repetitions))
        rows.append(
            [
                f"{n_rows:,}",
                str(n_exits),
                f"{by_risk:.2f}",
                f"{middle:.2f} [{low:.2f} .. {high:.2f}]",
                str(len(frontier)),
                f"{1e3 * look_up:.4f}",
                f"{one:.2f}",
            ]
        )
    header = [
        "samples",
        "exits",
        "by risk, s",
        "search, s",
        "points",
        "look-up, ms",
        "one budget, s",
    ]
    return table(rows, header)


def brute_force(data: CalibrationData, size: int) -> Frontier:
    """Frontier of every combination of quantiles, each evaluated alone."""
    grids = [quantile_grid(column, size, data.weight) for column in data.scores[:, :-1].T]
    points = np.array([*itertools.product(*grids)])
    values = np.array([data.evaluate(point) for point in points])
    return Frontier.of(points, values[:, 0], values[:, 1])


def gaps(found: Frontier, tried: Frontier) -> np.ndarray:
    """Points of accuracy by which the first is above the second, by budget."""
    budgets = [b for b in BUDGETS if b >= max(found.costs[0], tried.costs[0])]
    return 100 * np.array(
        [
            found.accuracies[found.at_budget(b)] - tried.accuracies[tried.at_budget(b)]
            for b in budgets
        ]
    )


def quality(n_rows: int, n_seeds: int) -> str:
    """Against every combination; tables of several seeds."""
    rows = []
    for n_exits in (2, 3, *COARSE):
        differences, ones, n_tried = [], [], 0
        for seed in range(n_seeds):
            data = draw(n_rows, n_exits, seed).calibration_data()
            size = COARSE.get(n_exits, GRID_SIZES.get(n_exits - 1, 0))
            tried, frontier = brute_force(data, size), search_frontier(data)
            n_tried = (size + 2) ** (n_exits - 1)
            differences.append(gaps(frontier, tried))
            ones += [
                100 * (best_at_budget(data, b)[2] - tried.accuracies[tried.at_budget(b)])
                for b in BUDGETS
                if b >= tried.costs[0]
            ]
        found = np.concatenate(differences)
        kind = "coarse" if n_exits in COARSE else "the frontier's"
        rows.append(
            [
                str(n_exits),
                f"{kind}, up to {n_tried:,}",
                f"{found.mean():+.4f}",
                f"{found.min():+.4f}",
                f"{np.mean(ones):+.4f}",
                f"{np.min(ones):+.4f}",
            ]
        )
    header = ["exits", "combinations", "frontier: mean", "least", "one budget: mean", "least"]
    return table(rows, header)


def drawn(n_rows: int, n_seeds: int) -> str:
    """Frontier of a search over some of the samples against that of one over all."""
    rows = []
    for n_exits in (5, 8, 16):
        differences = []
        for seed in range(n_seeds):
            data = draw(n_rows, n_exits, seed).calibration_data()
            frontier = search_frontier(data)
            with patch.object(_search, "SEARCHED_SAMPLES", n_rows):
                differences.append(gaps(frontier, search_frontier(data)))
        found = np.concatenate(differences)
        rows.append([str(n_exits), f"{found.mean():+.4f}", f"{found.min():+.4f}"])
    return table(rows, ["exits", "mean", "least"])


def many_exits(n_rows: int, n_seeds: int) -> str:
    """Search for a single budget against the frontier, where exits are many."""
    rows = []
    for n_exits in (5, 8, 12, 16, 24):
        found = []
        for seed in range(n_seeds):
            data = draw(n_rows, n_exits, seed).calibration_data()
            frontier = search_frontier(data)
            found += [
                100 * (best_at_budget(data, b)[2] - frontier.accuracies[frontier.at_budget(b)])
                for b in BUDGETS
            ]
        rows.append([str(n_exits), f"{np.mean(found):+.4f}", f"{np.min(found):+.4f}"])
    return table(rows, ["exits", "mean", "least"])


def main() -> None:
    parser = make_parser(__doc__, seeds=5)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--samples", type=int, default=2000, help="samples of the other tables")
    parser.add_argument("--quick", action="store_true", help="without the largest tables")
    args = parser.parse_args()
    sizes = [(5000, n_exits) for n_exits in (2, 3, 4, 6, 8)]
    if not args.quick:
        sizes += [(100_000, n_exits) for n_exits in (4, 8, 16)]
    print(f"Median [quartiles] of {args.repetitions} repetitions, one thread.\n")
    print(timings(sizes, args.repetitions), flush=True)
    size = f"{args.samples} samples, {args.seeds} seeds"
    print(f"Points of accuracy against every combination, {size}.\n")
    print(quality(args.samples, args.seeds), flush=True)
    print(
        f"Points of one budget against the frontier, {args.samples} samples, {args.seeds} seeds.\n"
    )
    print(many_exits(args.samples, args.seeds), flush=True)
    if not args.quick:
        print(f"Points against a search over all of 100,000 samples, {args.seeds} seeds.\n")
        print(drawn(100_000, args.seeds))


if __name__ == "__main__":
    main()
