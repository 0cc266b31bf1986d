"""What placements that ask heads on trial have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skearlyexit.placement._base import Candidates, Placed, Placement, Probe
from skearlyexit.placement._held_out import HeldOut
from skearlyexit.placement._places import places_to_probe
from skearlyexit.placement._report import PlacementReport


@dataclass(frozen=True)
class Choice:
    """Which places become exits, and why.

    Attributes
    ----------
    chosen : sequence of int
        Ascending positions among the places, without the end.
    reasons : list of str
        One for each place but the end.
    figures : list of dict of str to float
        Numbers that the decision rests on, by their title, for each place but the end.
    """

    chosen: Sequence[int]
    reasons: list[str]
    figures: list[dict[str, float]]


class ProbingPlacement(Placement):
    """Rule that chooses the exits by what heads on trial answer on held-out rows."""

    needs_probe: ClassVar[bool] = True
    max_candidates: int

    def place(self, candidates: Candidates, probe: Probe | None = None) -> Placed:
        """Choose the exits; see `Placement.place`."""
        if probe is None:
            raise ValueError(
                f"{type(self).__name__} chooses exits by what heads on trial answer. "
                "Got no probe; call place(candidates, probe)."
            )
        places = places_to_probe(candidates, self.max_candidates)
        self._check_number(len(places))
        choice = Choice([], [], [])
        if len(places) > 1:  # else there is nothing to choose, and nothing to train for it
            choice = self._choose(HeldOut.of(probe(places)))
        kept = [*choice.chosen, len(places) - 1]
        cumulative = candidates.cumulative
        report = PlacementReport(
            repr(self),
            [candidates.names[place] for place in places],
            cumulative[places] / max(cumulative[-1], 1e-300),
            np.isin(np.arange(len(places)), kept),
            [*choice.reasons, "the end"],
            {
                title: np.array([*(figures[title] for figures in choice.figures), np.nan])
                for title in (choice.figures[0] if choice.figures else ())
            },
        )
        return Placed([places[i] for i in kept], report)

    def _check_number(self, n_places: int) -> None:
        """Refuse so many places before any head is trained for them."""

    @abstractmethod
    def _choose(self, held_out: HeldOut) -> Choice:
        """Choose among all places of a probe but the end, which always stays."""
