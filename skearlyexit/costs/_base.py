"""Base class of costs."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from skearlyexit.costs._links import Link
from skearlyexit.costs._parts import CostInput, CostMeasurement, PartMeasurements


class Cost(BaseEstimator, metaclass=ABCMeta):
    """Base class of costs, which measure the parts of a network.

    A subclass must define `unit_name` and `read`.

    Attributes
    ----------
    is_exact : bool, default=True
        Whether each measurement of the same part gives the same value.
    links : sequence of Link, default=()
        Connections between the machines that run the network.

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
    in layers per sample; the plain network costs 11
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}
    is_exact: ClassVar[bool] = True
    links: Sequence[Link] = ()

    @property
    @abstractmethod
    def unit_name(self) -> str:
        """Unit of the costs, such as "MACs" or "s"."""

    @abstractmethod
    def read(self, parts: Sequence[CostInput]) -> list[CostMeasurement]:
        """Measure the cost of each part alone.

        Parameters
        ----------
        parts : sequence of CostInput
            Parts of the network.

        Returns
        -------
        measurements : list of CostMeasurement
            Cost per sample of each part.
        """

    def check(self, n_exits: int | None) -> None:
        """Check that the cost can be measured for a number of exits.

        The default implementation accepts any number.

        Parameters
        ----------
        n_exits : int or None
            Number of exits. None if the placement is chosen by data, for which any number of exits
            must be possible.

        Raises
        ------
        ValueError
            If the costs are not known for this number of exits.
        """

    def priced_blocks(self, names: Sequence[str], aliases: Mapping[str, int]) -> list[bool]:
        """Determine the blocks up to which the cost of the network is known.

        The default implementation returns True for all blocks.

        Parameters
        ----------
        names : sequence of str
            Names of the blocks.
        aliases : dict of str to int
            Alternative names of blocks, with the index of the block that each refers to.

        Returns
        -------
        is_known : list of bool
            Whether the cost from the input up to each block is known. Exits are placed after these
            blocks only.
        """
        return [True] * len(names)

    def of_blocks(
        self, parts: Sequence[CostInput], names: Sequence[str], aliases: Mapping[str, int]
    ) -> np.ndarray:
        """Measure the cost of each block, by which exits are placed.

        Parameters
        ----------
        parts : sequence of CostInput
            Blocks of the network.
        names : sequence of str
            Names of the blocks.
        aliases : dict of str to int
            Alternative names of blocks, with the index of the block that each refers to.

        Returns
        -------
        costs : ndarray of shape (n_blocks,)
            Cost per sample of each block.
        """
        return np.array([reading.value for reading in self.read(parts)])

    def of_cascade(
        self,
        stages: Sequence[CostInput],
        heads: Sequence[CostInput],
        decisions: Sequence[CostInput],
        blocks: np.ndarray,
    ) -> tuple[list[CostMeasurement], list[CostMeasurement], list[CostMeasurement]]:
        """Measure the costs of all stages, heads and decisions.

        Parameters
        ----------
        stages, heads : sequence of CostInput
            Stage and head of each exit.
        decisions : sequence of CostInput
            Computations from the outputs of the heads to predictions and scores, in the order of
            the exits. An exit can have none or several.
        blocks : ndarray of shape (n_exits,)
            Result of `of_blocks`, summed over the blocks of each stage.

        Returns
        -------
        stages, heads, decisions : list of CostMeasurement
            Cost per sample of each part.
        """
        if self.is_exact:
            known = [CostMeasurement.exactly(value) for value in blocks]
            readings = known + self.read([*heads, *decisions])
        else:
            readings = self.read([*stages, *heads, *decisions])
        n_exits = len(blocks)
        return readings[:n_exits], readings[n_exits : 2 * n_exits], readings[2 * n_exits :]

    def while_running(
        self, time: Callable[[int, int], PartMeasurements]
    ) -> PartMeasurements | None:
        """Measure the costs of all parts while the fitted model runs.

        The default implementation returns None: `of_cascade` measures each part alone.

        Parameters
        ----------
        time : callable
            Function that runs the model in the `runtime` of the estimator and returns times in
            seconds as such a tuple. It is called as ``time(n_samples, n_repeats)``, with the number
            of samples in a call of the model and the number of measurements.

        Returns
        -------
        parts : tuple of three lists of CostMeasurement, or None
            Cost per sample of the stage, the head and the decision of each exit. If it is not None,
            `read` and `of_cascade` are not called for the fitted model.
        """
        return None

    def of_link(self, link: Link, n_bytes: float) -> float:
        """Measure the cost of a link.

        Only costs with a parameter `links` implement it.

        Parameters
        ----------
        link : Link
            The link.
        n_bytes : float
            Number of bytes that are transferred for each sample.

        Returns
        -------
        cost : float
            Cost per sample of the transfer.
        """
        raise NotImplementedError
