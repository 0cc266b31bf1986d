"""Builder of a graph in the ONNX format, with nested branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

#: Versions of the operators, in the general domain and in that of classical models.
OPSET, CLASSICAL_OPSET = 18, 3


class ExportError(ValueError):
    """Exception for a part of a model that cannot be converted to ONNX.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.policies import Policy
    >>> from skearlyexit.runtime import ExportError
    >>> class FirstClass(Policy):  # probability of the first class
    ...     def step(self, state, probabilities, exit_=0):
    ...         return probabilities[:, 0], None
    >>> X, y = make_classification(300, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], policy=FirstClass(),
    ...     random_state=0).fit(X, y)
    >>> try:
    ...     clf.to_onnx("cascade.onnx")
    ... except ExportError as error:
    ...     print(error)
    FirstClass cannot be converted to ONNX. Use another one, or the default runtime.
    """


def import_onnx() -> Any:
    """Return the module ``onnx``.

    Raises
    ------
    ImportError
        If it or ``onnxruntime``, with which conversions are compared, is not installed.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "ONNX requires further packages. Install them with "
            "python -m pip install 'skearlyexit[onnx]'."
        ) from error
    return onnx


@dataclass(frozen=True)
class GraphOutput:
    """What a graph returns.

    Attributes
    ----------
    tensor : str
        Name of the tensor in the graph.
    name : str
        Name by which users ask for it.
    dtype : dtype
        NumPy dtype of its values.
    shape : tuple of int
        Its shape without the axis of the samples.
    """

    tensor: str
    name: str
    dtype: Any
    shape: tuple[int, ...] = ()


class Graph:
    """Nodes of a graph, or of a branch of it.

    A branch has its own constants, and can use all names of the graphs around it.

    Parameters
    ----------
    around : Graph or None, default=None
        Graph of which this is a branch.
    """

    def __init__(self, around: Graph | None = None) -> None:
        self._onnx = import_onnx()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._numbers: count[int] = count() if around is None else around._numbers
        self._converted: dict[Any, tuple[Any, Any]] = {} if around is None else around._converted

    def branch(self) -> Graph:
        """Return an empty branch."""
        return Graph(self)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the name of the output."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(self, kind: str, inputs: Sequence[str], n_outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs, and return their names."""
        outputs = [self._name(kind) for _ in range(n_outputs)]
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, outputs, **attributes))
        return outputs

    def constant(self, value: Any) -> str:
        """Add a constant, and return its name."""
        name = self._name("constant")
        self.constants.append(self._onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def cast(self, name: str, dtype: Any) -> str:
        """Convert a tensor to a NumPy dtype."""
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.op("Cast", name, to=kind)

    def choose(
        self,
        condition: str,
        branches: tuple[Graph, Graph],
        outputs: tuple[Sequence[str], Sequence[str]],
        dtypes: Sequence[Any],
    ) -> list[str]:
        """Run one of two branches, and return the names of its outputs.

        Parameters
        ----------
        condition : str
            Name of a tensor with one truth value.
        branches : tuple of Graph
            Branches for True and for False.
        outputs : tuple of sequence of str
            Names of the outputs of each branch.
        dtypes : sequence of dtype
            NumPy dtypes of the outputs.
        """
        parts = [
            branch.finished(each, dtypes) for branch, each in zip(branches, outputs, strict=True)
        ]
        names = [self._name("chosen") for _ in dtypes]
        self.nodes.append(
            self._onnx.helper.make_node(
                "If", [condition], names, then_branch=parts[0], else_branch=parts[1]
            )
        )
        return names

    def once(self, part: Any, convert: Callable[[], Any], *details: Any) -> Any:
        """Return the model that `convert()` makes of a part which stands in several places.

        It is called once for the graph and its branches, since a conversion can take seconds.

        Parameters
        ----------
        part : object
            The same object in all places, such as a module.
        convert : callable
            Function that returns the onnx.ModelProto.
        *details : object
            What else the model depends on, such as the shape of the input.
        """
        key = id(part), *details  # an estimator of a user may not be hashable
        if key not in self._converted:
            self._converted[key] = part, convert()
        return self._converted[key][1]

    def insert(self, model: Any, inputs: Sequence[str]) -> list[str]:
        """Insert the nodes of a model, and return the names of its outputs.

        Parameters
        ----------
        model : onnx.ModelProto
            Model without functions, for versions of the operators up to `OPSET` and
            `CLASSICAL_OPSET`.
        inputs : sequence of str
            Names of its inputs in this graph.
        """
        latest = {"": OPSET, "ai.onnx.ml": CLASSICAL_OPSET}
        used = {node.domain for node in model.graph.node}
        for each in model.opset_import:
            if each.domain in used and each.version > latest.get(each.domain, 0):
                raise ExportError(
                    f"A part of the model was converted to operators of version {each.version} in "
                    f"the domain {each.domain!r}. At most these can be stored: {latest}."
                )
        graph = model.graph
        constants = {each.name for each in graph.initializer}
        given = [each.name for each in graph.input if each.name not in constants]
        names = dict(zip(given, inputs, strict=True))
        for constant in graph.initializer:
            copied = self._onnx.TensorProto()
            copied.CopyFrom(constant)
            copied.name = names[constant.name] = self._name("constant")
            self.constants.append(copied)
        for node in graph.node:
            if node.op_type == "Identity":  # a copy, which would take time
                names[node.output[0]] = names[node.input[0]]
            else:
                self.nodes += self._renamed([node], names)
        return [names[each.name] for each in graph.output]

    def _renamed(self, nodes: Any, names: dict[str, str]) -> list[Any]:
        """Copies of nodes with new names, which are added to the given ones."""
        found = []
        for node in nodes:
            copied = self._onnx.NodeProto()
            copied.CopyFrom(node)
            copied.name = ""
            copied.input[:] = [names[name] if name else "" for name in node.input]
            for name in node.output:
                if name:
                    names[name] = self._name(node.op_type)
            copied.output[:] = [names[name] if name else "" for name in node.output]
            for attribute in copied.attribute:
                if attribute.HasField("g"):
                    self._rename_body(attribute.g, names)
            found.append(copied)
        return found

    def _rename_body(self, body: Any, names: dict[str, str]) -> None:
        """Rename everything in the graph of a loop or a branch, which may use the given names."""
        names = dict(names)
        own = (*body.input, *body.initializer)
        names |= {name: self._name("inner") for name in dict.fromkeys(each.name for each in own)}
        nodes = self._renamed(body.node, names)
        for each in (*own, *body.output):
            each.name = names[each.name]
        del body.node[:], body.value_info[:]
        body.node.extend(nodes)

    def finished(self, outputs: Sequence[str], dtypes: Sequence[Any]) -> Any:
        """Return this branch as an ``onnx.GraphProto`` without inputs."""
        helper = self._onnx.helper
        # The outputs of a graph are different outputs of its nodes. Others are copied.
        own = {name for node in self.nodes for name in node.output}
        named: list[str] = []
        for name in outputs:
            is_free = name in own and name not in named
            named.append(name if is_free else self.op("Identity", name))
        values = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None
            )
            for name, dtype in zip(named, dtypes, strict=True)
        ]
        # ONNX Runtime arranges weights for its fastest kernels only in the graph that uses them.
        return helper.make_graph(self.nodes, self._name("branch"), [], values, self.constants)

    def _name(self, kind: str) -> str:
        return f"{kind.lower()}_{next(self._numbers)}"


def check_converts(part: Any, methods: Sequence[str], base: type) -> None:
    """Raise an error if the class of an object does not convert the methods that it defines.

    Parameters
    ----------
    part : object
        Object with a method `onnx`.
    methods : sequence of str
        Names of the methods that are converted.
    base : type
        Base class, whose method `onnx` raises an error.
    """
    for each in type(part).__mro__:
        if "onnx" in vars(each) and each is not base:
            return
        if not vars(each).keys().isdisjoint(methods):
            break
    raise ExportError(
        f"{type(part).__name__} cannot be converted to ONNX. Use another one, or the default "
        "runtime."
    )
