"""What a placement is, and what it may look at."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator


@dataclass(frozen=True)
class Candidates:
    """The places where an exit may stand: after each block of the backbone.

    Attributes
    ----------
    names : list of str
        Names of the blocks.
    macs : ndarray of shape (n_blocks,)
        Multiply-accumulates per row of each block alone.
    """

    names: list[str]
    macs: np.ndarray


class Placement(BaseEstimator, metaclass=ABCMeta):
    """Rule that chooses the exits."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    @abstractmethod
    def place(self, candidates: Candidates) -> list[int]:
        """Choose the exits.

        Parameters
        ----------
        candidates : Candidates

        Returns
        -------
        ends : list of int
            Ascending indices of the blocks after which an exit stands. The last block is always
            among them.
        """
