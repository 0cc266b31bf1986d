"""Intervals, by hand and by how often they hold the truth."""

from itertools import permutations, product
from operator import attrgetter

import numpy as np
import pytest
from scipy.stats import binom, binomtest, multinomial

from skearlyexit._exit_table import ExitTable
from skearlyexit.metrics._intervals import effective_rows, mean_interval, proportion_interval
from tests._reports import EXIT_VALUES, VALUES, added_rows, report_of, table_of


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_exact_interval_of_a_proportion(level):
    for n_rows in (1, 2, 7, 60):
        hits = np.arange(n_rows + 1)
        expected = [binomtest(int(k), n_rows).proportion_ci(level, method="exact") for k in hits]
        assert proportion_interval(hits, n_rows, level) == pytest.approx(np.array(expected))


def test_a_proportion_of_part_rows_lies_between():
    whole = proportion_interval([3, 4], 20)
    part = proportion_interval(3.5, 20)
    assert (whole[0] < part).all()
    assert (part < whole[1]).all()
    assert proportion_interval(10, 20.5).mean() < proportion_interval(10, 20).mean()


def test_a_proportion_of_no_rows_is_unknown():
    assert proportion_interval(0, 0).tolist() == [0, 1]
    assert proportion_interval([[0, 5]], [0, 10]).shape == (1, 2, 2)
    # Sums of weights that pass the number of rows in the last bits.
    assert proportion_interval(20 + 1e-13, 20).tolist() == proportion_interval(20, 20).tolist()


@pytest.mark.parametrize(
    "interval", [lambda p: proportion_interval(1, 2, p), lambda p: mean_interval([1.0], 0, 1, p)]
)
@pytest.mark.parametrize("level", [0, 1, 95, -0.1, np.nan, "0.9", None])
def test_confidence_levels_are_checked(interval, level):
    with pytest.raises(ValueError, match=r"'confidence_level' parameter .* Got"):
        interval(level)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_interval_of_a_mean(level):
    rng = np.random.default_rng(0)
    for n_rows in (1, 3, 40, 500):
        values = rng.choice([0.2, 0.4, 1.1], n_rows, p=[0.7, 0.2, 0.1])
        interval = mean_interval(values, 0.2, 1.1, level)
        assert interval == pytest.approx(added_rows(values, 0.2, 1.1, level))
        assert interval[0] <= values.mean() <= interval[1]
        turned = mean_interval(-values, -1.1, -0.2, level)
        assert turned == pytest.approx(-interval[::-1])


def test_interval_of_a_mean_at_its_ends():
    assert mean_interval([], -1, 1).tolist() == [-1, 1]
    assert mean_interval([0.3, 0.3], 0.3, 0.3).tolist() == [0.3, 0.3]
    low, high = mean_interval(np.zeros(200), 0, 1)
    assert low == 0
    # What was not seen in 200 rows may still be as common as an exact interval says.
    assert high == pytest.approx(proportion_interval(0, 200)[1], rel=0.02)
    assert mean_interval([5.0], 0, 10, weight=np.zeros(1)).tolist() == [0, 10]


def test_weights_count_as_effective_rows():
    assert effective_rows(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_rows(np.array([1.0, 0, 0])) == 1
    assert effective_rows(np.zeros(3)) == 0
    values = np.array([0.0, 1, 1, 0, 1])
    equal = mean_interval(values, 0, 1, weight=np.full(5, 0.2))
    assert equal == pytest.approx(mean_interval(values, 0, 1))
    unequal = mean_interval(values, 0, 1, weight=np.array([1.0, 1, 1, 1, 0.1]))
    assert np.ptp(unequal) > np.ptp(equal)


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95, 0.99])
def test_a_mean_is_covered_exactly_enumerated(level):
    """For paired differences and for costs of three exits, over all that 25 rows can show."""
    n_rows = 25
    counts = np.array([c for c in product(range(n_rows + 1), repeat=3) if sum(c) == n_rows])
    rates = (0.0, 0.004, 0.01, 0.03, 0.1, 0.3, 0.6)
    for values in (np.array([-1.0, 0.0, 1.0]), np.array([0.1, 0.4, 1.0])):
        low, high = values.min(), values.max()
        intervals = np.array(
            [mean_interval(np.repeat(values, count), low, high, level) for count in counts]
        )
        for first, second in product(rates, repeat=2):
            for shares in permutations((first, second, 1 - first - second)):
                if min(shares) < 0:
                    continue
                truth = np.dot(shares, values)
                covered = (intervals[:, 0] <= truth + 1e-12) & (truth - 1e-12 <= intervals[:, 1])
                probability = multinomial.pmf(counts[covered], n_rows, shares).sum()
                assert probability >= level - 0.01, (shares, values)


@pytest.mark.parametrize("n_rows", [30, 300])
def test_rare_hits_are_covered_by_both_kinds(n_rows):
    hits = np.arange(n_rows + 1)
    exact = proportion_interval(hits, n_rows)
    bounded = np.array([mean_interval(np.arange(n_rows) < k, 0, 1) for k in hits])
    for rate in np.geomspace(1e-4, 0.5, 60):
        probability = binom.pmf(hits, n_rows, rate)
        for intervals, least in ((exact, 0.95), (bounded, 0.945)):
            covered = (intervals[:, 0] <= rate) & (rate <= intervals[:, 1])
            assert probability[covered].sum() >= least, rate


N_DRAWS = 400


def population(kind):
    """Rows whose frequencies are the truth: table, classes, costs, thresholds."""
    rng = np.random.default_rng(1)
    n_rows, n_classes = 4000, 4
    y = rng.choice(n_classes, n_rows, p=[0.05, 0.15, 0.3, 0.5])
    if kind == "plain":
        rates, thresholds = (0.7, 0.85, 0.92), [0.6, 0.5]
        scores = rng.random((n_rows, 3))
    elif kind == "rare":
        # Accurate, and hardly any row gets to the last exit.
        rates, thresholds = (0.985, 0.99, 0.995), [0.1, 0.05]
        scores = rng.random((n_rows, 3))
    else:
        # Nearly all run to the last exit; those that leave before are often wrong.
        rates, thresholds = (0.4, 0.6, 0.9), [0.99, 0.995]
        scores = rng.random((n_rows, 3))
    luck = np.where(rng.random((n_rows, 1)) < 0.6, rng.random((n_rows, 1)), rng.random((n_rows, 3)))
    labels = np.where(luck < rates, y[:, None], (y[:, None] + 1) % n_classes)
    return table_of(labels, scores, n_classes), y, np.array([0.15, 0.4, 1.05]), np.array(thresholds)


def coverage(kind, n_rows, *, level=0.95, weight=None):
    """How often each interval holds the truth, by its name."""
    table, y, costs, thresholds = population(kind)
    truth = report_of(table, y, thresholds, costs, weight)
    names = (*VALUES, *EXIT_VALUES, "classes.drop")
    hits = {name: np.zeros(np.shape(attrgetter(name)(truth))) for name in names}
    rng = np.random.default_rng(0)
    for _ in range(N_DRAWS):
        rows = rng.integers(0, len(y), n_rows)
        drawn = ExitTable(table.probabilities[rows], table.scores[rows])
        weights = None if weight is None else weight[rows]
        report = report_of(drawn, y[rows], thresholds, costs, weights, confidence_level=level)
        for name in names:
            true, interval = attrgetter(name)(truth), attrgetter(f"{name}_interval")(report)
            hits[name] += (interval[..., 0] - 1e-12 <= true) & (true <= interval[..., 1] + 1e-12)
    return {name: value / N_DRAWS for name, value in hits.items()}


@pytest.mark.parametrize(
    ("kind", "n_rows", "level"),
    [("plain", 300, 0.95), ("rare", 200, 0.95), ("hard", 250, 0.95), ("rare", 400, 0.8)],
)
def test_intervals_cover(kind, n_rows, level):
    found = coverage(kind, n_rows, level=level)
    error = np.sqrt(level * (1 - level) / N_DRAWS)
    for name, rate in found.items():
        assert (rate >= level - 3 * error).all(), (name, rate)


def test_intervals_of_weighted_rows_cover():
    weight = np.random.default_rng(2).uniform(0.2, 3.0, 4000)
    found = coverage("plain", 300, weight=weight)
    error = np.sqrt(0.95 * 0.05 / N_DRAWS)
    for name, rate in found.items():
        assert (rate >= 0.95 - 3 * error).all(), (name, rate)
