"""Fit of the heads of a trained network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.parallel import Parallel, delayed

from skearlyexit._data._samples import Samples
from skearlyexit._fitting._measured_network import torch_dtype
from skearlyexit._task._base import Task
from skearlyexit._utils._not_finite import ADVICE_IN_FIT, located
from skearlyexit.heads import FittedHead, Head
from skearlyexit.runtime._torch import embed
from skearlyexit.training import MultiExitNetwork


@dataclass(frozen=True)
class HeadFitter:
    """Fits the heads of networks with the same exits.

    Attributes
    ----------
    heads : list of Head
        Head of each exit.
    task : Task
        What is predicted.
    needs_probabilities : bool
        Whether heads without predicted probabilities have to be calibrated.
    row_bytes : int
        Memory of the largest input or output of a block for one sample.
    device : str
        Device on which the stages run.
    n_jobs : int or None
        Number of heads that are fitted in parallel.
    """

    heads: Sequence[Head]
    task: Task
    needs_probabilities: bool
    row_bytes: int
    device: str
    n_jobs: int | None

    def embed(self, network: MultiExitNetwork, rows: Samples) -> dict[int, np.ndarray]:
        """Pooled embeddings at the exits whose heads are fitted to them, by exit."""
        poolings: dict[int, Any] = {i: network.heads[i].pooling for i in sorted(network.stand_ins)}
        if not poolings:
            return {}
        with located(rows.positions, ADVICE_IN_FIT):
            return embed(
                network.stages,
                poolings,
                rows.X,
                device=self.device,
                dtype=torch_dtype(rows.X),
                row_bytes=self.row_bytes,
            )

    def fit(
        self,
        network: MultiExitNetwork,
        embeddings: dict[int, np.ndarray],
        rows: Samples,
        seeds: np.ndarray,
    ) -> list[FittedHead]:
        """Fitted head of each exit; heads that are not torch modules are fitted in parallel."""

        def arguments(i: int) -> dict[str, Any]:
            return {
                "module": network.heads[i],
                "embeddings": embeddings.get(i),
                "y": rows.y,
                "sample_weight": rows.weight,
                "needs_probabilities": self.needs_probabilities,
                "seed": int(seeds[i]),
            }

        # Heads that are torch modules are not sent to other processes.
        jobs = (delayed(self.task.fit_head)(self.heads[i], **arguments(i)) for i in embeddings)
        fitted = dict(zip(embeddings, Parallel(n_jobs=self.n_jobs)(jobs), strict=True))
        return [
            fitted[i] if i in fitted else self.task.fit_head(head, **arguments(i))
            for i, head in enumerate(self.heads)
        ]
