"""Tables and claims of the comparisons, from the saved results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from _harness.models import MODELS, PEERS
from _harness.results import OURS, Results

HEADER = [
    "model",
    "accuracy",
    "to plain",
    "to best peer",
    "kMACs",
    "cost",
    "µs per row",
    "speed",
    "one row, ms",
    "fit, s",
    "tuning, s",
]


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def spread(values: np.ndarray, digits: int = 2) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def against(points: np.ndarray) -> str:
    """Differences seed by seed: mean, spread, and in how many seeds above."""
    if not len(points):
        return ""
    above = f"above in {np.sum(points > 0)} of {len(points)}"
    return f"{np.mean(points):+.2f} ± {np.std(points):.2f}, {above}"


def title(results: Results, entry: str) -> str:
    model, _, point = entry.partition(", ")
    return MODELS[model].title + (f", {point}" if point else "")


def set_row(results: Results, entry: str) -> list[str]:
    if entry not in results:
        return [title(results, entry), "not possible", *[""] * (len(HEADER) - 2)]
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
        title(results, entry) + note,
        spread(np.array([*results.accuracy(entry).values()])),
        "" if entry == "plain" else against(results.difference(entry, "plain")),
        "" if peer in (None, entry) else against(results.difference(entry, peer)),
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
        f"test rows, {facts['n_features']} features, {facts['n_classes']} classes; "
        f"{facts['tune_seconds']:g} s of tuning for each model on at most {facts['tune_rows']} "
        "training rows. Accuracy in %, mean ± standard deviation over the seeds, differences "
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

    rows = [[r.title, *(cell(r, entry) for entry in entries.values())] for r in all_results]
    return table(rows, ["data set", *entries]) + (
        f"\nTest accuracy in %, @ mean cost in units of the plain network, and in brackets how "
        f"many times as fast as it by the clock. Early exits: {OURS}.\n"
    )


def claims(results: Results) -> list[str]:
    """PASS or FAIL for what one would like to say of early exits with linear heads."""
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
            lines.append(claim(holds, f"{results.title}: above {words}: {against(gains)}"))
    for entry in ("classical, budget 0.5",):
        gains = results.difference(entry, "linear, budget 0.5")
        speed = results.speed(entry, "linear, budget 0.5")
        if len(gains) and len(speed):
            holds = gains.mean() > 0 and np.median(speed) >= 1
            lines.append(
                claim(
                    holds,
                    f"{results.title}: classical heads above linear ones at half the cost, and no "
                    f"slower: {against(gains)}; {np.median(speed):.2f} times as fast",
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
    from _harness.figure import draw

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
    draw(all_results, folder / f"figure{ending}.png")
    print(text)
    print("\n".join(verdicts))
