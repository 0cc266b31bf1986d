"""What a backbone is: a recipe that builds a network, which can be cut after some of its blocks."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator

from skearlyexit._determinism._layers import Standardize
from skearlyexit.backbones._stage import Block, Stage


@dataclass(kw_only=True)
class Network(metaclass=ABCMeta):
    """A network before any exit is placed: blocks in a row, after each of which one may stand.

    Attributes
    ----------
    names : list of str
        One for each block, by which `exits` may ask for it.
    head : torch.nn.Module or None, default=None
        The network's own classifier: from what the last block returns to one logit per class.
    given : bool, default=False
        Whether the weights came from the user, so that training may be asked to keep them.
    aliases : dict of str to int
        Further names of blocks, by index.
    natural : list of bool or None, default=None
        For each block, whether an exit may stand there that was not asked for by name: inside of a
        residual branch none should. None: after every block.
    obstacles : dict of str to str
        Names after which no exit can stand, and why.
    standardize : Standardize or None, default=None
        What standardizes rows before anything else; it then reads them in double precision where
        they are given so and single precision would not do.
    check : callable or None, default=None
        Raises an error unless the network can take rows; called as ``check(rows, positions,
        name)``, the last two for the error, wherever rows come in after the first.
    notice : str, default=""
        What the user should know about how rows are read; a warning says it once for each fit.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> from torch import nn
    >>> from skearlyexit.backbones import Block, Network
    >>> class Repeat(Block):  # applies one layer several times
    ...     def __init__(self, layer, n_times):
    ...         super().__init__()
    ...         self.layer, self.n_times = layer, n_times
    ...     def forward(self, x):
    ...         for _ in range(self.n_times):
    ...             x = self.layer(x).relu()
    ...         return x, x
    >>> @dataclass(kw_only=True)
    ... class Repeated(Network):
    ...     layer: nn.Linear
    ...     def cut(self, ends):
    ...         return [Repeat(self.layer, n) for n in np.diff(ends, prepend=-1).tolist()]
    ...     def to(self, dtype):
    ...         self.layer.to(dtype)
    >>> network = Repeated(names=["once", "twice", "thrice"], layer=nn.Linear(8, 8))
    >>> [stage.n_times for stage in network.cut([0, 2])]
    [1, 2]
    """

    names: list[str]
    head: torch.nn.Module | None = None
    given: bool = False
    aliases: dict[str, int] = field(default_factory=dict)
    natural: list[bool] | None = None
    obstacles: dict[str, str] = field(default_factory=dict)
    standardize: Standardize | None = None
    check: Callable[..., None] | None = None
    notice: str = ""

    @abstractmethod
    def cut(self, ends: Sequence[int]) -> list[Block]:
        """Stages of the network.

        Parameters
        ----------
        ends : sequence of int
            Ascending indices of the blocks after which it is cut, the last block among them.

        Returns
        -------
        stages : list of Block
            They hold the weights of this network, and run one after another compute the same.
        """

    @abstractmethod
    def to(self, dtype: torch.dtype) -> None:
        """Change the precision of all weights, the head's included."""


def stages_of(network: Network, ends: Sequence[int]) -> list[Block]:
    """Stages of a network, none of which writes into what it is called with.

    Parameters
    ----------
    network : Network
    ends : sequence of int
        As in `Network.cut`.

    Returns
    -------
    stages : list of Block
    """
    return [stage if stage.keeps_input else Stage([stage]) for stage in network.cut(ends)]


class Backbone(BaseEstimator, metaclass=ABCMeta):
    """Recipe for a network. Its parameters are searchable; it holds no weights.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from torch import nn
    >>> from skearlyexit import EarlyExitClassifier
    >>> from skearlyexit.backbones import Backbone, Chain
    >>> class Perceptron(Backbone):
    ...     def __init__(self, width=32):
    ...         self.width = width
    ...     def build(self, X, n_classes):
    ...         widths = (X.shape[1], self.width, self.width)
    ...         blocks = [nn.Sequential(nn.Linear(n, self.width), nn.ReLU()) for n in widths]
    ...         return Chain(blocks, names=["first", "second", "third"])
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     Perceptron(width=16), exits=["second"], calibration=None, max_epochs=1, random_state=0)
    >>> clf.fit(X, y).exit_names_
    ['second', 'third']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    @abstractmethod
    def build(self, X: np.ndarray, n_classes: int) -> Network:
        """Build a new network for such rows.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            Training rows, for shapes and statistics. Rows of a mapped file or a torch Dataset come
            as an object that has ``shape``, ``dtype`` and ``len``, and gives arrays by slices.
        n_classes : int
            Number of classes.

        Returns
        -------
        network : Network
            Nothing in it is shared with this object. Random weights are drawn from torch's
            process-wide generator, which the caller seeds.
        """
