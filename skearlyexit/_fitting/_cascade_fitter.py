"""Fit of a network with heads, for the final model and for each fold."""

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
from skearlyexit.costs import CostTable
from skearlyexit.heads import FittedHead
from skearlyexit.heads._alignment import align
from skearlyexit.heads._gate import FittedGate
from skearlyexit.training import MultiExitNetwork


@dataclass(frozen=True)
class Fit:
    """Result of a fit.

    Attributes
    ----------
    network : FittedNetwork
        Fitted network.
    history : list of dict
        Entry of each epoch.
    trained : MultiExitNetwork
        Network with all exits and heads of the training, from which a training can continue.
    stopped : bool, default=False
        Whether early stopping ended all phases of the training.
    optimizer_state : dict or None, default=None
        State of the optimizer, with which `update` continues. None after `fit`.
    validation : Samples or None, default=None
        Validation samples that were held out of the training samples. None if there are none, or
        others were given.
    """

    network: FittedNetwork
    history: list[dict[str, Any]]
    trained: MultiExitNetwork
    stopped: bool = False
    optimizer_state: dict[str, Any] | None = None
    validation: Samples | None = None


@dataclass(frozen=True)
class CascadeFitter:
    """Fits networks with the same exits and heads to different samples.

    Attributes
    ----------
    exits : Exits
        Exits of the fitted network.
    networks : NetworkFitter
        Fits the network.
    heads : HeadFitter
        Fits the heads.
    costs : ExitCosts
        Measures the costs.
    exit_rule : ExitRule
        Exit rule, not fitted.
    combination : Combination or None
        Combination that is learned with the network, not fitted.
    validation_fraction : float or None
        Share of the samples held out for early stopping. None if early stopping is not used.
    """

    exits: Exits
    networks: NetworkFitter
    heads: HeadFitter
    costs: ExitCosts
    exit_rule: ExitRule
    combination: Combination | None
    validation_fraction: float | None

    def least_cost(self) -> float:
        """Lower bound of the cost of exiting at the first exit, known before training."""
        table = self.least_costs()
        return 0.0 if table is None else float(table.cumulative[0])

    def least_costs(self) -> CostTable | None:
        """Lower bounds of the costs, known before training. None if nothing is known."""
        return self.costs.least(self.combination, gated=self.runs_gates)

    @property
    def runs_gates(self) -> bool:
        """Whether the fitted network computes gates, which it does only if they are used."""
        combination = self.combination
        read = combination is not None and combination.needs_gates
        return read or bool(self.exit_rule.gated_parts)

    def fit(
        self,
        rows: Samples,
        validation: Samples | None,
        seed: int,
        *,
        n_rows: int | None = None,
        start: MultiExitNetwork | None = None,
    ) -> Fit:
        """Fit a network and its heads.

        Parameters
        ----------
        rows : Samples
            Training samples.
        validation : Samples or None
            Validation samples for early stopping. If None, a share of `rows` is used.
        seed : int
            Seed of random numbers.
        n_rows : int or None, default=None
            Number of samples of the final fit. With fewer samples, the network is trained for more
            epochs, so that the number of steps is the same: after fewer steps it would be less
            confident, and with thresholds that are calibrated on it, samples would exit too early
            in the final network.
        start : MultiExitNetwork or None, default=None
            Trained network from which the training starts. It is copied.

        Returns
        -------
        fit : Fit
            Fitted network.

        Raises
        ------
        ValueError
            If there are too few samples for early stopping or for the folds of a head.
        """
        rng = check_random_state(seed)
        held_out: Samples | None = None
        if self.validation_fraction is not None and validation is None:
            train, held = hold_out(rows.strata, self.validation_fraction, rows.groups, rng)
            if not len(held):
                raise ValueError(
                    f"validation_fraction={self.validation_fraction} holds out none of {len(rows)} "
                    "samples for early stopping. Give a larger share, X_val and y_val, or "
                    "early_stopping=False."
                )
            if n_rows is not None:
                n_rows = round(n_rows * len(train) / len(rows))
            held_out, rows = rows.take(held), rows.take(train)
            validation = held_out
        n_rows = len(rows) if n_rows is None else n_rows
        seed = rng.randint(MAX_SEED)
        whole, trainer = self.networks.fit(rows, validation, seed, n_rows, start)
        network = self.networks.kept(whole)
        embeddings = self.heads.embed(network, rows)
        heads = self.exits.heads
        for n_folds in sorted({head.cross_fit for head in heads if head.cross_fit}):
            embeddings |= self._cross_fit(n_folds, embeddings, rows, validation, seed, n_rows)
        head_seeds = rng.randint(MAX_SEED, size=len(heads))
        fitted = self.heads.fit(network, embeddings, rows, head_seeds)
        return Fit(
            self._fitted(network, fitted, rows),
            trainer.history,
            whole,
            # Not known of trainings in other processes.
            stopped=bool(trainer.stopped) and all(trainer.stopped),
            validation=held_out,
        )

    def can_continue(self, fit: Fit, rows: Samples) -> bool:
        """Whether the training of a network can go on with further samples.

        It requires that early stopping ended all phases. Otherwise the number of steps is fixed,
        and with further ones the network would be more confident than that of a fold, on which
        thresholds are calibrated: samples would exit too early. The network has to be the same for
        these samples. Cross-fitted heads need networks with the same initial weights that were not
        trained on all samples.
        """
        if self.validation_fraction is None or not fit.history or not fit.stopped:
            return False
        if any(head.cross_fit for head in self.exits.heads):
            return False
        return self.networks.builds(fit.trained, rows)

    def update(
        self,
        rows: Samples,
        seed: int,
        start: MultiExitNetwork | None,
        optimizer_state: dict[str, Any],
        rate: float,
    ) -> Fit:
        """Continue the training of a network by one pass over samples.

        Parameters
        ----------
        rows : Samples
            Training samples.
        seed : int
            Seed of random numbers.
        start : MultiExitNetwork or None
            Trained network, which is copied. None starts with a new network.
        optimizer_state : dict
            State of its optimizer, which is copied. Empty for a new optimizer.
        rate : float
            Factor of the learning rate.

        Returns
        -------
        fit : Fit
            Fitted network.
        """
        rng = check_random_state(seed)
        whole, trainer = self.networks.update(rows, rng, start, optimizer_state, rate)
        network = self.networks.kept(whole)
        seeds = rng.randint(MAX_SEED, size=len(self.exits.heads))
        fitted = self._fitted(network, self.heads.fit(network, {}, rows, seeds), rows)
        return Fit(fitted, trainer.history, whole, optimizer_state=trainer.optimizer_state)

    def _cross_fit(
        self,
        n_folds: int,
        embeddings: dict[int, np.ndarray],
        rows: Samples,
        validation: Samples | None,
        seed: int,
        n_rows: int,
    ) -> dict[int, np.ndarray]:
        """Cross-fitted embeddings for the heads with this number of folds; see `EstimatorHead`.

        They are computed by networks that were not trained on the samples, and aligned with the
        embeddings of the network that was.
        """
        rng = check_random_state(seed)
        folds = list(cross_fitting_splits(n_folds, rows.strata, rows.groups, rng))
        if not folds:
            raise ValueError(
                f"A head with cross_fit={n_folds} needs at least {n_folds} samples, or two groups, "
                f"to be fitted. Got {len(rows)} samples. Give more, or cross_fit=None."
            )
        unseen = {
            i: embeddings[i].copy()
            for i, head in enumerate(self.exits.heads)
            if head.cross_fit == n_folds
        }
        for train, held in folds:
            # The same initial weights as those of the network, and as many steps: the more similar
            # the two networks, the better the alignment.
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
            n_classes=self.heads.task.n_outputs,
            row_bytes=self.exits.plan.facts.row_bytes,
            device=self.networks.execution.device,
            dtype=torch_dtype(rows.X),
            check=self.exits.plan.check,
            batch_invariant=self.exits.plan.batch_invariant,
            kind=self.heads.task.kind,
        )

    def _combiner(self, network: MultiExitNetwork) -> Combination | None:
        if network.combiner is None or self.combination is None:
            return None
        return network.combiner.fitted()
