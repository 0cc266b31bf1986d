"""A pretrained network that runs once, and models that are fitted on its embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from _harness.encoders import Task
from skearlyexit import EarlyExitClassifier, list_exits
from skearlyexit.backbones import Backbone, Block, Chain
from skearlyexit.costs import MACsCost
from skearlyexit.heads import QuarterPooling

#: Numbers of samples.
PARTS = {"train": 3000, "select": 1000, "calibrate": 2000, "test": 6000}


class Slice(Block):
    """Passes known embeddings on; those of one place go to its head."""

    def __init__(self, start: int, end: int) -> None:
        super().__init__()
        self.start, self.end = start, end

    def forward(self, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return X, X[:, self.start : self.end]


class Known(Backbone):
    """A network whose embeddings are known: a sample is those of all places, side by side."""

    def __init__(self, names: list[str], widths: list[int]) -> None:
        self.names = names
        self.widths = widths

    def build(self, X: np.ndarray, n_classes: int) -> Chain:
        ends = np.cumsum([0, *self.widths]).tolist()
        blocks = [Slice(*each) for each in pairwise(ends)]
        return Chain(list(blocks), names=self.names, given=True)


class KnownMACs(MACsCost):
    """Counted operations, where those of the network are known."""

    def __init__(self, known: list[float]) -> None:
        super().__init__()
        self.known = known

    def of_blocks(self, parts: Any, names: Any, aliases: Any) -> np.ndarray:
        return np.array(self.known)


def stages_at(task: Task, places: list[str], X: np.ndarray) -> list[nn.Module]:
    """Stages of the network between places."""
    network = task.backbone(places[-1]).build(X[:3], 2)
    index = {name: i for i, name in enumerate(network.names)} | dict(network.aliases)
    return list(nn.ModuleList(network.cut([index[place] for place in places])).eval())


def embed(task: Task, X: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
    """Pooled embeddings of all samples, and the cost of the network, at each place."""
    places = list_exits(task.backbone(task.places[-1]), X[:3])
    rows = zip(places.names, places.aliases, places.costs, strict=True)
    costs = {each: float(cost) for name, others, cost in rows for each in [name, *others]}
    stages, pooling = stages_at(task, task.places, X), QuarterPooling()
    found: list[list[np.ndarray]] = [[] for _ in stages]
    with torch.inference_mode():
        for carry in torch.from_numpy(X).split(16):
            for parts, stage in zip(found, stages, strict=True):
                carry, embedding = stage(carry)
                parts.append(pooling(embedding).numpy())
    return [np.concatenate(each) for each in found], [costs[place] for place in task.places]


class Division:
    """A division of the samples, and models fitted on their embeddings.

    Parameters
    ----------
    places : list of str
    known : tuple
        Of `embed`.
    y : ndarray of shape (n_samples,)
    head : str or estimator
        As the estimator takes it.
    seed : int
    """

    def __init__(self, places: list[str], known: Any, y: np.ndarray, head: Any, seed: int) -> None:
        self.places, self.y, self.head, self.seed = places, y, head, seed
        self.embeddings, self.costs = known
        self.parts = divided(seed)

    def samples(self, part: str, ks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings at some places side by side, and labels."""
        rows = self.parts[part]
        return np.hstack([self.embeddings[k][rows] for k in ks]), self.y[rows]

    def fit(self, ks: Sequence[int], exits: Any) -> EarlyExitClassifier:
        """Fit heads of the network with exits at some of the places, the last one its end."""
        widths = [self.embeddings[k].shape[1] for k in ks]
        costs = np.diff([0.0, *(self.costs[k] for k in ks)]).tolist()
        return EarlyExitClassifier(
            Known([self.places[k] for k in ks], widths),
            exits=exits,
            head=self.head,
            training="separate",
            calibration=None,
            cost=KnownMACs(costs),
            random_state=self.seed,
        ).fit(*self.samples("train", ks))


def divided(seed: int) -> dict[str, np.ndarray]:
    """Indices of the samples of each part."""
    order = np.random.RandomState(seed).permutation(sum(PARTS.values()))
    return dict(zip(PARTS, np.split(order, np.cumsum([*PARTS.values()])[:-1]), strict=True))
