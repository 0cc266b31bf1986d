"""Other ways to run a fitted network: plain, with early exits by hand or by other packages, ideal.

Every function returned here takes an array of samples and returns labels.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from skorch import NeuralNetClassifier

from _harness.measure import take_turns
from skearlyexit import EarlyExitClassifier
from skearlyexit._determinism._layers import to_layers_of_torch
from skearlyexit.runtime._driver import Run
from skearlyexit.runtime._torch import TorchExecutor

EARLYON = "python -m pip install --no-deps earlyon==0.3.0"

Predict = Callable[[np.ndarray], np.ndarray]


class Plain(torch.nn.Module):
    """Stages one after the other and a head: shape (n, ...) to logits (n, n_classes)."""

    def __init__(self, stages: Sequence[torch.nn.Module], head: torch.nn.Module) -> None:
        super().__init__()
        self.stages, self.head = torch.nn.ModuleList(stages), head

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        carry = X
        for stage in self.stages:
            carry, embedding = stage(carry)
        return self.head(embedding)


def plain_parts(
    clf: EarlyExitClassifier,
) -> tuple[list[torch.nn.Module], list[torch.nn.Module]]:
    """Copies of stages and neural heads, with the layers of torch in place of ours.

    Ours give the same result for one sample as for several, which takes time.
    """
    # In one copy, for stages may share modules.
    modules = torch.nn.ModuleList(copy.deepcopy([*clf.stages_, *clf.heads_])).eval()
    to_layers_of_torch(modules)
    return list(modules[: clf.n_exits_]), list(modules[clf.n_exits_ :])


def plain_network(clf: EarlyExitClassifier) -> Plain:
    """The network with its last head only, in the layers of torch."""
    stages, heads = plain_parts(clf)
    return Plain(stages, heads[-1]).eval()


def by_torch(module: torch.nn.Module, batch_size: int, X: np.ndarray) -> np.ndarray:
    """Labels by a module that returns logits, in batches."""
    with torch.inference_mode():
        parts = [module(part).argmax(dim=1) for part in torch.from_numpy(X).split(batch_size)]
        return torch.cat(parts).numpy()


def compiled(module: torch.nn.Module) -> torch.nn.Module:
    """Module compiled for each size of a batch, with its weights as constants."""
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.config.recompile_limit = 64
    torch._inductor.config.freezing = True
    return torch.compile(copy.deepcopy(module), dynamic=False)


def onnx_session(module: torch.nn.Module, example: np.ndarray, n_threads: int) -> Any:
    """Session of ONNX Runtime with the network exported by torch, for any number of samples."""
    import onnxruntime

    rows = torch.from_numpy(example[:2].copy())
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        shapes = ({0: torch.export.Dim("n_rows")},)
        exported = torch.export.export(module, (rows,), dynamic_shapes=shapes)
        program = torch.onnx.export(exported, dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    content = program.model_proto.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def by_session(session: Any, batch_size: int, X: np.ndarray) -> np.ndarray:
    """Labels by a session whose only input are samples, and whose only output are logits."""
    name = session.get_inputs()[0].name
    starts = range(0, len(X), batch_size)
    parts = [session.run(None, {name: X[i : i + batch_size]})[0].argmax(axis=1) for i in starts]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def by_skorch(module: torch.nn.Module, n_classes: int, batch_size: int) -> Predict:
    """`NeuralNetClassifier.predict` with the network."""
    net = NeuralNetClassifier(
        module,
        criterion=torch.nn.CrossEntropyLoss,
        classes=np.arange(n_classes),
        iterator_valid__batch_size=batch_size,
        verbose=0,
    )
    return net.initialize().predict


def by_loop(
    stages: list[torch.nn.Module],
    heads: list[torch.nn.Module],
    thresholds: np.ndarray,
    X: np.ndarray,
) -> np.ndarray:
    """Labels with early exits as papers compute them: one sample after the other, without batches.

    The score is the largest probability. Heads at which no sample can exit are left out.
    """
    labels = np.empty(len(X), dtype=np.intp)
    last = len(thresholds)
    with torch.inference_mode():
        for i, carry in enumerate(torch.from_numpy(X).split(1)):
            for exit_, (stage, head) in enumerate(zip(stages, heads, strict=True)):
                carry, embedding = stage(carry)
                if exit_ < last and thresholds[exit_] > 1:
                    continue
                score, label = torch.softmax(head(embedding), dim=1).max(dim=1)
                if exit_ == last or score.item() >= thresholds[exit_]:
                    labels[i] = label.item()
                    break
    return labels


class _Embedding(torch.nn.Module):
    """A stage that returns its embedding only, which is also the input of the next stage."""

    def __init__(self, stage: torch.nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.stage(X)[1]


def earlyon_wrapper(
    stages: list[torch.nn.Module],
    heads: list[torch.nn.Module],
    thresholds: np.ndarray,
    n_classes: int,
    row_shape: tuple[int, ...],
) -> Any:
    """Network with early exits by the package earlyon; ImportError if it is not installed."""
    from earlyon import EarlyExitConfig, EarlyExitWrapper, ExitPoint

    names = [f"exit{i}" for i in range(len(thresholds))]
    config = EarlyExitConfig(
        "stages",
        n_classes,
        [ExitPoint(name, str(i), n_classes) for i, name in enumerate(names)],
        confidence_thresholds=np.minimum(thresholds, 1.0).tolist(),
        enabled_exits=(thresholds <= 1).tolist(),
    )
    model = EarlyExitWrapper(
        torch.nn.Sequential(*map(_Embedding, stages)),
        dict(zip(names, heads, strict=False)),
        heads[-1],
        config,
        input_shape=(1, *row_shape),
    ).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without the package that counts operations
        model.flops_estimate  # noqa: B018 - it is computed once
    return model


def by_earlyon(model: Any, batch_size: int, X: np.ndarray) -> np.ndarray:
    """Labels by `earlyon_wrapper`; in a batch, all samples exit together when the last one can."""
    rows = torch.from_numpy(X)
    if batch_size == 1:
        found = [model(row).prediction for row in rows.split(1)]
    else:
        found = [
            model.forward_inference_batched(part).predictions for part in rows.split(batch_size)
        ]
    return torch.cat([logits.argmax(dim=1) for logits in found]).numpy()


#: For each exit that samples reach its stage, its head or None, and batches of these samples.
Plan = list[tuple[torch.nn.Module, torch.nn.Module | None, tuple[torch.Tensor, ...]]]


def ideal_plan(
    clf: EarlyExitClassifier,
    stages: list[torch.nn.Module],
    heads: list[torch.nn.Module],
    X: np.ndarray,
    thresholds: np.ndarray,
) -> Plan:
    """What a run has to compute if it knows the exits of all samples in advance."""
    executor = TorchExecutor(clf.cascade_.network)
    batch_rows = executor.batch_rows
    exits = clf.predict(X, threshold=thresholds, return_exits=True)[1]
    used = Run.prepared(executor, clf.cascade_.exit_rule, thresholds, None).used
    plan: Plan = []
    rows, carry = np.arange(len(X)), torch.from_numpy(X)
    with torch.inference_mode():
        for i, (stage, head) in enumerate(zip(stages, heads, strict=True)):
            stay = exits[rows] >= i
            if not stay.any():
                break
            rows, carry = rows[stay], carry[torch.from_numpy(stay)]
            batches = tuple(batch.clone() for batch in carry.split(batch_rows))
            plan.append((stage, head if used[i] else None, batches))
            carry = torch.cat([stage(batch)[0] for batch in batches])
    return plan


def run_ideal(plan: Plan) -> None:
    """Stages and heads only: no decisions, no gathering, no predictions put in order."""
    with torch.inference_mode():
        for stage, head, batches in plan:
            for batch in batches:
                _, embedding = stage(batch)
                if head is not None:
                    torch.softmax(head(embedding), dim=1)


def best_batch_size(make: Callable[[int], Predict], X: np.ndarray, sizes: Sequence[int]) -> int:
    """The one of several sizes of a batch with which a call takes the least time."""
    sizes = sorted({min(size, len(X)) for size in sizes})
    if len(sizes) == 1:
        return sizes[0]
    times = take_turns({size: partial(make(size), X) for size in sizes}, 3)
    return min(times, key=lambda size: float(np.median(times[size])))
