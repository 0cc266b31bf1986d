"""Parts of a cascade that are converted to ONNX: stages, heads and exit rule."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import numpy as np
import torch

from skearlyexit._cascade._cascade import FittedNetwork
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._determinism._layers import to_layers_of_torch
from skearlyexit._onnx._convert import add_softmax, from_module
from skearlyexit._onnx._graph import ExportError, Graph, GraphOutput, check_converts
from skearlyexit._onnx._modules import add_module, converts
from skearlyexit._onnx._samples import run_on_samples
from skearlyexit.combination import Combination
from skearlyexit.heads import FittedHead
from skearlyexit.policies import Policy

#: Name of the output that may be there instead of the probabilities, which are its softmax.
LOGITS = "logits"
#: Methods of a combination that are converted.
COMBINED = ["step", "combine"]

#: Names of the states of the combination that was learned with the network, of the combination of
#: the exit rule, and of the policy. None without a memory, and at the first exit.
States = list[str | None]
NO_STATES: States = [None, None, None]

#: Adds a part to a graph, given the names of its inputs, and returns those of its outputs.
Adder = Callable[[Graph, list[str]], list[str]]


def check_rule(exit_rule: ExitRule) -> None:
    """Raise an error if an exit rule, fitted or not, cannot be converted."""
    check_converts(exit_rule.combination, COMBINED, Combination)
    check_converts(exit_rule.policy, ["step", "judge"], Policy)
    if exit_rule.router is not None:
        raise ExportError(
            f"{type(exit_rule.router).__name__} cannot be converted to ONNX. Give router=None, "
            "with which no exit is skipped."
        )


class ConvertedParts:
    """Stages, heads and exit rule of a cascade, which can be added to graphs.

    Parameters
    ----------
    network : FittedNetwork
        Fitted network. It is copied, since torch changes modules while it exports them.
    exit_rule : ExitRule
        Fitted exit rule.
    row_shape : tuple of int
        Shape of a sample.

    Attributes
    ----------
    late_softmax : bool
        Whether the answers are logits, and the softmax is computed once, at the end. This is so if
        all heads have logits and only the largest probability is needed until then.
    dtype : dtype
        Precision of the answers.

    Raises
    ------
    ExportError
        If a part cannot be converted.
    """

    def __init__(
        self, network: FittedNetwork, exit_rule: ExitRule, row_shape: tuple[int, ...]
    ) -> None:
        self.row_shape = row_shape
        self.network = network = copy.deepcopy(network).moved("cpu")
        for module in network.modules():
            to_layers_of_torch(module)
        self.rule, self.n_classes, self.n_exits = exit_rule, network.n_classes, network.n_exits
        check_rule(exit_rule)
        if network.combiner is not None:
            check_converts(network.combiner, COMBINED, Combination)
        self._root = Graph()  # what is converted for one graph is known to the others
        carries, self.embeddings = run_on_samples(network.stages, row_shape, network.dtype)
        self.stages = [
            stage_adder(stage, carry, f"Stage {i}")
            for i, (stage, carry) in enumerate(zip(network.stages, carries, strict=True))
        ]
        changed = network.combiner is not None or bool(network.gates)
        self.late_softmax = (
            exit_rule.needs_only_largest
            and not changed
            and all(head.has_logits for head in network.heads)
        )
        # Not that of the samples, which are in double precision if they are far from zero.
        logits = self.embeddings[-1].numpy().dtype
        self.dtype = logits if self.late_softmax else np.dtype(np.float64)

    def graph(self) -> Graph:
        """Return an empty graph."""
        return self._root.branch()

    def output(self, graph: Graph, answers: str, *, as_logits: bool) -> GraphOutput:
        """Add what is returned beside the predictions, as logits if there are any."""
        shape = (self.n_classes,)
        if self.late_softmax and as_logits:
            return GraphOutput(answers, LOGITS, self.dtype, shape)
        if self.late_softmax:
            answers = add_softmax(graph, answers)
        return GraphOutput(answers, self.network.kind.noun, np.float64, shape)

    def deciding_exits(self, exit_: int) -> list[int]:
        """Exits whose thresholds determine whether the head at an exit is computed.

        Empty if it always is, since answers at later exits depend on it.
        """
        if self.network.combiner is not None or self.rule.combination.has_memory:
            return []
        # With a memory, the scores at later exits depend on the head as well.
        return list(range(exit_, self.n_exits - 1 if self.rule.policy.has_memory else exit_ + 1))

    def judged(
        self, graph: Graph, exit_: int, embedding: str, states: States, threshold: str
    ) -> tuple[str, str, States]:
        """Add head and exit rule: answers at an exit, which samples stay, and states."""
        answer, gates, states = self.answer(graph, exit_, embedding, states)
        if self.late_softmax:
            shares = graph.op("Softmax", answer, axis=1)
            score = graph.op("ReduceMax", shares, graph.constant([1]), keepdims=0)
        else:
            score, states[-1] = self.rule.policy.onnx(graph, states[-1], answer, exit_, gates)
            score = graph.op("Unsqueeze", score, graph.constant([1]))
            score = graph.op("Add", score, _nan_or_zero(graph, answer))
            answer = graph.op("Add", answer, _nan_or_zero(graph, score))
            score = graph.op("Squeeze", score, graph.constant([1]))
        return answer, graph.op("Less", score, threshold), states

    def answer(
        self, graph: Graph, exit_: int, embedding: str, states: States
    ) -> tuple[str, str | None, States]:
        """Answers and gates at an exit, and states of which that of the policy is old."""
        network, head = self.network, self.network.heads[exit_]
        check_converts(head, ["predict_proba", "outputs"], FittedHead)
        if self.late_softmax:
            return head.onnx_logits(graph, embedding, self.embeddings[exit_]), None, [*NO_STATES]
        answer = outputs = head.onnx(graph, embedding, self.embeddings[exit_])
        gates, learned = None, None
        if network.gates and exit_ < network.n_exits - 1:
            gates = network.gates[exit_].onnx(graph, embedding, self.embeddings[exit_])
        elif network.gates:
            n_rows = graph.op("Shape", answer, start=0, end=1)
            gates = graph.op("Expand", graph.constant(1.0), n_rows)
        if network.combiner is not None:
            answer, learned = network.combiner.onnx(graph, states[0], answer, exit_, gates)
        if self.rule.scaling is not None:
            answer = self.rule.scaling.onnx(graph, answer, exit_)
        answer, combined = self.rule.combination.onnx(graph, states[1], answer, exit_, gates)
        if answer != outputs:  # they are not the same tensor
            answer = graph.op("Add", answer, _nan_or_zero(graph, outputs))
        return answer, gates, [learned, combined, states[2]]


def _nan_or_zero(graph: Graph, outputs: str) -> str:
    """Add a column that is 0 for samples whose outputs are finite, and NaN for others.

    Added to scores and answers, it lets the others exit with an answer that is NaN. A combination
    or a policy that ignores NaN would otherwise let a later exit answer, where torch raises an
    error.
    """
    total = graph.op("ReduceSum", outputs, graph.constant([1]), keepdims=1)
    return graph.op("Sub", total, total)


@singledispatch
def stage_adder(stage: torch.nn.Module, carry: Any, what: str) -> Adder:
    """Convert a stage.

    Parameters
    ----------
    stage : torch.nn.Module
        Stage in evaluation mode.
    carry : Tensor, or tuple of Tensor
        Input of several samples, on which results are compared.
    what : str
        Name of the stage in errors.

    Returns
    -------
    add : callable
        Adds the stage to a graph, given the names of the parts of the carry. Returns the names of
        the parts of the carry to the next stage, and of the embedding.
    """
    model = from_module(_Flat(stage), carry, what)
    return lambda graph, names: graph.insert(model, names)


class _Flat(torch.nn.Module):
    """Stage with its outputs in one tuple: the parts of the carry, and the embedding."""

    def __init__(self, stage: torch.nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, carry: Any) -> tuple[torch.Tensor, ...]:
        carry, embedding = self.stage(carry)
        parts = carry if isinstance(carry, tuple) else (carry,)
        return (*parts, embedding)


@converts(_Flat)
def _(module: _Flat, graph: Graph, tensor: str, example: torch.Tensor) -> Any:
    return add_module(graph, module.stage, tensor, example)
