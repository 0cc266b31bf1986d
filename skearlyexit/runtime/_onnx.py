"""Export of a cascade to a single file in the ONNX format.

The graph contains each stage behind the exit before it, in a branch that is run only if a sample
has not exited, and only for these samples. Any ONNX runtime can execute it.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import sklearn
import torch

from skearlyexit._cascade._cascade import Cascade, FittedNetwork
from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._determinism._layers import to_layers_of_torch
from skearlyexit._onnx._convert import add_softmax, from_module
from skearlyexit._onnx._graph import (
    CLASSICAL_OPSET,
    OPSET,
    ExportError,
    Graph,
    GraphOutput,
    check_converts,
    import_onnx,
)
from skearlyexit._onnx._modules import add_module, converts
from skearlyexit._onnx._samples import run_on_samples
from skearlyexit._task._base import Task
from skearlyexit._version import __version__
from skearlyexit.calibration import CalibratedPoint, Frontier
from skearlyexit.combination import Combination
from skearlyexit.heads import FittedHead
from skearlyexit.policies import Policy
from skearlyexit.runtime._driver import OUTPUT_COPIES

#: Names of the inputs of the graph.
INPUT, THRESHOLDS = "X", "thresholds"
#: Name of the output that may be there instead of the probabilities, which are its softmax.
LOGITS = "logits"
#: Prefix of the names of metadata.
METADATA = "skearlyexit."
#: Threshold at which the head is computed although no sample can exit, to measure its time. At
#: larger ones it is not computed.
UNREACHED = 1.0 + 2.0**-20
#: Methods of a combination that are converted.
COMBINED = ["step", "combine"]
#: Scores that are less than this below a threshold reach it. Calibrated thresholds are scores of
#: samples, and those of many samples, such as of a leaf of a tree, are equal but for rounding.
TOLERANCE = 2.0**-22


@dataclass(frozen=True)
class Description:
    """What is stored with a cascade besides the graph.

    Attributes
    ----------
    task : Task
        What is predicted.
    row_shape : tuple of int
        Shape of a sample.
    exit_names : list of str
        Name of each exit.
    thresholds : ndarray of shape (n_exits - 1,)
        Default of the thresholds.
    operating_point : str
        What the thresholds were calibrated for.
    frontier : Frontier or None
        Thresholds for all budgets. None without calibration samples.
    feature_names : list of str or None, default=None
        Names of the features, if the estimator was fitted on a data frame.
    """

    task: Task
    row_shape: tuple[int, ...]
    exit_names: list[str]
    thresholds: np.ndarray
    operating_point: str
    frontier: Frontier | None
    feature_names: list[str] | None = None

    @classmethod
    def of(cls, fitted: Any, row_shape: tuple[int, ...], point: CalibratedPoint) -> Description:
        """Description of a fitted estimator, with an operating point as the default.

        Raises
        ------
        ValueError
            If the operating point is a strict budget.
        """
        if point.strict_budget is not None:
            raise ValueError(
                "A strict budget cannot be exported: it requires the scores of all samples of a "
                "batch. Give a budget that is not strict."
            )
        return cls(
            fitted._task,
            row_shape,
            fitted.exit_names_,
            point.thresholds,
            "" if point.request is None else point.request.description,
            fitted.frontier_,
            getattr(fitted, "feature_names_in_", np.empty(0, dtype=object)).tolist() or None,
        )

    def metadata(self, cascade: Cascade) -> dict[str, str]:
        """Metadata of the file, as JSON."""
        frontier = None
        if self.frontier is not None:
            assert self.frontier.shares is not None
            frontier = {
                "thresholds": _finite(self.frontier.thresholds),
                "costs": self.frontier.costs.tolist(),
                "accuracies": self.frontier.accuracies.tolist(),
                "shares": self.frontier.shares.tolist(),
            }
        table = cascade.cost_table
        values = {
            **self.task.metadata(),
            "feature_names": self.feature_names,
            "row_shape": list(self.row_shape),
            "dtype": str(cascade.network.dtype).removeprefix("torch."),
            "exit_names": self.exit_names,
            "costs": cascade.costs.tolist(),
            "cost_unit": table.unit,
            "plain_cost": float(table.plain),
            "thresholds": _finite(self.thresholds),
            "operating_point": self.operating_point,
            "frontier": frontier,
            "versions": {
                "skearlyexit": __version__,
                "torch": str(torch.__version__),
                "scikit-learn": sklearn.__version__,
            },
        }
        return as_metadata(cascade.network, values)


def as_metadata(network: FittedNetwork, values: dict[str, Any]) -> dict[str, str]:
    """Metadata of a file, with those that its execution depends on."""
    values = {"kind": network.kind.noun, "row_bytes": row_bytes(network), **values}
    return {f"{METADATA}{key}": json.dumps(value) for key, value in values.items()}


def row_bytes(network: FittedNetwork) -> int:
    """Memory for one sample of the largest embeddings, or of the outputs of an exit if larger."""
    outputs = OUTPUT_COPIES * network.n_classes * np.dtype(np.float64).itemsize
    return max(int(network.row_bytes), outputs)


def _finite(thresholds: np.ndarray) -> list[Any]:
    """Thresholds in which 2 stands for infinity, which JSON has no number for."""
    return np.minimum(thresholds, 2.0).tolist()


def write(
    fitted: Any,
    network: FittedNetwork,
    row_shape: tuple[int, ...],
    point: CalibratedPoint,
    path: str | os.PathLike[str],
) -> None:
    """Convert an estimator with exits and write it to a file, which is replaced if this succeeds.

    Parameters
    ----------
    fitted : estimator
        Fitted estimator with exits.
    network : FittedNetwork
        Its network, or its estimators as a network.
    row_shape : tuple of int
        Shape of a sample.
    point : CalibratedPoint
        Operating point whose thresholds are the default.
    path : str or path-like
        Path of the file.

    Raises
    ------
    ExportError, FileNotFoundError, ImportError, ValueError
        As in `EarlyExitClassifier.to_onnx`.
    """
    cascade = replace(fitted.cascade_, network=network)
    description = Description.of(fitted, row_shape, point)
    goal = Path(path)
    is_other = goal.exists() and not goal.is_file()  # a folder or a device, for example
    if is_other or not goal.parent.is_dir():
        raise FileNotFoundError(
            f"'path' must be that of a file in an existing folder; got {os.fspath(path)!r}."
        )
    content = to_model(
        network,
        cascade.exit_rule,
        row_shape,
        description.task,
        description.thresholds,
        description.metadata(cascade),
    ).SerializeToString()
    unfinished = goal.with_name(f".{goal.name}.{uuid4().hex}")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, goal)
    finally:
        unfinished.unlink(missing_ok=True)


def check_rule(exit_rule: ExitRule) -> None:
    """Raise an error if an exit rule, fitted or not, cannot be converted."""
    check_converts(exit_rule.combination, COMBINED, Combination)
    check_converts(exit_rule.policy, ["step", "judge"], Policy)
    if exit_rule.router is not None:
        raise ExportError(
            f"{type(exit_rule.router).__name__} cannot be converted to ONNX. Give router=None, "
            "with which no exit is skipped."
        )


def to_model(
    network: FittedNetwork,
    exit_rule: ExitRule,
    row_shape: tuple[int, ...],
    task: Task | None,
    thresholds: np.ndarray,
    metadata: dict[str, str],
) -> Any:
    """Convert a fitted network and its exit rule to an ``onnx.ModelProto``.

    Parameters
    ----------
    network, exit_rule, row_shape, task, thresholds
        As in `Cascade` and `Description`. Without a task, predictions are not decoded, and logits
        are returned instead of probabilities, if there are logits.
    metadata : dict of str to str
        Metadata of the model.

    Raises
    ------
    ExportError
        If a part cannot be converted.
    """
    onnx = import_onnx()
    # A copy, since torch changes modules while it exports them, and on the CPU.
    network = copy.deepcopy(network).moved("cpu")
    for module in network.modules():
        to_layers_of_torch(module)
    helper = onnx.helper
    check_rule(exit_rule)
    if network.combiner is not None:
        check_converts(network.combiner, COMBINED, Combination)
    dtype = np.dtype(str(network.dtype).removeprefix("torch."))
    graph = Graph()
    converter = _Converter(network, exit_rule, row_shape)
    answer, exits = converter.whole(graph, INPUT)
    predicted = network.kind.onnx(graph, answer, network.n_classes)
    found = [predicted if task is None else task.onnx(graph, predicted)]
    if not network.kind.are_predicted:
        found.append(converter.outputs(graph, answer, as_logits=task is None))
    found.append(GraphOutput(exits, "exits", np.int64))
    graph.nodes += [helper.make_node("Identity", [each.tensor], [each.name]) for each in found]

    def info(name: str, of: Any, shape: Sequence[Any]) -> Any:
        """Name, precision and shape of an input or output."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(of))
        return helper.make_tensor_value_info(name, kind, shape)

    thresholds = np.minimum(thresholds, 2.0).astype(np.float64)
    inputs = [info(INPUT, dtype, ["n_samples", *row_shape])]
    if len(thresholds):
        # With a default, so that it may be left out.
        inputs.append(info(THRESHOLDS, np.float64, [len(thresholds)]))
        graph.constants.append(onnx.numpy_helper.from_array(thresholds, THRESHOLDS))
    outputs = [info(each.name, each.dtype, ["n_samples", *each.shape]) for each in found]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "cascade", inputs, outputs, graph.constants),
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid("ai.onnx.ml", CLASSICAL_OPSET),
        ],
        ir_version=9,
        producer_name="skearlyexit",
        producer_version=__version__,
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    return model


#: Names of the states of the combination that was learned with the network, of the combination of
#: the exit rule, and of the policy. None without a memory, and at the first exit.
States = list[str | None]
NO_STATES: States = [None, None, None]

#: Adds a part to a graph, given the names of its inputs, and returns those of its outputs.
Adder = Callable[[Graph, list[str]], list[str]]


class _Converter:
    """Converts the stages, heads and exit rule of a cascade.

    Attributes
    ----------
    late_softmax : bool
        Whether the answers are logits, and the softmax is computed once, at the end. This is so if
        all heads have logits and only the largest probability is needed until then.
    dtype : dtype
        Precision of the answers.
    """

    def __init__(
        self,
        network: FittedNetwork,
        exit_rule: ExitRule,
        row_shape: tuple[int, ...],
    ) -> None:
        self.network, self.rule, self.n_classes = network, exit_rule, network.n_classes
        carries, self.embeddings = run_on_samples(network.stages, row_shape, network.dtype)
        self.bounds = THRESHOLDS
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

    def whole(self, graph: Graph, carry: str) -> tuple[str, str]:
        """Add the cascade to a graph; names of answers and exits."""
        if self.network.n_exits > 1:
            usual = graph.op("LessOrEqual", THRESHOLDS, graph.constant(1.0))
            lower = graph.op("Sub", THRESHOLDS, graph.constant(TOLERANCE))
            # At thresholds above 1 no sample exits, also after rounding.
            bounds = graph.op("Where", usual, lower, graph.constant(2.0))
            self.bounds = graph.cast(bounds, self.dtype)
        return self._from(graph, 0, [carry], NO_STATES)

    def outputs(self, graph: Graph, answers: str, *, as_logits: bool) -> GraphOutput:
        """Add what is returned beside the predictions, as logits if there are any."""
        shape = (self.n_classes,)
        if self.late_softmax and as_logits:
            return GraphOutput(answers, LOGITS, self.dtype, shape)
        if self.late_softmax:
            answers = add_softmax(graph, answers)
        return GraphOutput(answers, self.network.kind.noun, np.float64, shape)

    def _from(self, graph: Graph, exit_: int, carry: list[str], states: States) -> tuple[str, str]:
        """Add everything from a stage on; names of answers and exits of its samples."""
        *carry, embedding = self.stages[exit_](graph, carry)
        last = self.network.n_exits - 1
        if exit_ == last:
            answer, _, _ = self._answer(graph, exit_, embedding, states)
            return answer, self._filled(graph, answer, exit_)
        answer, staying, states = self._decision(graph, exit_, embedding, states)
        exits = self._filled(graph, answer, exit_)
        rows = graph.op("Squeeze", graph.op("NonZero", staying), graph.constant([0]))
        some = graph.op("Greater", graph.op("Size", rows), graph.constant(0))
        onward, done = graph.branch(), graph.branch()
        found = self._from(
            onward,
            exit_ + 1,
            [onward.op("Gather", part, rows) for part in carry],
            [state and onward.op("Gather", state, rows) for state in states],
        )
        index = onward.op("Unsqueeze", rows, onward.constant([1]))
        merged = [
            onward.op("ScatterND", own, index, later)
            for own, later in zip((answer, exits), found, strict=True)
        ]
        chosen = graph.choose(
            some, (onward, done), (merged, (answer, exits)), (self.dtype, np.int64)
        )
        return chosen[0], chosen[1]

    def _decision(
        self, graph: Graph, exit_: int, embedding: str, states: States
    ) -> tuple[str, str, States]:
        """Answers at an exit, which samples stay, and states; no head if none is needed."""
        if self.network.combiner is not None or self.rule.combination.has_memory:
            return self._judged(graph, exit_, embedding, states)
        least = graph.op("Gather", THRESHOLDS, graph.constant(exit_))
        if self.rule.policy.has_memory:  # the scores at later exits depend on the head as well
            bounds = (graph.constant([each]) for each in (exit_, self.network.n_exits - 1))
            least = graph.op("ReduceMin", graph.op("Slice", THRESHOLDS, *bounds), keepdims=0)
        needed = graph.op("LessOrEqual", least, graph.constant(UNREACHED))
        run, skipped = graph.branch(), graph.branch()
        answer, staying, states = self._judged(run, exit_, embedding, states)
        n_rows = skipped.op("Shape", embedding, start=0, end=1)
        shape = skipped.op("Concat", n_rows, skipped.constant([self.n_classes]), axis=0)
        nothing = skipped.op("Expand", skipped.constant(self.dtype.type(0)), shape)
        everyone = skipped.op("Expand", skipped.constant(True), n_rows)
        kept = [state for state in states if state]
        answer, staying, *kept = graph.choose(
            needed,
            (run, skipped),
            ((answer, staying, *kept), (nothing, everyone, *(nothing for _ in kept))),
            (self.dtype, bool, *(np.float64 for _ in kept)),
        )
        names = iter(kept)
        return answer, staying, [state and next(names) for state in states]

    def _judged(
        self, graph: Graph, exit_: int, embedding: str, states: States
    ) -> tuple[str, str, States]:
        """Answers at an exit, which samples stay, and states."""
        answer, gates, states = self._answer(graph, exit_, embedding, states)
        threshold = graph.op("Gather", self.bounds, graph.constant(exit_))
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

    def _answer(
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

    @staticmethod
    def _filled(graph: Graph, answer: str, exit_: int) -> str:
        """Index of the exit for each sample."""
        n_rows = graph.op("Shape", answer, start=0, end=1)
        return graph.op("Expand", graph.constant(np.int64(exit_)), n_rows)


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
