"""Search for the frontier over thresholds that are scores of the calibration samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._frontier import Frontier, efficient
from skearlyexit.calibration._geometric import geometric_family

#: Number of thresholds tried at each exit, by the number of exits before the last. All combinations
#: are tried if there are at most three.
GRID_SIZES = {1: 1000, 2: 150, 3: 40}
COORDINATE_GRID_SIZE = 60
MAX_EXHAUSTIVE = max(GRID_SIZES)
#: Bounds of the coordinate search, and maximum number of points kept of a frontier.
MAX_ROUNDS, POINTS_A_ROUND, MAX_POINTS = 8, 40, 500
#: Maximum number of samples used in the coordinate search; of more samples, this many are drawn.
SEARCHED_SAMPLES = 10_000


def search_frontier(data: CalibrationData) -> Frontier:
    """Search for the Pareto-optimal thresholds on the samples; see `compute_frontier`."""
    n_choices = data.n_exits - 1
    candidates = [np.full((1, n_choices), np.inf)]
    if n_choices:
        size = GRID_SIZES.get(n_choices, COORDINATE_GRID_SIZE)
        grids = [quantile_grid(data.scores[:, i], size, data.weight) for i in range(n_choices)]
        candidates.append(geometric_family(data, np.geomspace(1e-3, 1e3, 61)))
        if n_choices <= MAX_EXHAUSTIVE:
            candidates += [search_all(data, grids), *search_without_exits(data, grids)]
        else:
            candidates.append(search_coordinates(_searched(data), grids))
    thresholds = np.concatenate(candidates)
    outcomes, lowest, shares = [], [], []
    for row in thresholds:
        exits, paid = data.outcomes(row)
        outcomes.append(data.means(exits, paid))
        lowest.append(_lowest(data, row, exits))
        shares.append(data.exit_rates(exits))
    costs, accuracies = np.array(outcomes).T
    keep = efficient(costs, accuracies)
    return Frontier(np.array(lowest)[keep], costs[keep], accuracies[keep], np.array(shares)[keep])


def _searched(data: CalibrationData) -> CalibrationData:
    """Samples for a search that evaluates them hundreds of times."""
    n_samples = len(data.scores)
    if n_samples <= SEARCHED_SAMPLES:
        return data
    drawn = np.random.RandomState(0).choice(n_samples, SEARCHED_SAMPLES, replace=False)
    return data.take(np.sort(drawn))


def lowest_equivalent(data: CalibrationData, thresholds: np.ndarray) -> np.ndarray:
    """Thresholds with 0 at each exit where all samples that reach it exit, or no sample reaches it.

    A new sample with a lower score than all calibration samples would otherwise continue to exits
    without calibration samples, and cost more than requested.
    """
    return _lowest(data, thresholds, data.exits(thresholds))


def _lowest(data: CalibrationData, thresholds: np.ndarray, exits: np.ndarray) -> np.ndarray:
    if data.routing is not None:
        return thresholds  # which exits are skipped depends on all of them
    lowest = thresholds.copy()
    lowest[exits.max() :] = 0.0
    return lowest


def quantile_grid(scores: np.ndarray, size: int, weight: np.ndarray | None = None) -> np.ndarray:
    """Ascending thresholds to try: 0, up to `size` scores at equally spaced ranks, and infinity.

    If several ranks have the same score, other scores are added, equally spaced among the rest.
    """
    values = np.unique(scores)
    if len(values) > size:
        order = np.argsort(scores, kind="stable")
        rank = np.cumsum(np.ones(len(scores)) if weight is None else weight[order])
        at = np.searchsorted(rank, np.linspace(0, rank[-1], size), side="left")
        chosen = np.unique(scores[order[np.minimum(at, len(order) - 1)]])
        rest = np.setdiff1d(values, chosen)
        extra = np.linspace(0, len(rest) - 1, size - len(chosen)).round().astype(int)
        values = np.concatenate([chosen, rest[extra]])
    return np.unique(np.concatenate([[0.0], values, [np.inf]]))


def thinned(points: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """At most `MAX_POINTS` efficient points, with the first and the last.

    Half of them are equally spaced. The others are those before the largest steps in cost, which
    have no neighbor that could replace them.

    Parameters
    ----------
    points : ndarray of shape (n_points,)
        Indices of the points by increasing cost.
    costs : ndarray of shape (n_candidates,)
        Mean cost of each candidate.
    """
    if len(points) <= MAX_POINTS:
        return points
    spaced = np.linspace(0, len(points) - 1, MAX_POINTS // 2).round().astype(int)
    steps = np.argsort(-np.diff(costs[points]), kind="stable")[: MAX_POINTS // 2]
    return points[np.union1d(spaced, steps)]


def search_all(data: CalibrationData, grids: list[np.ndarray]) -> np.ndarray:
    """Pareto-optimal points among all combinations of thresholds."""
    costs, accuracies = every_combination(data, grids)
    keep = thinned(efficient(costs.ravel(), accuracies.ravel()), costs.ravel())
    return thresholds_at(grids, np.unravel_index(keep, costs.shape))


def search_without_exits(data: CalibrationData, grids: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Points as of `search_all` without some of the exits, which all samples skip.

    The search does not know what samples save that skip an exit; here it does for these.
    """
    middle = range(1, data.n_exits - 1) if data.routing is not None else range(0)
    for n_left_out in range(1, len(middle) + 1):
        for left_out in combinations(middle, n_left_out):
            kept = np.delete(np.arange(data.n_exits), left_out)
            points = search_all(_of_exits(data, kept), [grids[i] for i in kept[:-1]])
            thresholds = np.full((len(points), data.n_exits - 1), np.inf)
            thresholds[:, kept[:-1]] = points
            yield thresholds


def _of_exits(data: CalibrationData, kept: np.ndarray) -> CalibrationData:
    """Data of some of the exits, if all samples skip the others."""
    assert data.routing is not None
    saved = data.routing.savings.copy()
    saved[kept] = 0.0

    def of_kept(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[:, kept]

    return replace(
        data,
        scores=data.scores[:, kept],
        correct=of_kept(data.correct),
        losses=of_kept(data.losses),
        costs=(data.costs - np.cumsum(saved))[kept],
        labels=None,
        probabilities=None,
        routing=None,
    )


def every_combination(
    data: CalibrationData, grids: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cost and accuracy for every combination of thresholds, one axis for each exit.

    Samples are counted by the cell of the grid that their scores are in. Sums over the cells are
    the exit rates and accuracies for all combinations at once.
    """
    bins = grid_bins(data, grids)
    shape = tuple(len(grid) for grid in grids)
    total = data.weight.sum()
    cost, right = np.zeros(shape), np.zeros(shape)
    for exit_ in range(data.n_exits):
        # Which samples exit here depends on the thresholds up to this exit.
        axes = shape[: exit_ + 1]
        cells = np.ravel_multi_index(tuple(bins.T[: exit_ + 1]), axes)
        weight = data.weight
        for target, values in (
            (cost, weight * data.costs[exit_]),
            (right, weight * data.gains[:, exit_]),
        ):
            sums = np.bincount(cells, values, minlength=int(np.prod(axes))).reshape(axes)
            for axis in range(len(axes)):
                below = np.cumsum(sums, axis=axis) - sums
                # At this exit the score reaches the threshold; at earlier exits it is below.
                sums = sums.sum(axis=axis, keepdims=True) - below if axis == exit_ else below
            target += sums.reshape(axes + (1,) * (len(shape) - len(axes)))
    return cost / total, right / total


def thresholds_at(grids: list[np.ndarray], index: Sequence[np.ndarray]) -> np.ndarray:
    """Thresholds at grid indices, given as one array for each exit, shape (n_points, n_grids)."""
    return np.stack([grid[i] for grid, i in zip(grids, index, strict=True)], axis=1)


def grid_bins(data: CalibrationData, grids: list[np.ndarray]) -> np.ndarray:
    """Index of the largest threshold that each score reaches, shape (n_samples, n_exits - 1)."""
    columns = [
        np.searchsorted(grid, data.scores[:, i], side="right") - 1 for i, grid in enumerate(grids)
    ]
    # Contiguous columns, since a sweep reads one after the other.
    return np.stack(columns).T


def search_coordinates(data: CalibrationData, grids: list[np.ndarray]) -> np.ndarray:
    """Pareto-optimal points found by changing one threshold at a time.

    First, for several weights of the cost, each threshold in turn is set to the best value given
    the others, until none changes. Then, for a few rounds, all values of each threshold are tried
    from each Pareto-optimal point, or from some points along the frontier if there are many.
    """
    bins = grid_bins(data, grids)
    found: dict[tuple[int, ...], tuple[float, float]] = {}
    spread = data.costs[-1] - data.costs[0]
    for share in (0.25, 0.5, 0.75, 1.0):
        current = tuple(int(share * (len(grid) - 1)) for grid in grids)
        for price in np.geomspace(1e-3, 3.0, 12) / max(spread, 1e-12):
            previous = None
            while current != previous:
                previous = current
                current = sweep(data, bins, grids, current, found, price)
    expanded: set[tuple[int, ...]] = set()
    for _ in range(MAX_ROUNDS):
        index, values = np.array(list(found)), np.array(list(found.values()))
        keep = efficient(values[:, 0], values[:, 1])
        found = {tuple(index[i]): tuple(values[i]) for i in keep}
        waiting = [point for point in found if point not in expanded]
        if not waiting:
            break
        spread_out = np.linspace(0, len(waiting) - 1, min(len(waiting), POINTS_A_ROUND))
        waiting = [waiting[i] for i in np.unique(spread_out.astype(int))]
        for point in waiting:
            sweep(data, bins, grids, point, found)
        expanded.update(waiting)
    index, values = np.array(list(found)), np.array(list(found.values()))
    index = index[thinned(efficient(values[:, 0], values[:, 1]), values[:, 0])]
    return thresholds_at(grids, index.T)


def sweep(
    data: CalibrationData,
    bins: np.ndarray,
    grids: list[np.ndarray],
    start: tuple[int, ...],
    found: dict[tuple[int, ...], tuple[float, float]],
    price: float | None = None,
) -> tuple[int, ...]:
    """Try all values of each threshold, from the last exit to the first.

    Pareto-optimal values are added to `found`. With a weight of the cost, `price`, each threshold
    is set to its best value before the next one is tried.

    Returns
    -------
    end : tuple of int
        Grid indices of the thresholds after the sweep.
    """
    current = list(start)
    weight = data.weight / data.weight.sum()
    n_samples, n_choices = bins.shape
    # Exit of each sample under the thresholds before the sweep.
    exits = np.full(n_samples, n_choices)
    for exit_ in range(n_choices - 1, -1, -1):
        exits[bins[:, exit_] >= current[exit_]] = exit_
    right = data.gains[np.arange(n_samples), exits]
    earlier_cost = _earlier(exits, weight * data.costs[exits], n_choices)
    earlier_right = _earlier(exits, weight * right, n_choices)
    # Cost and correctness of each sample if it does not exit at the current exit.
    next_cost = np.full(n_samples, data.costs[-1])
    next_right = data.gains[:, -1].astype(np.float64)
    for exit_ in range(n_choices - 1, -1, -1):
        rows = np.flatnonzero(exits >= exit_)
        size = len(grids[exit_])
        here, w = bins[rows, exit_], weight[rows]
        on_cost, on_right = w * next_cost[rows], w * next_right[rows]
        # Sums over the samples whose score reaches each threshold of the grid.
        cost = _from_above(here, w * data.costs[exit_] - on_cost, size)
        right = _from_above(here, w * data.gains[rows, exit_] - on_right, size)
        cost += on_cost.sum() + earlier_cost[exit_]
        right += on_right.sum() + earlier_right[exit_]
        for j in efficient(cost, right):
            point = (*current[:exit_], int(j), *current[exit_ + 1 :])
            found.setdefault(point, (float(cost[j]), float(right[j])))
        if price is not None:
            current[exit_] = int(np.argmax(right - price * cost))
        leaves = bins[:, exit_] >= current[exit_]
        next_cost[leaves] = data.costs[exit_]
        next_right[leaves] = data.gains[leaves, exit_]
    return tuple(current)


def _earlier(exits: np.ndarray, values: np.ndarray, n_choices: int) -> np.ndarray:
    """Sum of `values` over the samples that exit before each exit."""
    sums = np.bincount(exits, values, minlength=n_choices + 1)
    return np.concatenate([[0.0], np.cumsum(sums[:-1])])


def _from_above(bins: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    return np.bincount(bins, values, minlength=size)[::-1].cumsum(dtype=np.float64)[::-1]
