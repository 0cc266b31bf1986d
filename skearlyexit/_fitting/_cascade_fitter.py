"""From training samples to a network with heads, for the final model as for every fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skearlyexit._cascade._cascade import FittedNetwork
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._data._splits import cross_fitting_splits, hold_out
from skearlyexit._fitting._exit_costs import ExitCosts
from skearlyexit._fitting._head_fitter import HeadFitter
from skearlyexit._fitting._measured_network import Exits, torch_dtype
from skearlyexit._fitting._network_fitter import MAX_SEED, NetworkFitter
from skearlyexit.combination import Combination
from skearlyexit.heads import FittedHead
from skearlyexit.heads._alignment import align
from skearlyexit.heads._gate import FittedGate
from skearlyexit.training import MultiExitNetwork


@dataclass(frozen=True)
class Fit:
    """What fitting gives.

    Attributes
    ----------
    network : FittedNetwork
    history : list of dict
    trained : MultiExitNetwork
        The network as it was trained, to go on with.
    optimizer_state : dict or None
        To go on with, too; None after a training from the beginning.
    """

    network: FittedNetwork
    history: list[dict[str, Any]]
    trained: MultiExitNetwork
    optimizer_state: dict[str, Any] | None = None


@dataclass(frozen=True)
class CascadeFitter:
    """Fits networks and heads on different samples, with the same exits.

    Attributes
    ----------
    exits : Exits
    networks : NetworkFitter
    heads : HeadFitter
    costs : ExitCosts
    exit_rule : ExitRule
        Not fitted.
    combination : Combination or None
        The one that training learns and the network applies, not fitted.
    validation_fraction : float or None
        Share of the samples held out for early stopping; None trains without.
    """

    exits: Exits
    networks: NetworkFitter
    heads: HeadFitter
    costs: ExitCosts
    exit_rule: ExitRule
    combination: Combination | None
    validation_fraction: float | None

    def least_cost(self) -> float:
        """Lower bound, known before training, of what exiting at the first exit will cost."""
        return self.costs.least(self.combination, gated=self.runs_gates)

    @property
    def runs_gates(self) -> bool:
        """Whether there are gates in the cascade: those that nothing reads are not run."""
        combination = self.combination
        read = combination is not None and combination.needs_gates
        return read or self.exit_rule.policy.needs_gates

    def fit(
        self,
        rows: Samples,
        validation: Samples | None,
        seed: int,
        *,
        n_rows: int | None = None,
        start: MultiExitNetwork | None = None,
    ) -> Fit:
        """Fit a cascade.

        Parameters
        ----------
        rows : Samples
        validation : Samples or None
            Samples for early stopping instead of a share of `rows`.
        seed : int
        n_rows : int or None, default=None
            How many rows the final model is fitted on. Fewer are trained on for more epochs: a
            network that has made fewer steps is less sure, and thresholds that are right for it
            let the final one leave too soon.
        start : MultiExitNetwork or None, default=None
            A trained network to go on with; it is copied.
        """
        rng = check_random_state(seed)
        if self.validation_fraction is not None and validation is None:
            train, held = hold_out(rows.y, self.validation_fraction, rows.groups, rng)
            if not len(held):
                raise ValueError(
                    f"validation_fraction={self.validation_fraction} leaves no row of {len(rows)} "
                    "for early stopping. Give a larger share, X_val and y_val, or "
                    "early_stopping=False."
                )
            if n_rows is not None:
                n_rows = round(n_rows * len(train) / len(rows))
            validation, rows = rows.take(held), rows.take(train)
        n_rows = len(rows) if n_rows is None else n_rows
        seed = rng.randint(MAX_SEED)
        whole, history = self.networks.fit(rows, validation, seed, n_rows, start)
        network = self.networks.kept(whole)
        embeddings = self.heads.embed(network, rows)
        heads = self.exits.heads
        for n_folds in sorted({head.cross_fit for head in heads if head.cross_fit}):
            embeddings |= self._cross_fit(n_folds, embeddings, rows, validation, seed, n_rows)
        head_seeds = rng.randint(MAX_SEED, size=len(heads))
        fitted = self.heads.fit(network, embeddings, rows, head_seeds)
        return Fit(self._fitted(network, fitted, rows), history, whole)

    def update(
        self,
        rows: Samples,
        seed: int,
        start: MultiExitNetwork | None,
        optimizer_state: dict[str, Any],
    ) -> Fit:
        """Fit a cascade by one pass over rows, from where a network and its optimizer stand.

        Parameters
        ----------
        rows : Samples
        seed : int
        start : MultiExitNetwork or None
            Copied; None begins with a new one.
        optimizer_state : dict
            Copied; empty for one that begins.
        """
        rng = check_random_state(seed)
        whole, trainer = self.networks.update(rows, rng, start, optimizer_state)
        network = self.networks.kept(whole)
        seeds = rng.randint(MAX_SEED, size=len(self.exits.heads))
        fitted = self._fitted(network, self.heads.fit(network, {}, rows, seeds), rows)
        return Fit(fitted, trainer.history, whole, trainer.optimizer_state)

    def _cross_fit(
        self,
        n_folds: int,
        embeddings: dict[int, np.ndarray],
        rows: Samples,
        validation: Samples | None,
        seed: int,
        n_rows: int,
    ) -> dict[int, np.ndarray]:
        """Embeddings by networks that have not seen the rows, in the coordinates of one that has.

        For the heads that ask for this number of folds; see `EstimatorHead`.
        """
        rng = check_random_state(seed)
        folds = list(cross_fitting_splits(n_folds, rows.y, rows.groups, rng))
        if not folds:
            raise ValueError(
                f"A head with cross_fit={n_folds} needs at least {n_folds} rows, or two groups, to "
                f"be fitted on. Got {len(rows)} rows; give more, or cross_fit=None."
            )
        unseen = {
            i: embeddings[i].copy()
            for i, head in enumerate(self.exits.heads)
            if head.cross_fit == n_folds
        }
        for train, held in folds:
            # The same start as the network's, and as many steps: the closer the two end, the
            # better they align.
            network, _ = self.networks.fit(rows.take(train), validation, seed, n_rows)
            found = self.heads.embed(self.networks.kept(network), rows)
            for i in unseen:
                unseen[i][held] = align(found[i][train], embeddings[i][train], found[i][held])
        return unseen

    def _fitted(
        self, network: MultiExitNetwork, heads: list[FittedHead], rows: Samples
    ) -> FittedNetwork:
        return FittedNetwork(
            stages=list(network.stages),
            heads=heads,
            gates=[FittedGate.of(each) for each in network.gates] if self.runs_gates else [],
            combiner=self._combiner(network),
            n_classes=len(self.heads.classes),
            row_bytes=self.exits.plan.facts.row_bytes,
            device=self.networks.execution.device,
            dtype=torch_dtype(rows.X),
            check=self.exits.plan.check,
        )

    def _combiner(self, network: MultiExitNetwork) -> Combination | None:
        if network.combiner is None or self.combination is None:
            return None
        return network.combiner.fitted()
