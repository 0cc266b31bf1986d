"""Results of the comparison on tables and images: numbers, tables, claims and the figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from _harness.comparison_models import CLAIMED, MODELS, entry_name
from _harness.comparison_peers import PEERS
from _harness.data import SETS
from _harness.report import save_figure, spread, table

#: What the claims are about.
OURS = entry_name("linear", CLAIMED)

HEADER = [
    "model",
    "accuracy",
    "to plain",
    "to best peer",
    "kMACs",
    "cost",
    "µs per sample",
    "speed",
    "one sample, ms",
    "fit, s",
    "tuning, s",
]

COLORS = dict(zip(MODELS, mpl.color_sequences["tab10"], strict=False))
MARKERS = dict(zip(MODELS, "soDs^vPX*d", strict=False))


class Results:
    """Numbers of a saved file; an entry is a model, at one of its operating points if it has them.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    entries : dict
        Of each entry its model and point, in the order of `MODELS`; only those with results.
    """

    def __init__(self, path: Path) -> None:
        self.content: dict[str, Any] = json.loads(path.read_text())
        self.title = SETS[self.content["set"]].title
        self.entries: dict[str, tuple[str, str]] = {}
        for name in MODELS:
            for result in self._seeds(name).values():
                for point in result["points"]:
                    self.entries[entry_name(name, point)] = (name, point)

    def __contains__(self, entry: str) -> bool:
        return bool(self.accuracy(entry))

    def _seeds(self, model: str) -> dict[str, Any]:
        return self.content["models"].get(model, {}).get("seeds", {})

    def _values(self, entry: str, key: str) -> dict[str, float]:
        model, point = self.entries.get(entry, ("", ""))
        points = {seed: r["points"].get(point, {}) for seed, r in self._seeds(model).items()}
        return {seed: values[key] for seed, values in points.items() if key in values}

    def accuracy(self, entry: str) -> dict[str, float]:
        """Test accuracy in % by seed; empty where an operating point was never possible."""
        return {seed: 100 * value for seed, value in self._values(entry, "accuracy").items()}

    def macs(self, entry: str) -> float:
        """Multiply-accumulates per sample, mean over seeds."""
        return float(np.mean([*self._values(entry, "macs").values()]))

    def cost(self, entry: str) -> float:
        """In units of the plain network; nan without it."""
        return self.macs(entry) / self.macs("plain") if "plain" in self else float("nan")

    def fit_seconds(self, entry: str) -> float:
        """Mean over seeds."""
        seeds = self._seeds(self.entries[entry][0]).values()
        return float(np.mean([result["fit_seconds"] for result in seeds]))

    def tune_seconds(self, entry: str) -> float:
        """Of the one search."""
        return float(self.content["models"][self.entries[entry][0]]["tuning"]["seconds"])

    def row_seconds(self, entry: str) -> dict[str, np.ndarray]:
        """Seconds per sample of every turn, by seed."""
        return {
            seed: np.array(times[entry]["seconds"]) / times[entry]["rows"]
            for seed, times in self.content["timing"].items()
            if entry in times
        }

    def one_row(self, entry: str) -> float:
        """Median seconds of a call on one sample."""
        timing = self.content["timing"].values()
        return float(
            np.median(
                [t for times in timing for t in times.get(entry, {}).get("one_row", [])] or [np.nan]
            )
        )

    def difference(self, entry: str, other: str) -> np.ndarray:
        """Accuracy minus that of another, in points, for the seeds that both have."""
        mine, theirs = self.accuracy(entry), self.accuracy(other)
        return np.array([mine[seed] - theirs[seed] for seed in mine if seed in theirs])

    def speed(self, entry: str, other: str = "plain") -> np.ndarray:
        """How many times as fast as another: median of the turns, for each seed."""
        mine, theirs = self.row_seconds(entry), self.row_seconds(other)
        return np.array([np.median(theirs[seed] / mine[seed]) for seed in mine if seed in theirs])

    def best_peer(self) -> str | None:
        """The peer of the highest mean test accuracy: chosen in hindsight, in its favor."""
        found = [peer for peer in PEERS if peer in self]
        return max(found, key=lambda p: np.mean([*self.accuracy(p).values()]), default=None)


def gains_of(points: np.ndarray) -> str:
    """Differences seed by seed: mean, spread, and in how many seeds above."""
    if not len(points):
        return ""
    above = f"above in {np.sum(points > 0)} of {len(points)}"
    return f"{np.mean(points):+.2f} ± {np.std(points):.2f}, {above}"


def title(entry: str) -> str:
    model, _, point = entry.partition(", ")
    return MODELS[model].title + (f", {point}" if point else "")


def set_row(results: Results, entry: str) -> list[str]:
    if entry not in results:
        return [title(entry), "not possible", *[""] * (len(HEADER) - 2)]
    peer = results.best_peer()
    times = results.row_seconds(entry)
    micros = ""
    if times:
        low, middle, high = 1e6 * np.percentile(np.concatenate([*times.values()]), [25, 50, 75])
        micros = f"{middle:.3g} [{low:.3g} .. {high:.3g}]"
    speed = results.speed(entry)
    n_possible, n_seeds = (
        len(results.accuracy(entry)),
        len(results.content["models"][results.entries[entry][0]]["seeds"]),
    )
    note = "" if n_possible == n_seeds else f" ({n_possible} of {n_seeds} seeds)"
    return [
        title(entry) + note,
        spread(np.array([*results.accuracy(entry).values()])),
        "" if entry == "plain" else gains_of(results.difference(entry, "plain")),
        "" if peer in (None, entry) else gains_of(results.difference(entry, peer)),
        f"{results.macs(entry) / 1000:.1f}",
        f"{results.cost(entry):.3f}",
        micros,
        f"{np.median(speed):.2f}" if len(speed) else "",
        f"{1e3 * results.one_row(entry):.2f}",
        f"{results.fit_seconds(entry):.1f}",
        f"{results.tune_seconds(entry):.0f}",
    ]


def set_text(results: Results) -> str:
    """Heading, what was run, table and settings of one set."""
    facts = results.content["facts"]
    peer = results.best_peer()
    lines = [
        f"## {results.title}",
        "",
        f"{facts['n_train']} training, {facts['n_validation']} validation and {facts['n_test']} "
        f"test samples, {facts['n_features']} features, {facts['n_classes']} classes; "
        f"{facts['tune_seconds']:g} s of tuning for each model on at most {facts['tune_rows']} "
        "training samples. Accuracy in %, mean ± standard deviation over the seeds, differences "
        "seed by seed; median times [quartiles] on one thread; cost and speed in units of the "
        "plain network; "
        + (f"the best peer, by test accuracy, is {MODELS[peer].title}." if peer else "no peers."),
        "",
        table([set_row(results, entry) for entry in results.entries], HEADER),
        "Settings:",
        "",
        *(
            f"- {MODELS[name].title}: {result['setting']} ({len(result['tuning']['tried'])} tried)"
            for name, result in results.content["models"].items()
            if "setting" in result
        ),
        "",
    ]
    return "\n".join(lines)


def summary(all_results: Sequence[Results]) -> str:
    """One row for each set."""
    entries = {"plain network": "plain", "early exits": OURS, "smaller plain": "smaller"}
    entries |= {MODELS[peer].title: peer for peer in PEERS}

    def cell(results: Results, entry: str) -> str:
        if entry not in results:
            return ""
        text = f"{np.mean([*results.accuracy(entry).values()]):.2f}"
        if entry in (OURS, "smaller"):
            text += f" @ {results.cost(entry):.2f}"
        speed = results.speed(entry)
        return text + (f" ({np.median(speed):.2g}x)" if len(speed) and entry != "plain" else "")

    def mean(entry: str) -> str:
        if not all(entry in results for results in all_results):
            return ""
        accuracy = np.mean([np.mean([*r.accuracy(entry).values()]) for r in all_results])
        cost = np.mean([r.cost(entry) for r in all_results])
        return f"{accuracy:.2f}" + (f" @ {cost:.2f}" if entry in (OURS, "smaller") else "")

    rows = [[r.title, *(cell(r, entry) for entry in entries.values())] for r in all_results]
    if len(all_results) > 1:
        rows.append(["mean", *map(mean, entries.values())])
    text = table(rows, ["data set", *entries]) + (
        f"\nTest accuracy in %, @ mean cost in units of the plain network, and in brackets how "
        f"many times as fast as it by the clock. Early exits: {OURS}.\n"
    )
    differences = [results.difference(OURS, "smaller") for results in all_results]
    gains = np.array([points.mean() for points in differences if len(points)])
    if len(gains):
        text += (
            f"They are above the smaller network on {np.sum(gains > 0)} of {len(gains)} sets, by "
            f"{gains.mean():+.2f} points in the mean.\n"
        )
    return text


def claims(results: Results) -> list[str]:
    """PASS or FAIL for claims about early exits with linear heads."""
    if OURS not in results or "plain" not in results:
        return []
    lines = []
    speed, lost = results.speed(OURS), -results.difference(OURS, "plain")
    if len(speed):
        lines.append(
            claim(
                np.median(speed) >= 1.5 and lost.mean() <= 0.3,
                f"{results.title}: at least 1.5 times as fast as the plain network by the clock, "
                f"losing at most 0.3 points: {np.median(speed):.2f} times ({speed.min():.2f} to "
                f"{speed.max():.2f}), {lost.mean():+.2f} points lost",
            )
        )
    peer = results.best_peer()
    others = {
        "smaller": "the smaller plain network of the same cost",
        "boosting": "boosting",
    }
    if peer:
        others[peer] = (
            "boosting, the best peer"
            if peer == "boosting"
            else (f"the best peer, {MODELS[peer].title}")
        )
    for other, words in others.items():
        gains = results.difference(OURS, other)
        if len(gains):
            # A mean above 0 that half of the seeds contradict is no difference.
            holds = gains.mean() > 0 and np.sum(gains > 0) >= 0.8 * len(gains)
            lines.append(claim(holds, f"{results.title}: above {words}: {gains_of(gains)}"))
    for entry in ("classical, budget 0.5",):
        gains = results.difference(entry, "linear, budget 0.5")
        speed = results.speed(entry, "linear, budget 0.5")
        if len(gains) and len(speed):
            holds = gains.mean() > 0 and np.median(speed) >= 1
            lines.append(
                claim(
                    holds,
                    f"{results.title}: classical heads above linear ones at half the cost, and no "
                    f"slower: {gains_of(gains)}; {np.median(speed):.2f} times as fast",
                )
            )
    return lines


def claim(holds: bool, text: str) -> str:
    return f"{'PASS' if holds else 'FAIL'}  {text}"


def print_report(names: Sequence[str], folder: Path, ending: str) -> None:
    """Print and write the tables, draw the figure, and print the claims.

    Parameters
    ----------
    names : sequence of str
        Sets with a file of results.
    folder : Path
        That of the results; takes ``<set>.md``, ``summary<ending>.md`` and ``figure<ending>.png``.
    ending : str
        Runs side by side must not write the same files.
    """
    all_results = [Results(folder / f"{name}.json") for name in names]
    if not all_results:
        raise SystemExit(f"There are no results in {folder}.")
    for name, results in zip(names, all_results, strict=True):
        text = set_text(results)
        (folder / f"{name}.md").write_text(text)
        print(f"\n{text}")
    verdicts = [line for results in all_results for line in claims(results)]
    text = summary(all_results)
    (folder / f"summary{ending}.md").write_text(text + "\n" + "\n".join(verdicts) + "\n")
    save_figure(
        folder / f"figure{ending}.png",
        draw,
        all_results,
        n_columns=3 if len(all_results) > 4 else 2,
        size=(5, 3.6),
        n_legend_columns=4,
    )
    print(text)
    print("\n".join(verdicts))


def draw(ax: Any, results: Results) -> dict[str, Any]:
    """Accuracy against the time of predicting a sample, of every model on one set.

    Early exits are a line through their operating points.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    handles = {}
    for name, model in MODELS.items():
        points = _points(results, name)
        if not points:
            continue
        micros, accuracy, error = np.array(points).T
        handles[model.title] = ax.errorbar(
            micros,
            accuracy,
            error,
            color=COLORS[name],
            marker=MARKERS[name],
            linestyle="-" if model.early_exits else "none",
            markersize=5 if model.early_exits else 7,
            linewidth=1.2,
            elinewidth=0.8,
            zorder=3 if name == "linear" else 2,
        )
    ax.set(title=results.title, xscale="log", xlabel="predict, µs per sample", ylabel="accuracy, %")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    return handles


def _points(results: Results, name: str) -> list[tuple[float, float, float]]:
    """Microseconds per sample, accuracy and its deviation at each point of a model, by cost."""
    points = []
    entries = [entry for entry, (model, _) in results.entries.items() if model == name]
    for entry in sorted((entry for entry in entries if entry in results), key=results.macs):
        times = results.row_seconds(entry)
        if times:
            accuracy = [*results.accuracy(entry).values()]
            micros = 1e6 * float(np.median(np.concatenate([*times.values()])))
            points.append((micros, float(np.mean(accuracy)), float(np.std(accuracy))))
    return points
