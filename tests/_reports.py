"""Exit tables and reports from arrays alone."""

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from skearlyexit._exit_table import ExitTable
from skearlyexit.metrics import ExitReport

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
