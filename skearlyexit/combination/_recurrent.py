"""A small recurrent network that reads the exits' outputs one after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import pad

from skearlyexit._determinism._layers import PaddedLinear, round_up
from skearlyexit.combination._base import LEAST, Combination, State


class OutputReader(torch.nn.Module):
    """Gated recurrent unit over the logarithms of the exits' probabilities.

    Parameters
    ----------
    n_classes : int
    hidden : int
        Width of what it remembers, rounded up to a multiple of 16.

    Notes
    -----
    **Shape**: outputs of one exit, as logarithms of probabilities (n, n_classes), and what is
    remembered (n, hidden) to the answer so far, as logits (n, n_classes), and what is remembered
    now. It starts as the exit's own answer.
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
        """Width of what is remembered."""
        return self.cell.hidden_size

    def forward(
        self, logs: torch.Tensor, remembered: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Read one exit."""
        remembered = self.cell(pad(logs, (0, self.cell.input_size - self.n_classes)), remembered)
        return logs + self.correction(remembered), remembered

    def read(self, logits: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Answers so far, as logits, for those of every exit."""
        remembered = logits[0].new_zeros(len(logits[0]), self.hidden)
        answers = []
        for each in logits:
            # Heads of other kinds answer with probabilities that may be 0.
            logs = torch.log_softmax(each, dim=1).clamp_min(float(np.log(LEAST)))
            answer, remembered = self(logs, remembered)
            answers.append(answer)
        return answers


class RecurrentCombination(Combination):
    """Answers of a trained `OutputReader`.

    Parameters
    ----------
    reader : OutputReader
        In evaluation mode.
    """

    needs_probabilities = True

    def __init__(self, reader: OutputReader) -> None:
        self.reader = reader

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Answer at one exit; the state is what the reader remembers."""
        dtype = self.reader.correction.weight.dtype
        n_rows = len(probabilities)
        if state is None:
            state = np.zeros((n_rows, self.reader.hidden))
        logs = np.log(np.maximum(probabilities, LEAST))
        # Filled up to a multiple of 16 rows, so that a row's answer does not depend on the others.
        read, remembered = (
            torch.zeros((round_up(n_rows), each.shape[1]), dtype=dtype) for each in (logs, state)
        )
        read[:n_rows], remembered[:n_rows] = torch.tensor(logs), torch.tensor(state)
        with torch.inference_mode():
            answer, remembered = self.reader(read, remembered)
            answer = torch.softmax(answer.to(torch.float64), dim=1)
        return answer[:n_rows].numpy(), remembered[:n_rows].to(torch.float64).numpy()

    def check(self, n_classes: int, n_exits: int) -> None:
        """Refuse to be asked for; see `Combination.check`."""
        raise ValueError(
            "RecurrentCombination is learned with the network. Give training='combiner' and "
            "combine='trained'."
        )

    def model(self) -> OutputReader:
        """The reader."""
        return self.reader

    def macs(self, n_classes: int, exit_: int = 0) -> float:
        """Products of the unit's gates, and of what it adds to the answer."""
        cell = self.reader.cell
        return float(3 * cell.hidden_size * (cell.input_size + cell.hidden_size)) + float(
            cell.hidden_size * n_classes
        )
