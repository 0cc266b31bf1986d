"""Combination by a recurrent network over the outputs of the heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import pad

from skearlyexit._determinism._layers import PaddedLinear, round_up
from skearlyexit._onnx._convert import from_module
from skearlyexit._onnx._graph import Graph
from skearlyexit.combination._base import LEAST, Combination, State, add_logs


class OutputReader(torch.nn.Module):
    """Gated recurrent unit whose inputs are the log-probabilities predicted by the heads.

    Its hidden state is mapped to a correction of the logits, which is 0 before training.

    Parameters
    ----------
    n_classes : int
        Number of classes.
    hidden : int
        Size of the hidden state, rounded up to a multiple of 16.

    Notes
    -----
    **Shape**: log-probabilities of one exit (n, n_classes) and hidden state (n, hidden) to combined
    logits (n, n_classes) and new hidden state (n, hidden).
    """

    def __init__(self, n_classes: int, hidden: int) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.cell = torch.nn.GRUCell(round_up(n_classes), round_up(hidden))
        self.correction = PaddedLinear(round_up(hidden), n_classes)
        torch.nn.init.zeros_(self.correction.weight)
        torch.nn.init.zeros_(self.correction.bias)

    @property
    def hidden(self) -> int:
        """Size of the hidden state."""
        return self.cell.hidden_size

    def forward(
        self, logs: torch.Tensor, remembered: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Combined logits at one exit, and the new hidden state."""
        remembered = self.cell(pad(logs, (0, self.cell.input_size - self.n_classes)), remembered)
        return logs + self.correction(remembered), remembered

    def read(self, logits: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Combined logits at every exit, given the logits of every head."""
        remembered = logits[0].new_zeros(len(logits[0]), self.hidden)
        answers = []
        for each in logits:
            # The same lower bound as in prediction, where a probability may be 0.
            logs = torch.log_softmax(each, dim=1).clamp_min(float(np.log(LEAST)))
            answer, remembered = self(logs, remembered)
            answers.append(answer)
        return answers


class _OfPair(torch.nn.Module):
    """Reader with one argument, as `from_module` expects it."""

    def __init__(self, reader: OutputReader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, pair: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.reader(*pair)


class RecurrentCombination(Combination):
    """Combined probabilities of a trained `OutputReader`.

    Parameters
    ----------
    reader : OutputReader
        Trained network, in evaluation mode.
    """

    needs_probabilities = True

    def __init__(self, reader: OutputReader) -> None:
        self.reader = reader

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        # The state is the hidden state of the network.
        dtype = self.reader.correction.weight.dtype
        n_rows = len(probabilities)
        if state is None:
            state = np.zeros((n_rows, self.reader.hidden))
        logs = np.log(np.maximum(probabilities, LEAST))
        # Padded to a multiple of 16 samples: the result for a sample then does not depend on the
        # other samples.
        read, remembered = (
            torch.zeros((round_up(n_rows), each.shape[1]), dtype=dtype) for each in (logs, state)
        )
        read[:n_rows], remembered[:n_rows] = torch.tensor(logs), torch.tensor(state)
        with torch.inference_mode():
            answer, remembered = self.reader(read, remembered)
            answer = torch.softmax(answer.to(torch.float64), dim=1)
        return answer[:n_rows].numpy(), remembered[:n_rows].to(torch.float64).numpy()

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        dtype = self.reader.correction.weight.dtype
        width = self.reader.hidden
        if state is None:
            n_rows = graph.op("Shape", probabilities, start=0, end=1)
            shape = graph.op("Concat", n_rows, graph.constant([width]), axis=0)
            state = graph.op("Expand", graph.constant(0.0), shape)
        generator = torch.Generator().manual_seed(0)
        logits, remembered = (
            torch.randn((4, size), generator=generator, dtype=dtype)
            for size in (self.reader.n_classes, width)
        )
        example = torch.log_softmax(logits, dim=1), torch.tanh(remembered)
        what = "The combination of training='combiner'"
        model = graph.once(self.reader, lambda: from_module(_OfPair(self.reader), example, what))
        precision = str(dtype).removeprefix("torch.")
        read = [graph.cast(name, precision) for name in (add_logs(graph, probabilities), state)]
        answer, state = (graph.cast(name, np.float64) for name in graph.insert(model, read))
        return graph.op("Softmax", answer, axis=1), state

    def check(self, n_classes: int, n_exits: int) -> None:
        """Raise a ValueError, as the combination can only be learned; see `Combination.check`."""
        raise ValueError(
            "RecurrentCombination is learned with the network. Give training='combiner' and "
            "combine='trained'."
        )

    def model(self) -> OutputReader:
        return self.reader

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        # Matrix products of the recurrent unit, and of the correction of the logits.
        cell = self.reader.cell
        return float(3 * cell.hidden_size * (cell.input_size + cell.hidden_size)) + float(
            cell.hidden_size * n_classes
        )
