"""The report: numbers by hand, tables, text and HTML."""

import pickle
import sys
from operator import attrgetter

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import binomtest

from skearlyexit._exit_table import ExitTable
from skearlyexit.metrics._figures import possible_exits
from skearlyexit.metrics._intervals import effective_rows, mean_interval, proportion_interval
from tests._reports import (
    CLASS_VALUES,
    EXIT_VALUES,
    VALUES,
    added_rows,
    by_hand,
    cases,
    report_of,
    table_of,
)

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


def test_beside_another_model():
    plain = np.array([True, True, True, True, False, False])
    weight = np.array([1.0, 2.0, 0.5, 1.0, 3.0, 0.0])
    report = by_hand(plain_correct=plain, weight=weight, confidence_level=0.9)
    overall = report.overall
    right = np.array([True, True, False, True, True])
    assert overall.plain_accuracy == pytest.approx(4.5 / 7.5)
    assert overall.plain_drop == pytest.approx(overall.plain_accuracy - overall.accuracy)
    loss = plain[:5].astype(float) - right
    assert overall.plain_drop_interval == pytest.approx(
        mean_interval(loss, -1, 1, 0.9, weight=weight[:5])
    )
    assert overall.plain_accuracy_interval[0] < 4.5 / 7.5 < overall.plain_accuracy_interval[1]
    assert f"lost against the plain model  {100 * overall.plain_drop:.2f}" in str(report)
    frame = report.to_frame("overall")
    assert frame.loc["plain_drop", "value"] == overall.plain_drop
    # Nothing of it without another model.
    assert "plain model" not in str(by_hand())
    assert np.isnan(by_hand().overall.plain_drop)


def test_bad_input_of_the_report():
    with pytest.raises(ValueError, match="at least one sample of positive weight"):
        by_hand(weight=np.zeros(6))
    with pytest.raises(ValueError, match="'confidence_level' parameter"):
        by_hand(confidence_level=95)
    with pytest.raises(ValueError, match=r"'part' parameter must be one of .* Got 'rows'"):
        by_hand().to_frame("rows")


# How it looks

#: Units in which costs are shown, in that in which they are measured.
SIZES = {"MACs": 1.0, "mJ": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}


def test_the_text_holds_the_numbers():
    report = by_hand(request="Budget(0.6)", certified=False, reason="Too few rows.")
    lines = str(report).splitlines()
    assert repr(report) == str(report)
    assert lines[0] == "6 samples, 3 exits, 2 classes; intervals at a confidence of 95 %"
    assert lines[1] == "asked for: Budget(0.6), not certified"
    assert lines[2] == "Too few rows."
    start = {line.split("  ")[0]: line.split() for line in lines}
    assert start["accuracy"][1:3] == ["83.3", "[35.9,"]
    assert start["mean cost per sample"][4] == "0.600"
    assert start["a"][:4] == ["a", "0.200", "0.9", "50.0"]
    assert start["end"][1:3] == ["1.100", "-"]
    assert start["dog"][1:5] == ["2", "100.0", "50.0", "-50.00"]
    assert ", certified" in str(by_hand(request="RiskControl()", certified=True))
    assert "asked for" not in str(by_hand())
    assert all(len(line) <= 120 for line in lines)


@pytest.mark.parametrize(
    ("unit", "plain", "name", "costs", "mean"),
    [
        ("MACs", 37_500.0, "MACs", ["7,500", "18,750", "41,250"], "22,500"),
        ("mJ", 5.0, "mJ", ["1", "2.5", "5.5"], "3"),
        ("s", 2.0, "s", ["0.4", "1", "2.2"], "1.2"),
        ("s", 0.002, "ms", ["0.4", "1", "2.2"], "1.2"),
        ("s", 2e-6, "us", ["0.4", "1", "2.2"], "1.2"),
        ("s", 2e-8, "us", ["0.004", "0.01", "0.022"], "0.012"),
    ],
)
def test_costs_are_shown_in_their_unit_as_well(unit, plain, name, costs, mean):
    report = by_hand(cost_unit=unit, plain_cost=plain)
    lines = str(report).splitlines()
    assert lines[1].startswith(f"The plain network costs {report.plain_cost / SIZES[name]:,.5g}")
    assert lines[1].split(" per sample.")[0].endswith(f" {name}")
    assert ("cost='seconds'" in lines[1]) == (unit != "s")
    start = {line.split("  ")[0]: line.split() for line in lines}
    assert start["mean cost per sample"][4] == "0.600"
    assert start[f"mean cost per sample, {name}"][5] == mean
    assert start["exit"][:4] == ["exit", "cost", name, "threshold"]
    assert [start[exit_][2] for exit_ in ("a", "b", "end")] == costs
    assert start["a"][1] == "0.200"
    assert all(len(line) <= 120 for line in lines)
    assert name in report._repr_html_()


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
    assert exits["reach_rate_high"].to_numpy() == pytest.approx(
        report.exits.reach_rate_interval[:, 1]
    )
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
