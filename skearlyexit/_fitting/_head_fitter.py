"""From a trained network to fitted heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.parallel import Parallel, delayed

from skearlyexit._data._samples import Samples
from skearlyexit._fitting._measured_network import torch_dtype
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
        One for each exit.
    classes : ndarray of shape (n_classes,)
    needs_probabilities : bool
        Whether heads that give labels only have to be calibrated.
    row_bytes : int
        Largest memory of one row between two blocks.
    device : str
    n_jobs : int or None
    """

    heads: Sequence[Head]
    classes: np.ndarray
    needs_probabilities: bool
    row_bytes: int
    device: str
    n_jobs: int | None

    def embed(self, network: MultiExitNetwork, rows: Samples) -> dict[int, np.ndarray]:
        """Pooled embeddings at the exits whose heads are fitted on them."""
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
        """Heads that answer; those that are no torch modules are fitted in parallel."""

        def arguments(i: int) -> dict[str, Any]:
            return {
                "module": network.heads[i],
                "embeddings": embeddings.get(i),
                "y": rows.y,
                "sample_weight": rows.weight,
                "classes": self.classes,
                "needs_probabilities": self.needs_probabilities,
                "seed": int(seeds[i]),
            }

        # Heads that are modules are not sent to other processes and back.
        jobs = (delayed(self.heads[i].fit)(**arguments(i)) for i in embeddings)
        fitted = dict(zip(embeddings, Parallel(n_jobs=self.n_jobs)(jobs), strict=True))
        return [
            fitted[i] if i in fitted else head.fit(**arguments(i))
            for i, head in enumerate(self.heads)
        ]
