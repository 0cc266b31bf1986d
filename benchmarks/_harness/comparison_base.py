"""What a model of the comparison is, and what it may depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import ParameterGrid

from _harness.networks import Params
from skearlyexit import EarlyExitClassifier


@dataclass
class Context:
    """What a model may depend on besides its own setting.

    Attributes
    ----------
    kind : {"tabular", "image"}
    X : ndarray of shape (n_samples, n_features)
        Training samples, for shapes and the variance of a kernel; no model is fitted on them here.
    n_classes : int
    max_epochs : int
        Upper bound of a setting's epochs, and a third of that of iterations, for trials.
    plain : dict or None
        Setting of the plain network.
    linear : dict or None
        Setting of early exits with linear heads.
    macs : float or None
        Cost that the smaller plain network has to reach.
    network : EarlyExitClassifier or None
        Trained network with linear heads, on whose stages classical heads are fitted.
    """

    kind: str
    X: np.ndarray
    n_classes: int
    max_epochs: int
    plain: Params | None = None
    linear: Params | None = None
    macs: float | None = None
    network: EarlyExitClassifier | None = None


@dataclass(frozen=True)
class Model:
    """A model that takes part.

    Attributes
    ----------
    title : str
    build : callable
        ``build(params, context, seed)`` returns an estimator.
    first : callable
        ``first(context)`` returns the setting that is tried first.
    space : callable or None
        ``space(context)`` returns grids for `ParameterGrid`; None: nothing is searched.
    size : callable
        ``size(params, context)``: work of a fit, in any unit, for predicting how long it takes.
    early_exits : bool, default=False
        Whether it has operating points.
    """

    title: str
    build: Callable[[Params, Context, int], Any]
    first: Callable[[Context], Params]
    space: Callable[[Context], Any] | None
    size: Callable[[Params, Context], float]
    early_exits: bool = False

    def candidates(self, context: Context, rng: np.random.RandomState) -> list[Params]:
        """The first setting, and all others in random order."""
        first = self.first(context)
        grid = [] if self.space is None else list(ParameterGrid(self.space(context)))
        others = [grid[i] for i in rng.permutation(len(grid))]
        return [first, *(params for params in others if params != first)]
