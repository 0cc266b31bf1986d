"""Results of one data set, as numbers by seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from _harness.compare import CLAIMED, entry_name
from _harness.data import SETS
from _harness.models import MODELS, PEERS

#: What the claims are about, and what it is held against.
OURS = entry_name("linear", CLAIMED)


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
        """Multiply-accumulates per row, mean over seeds."""
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
        """Seconds per row of every turn, by seed."""
        return {
            seed: np.array(times[entry]["seconds"]) / times[entry]["rows"]
            for seed, times in self.content["timing"].items()
            if entry in times
        }

    def one_row(self, entry: str) -> float:
        """Median seconds of a call on one row."""
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
        """The peer of the highest mean test accuracy: hindsight, and in its favour."""
        found = [peer for peer in PEERS if peer in self]
        return max(found, key=lambda p: np.mean([*self.accuracy(p).values()]), default=None)
