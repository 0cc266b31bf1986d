"""Graphs of a cascade in the ONNX format, which any ONNX runtime can execute.

Each stage is behind the exit before it, in a branch that is run only if a sample has not exited,
and only for these samples.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from skearlyexit._onnx._graph import CLASSICAL_OPSET, OPSET, Graph, GraphOutput, import_onnx
from skearlyexit._task._base import Task
from skearlyexit._version import __version__
from skearlyexit.runtime._onnx_parts import NO_STATES, ConvertedParts, States

#: Names of the inputs of the graph.
INPUT, THRESHOLDS = "X", "thresholds"
#: Threshold at which the head is computed although no sample can exit, to measure its time. At
#: larger ones it is not computed.
UNREACHED = 1.0 + 2.0**-20
#: Scores that are less than this below a threshold reach it. Calibrated thresholds are scores of
#: samples, and those of many samples, such as of a leaf of a tree, are equal but for rounding.
TOLERANCE = 2.0**-22
#: Bound of the scores in place of a threshold above 1, which no score reaches, also after rounding.
UNBOUNDED = 2.0


class CascadeGraph(metaclass=ABCMeta):
    """Base class of graphs of a cascade.

    Parameters
    ----------
    parts : ConvertedParts
        Parts of the cascade.
    thresholds : ndarray of shape (n_exits - 1,)
        Thresholds of all exits but the last.
    """

    #: Number of samples, or its name if there may be any number of them.
    n_samples: ClassVar[int | str]
    #: Whether other thresholds may be given to the graph.
    takes_thresholds: ClassVar[bool]

    def __init__(self, parts: ConvertedParts, thresholds: np.ndarray) -> None:
        self.parts = parts
        self.thresholds = np.minimum(thresholds, UNBOUNDED).astype(np.float64)

    def model(self, task: Task | None, metadata: dict[str, str]) -> Any:
        """Return the graph as an ``onnx.ModelProto``.

        Parameters
        ----------
        task : Task or None
            What is predicted. If None, predictions are not decoded, and logits are returned instead
            of probabilities, if there are logits.
        metadata : dict of str to str
            Metadata of the model.

        Raises
        ------
        ExportError
            If a part cannot be converted.
        """
        onnx, parts, graph = import_onnx(), self.parts, self.parts.graph()
        helper, network = onnx.helper, parts.network
        answer, exits = self._added(graph)
        predicted = network.kind.onnx(graph, answer, network.n_classes)
        found = [predicted if task is None else task.onnx(graph, predicted)]
        if not network.kind.are_predicted:
            found.append(parts.output(graph, answer, as_logits=task is None))
        found.append(GraphOutput(exits, "exits", np.int64))
        graph.nodes += [helper.make_node("Identity", [each.tensor], [each.name]) for each in found]

        def info(name: str, of: Any, shape: Sequence[Any]) -> Any:
            """Name, precision and shape of an input or output."""
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(of))
            return helper.make_tensor_value_info(name, kind, shape)

        dtype = np.dtype(str(network.dtype).removeprefix("torch."))
        inputs = [info(INPUT, dtype, [self.n_samples, *parts.row_shape])]
        if self.takes_thresholds and len(self.thresholds):
            # With a default, so that they may be left out.
            inputs.append(info(THRESHOLDS, np.float64, [len(self.thresholds)]))
            default = onnx.numpy_helper.from_array(self.thresholds, THRESHOLDS)
            graph.constants.append(default)
        outputs = [info(each.name, each.dtype, [self.n_samples, *each.shape]) for each in found]
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

    def _added(self, graph: Graph) -> tuple[str, str]:
        """Add the cascade to a graph; names of answers and exits."""
        return self._from(graph, 0, [INPUT], NO_STATES)

    @abstractmethod
    def _from(self, graph: Graph, exit_: int, carry: list[str], states: States) -> tuple[str, str]:
        """Add everything from a stage on; names of answers and exits of its samples."""


class BatchGraph(CascadeGraph):
    """Graph for any number of samples, whose thresholds are an input."""

    n_samples = "n_samples"
    takes_thresholds = True

    def _added(self, graph: Graph) -> tuple[str, str]:
        if self.parts.n_exits > 1:
            usual = graph.op("LessOrEqual", THRESHOLDS, graph.constant(1.0))
            lower = graph.op("Sub", THRESHOLDS, graph.constant(TOLERANCE))
            bounds = graph.op("Where", usual, lower, graph.constant(UNBOUNDED))
            self.bounds = graph.cast(bounds, self.parts.dtype)
        return super()._added(graph)

    def _from(self, graph: Graph, exit_: int, carry: list[str], states: States) -> tuple[str, str]:
        parts = self.parts
        *carry, embedding = parts.stages[exit_](graph, carry)
        if exit_ == parts.n_exits - 1:
            answer, _, _ = parts.answer(graph, exit_, embedding, states)
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
        answer, exits = graph.choose(
            some, (onward, done), (merged, (answer, exits)), (parts.dtype, np.int64)
        )
        return answer, exits

    def _decision(
        self, graph: Graph, exit_: int, embedding: str, states: States
    ) -> tuple[str, str, States]:
        """Answers at an exit, which samples stay, and states; no head if none is needed."""
        parts = self.parts
        deciding = parts.deciding_exits(exit_)
        if not deciding:
            return self._judged(graph, exit_, embedding, states)
        least = graph.op("Gather", THRESHOLDS, graph.constant(exit_))
        if len(deciding) > 1:
            bounds = (graph.constant([each]) for each in (exit_, parts.n_exits - 1))
            least = graph.op("ReduceMin", graph.op("Slice", THRESHOLDS, *bounds), keepdims=0)
        needed = graph.op("LessOrEqual", least, graph.constant(UNREACHED))
        run, skipped = graph.branch(), graph.branch()
        answer, staying, states = self._judged(run, exit_, embedding, states)
        n_rows = skipped.op("Shape", embedding, start=0, end=1)
        shape = skipped.op("Concat", n_rows, skipped.constant([parts.n_classes]), axis=0)
        nothing = skipped.op("Expand", skipped.constant(parts.dtype.type(0)), shape)
        everyone = skipped.op("Expand", skipped.constant(True), n_rows)
        kept = [state for state in states if state]
        answer, staying, *kept = graph.choose(
            needed,
            (run, skipped),
            ((answer, staying, *kept), (nothing, everyone, *(nothing for _ in kept))),
            (parts.dtype, bool, *(np.float64 for _ in kept)),
        )
        names = iter(kept)
        return answer, staying, [state and next(names) for state in states]

    def _judged(
        self, graph: Graph, exit_: int, embedding: str, states: States
    ) -> tuple[str, str, States]:
        threshold = graph.op("Gather", self.bounds, graph.constant(exit_))
        return self.parts.judged(graph, exit_, embedding, states, threshold)

    @staticmethod
    def _filled(graph: Graph, answer: str, exit_: int) -> str:
        """Index of the exit for each sample."""
        n_rows = graph.op("Shape", answer, start=0, end=1)
        return graph.op("Expand", graph.constant(np.int64(exit_)), n_rows)


class SampleGraph(CascadeGraph):
    """Graph for one sample at a time, whose thresholds are constants.

    This takes less time: no samples are selected, and no answers are put in their places.
    """

    n_samples = 1
    takes_thresholds = False

    def _from(self, graph: Graph, exit_: int, carry: list[str], states: States) -> tuple[str, str]:
        parts = self.parts
        *carry, embedding = parts.stages[exit_](graph, carry)
        if exit_ == parts.n_exits - 1:
            answer, _, _ = parts.answer(graph, exit_, embedding, states)
            return answer, graph.constant(np.array([exit_]))
        deciding = parts.deciding_exits(exit_)
        if deciding and self.thresholds[deciding].min() > 1:
            return self._from(graph, exit_ + 1, carry, states)
        bound = self.thresholds[exit_]
        bound = bound - TOLERANCE if bound <= 1 else UNBOUNDED
        threshold = graph.constant(parts.dtype.type(bound))
        answer, stays, states = parts.judged(graph, exit_, embedding, states, threshold)
        onward, done = graph.branch(), graph.branch()
        found = self._from(onward, exit_ + 1, carry, states)
        own = answer, done.constant(np.array([exit_]))
        answer, exits = graph.choose(stays, (onward, done), (found, own), (parts.dtype, np.int64))
        return answer, exits
