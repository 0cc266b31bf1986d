"""Training of a network with exits."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from skearlyexit._data._samples import Samples
from skearlyexit._data._streamed import tensor_of
from skearlyexit._determinism._layers import Mergeable
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit._fitting._measured_network import Exits
from skearlyexit._task._base import Task
from skearlyexit._utils._not_finite import ADVICE_IN_FIT, located
from skearlyexit.backbones import Backbone
from skearlyexit.backbones._base import stages_of
from skearlyexit.heads._base import PooledModule
from skearlyexit.heads._gate import build_gate
from skearlyexit.training import MultiExitNetwork, Trainer, TrainingStrategy
from skearlyexit.training._memory import TrainingMemory
from skearlyexit.training._options import Execution, TrainingOptions
from skearlyexit.training._rows import training_rows

MAX_SEED = np.iinfo(np.int32).max
#: Number of training samples for which the outputs of a trained network are checked.
TRIAL_ROWS = 256


@dataclass(frozen=True)
class NetworkFitter:
    """Trains networks with the same exits on different samples.

    Attributes
    ----------
    backbone : Backbone
        Backbone of the network.
    exits : Exits
        Exits that are trained. Some may be removed afterwards.
    training : TrainingStrategy
        Training strategy.
    keep_given : bool
        Whether the training may keep weights given by the user.
    options : TrainingOptions
        Options of the training.
    execution : Execution
        Options of the execution.
    memory : TrainingMemory or None
        Cache of training phases.
    task : Task
        What is predicted.
    dtype : torch.dtype
        Precision of the network.
    """

    backbone: Backbone
    exits: Exits
    training: TrainingStrategy
    keep_given: bool
    options: TrainingOptions
    execution: Execution
    memory: TrainingMemory | None
    task: Task
    dtype: torch.dtype

    def fit(
        self,
        rows: Samples,
        validation: Samples | None,
        seed: int,
        n_rows: int,
        start: MultiExitNetwork | None = None,
    ) -> tuple[MultiExitNetwork, Trainer]:
        """Train a network; see `CascadeFitter.fit`.

        Returns
        -------
        network : MultiExitNetwork
            Trained network, in evaluation mode, with all exits that were trained.
        trainer : Trainer
            Holds the history of the training.
        """
        rng = check_random_state(seed)
        network = self._initial_network(rows, rng, start)
        table = training_rows(rows, self.dtype, unlabeled=self.training.takes_unlabeled())
        trainer = Trainer(
            table,
            None if validation is None else training_rows(validation, self.dtype),
            self.options,
            self.execution,
            seeds=count(rng.randint(MAX_SEED)),
            n_rows=n_rows,
            memory=self.memory,
        )
        self.training.train(network, self._shares(), trainer)
        return self._prepared(network, rows), trainer

    def update(
        self,
        rows: Samples,
        rng: np.random.RandomState,
        start: MultiExitNetwork | None,
        optimizer_state: dict[str, Any],
        rate: float,
    ) -> tuple[MultiExitNetwork, Trainer]:
        """Train by one pass over samples; see `CascadeFitter.update`."""
        network = self._initial_network(rows, rng, start)
        # The mean weight of all samples is not known, as further samples may follow.
        table = training_rows(rows, self.dtype, relative=False)
        trainer = Trainer(
            table,
            None,
            replace(
                self.options,
                max_epochs=1,
                rate=rate,
                lr_schedule="constant",
                patience=None,
                weight_averaging=False,
            ),
            self.execution,
            seeds=count(rng.randint(MAX_SEED)),
            optimizer_state=copy.deepcopy(optimizer_state),
        )
        self.training.update(network, self._shares(), trainer)
        return self._prepared(network, rows), trainer

    def kept(self, network: MultiExitNetwork) -> MultiExitNetwork:
        """Network without the exits that are removed after the training."""
        return network.with_exits(self.training.remaining_exits(network.n_exits))

    def builds(self, network: MultiExitNetwork, rows: Samples) -> bool:
        """Whether a new network for these samples has the architecture of a network."""
        return network.is_like(self._build(rows, np.random.RandomState(0)))

    def _shares(self) -> np.ndarray:
        """Cost of the backbone up to each exit, as a share of the cost of the entire backbone."""
        total = np.cumsum(self.exits.plan.stage_costs)
        return np.asarray(total / (total[-1] or 1.0))

    def _prepared(self, network: MultiExitNetwork, rows: Samples) -> MultiExitNetwork:
        """Prepare a trained network for prediction, and check that its outputs are finite."""
        network.requires_grad_(False)
        network.to(self.execution.device).eval()
        for module in network.modules():
            if isinstance(module, Mergeable):
                module.merge()
        carry: Any = tensor_of(rows.X[:TRIAL_ROWS]).to(self.execution.device)
        kind = self.task.kind
        with torch.inference_mode(), located(rows.positions, ADVICE_IN_FIT):
            for exit_, (stage, head) in enumerate(zip(network.stages, network.heads, strict=True)):
                carry, embedding = stage(carry)
                outputs = kind.of_last_layer(head(embedding))
                kind.check(outputs, f"After training the outputs of exit {exit_} are")
        return network

    def _initial_network(
        self, rows: Samples, rng: np.random.RandomState, start: MultiExitNetwork | None
    ) -> MultiExitNetwork:
        """New network, with the weights of the network from which the training starts, if any."""
        network = self._build(rows, rng)
        if start is None:
            return network
        if not start.is_like(network):
            raise ValueError(
                "The training cannot continue from the fitted network, since the parameters "
                "describe another network. Restore backbone, exits, head and dtype, or fit with "
                "warm_start=False."
            )
        network.go_on_from(start)
        return network

    def _build(self, rows: Samples, rng: np.random.RandomState) -> MultiExitNetwork:
        """Build the network with new weights, drawn independently for each part."""
        with isolated_random_state(rng.randint(MAX_SEED)):
            built = self.backbone.build(rows.X, self.task.n_outputs)
            built.to(self.dtype)
        modules: list[torch.nn.Module] = []
        plan = self.exits.plan
        for head, embedding in zip(self.exits.heads, plan.embeddings, strict=True):
            with isolated_random_state(rng.randint(MAX_SEED)):
                if head.is_own:
                    assert built.head is not None
                    modules.append(PooledModule(torch.nn.Identity(), built.head))
                else:
                    modules.append(head.build(embedding, self.task.n_outputs).to(embedding.dtype))
        gates: list[torch.nn.Module] = []
        if self.training.learns_gates:
            for embedding in plan.embeddings[:-1]:
                with isolated_random_state(rng.randint(MAX_SEED)):
                    gates.append(build_gate(embedding).to(embedding.dtype))
        return MultiExitNetwork(
            stages_of(built, plan.ends),
            modules,
            stand_ins=[i for i, head in enumerate(self.exits.heads) if not head.is_neural],
            given=built.given and self.keep_given,
            given_head=self.exits.heads[-1].is_own,
            gates=gates,
            n_classes=self.task.n_outputs,
        )
