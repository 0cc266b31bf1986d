"""Base classes of backbones, and of the networks that they build."""

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
    """Base class of networks without exits, which are sequences of blocks.

    After each block there is a candidate, a position at which an exit can be placed.

    Parameters
    ----------
    names : list of str
        Name of each block, by which the parameter `exits` of the estimators refers to it.
    head : torch.nn.Module or None, default=None
        The network's own classifier. It maps the output of the last block to one logit per class.
    given : bool, default=False
        Whether the weights were given by the user. ``training="separate"`` then keeps them.
    aliases : dict of str to int, default={}
        Alternative names of blocks, with the index of the block that each refers to.
    natural : list of bool or None, default=None
        Whether an automatic placement may place an exit after each block. It should be False inside
        a residual branch. None allows an exit after every block.
    obstacles : dict of str to str, default={}
        Names of modules after which no exit can be placed, with the reason.
    learned_with_exits : dict of str to str, default={}
        Names of blocks with weights that only an exit after the block trains, with what to do if
        the training trains no stages by early exits. `fit` then refuses an exit there.
    standardize : torch.nn.Module or None, default=None
        Layer of the package that standardizes the input. If there is one, input in double
        precision is converted to single precision only after it is centered, where the difference
        matters.
    check : callable or None, default=None
        Raises an error if samples are not valid input. It is called as ``check(X, positions,
        name)``, where `positions` and `name` are for the error message: the positions of the
        samples, and the name of the argument that holds them. It is not called with the training
        samples, which `Backbone.build` can check.
    notice : str, default=""
        Message for the user about how the network interprets the input. If not empty, `fit` issues
        it as a warning.
    batch_invariant : bool, default=False
        Whether the prediction for a sample is to be the same to the last bit in any batch, as with
        the ready-made networks. For this, batches of less than 16 samples are padded before stages
        that need it. Otherwise, the prediction in such a batch is the same up to rounding.

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
    learned_with_exits: dict[str, str] = field(default_factory=dict)
    standardize: Standardize | None = None
    check: Callable[..., None] | None = None
    notice: str = ""
    batch_invariant: bool = False

    @abstractmethod
    def cut(self, ends: Sequence[int]) -> list[Block]:
        """Cut the network into stages.

        Parameters
        ----------
        ends : sequence of int
            Indices of the last block of each stage, in ascending order. The last block of the
            network is one of them.

        Returns
        -------
        stages : list of Block
            The stages. They share the weights of this network, and compute the same as the network
            when they run one after another.
        """

    @abstractmethod
    def to(self, dtype: torch.dtype) -> None:
        """Convert all weights to another precision, including those of the head.

        Parameters
        ----------
        dtype : torch.dtype
            Precision of the weights.
        """


def stages_of(network: Network, ends: Sequence[int]) -> list[Block]:
    """Cut a network into stages, none of which changes its input in place.

    Parameters
    ----------
    network : Network
    ends : sequence of int
        See `Network.cut`.

    Returns
    -------
    stages : list of Block
    """
    return [stage if stage.keeps_input else Stage([stage]) for stage in network.cut(ends)]


class Backbone(BaseEstimator, metaclass=ABCMeta):
    """Base class of backbones, which build the network of an estimator.

    A backbone is an estimator in the sense of scikit-learn: it has parameters, which a search can
    set, and no weights.

    Attributes
    ----------
    muon_from : int or None, default=None
        Number of samples from which on Muon is the default optimizer. None is never: its steps take
        long if layers are wide.

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
    muon_from: ClassVar[int | None] = None

    @abstractmethod
    def build(self, X: np.ndarray, n_classes: int) -> Network:
        """Build a new network.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            Training samples, which determine shapes and statistics. If they are read from a memory
            map, a sparse matrix or a torch Dataset, X is an object with ``shape``, ``dtype`` and
            ``len`` whose slices are arrays.
        n_classes : int
            Number of classes.

        Returns
        -------
        network : Network
            The network, which shares nothing with the backbone. Random weights are drawn from the
            global generator of torch, which the caller seeds.

        Raises
        ------
        ValueError
            If the parameters of the backbone are not valid, or do not fit X.
        """
