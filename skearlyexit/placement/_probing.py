"""Base class of placements that train trial heads at the candidates."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skearlyexit.placement._base import Candidates, Placed, Placement, Probe, placed_at
from skearlyexit.placement._held_out import HeldOut
from skearlyexit.placement._places import places_to_probe


@dataclass(frozen=True)
class Choice:
    """The chosen exits, and the reasons.

    Attributes
    ----------
    chosen : sequence of int
        Positions of the exits among the candidates, in ascending order, without the end.
    reasons : list of str
        Reason for or against each candidate but the end.
    figures : list of dict of str to float
        Numbers on which the decision is based for each candidate but the end, by the titles of the
        columns of the report.
    """

    chosen: Sequence[int]
    reasons: list[str]
    figures: list[dict[str, float]]


class ProbingPlacement(Placement):
    """Base class of placements by the outputs of trial heads for held-out samples."""

    needs_probe: ClassVar[bool] = True
    max_candidates: int

    def place(self, candidates: Candidates, probe: Probe | None = None) -> Placed:
        if probe is None:
            raise ValueError(
                f"{type(self).__name__} chooses exits by the outputs of trial heads. "
                "Got no probe; call place(candidates, probe)."
            )
        places = places_to_probe(candidates, self.max_candidates)
        self._check_number(len(places))
        choice = Choice([], [], [])
        if len(places) > 1:  # otherwise there is nothing to choose, and no head to train
            choice = self._choose(HeldOut.of(probe(places)))
        kept = [*choice.chosen, len(places) - 1]
        reasons = [*choice.reasons, "the end"]
        figures = {
            title: np.array([*(each[title] for each in choice.figures), np.nan])
            for title in (choice.figures[0] if choice.figures else ())
        }
        return placed_at(kept, places, candidates, repr(self), reasons, figures)

    def _check_number(self, n_places: int) -> None:
        """Raise a ValueError, before any head is trained, if the number is not possible."""

    @abstractmethod
    def _choose(self, held_out: HeldOut) -> Choice:
        """Choose among all candidates with trial heads but the end, which is always an exit."""
