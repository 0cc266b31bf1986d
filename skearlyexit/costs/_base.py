"""What a cost is."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from skearlyexit.costs._links import Link
from skearlyexit.costs._parts import CostInput, CostMeasurement


class Cost(BaseEstimator, metaclass=ABCMeta):
    """How the cost of a network's parts is found.

    Attributes
    ----------
    is_exact : bool
        Whether stages cost the same whenever they are read.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.costs import Cost, CostMeasurement
    >>> class LayerCost(Cost):  # number of modules with weights
    ...     unit_name = "layers"
    ...     def read(self, parts):
    ...         modules = [[] if part.model is None else part.model.modules() for part in parts]
    ...         counts = [sum(hasattr(each, "weight") for each in some) for some in modules]
    ...         return [CostMeasurement.exactly(count) for count in counts]
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(3, width=16, hidden=16), exits=["stem", "block1"], cost=LayerCost(),
    ...     calibration=None, max_epochs=1, random_state=0)
    >>> print(clf.fit(X, y).cost_table_)
    exit    stage  head  until here  of plain
    stem        1     1           2  18.2%
    block1      3     1           6  54.5%
    block3      6     1          13  118.2%
    in layers per row; the plain network costs 11
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}
    is_exact: ClassVar[bool] = True
    links: Sequence[Link] = ()

    @property
    @abstractmethod
    def unit_name(self) -> str:
        """Unit of costs, such as "MACs" or "s"."""

    @abstractmethod
    def read(self, parts: Sequence[CostInput]) -> list[CostMeasurement]:
        """Cost per row of each part alone.

        Parameters
        ----------
        parts : sequence of CostInput

        Returns
        -------
        readings : list of CostMeasurement
        """

    def check(self, n_exits: int | None) -> None:
        """Raise a ValueError if it does not know so many exits; None are any number."""

    def priced_blocks(self, names: Sequence[str], aliases: Mapping[str, int]) -> list[bool]:
        """After which blocks the cost of the network until there is known."""
        return [True] * len(names)

    def of_blocks(
        self, parts: Sequence[CostInput], names: Sequence[str], aliases: Mapping[str, int]
    ) -> np.ndarray:
        """Cost per row of each block of the network, which placement goes by.

        Parameters
        ----------
        parts : sequence of CostInput
        names : sequence of str
            Of the blocks.
        aliases : dict of str to int
            Further names of blocks, by index.

        Returns
        -------
        costs : ndarray of shape (n_blocks,)
        """
        return np.array([reading.value for reading in self.read(parts)])

    def of_cascade(
        self,
        stages: Sequence[CostInput],
        heads: Sequence[CostInput],
        decisions: Sequence[CostInput],
        blocks: np.ndarray,
    ) -> tuple[list[CostMeasurement], list[CostMeasurement], list[CostMeasurement]]:
        """Costs per row of all stages, all heads and all decisions.

        Parameters
        ----------
        stages, heads : sequences of CostInput
            One for each exit.
        decisions : sequence of CostInput
            What is made of the heads' outputs, in order; exits at which nothing is have no part.
        blocks : ndarray of shape (n_exits,)
            What `of_blocks` gave, summed over each stage.
        """
        if self.is_exact:
            known = [CostMeasurement.exactly(value) for value in blocks]
            readings = known + self.read([*heads, *decisions])
        else:
            readings = self.read([*stages, *heads, *decisions])
        n_exits = len(blocks)
        return readings[:n_exits], readings[n_exits : 2 * n_exits], readings[2 * n_exits :]

    def of_link(self, link: Link, n_bytes: float) -> float:
        """Cost per row of a link over which so many bytes go."""
        raise NotImplementedError
