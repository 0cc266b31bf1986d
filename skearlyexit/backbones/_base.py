"""What a backbone is: a recipe that builds a chain of blocks, between which exits may stand."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator


@dataclass
class Network:
    """A network before any exit is placed: a chain of blocks, each a place where one may stand.

    Attributes
    ----------
    blocks : list of torch.nn.Module
        Run one after another. A block maps a tensor of rows to a tensor of as many rows; one that
        hands on more than that derives from `Block`.
    names : list of str
        One for each block, by which `exits` may ask for it.
    head : torch.nn.Module or None, default=None
        The network's own classifier: from what the last block returns to one logit per class.
    given : bool, default=False
        Whether the weights came from the user, so that training may be asked to keep them.
    """

    blocks: list[torch.nn.Module]
    names: list[str]
    head: torch.nn.Module | None = None
    given: bool = False


class Block(torch.nn.Module):
    """A block whose `forward` returns ``(carry, embedding)``.

    The carry is what the next block is called with, a tensor or a tuple of tensors whose first
    axis is the row; the embedding is the one tensor that a head sees. Any other module stands for
    a block whose output is both.
    """


class Backbone(BaseEstimator, metaclass=ABCMeta):
    """Recipe for a network. Its parameters are searchable; it holds no weights."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    @abstractmethod
    def build(self, X: np.ndarray, n_classes: int) -> Network:
        """Build a new network for such rows.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            Training rows, for shapes and statistics.
        n_classes : int
            Number of classes.

        Returns
        -------
        network : Network
            Nothing in it is shared with this object. Random weights are drawn from torch's
            process-wide generator, which the caller seeds.
        """
