"""Measures, intervals and the report, from arrays alone."""

import pickle
import sys
from itertools import permutations, product
from operator import attrgetter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, multinomial, norm

from skearlyexit._exit_table import ExitTable
from skearlyexit.metrics import ExitReport, cost_accuracy, oracle
from skearlyexit.metrics._figures import possible_exits
from skearlyexit.metrics._intervals import effective_rows, mean_interval, proportion_interval
from skearlyexit.metrics._measures import random_exits

VALUES = ("overall.accuracy", "overall.last_accuracy", "overall.drop", "overall.mean_cost")
EXIT_VALUES = (
    "exits.accuracy_alone",
    "exits.reach_rate",
    "exits.exit_rate",
    "exits.accuracy_exiting",
)
CLASS_VALUES = ("classes.accuracy", "classes.last_accuracy", "classes.drop", "classes.mean_cost")


def table_of(labels, scores, n_classes):
    """Exit table whose heads give labels only."""
    return ExitTable(np.eye(n_classes)[labels], np.asarray(scores, dtype=float))


@st.composite
def cases(draw, max_rows=30, max_exits=4):
    """Table, true classes, costs, thresholds, and weights that are repetitions."""
    n_rows, n_exits = draw(st.integers(1, max_rows)), draw(st.integers(1, max_exits))
    n_classes = draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    labels = rng.integers(0, n_classes, (n_rows, n_exits))
    scores = rng.random((n_rows, n_exits)).round(draw(st.sampled_from([1, 8])))
    weight = rng.integers(0, 4, n_rows)
    weight[0] = max(weight[0], 1)
    return (
        table_of(labels, scores, n_classes),
        rng.integers(0, n_classes, n_rows),
        np.cumsum(rng.uniform(0.1, 1.0, n_exits)),
        rng.choice([0.0, 0.2, 0.5, 0.9, np.inf], n_exits - 1),
        weight,
    )


def report_of(table, y, thresholds, costs, weight=None, **params):
    n_classes = table.probabilities.shape[2]
    names = [f"block{i}" for i in range(table.n_exits)]
    params = {"classes": np.arange(n_classes), "exit_names": names, **params}
    return ExitReport.from_table(table, y, thresholds, costs, weight=weight, **params)


def by_hand(**params):
    """Six rows, three exits, two classes; the report can be checked with a pencil."""
    y = np.array([0, 0, 0, 0, 1, 1])
    labels = np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0], [0, 0, 1]])
    scores = np.array(
        [[0.9] * 3, [0.2, 0.8, 1], [0.9, 1, 1], [0.1, 0.1, 1], [0.1, 0.9, 1], [0] * 3]
    )
    params = {"classes": np.array(["cat", "dog"]), "exit_names": ["a", "b", "end"], **params}
    costs = np.array([0.2, 0.5, 1.1])
    return ExitReport.from_table(table_of(labels, scores, 2), y, [0.9, 0.8], costs, **params)


# Intervals


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


def added_rows(values, low, high, level):
    """The interval as its docstring tells it, with rows really added as weights."""
    z = norm.ppf((1 + level) / 2)
    n_added = brentq(lambda n: n + z * np.sqrt(n) + np.log((1 - level) / 2), 0, 100)
    limits = []
    for end, sign in ((low, -1), (high, 1)):
        rows, weight = np.append(values, end), np.append(np.ones(len(values)), n_added)
        mean = np.average(rows, weights=weight)
        variance = np.average((rows - mean) ** 2, weights=weight)
        limits.append(mean + sign * z * np.sqrt(variance / weight.sum()))
    return np.clip(limits, low, high)


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


# Measures


def slow_cost_accuracy(correct, scores, costs, thresholds, weight):
    cost = right = 0.0
    for row in range(len(correct)):
        exit_ = 0
        while exit_ < len(thresholds) and not scores[row, exit_] >= thresholds[exit_]:
            exit_ += 1
        cost += weight[row] * costs[exit_]
        right += weight[row] * correct[row, exit_]
    return cost / sum(weight), right / sum(weight)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_cost_accuracy_against_a_slow_loop(case):
    table, y, costs, thresholds, weight = case
    correct = table.labels == y[:, None]
    points = np.stack([thresholds, np.zeros_like(thresholds), np.full_like(thresholds, 0.5)])
    found = cost_accuracy(correct, table.scores, costs, points, weight)
    for i, point in enumerate(points):
        expected = slow_cost_accuracy(correct, table.scores, costs, point, weight)
        assert (found[0][i], found[1][i]) == pytest.approx(expected)


@given(cases(max_rows=4, max_exits=3), st.booleans())
@settings(max_examples=40, deadline=None)
def test_no_policy_passes_the_oracle(case, weighted):
    table, y, costs, _, weight = case
    weight = weight if weighted else None
    correct = table.labels == y[:, None]
    cost, accuracy = oracle(correct, costs, weight)
    for exits in product(range(table.n_exits), repeat=len(y)):
        right = np.average(correct[np.arange(len(y)), exits], weights=weight)
        assert right <= accuracy + 1e-12
        if right > accuracy - 1e-12:
            assert np.average(costs[list(exits)], weights=weight) >= cost - 1e-12


@given(cases(max_rows=5))
@settings(max_examples=40, deadline=None)
def test_random_exits_are_the_mean_of_all_orders(case):
    table, y, costs, thresholds, _ = case
    correct = table.labels == y[:, None]
    exits = table.exits(thresholds)
    orders = np.array(list(permutations(exits)))
    cost, accuracy = random_exits(correct, exits, costs)
    assert cost == pytest.approx(costs[exits].mean())
    assert accuracy == pytest.approx(correct[np.arange(len(y)), orders].mean())


@given(cases())
@settings(max_examples=60, deadline=None)
def test_weights_are_repetitions_in_the_measures(case):
    table, y, costs, thresholds, weight = case
    again = np.repeat(np.arange(len(y)), weight)
    correct, exits = table.labels == y[:, None], table.exits(thresholds)
    for weighted, repeated in (
        (oracle(correct, costs, weight), oracle(correct[again], costs)),
        (
            random_exits(correct, exits, costs, weight),
            random_exits(correct[again], exits[again], costs),
        ),
        (
            cost_accuracy(correct, table.scores, costs, thresholds[None], weight),
            cost_accuracy(correct[again], table.scores[again], costs, thresholds[None]),
        ),
    ):
        assert np.ravel(weighted) == pytest.approx(np.ravel(repeated))


# The report


def test_the_report_by_hand():
    report = by_hand()
    # The rows leave at exits 0, 1, 0, 2, 1 and 2.
    assert report.overall.n_samples == 6
    assert report.exits.accuracy_alone == pytest.approx([3 / 6, 4 / 6, 5 / 6])
    assert report.exits.reach_rate == pytest.approx([1, 4 / 6, 2 / 6])
    assert report.exits.exit_rate == pytest.approx([2 / 6, 2 / 6, 2 / 6])
    assert report.exits.accuracy_exiting == pytest.approx([1 / 2, 1, 1])
    assert report.overall.accuracy == pytest.approx(5 / 6)
    assert report.overall.last_accuracy == pytest.approx(5 / 6)
    assert report.overall.drop == pytest.approx(0)  # the third row is lost, the fifth won
    assert report.overall.mean_cost == pytest.approx((0.2 + 0.5 + 1.1) / 3)
    assert report.classes.n_samples.tolist() == [4, 2]
    assert report.classes.accuracy == pytest.approx([3 / 4, 1])
    assert report.classes.last_accuracy == pytest.approx([1, 1 / 2])
    assert report.classes.drop == pytest.approx([1 / 4, -1 / 2])
    assert report.classes.mean_cost == pytest.approx([(0.2 + 0.5 + 0.2 + 1.1) / 4, 0.8])
    loss = np.array([0, 0, 1, 0, -1, 0])
    assert report.overall.drop_interval == pytest.approx(added_rows(loss, -1, 1, 0.95))
    assert report.classes.drop_interval[1] == pytest.approx(added_rows(loss[4:], -1, 1, 0.95))
    cost = np.array([0.2, 0.5, 0.2, 1.1, 0.5, 1.1])
    assert report.overall.mean_cost_interval == pytest.approx(added_rows(cost, 0.2, 1.1, 0.95))
    exact = binomtest(5, 6).proportion_ci(0.95, method="exact")
    assert report.overall.accuracy_interval == pytest.approx([exact.low, exact.high])
    leaving = binomtest(1, 2).proportion_ci(0.95, method="exact")
    assert report.exits.accuracy_exiting_interval[0] == pytest.approx([leaving.low, leaving.high])


def test_every_interval_of_weighted_rows_uses_the_effective_number():
    weight = np.array([1.0, 2.0, 0.5, 1.0, 3.0, 0.1])
    report = by_hand(weight=weight, confidence_level=0.8)
    exits = np.array([0, 1, 0, 2, 1, 2])
    right = np.array([1, 1, 0, 1, 1, 1])
    loss = np.array([0, 0, 1, 0, -1, 0])
    cost = np.array([0.2, 0.5, 1.1])[exits]

    def share(hits, rows):
        n_rows = effective_rows(weight[rows])
        hits = np.average(hits[rows], weights=weight[rows])
        return proportion_interval(hits * n_rows, n_rows, 0.8)

    def mean(values, low, high, rows):
        return mean_interval(values[rows], low, high, 0.8, weight=weight[rows])

    rows = np.arange(6)
    assert report.overall.accuracy_interval == pytest.approx(share(right, rows))
    assert report.overall.last_accuracy_interval == pytest.approx(share(right + loss, rows))
    assert report.overall.drop_interval == pytest.approx(mean(loss, -1, 1, rows))
    assert report.overall.mean_cost_interval == pytest.approx(mean(cost, 0.2, 1.1, rows))
    assert report.exits.reach_rate_interval[1] == pytest.approx(share(exits >= 1, rows))
    for i in range(3):
        assert report.exits.exit_rate_interval[i] == pytest.approx(share(exits == i, rows))
        leaving = share(right, np.flatnonzero(exits == i))
        assert report.exits.accuracy_exiting_interval[i] == pytest.approx(leaving)
    for k, there in enumerate((rows[:4], rows[4:])):
        assert report.classes.drop_interval[k] == pytest.approx(mean(loss, -1, 1, there))


@given(cases())
@settings(max_examples=80, deadline=None)
def test_the_report_adds_up(case):
    table, y, costs, thresholds, weight = case
    report = report_of(table, y, thresholds, costs, weight)
    assert report.exits.exit_rate.sum() == pytest.approx(1)
    assert report.exits.reach_rate == pytest.approx(report.exits.exit_rate[::-1].cumsum()[::-1])
    assert report.exits.exit_rate @ costs == pytest.approx(report.overall.mean_cost)
    assert report.exits.exit_rate @ np.nan_to_num(report.exits.accuracy_exiting) == pytest.approx(
        report.overall.accuracy
    )
    assert report.overall.last_accuracy - report.overall.accuracy == pytest.approx(
        report.overall.drop
    )
    assert report.classes.n_samples.sum() == report.overall.n_samples == (weight > 0).sum()
    assert report.overall.last_accuracy == pytest.approx(report.exits.accuracy_alone[-1])
    for name in (*VALUES, *EXIT_VALUES, "classes.drop"):
        value, interval = attrgetter(name, f"{name}_interval")(report)
        known = ~np.isnan(value)
        assert (interval[..., 0] <= value + 1e-9)[known].all()
        assert (value - 1e-9 <= interval[..., 1])[known].all()
    assert str(report)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_weights_are_repetitions_in_the_report(case):
    table, y, costs, thresholds, weight = case
    again = np.repeat(np.arange(len(y)), weight)
    repeated = ExitTable(table.probabilities[again], table.scores[again])
    first = report_of(table, y, thresholds, costs, weight)
    second = report_of(repeated, y[again], thresholds, costs)
    for name in (*VALUES, *EXIT_VALUES, *CLASS_VALUES):
        value, other = (attrgetter(name)(report) for report in (first, second))
        assert value == pytest.approx(other, nan_ok=True), name


def test_what_is_certain_has_no_interval():
    report = by_hand()
    assert report.exits.reach_rate_interval[0].tolist() == [1, 1]
    table = table_of(np.zeros((50, 3), dtype=int), np.full((50, 3), 0.5), 2)
    costs = np.array([0.2, 0.5, 1.1])
    nobody = report_of(table, np.zeros(50, dtype=int), np.full(2, np.inf), costs)
    assert nobody.overall.drop_interval.tolist() == [0, 0]
    assert nobody.classes.drop_interval.tolist() == [[0, 0], [0, 0]]
    assert nobody.overall.mean_cost_interval.tolist() == [1.1, 1.1]
    assert nobody.exits.exit_rate_interval.tolist() == [[0, 0], [0, 0], [1, 1]]
    assert nobody.exits.reach_rate_interval.tolist() == [[1, 1]] * 3
    everybody = report_of(table, np.zeros(50, dtype=int), [np.inf, 0.0], costs)
    assert everybody.exits.exit_rate_interval.tolist() == [[0, 0], [1, 1], [0, 0]]
    assert everybody.exits.reach_rate_interval.tolist() == [[1, 1], [1, 1], [0, 0]]
    # That the last exit was not seen in 50 rows is not certain.
    seen = report_of(table, np.zeros(50, dtype=int), [0.9, 0.5], costs)
    assert seen.exits.exit_rate[2] == 0
    assert seen.exits.exit_rate_interval[2, 1] > 0.05
    assert seen.overall.mean_cost_interval[1] > 0.5


def test_possible_exits():
    for thresholds, expected in (
        ([], [1]),
        ([0.5, 1.0], [1, 1, 1]),
        ([np.inf, 0.3], [0, 1, 1]),
        ([0.3, 0.0], [1, 1, 0]),
        ([0.0, 0.5], [1, 0, 0]),
    ):
        assert possible_exits(np.array(thresholds)).tolist() == expected


def test_one_exit_and_classes_without_rows():
    table = table_of(np.array([[0], [1], [1]]), np.ones((3, 1)), 3)
    report = report_of(table, np.array([0, 1, 0]), [], np.array([1.0]))
    assert report.overall.accuracy == pytest.approx(2 / 3)
    assert report.overall.drop_interval.tolist() == [0, 0]
    assert report.classes.n_samples.tolist() == [2, 1, 0]
    assert np.isnan(report.classes.accuracy[2])
    assert "nan" not in str(report)


def test_bad_input_of_the_report():
    with pytest.raises(ValueError, match="at least one sample of positive weight"):
        by_hand(weight=np.zeros(6))
    with pytest.raises(ValueError, match="'confidence_level' parameter"):
        by_hand(confidence_level=95)
    with pytest.raises(ValueError, match=r"'part' parameter must be one of .* Got 'rows'"):
        by_hand().to_frame("rows")


# How it looks


def test_the_text_holds_the_numbers():
    report = by_hand(request="Budget(0.6)", certified=False, reason="Too few rows.")
    lines = str(report).splitlines()
    assert repr(report) == str(report)
    assert lines[0] == "6 rows, 3 exits, 2 classes; intervals at a confidence of 95 %"
    assert lines[1] == "asked for: Budget(0.6), not certified"
    assert lines[2] == "Too few rows."
    start = {line.split("  ")[0]: line.split() for line in lines}
    assert start["accuracy"][1:3] == ["83.3", "[35.9,"]
    assert start["mean cost per row"][4] == "0.600"
    assert start["a"][:4] == ["a", "0.200", "0.9", "50.0"]
    assert start["end"][1:3] == ["1.100", "-"]
    assert start["dog"][1:5] == ["2", "100.0", "50.0", "-50.00"]
    assert ", certified" in str(by_hand(request="RiskControl()", certified=True))
    assert "asked for" not in str(by_hand())
    assert all(len(line) <= 120 for line in lines)


def test_columns_are_aligned():
    blocks = str(by_hand()).split("\n\n")[1:]
    assert len(blocks) == 3
    for block in blocks:
        # Numbers end at the same place in every line that holds an interval.
        ends = [line.index("]") for line in block.splitlines() if "]" in line]
        assert len(set(ends)) == 1


def test_many_classes_show_those_that_lose_most():
    rng = np.random.default_rng(0)
    n_classes = 26
    y = rng.integers(0, n_classes, 800)
    labels = np.where(rng.random((800, 2)) < [[0.7, 0.9]], y[:, None], (y[:, None] + 1) % 26)
    table = table_of(labels, rng.random((800, 2)), n_classes)
    names = np.array([f"letter {chr(97 + k)}" for k in range(n_classes)])
    report = report_of(table, y, [0.4], np.array([0.4, 1.0]), classes=names)
    shown = [line[:8] for line in str(report).splitlines() if line.startswith("letter ")]
    worst = names[np.argsort(-report.classes.drop, kind="stable")[:10]]
    assert shown == worst.tolist()
    assert "the 10 of 26 that lose most" in str(report)
    assert report._repr_html_().count("letter ") == 10
    assert len(report.to_frame("classes")) == 26


def test_html_escapes_and_needs_nothing_from_elsewhere():
    report = by_hand(
        classes=np.array(["<b>", "a&b"]),
        exit_names=["<i>", "b", "c"],
        request="<script>",
        reason="x < y",
    )
    html = report._repr_html_()
    for label in ("&lt;b&gt;", "a&amp;b", "&lt;i&gt;", "&lt;script&gt;", "x &lt; y"):
        assert label in html
    for tag in ("<b>", "<i>", "<script", "http", "src=", "color"):
        assert tag not in html
    assert ">83.3<" in html
    assert html.count("<table") == html.count("</table>") == 3


def test_frames():
    report = by_hand()
    exits = report.to_frame()
    assert exits.index.tolist() == ["a", "b", "end"]
    assert exits.loc["b", "exit_rate"] == pytest.approx(1 / 3)
    assert exits.loc["a", "threshold"] == 0.9
    assert exits["reach_rate_high"].to_numpy() == pytest.approx(report.exits.reach_rate_interval[:, 1])
    classes = report.to_frame("classes")
    assert classes.loc["dog", "drop"] == pytest.approx(-1 / 2)
    assert classes.loc["cat", "n_samples"] == 4
    overall = report.to_frame("overall")
    assert overall.loc["mean_cost"].tolist() == [
        report.overall.mean_cost,
        *report.overall.mean_cost_interval,
    ]
    assert [f"overall.{name}" for name in overall.index] == list(VALUES)


@pytest.mark.parametrize("part", ["exits", "classes", "overall"])
def test_frames_need_pandas(monkeypatch, part):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        by_hand().to_frame(part)
    assert str(by_hand())


def test_a_report_can_be_stored():
    assert str(pickle.loads(pickle.dumps(by_hand()))) == str(by_hand())


# Whether the intervals cover


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


def coverage(kind, n_rows, *, level=0.95, weight=None, n_draws=1000):
    """How often each interval holds the truth, by its name."""
    table, y, costs, thresholds = population(kind)
    truth = report_of(table, y, thresholds, costs, weight)
    names = (*VALUES, *EXIT_VALUES, "classes.drop")
    hits = {name: np.zeros(np.shape(attrgetter(name)(truth))) for name in names}
    rng = np.random.default_rng(0)
    for _ in range(n_draws):
        rows = rng.integers(0, len(y), n_rows)
        drawn = ExitTable(table.probabilities[rows], table.scores[rows])
        weights = None if weight is None else weight[rows]
        report = report_of(drawn, y[rows], thresholds, costs, weights, confidence_level=level)
        for name in names:
            true, interval = attrgetter(name)(truth), attrgetter(f"{name}_interval")(report)
            hits[name] += (interval[..., 0] - 1e-12 <= true) & (true <= interval[..., 1] + 1e-12)
    return {name: value / n_draws for name, value in hits.items()}


@pytest.mark.parametrize(
    ("kind", "n_rows", "level"),
    [("plain", 300, 0.95), ("rare", 200, 0.95), ("hard", 250, 0.95), ("rare", 400, 0.8)],
)
def test_intervals_cover(kind, n_rows, level):
    found = coverage(kind, n_rows, level=level)
    error = np.sqrt(level * (1 - level) / 1000)
    for name, rate in found.items():
        assert (rate >= level - 3 * error).all(), (name, rate)


def test_intervals_of_weighted_rows_cover():
    weight = np.random.default_rng(2).uniform(0.2, 3.0, 4000)
    found = coverage("plain", 300, weight=weight)
    error = np.sqrt(0.95 * 0.05 / 1000)
    for name, rate in found.items():
        assert (rate >= 0.95 - 3 * error).all(), (name, rate)
