"""Progress of a fit, as one bar or as lines of text."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from tqdm import tqdm

#: Least time between two states of the bar.
SECONDS = 0.1

_COLORS = re.compile(r"\x1b\[[0-9;]*m")


class FitProgress:
    """Progress of all trainings of a fit.

    On a terminal it is one bar with the training, such as a fold, its phase and epoch, and an
    estimate of the time left; elsewhere, such as in a file, one line for each phase. It is used as
    a context that closes the bar.

    Parameters
    ----------
    verbose : int, default=0
        If 0, nothing is shown. If above 1, there is no bar, since the table of losses is printed.
    """

    def __init__(self, verbose: int = 0) -> None:
        self.verbose = verbose
        self._bar: _Bar | None = None
        self._training = self._phase = ""
        self._n_done = 0  # trainings that are finished
        self._n_epochs = 0  # of the current training
        self._n_expected = 0  # epochs of the current training: those of the previous one, if any
        self._epoch = 0  # of the current phase
        self._shown = 0.0  # time at which the bar was drawn

    def __enter__(self) -> FitProgress:
        if self.verbose == 1 and _is_terminal(sys.stderr):
            self._bar = _Bar(
                total=1, bar_format="{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def expect(self, n_trainings: int) -> None:
        """Set the number of trainings that are still to come."""
        if self._bar is not None:
            self._bar.total = self._n_done + n_trainings

    @contextmanager
    def training(self, name: str, max_epochs: int) -> Iterator[None]:
        """Context of a training with this name and at most this number of epochs."""
        self._training, self._n_epochs = name, 0
        # How long early stopping takes is known once a training has ended.
        self._n_expected = self._n_expected or max_epochs
        yield
        self._n_done, self._n_expected = self._n_done + 1, self._n_epochs
        self._training = ""
        self._show(self._n_done)

    def phase(self, name: str, what: str) -> None:
        """Begin a phase, whose line of text says what is done."""
        self._phase, self._epoch = ", ".join(filter(None, [self._training, name])), 0
        if self.verbose and self._bar is None:
            print(f"[skearlyexit] {self._phase}: {what}")

    def epoch(self) -> None:
        """Count an epoch of the current phase."""
        self._epoch += 1
        self._n_epochs += 1
        self._show(self._n_done + min(0.99, self._n_epochs / max(self._n_expected, 1)))

    def table(self, line: Any) -> None:
        """Print a line of the table of losses, without colors if it is not shown on a terminal."""
        print(line if _is_terminal(sys.stdout) else _COLORS.sub("", str(line)))

    def _show(self, n_trainings: float) -> None:
        if self._bar is not None:
            self._bar.total = max(self._bar.total, int(n_trainings + 0.999))
            self._bar.n = n_trainings
            self._bar.set_description_str(f"{self._phase}, epoch {self._epoch} ", refresh=False)
            if time.monotonic() - self._shown >= SECONDS or n_trainings == self._bar.total:
                self._bar.refresh()
                self._shown = time.monotonic()


def _is_terminal(stream: Any) -> bool:
    return bool(stream is not None and hasattr(stream, "isatty") and stream.isatty())


class _Bar(tqdm):
    """Bar without the thread that tqdm starts to refresh bars that are updated rarely."""

    monitor_interval = 0
