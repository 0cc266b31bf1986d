"""From training rows to a cascade, the same way for the final model and for every fold."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed

from skearlyexit._cascade._cascade import FittedNetwork
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._data._splits import cross_fitting_splits, hold_out
from skearlyexit._data._streamed import tensor_of
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit._fitting._measured_network import MeasuredNetwork, torch_dtype
from skearlyexit._utils._not_finite import ADVICE_IN_FIT, check_outputs, located
from skearlyexit.backbones import Backbone
from skearlyexit.backbones._base import stages_of
from skearlyexit.combination import Combination
from skearlyexit.costs import Cost, CostInput, CostMeasurement, CostTable, exit_costs
from skearlyexit.costs._macs import counted_or_free
from skearlyexit.heads import FittedHead, Head
from skearlyexit.heads._alignment import align
from skearlyexit.heads._base import PooledModule
from skearlyexit.heads._gate import FittedGate, build_gate
from skearlyexit.runtime._torch import embed
from skearlyexit.training import JointTraining, MultiExitNetwork, Trainer, TrainingStrategy
from skearlyexit.training._rows import TrainingRows, training_rows

MAX_SEED = np.iinfo(np.int32).max
#: Training rows that a trained network is tried on.
TRIAL_ROWS = 256


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
    """Fits cascades on different rows under the same plan.

    Attributes
    ----------
    backbone : Backbone
    plan : MeasuredNetwork
    cost : Cost
    heads : list of Head
        One for each exit.
    trained_plan, trained_heads : MeasuredNetwork, list of Head
        The same with exits that are dropped after training.
    keep_given : bool
        Whether training may take weights that came from the user for trained ones.
    training : TrainingStrategy
    combined : bool
        Whether what training learns to make of the heads is used.
    decision : ExitRule
        Not fitted.
    classes : ndarray of shape (n_classes,)
    trainer_options : dict
        Keyword arguments of `Trainer`.
    validation_fraction : float or None
        Share of the rows held out for early stopping; None trains without.
    device : str
    dtype : torch.dtype
        Precision of the network.
    n_jobs : int or None
    """

    backbone: Backbone
    plan: MeasuredNetwork
    cost: Cost
    heads: Sequence[Head]
    trained_plan: MeasuredNetwork
    trained_heads: Sequence[Head]
    keep_given: bool
    training: TrainingStrategy
    combined: bool
    decision: ExitRule
    classes: np.ndarray
    trainer_options: dict[str, Any]
    validation_fraction: float | None
    device: str
    dtype: torch.dtype
    n_jobs: int | None

    @property
    def needs_probabilities(self) -> bool:
        """Whether heads that give labels only have to be calibrated."""
        return self.combined or self.decision.needs_probabilities

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def least_cost(self) -> float:
        """Lower bound, known before training, of what leaving at the first exit will cost."""
        last = self.heads[-1]
        if not last.is_neural or last.is_own or not self.cost.is_exact:
            return 0.0  # the unit itself is not known yet
        parts = []
        with isolated_random_state(0):
            for head, embedding in zip(self.heads, self.plan.embeddings, strict=True):
                if head.is_neural:
                    module = head.build(embedding, self.n_classes).to(embedding.dtype).eval()
                    fitted = head.fit(
                        module,
                        None,
                        np.empty(0),
                        None,
                        classes=self.classes,
                        needs_probabilities=True,
                        seed=0,
                    )
                    parts.append(fitted.part(embedding))
                else:
                    parts.append(CostInput(head, embedding, None, macs=0.0))
        decisions: list[list[CostInput]] = [[] for _ in parts]
        if self.decision.gated:
            embedding = self.plan.embeddings[0]
            with isolated_random_state(0):
                gate = build_gate(embedding).to(embedding.dtype).eval()
            decisions[0].append(FittedGate.of(gate).part(embedding))
        if self.combined:
            combination = self.training.untrained_combination(self.n_classes, len(parts))
            assert combination is not None
            decisions[0].append(combination.part(self.n_classes, 0, gated=self.decision.gated))
        return float(self._cost_table([], parts, decisions).cumulative[0])

    def cost_table(self, network: FittedNetwork, decision: ExitRule, X: np.ndarray) -> CostTable:
        """What the parts of a network, and what is made of its outputs, cost on a few samples.

        Parameters
        ----------
        network : FittedNetwork
        decision : ExitRule
            Fitted.
        X : ndarray of shape (n_samples, ...)
        """
        return self._cost_table(*self._parts(network, X, decision))

    def untimed_costs(self, network: FittedNetwork, X: np.ndarray) -> np.ndarray:
        """Cumulative costs for what is fitted: the same for every fit with the same seed.

        Where stages are timed, the operations of stages and heads are counted instead. What has no
        count is free, and a stage has one operation at least.

        Returns
        -------
        costs : ndarray of shape (n_exits,)
            In units of the plain backbone, decisions not counted.
        """
        stages, heads, decisions = self._parts(network, X, None)
        if self.cost.is_exact:
            return self._cost_table(stages, heads, decisions).untimed
        return exit_costs(
            [max(1.0, counted_or_free(part)) for part in stages],
            [counted_or_free(part) for part in heads],
            [sum(map(counted_or_free, parts)) for parts in decisions],
        )

    def _parts(
        self, network: FittedNetwork, X: np.ndarray, decision: ExitRule | None
    ) -> tuple[list[CostInput], list[CostInput], list[list[CostInput]]]:
        """Stages, heads and decisions with what they are called with."""
        # What is measured should meet rows as various as those it is used on.
        carry: Any = tensor_of(X[:32]).to(network.device)
        stages: list[CostInput] = []
        heads: list[CostInput] = []
        decisions: list[list[CostInput]] = []
        last = network.n_exits - 1
        with torch.inference_mode():
            for i, (stage, head) in enumerate(zip(network.stages, network.heads, strict=True)):
                stages.append(CostInput(stage, carry, stage))
                carry, embedding = stage(carry)
                heads.append(head.part(embedding))
                parts = []
                if network.combiner is not None:
                    gated = bool(network.gates)
                    parts.append(network.combiner.part(self.n_classes, i, gated=gated))
                if network.gates and i < last:
                    parts.append(network.gates[i].part(embedding))
                if decision is not None:
                    decided = decision.part(self.n_classes, i, last=i == last)
                    parts += [] if decided is None else [decided]
                decisions.append(parts)
        return stages, heads, decisions

    def _cost_table(
        self,
        stages: Sequence[CostInput],
        heads: Sequence[CostInput],
        decisions: Sequence[Sequence[CostInput]],
    ) -> CostTable:
        read = [part for parts in decisions for part in parts]
        staged, headed, found = self.cost.of_cascade(stages, heads, read, self.plan.block_costs)
        values = iter(found)
        decided = [CostMeasurement.total([next(values) for _ in parts]) for parts in decisions]
        return CostTable(
            self.cost.unit_name, self.plan.names, staged, headed, self.plan.links, decided
        )

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
        whole, history = self._train(rows, validation, seed, n_rows, start)
        network = self._kept(whole)
        embeddings = self._embed(network, rows)
        for n_folds in sorted({head.cross_fit for head in self.heads if head.cross_fit}):
            embeddings |= self._cross_fit(n_folds, embeddings, rows, validation, seed, n_rows)
        head_seeds = rng.randint(MAX_SEED, size=len(self.heads))
        heads = self._fit_heads(network, embeddings, rows, head_seeds)
        return Fit(self._fitted(network, heads, rows), history, whole)

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
        whole = self._begun(rows, rng, start)
        options = self.trainer_options | {
            "max_epochs": 1,
            "lr_schedule": "constant",
            "memory": None,  # where no optimizer is kept
            "optimizer_state": copy.deepcopy(optimizer_state),
        }
        # The weights of the rows to come are not known, that these might be relative to their mean.
        table = training_rows(rows, self.dtype, relative=False)
        trainer = self._trainer(table, None, rng, options)
        self._training_of(whole).update(whole, self._shares(), trainer)
        whole = self._settled(whole, rows)
        network = self._kept(whole)
        heads = self._fit_heads(network, {}, rows, rng.randint(MAX_SEED, size=len(self.heads)))
        fitted = self._fitted(network, heads, rows)
        return Fit(fitted, trainer.history, whole, trainer.optimizer_state)

    def _fitted(
        self, network: MultiExitNetwork, heads: list[FittedHead], rows: Samples
    ) -> FittedNetwork:
        return FittedNetwork(
            stages=list(network.stages),
            heads=heads,
            gates=[FittedGate.of(each) for each in network.gates] if self.decision.gated else [],
            combiner=self._combiner(network),
            n_classes=self.n_classes,
            row_bytes=self.plan.facts.row_bytes,
            device=self.device,
            dtype=torch_dtype(rows.X),
            check=self.plan.check,
        )

    def _combiner(self, network: MultiExitNetwork) -> Combination | None:
        if network.combiner is None or not self.combined:
            return None
        return network.combiner.fitted()

    def _train(
        self,
        rows: Samples,
        validation: Samples | None,
        seed: int,
        n_rows: int,
        start: MultiExitNetwork | None = None,
    ) -> tuple[MultiExitNetwork, list[dict[str, Any]]]:
        rng = check_random_state(seed)
        network = self._begun(rows, rng, start)
        table = training_rows(rows, self.dtype, unlabeled=self.training.takes_unlabeled())
        trainer = self._trainer(table, validation, rng, self.trainer_options, n_rows)
        self._training_of(network).train(network, self._shares(), trainer)
        return self._settled(network, rows), trainer.history

    def _trainer(
        self,
        rows: TrainingRows,
        validation: Samples | None,
        rng: np.random.RandomState,
        options: dict[str, Any],
        n_rows: int | None = None,
    ) -> Trainer:
        return Trainer(
            rows,
            None if validation is None else training_rows(validation, self.dtype),
            device=self.device,
            seeds=count(rng.randint(MAX_SEED)),
            n_rows=n_rows,
            **options,
        )

    def _training_of(self, network: MultiExitNetwork) -> TrainingStrategy:
        """The strategy, unless there are too few exits for it."""
        alone = self.training.needs_exits and network.n_exits == 1
        return JointTraining() if alone else self.training

    def _shares(self) -> np.ndarray:
        """Cumulative cost of the backbone at each exit, as a share of all of it."""
        total = np.cumsum(self.trained_plan.stage_costs)
        return np.asarray(total / (total[-1] or 1.0))

    def _settled(self, network: MultiExitNetwork, rows: Samples) -> MultiExitNetwork:
        """The network as it is used, if it answers some of the rows that it was trained on."""
        network.requires_grad_(False)
        network.to(self.device).eval()
        carry: Any = tensor_of(rows.X[:TRIAL_ROWS]).to(self.device)
        with torch.inference_mode(), located(rows.positions, ADVICE_IN_FIT):
            for exit_, (stage, head) in enumerate(zip(network.stages, network.heads, strict=True)):
                carry, embedding = stage(carry)
                probabilities = torch.softmax(head(embedding), dim=1).cpu().numpy()
                check_outputs(probabilities, f"After training the outputs of exit {exit_} are")
        return network

    def _kept(self, network: MultiExitNetwork) -> MultiExitNetwork:
        """The network without the exits that only helped to train."""
        return network.joined() if self.training.drops_exits else network

    def _begun(
        self, rows: Samples, rng: np.random.RandomState, start: MultiExitNetwork | None
    ) -> MultiExitNetwork:
        """A new network, with the weights of the one to go on with if there is one."""
        network = self._build(rows, rng)
        if start is None:
            return network
        if not start.is_like(network):
            raise ValueError(
                "The parameters ask for another network than the one that was fitted before and "
                "is to be trained on. Leave backbone, exits, head and dtype as they were, or fit "
                "with warm_start=False."
            )
        network.go_on_from(start)
        return network

    def _build(self, rows: Samples, rng: np.random.RandomState) -> MultiExitNetwork:
        """Build the network with new weights; those of a part do not depend on the other parts."""
        with isolated_random_state(rng.randint(MAX_SEED)):
            built = self.backbone.build(rows.X, self.n_classes)
            built.to(self.dtype)
        modules: list[torch.nn.Module] = []
        plan = self.trained_plan
        for head, embedding in zip(self.trained_heads, plan.embeddings, strict=True):
            with isolated_random_state(rng.randint(MAX_SEED)):
                if head.is_own:
                    assert built.head is not None
                    modules.append(PooledModule(torch.nn.Identity(), built.head))
                else:
                    modules.append(head.build(embedding, self.n_classes).to(embedding.dtype))
        gates: list[torch.nn.Module] = []
        if self.training.has_gates:
            for embedding in plan.embeddings[:-1]:
                with isolated_random_state(rng.randint(MAX_SEED)):
                    gates.append(build_gate(embedding).to(embedding.dtype))
        return MultiExitNetwork(
            stages_of(built, plan.ends),
            modules,
            stand_ins=[i for i, head in enumerate(self.trained_heads) if not head.is_neural],
            given=built.given and self.keep_given,
            given_head=self.trained_heads[-1].is_own,
            gates=gates,
            n_classes=self.n_classes,
        )

    def _embed(self, network: MultiExitNetwork, rows: Samples) -> dict[int, np.ndarray]:
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
                row_bytes=self.plan.facts.row_bytes,
            )

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
            for i, head in enumerate(self.heads)
            if head.cross_fit == n_folds
        }
        for train, held in folds:
            # The same start as the network's, and as many steps: the closer the two end, the
            # better they align.
            network, _ = self._train(rows.take(train), validation, seed, n_rows)
            found = self._embed(self._kept(network), rows)
            for i in unseen:
                unseen[i][held] = align(found[i][train], embeddings[i][train], found[i][held])
        return unseen

    def _fit_heads(
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
