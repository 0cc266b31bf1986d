"""Errors for outputs that are not valid, such as NaN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

ADVICE = (
    "Check these samples for values that overflow, and the backbone for divisions by zero and "
    "logarithms of numbers that are not positive."
)
#: Advice for outputs directly after training.
ADVICE_IN_FIT = (
    "Training may have diverged: lower lr or scale the features. Else check these samples for "
    "values that overflow, and the backbone for divisions by zero and logarithms of numbers that "
    "are not positive."
)


class OutputsNotFiniteError(ValueError):
    """Exception for samples whose outputs are not valid.

    Parameters
    ----------
    what : str
        Beginning of the message, which names the outputs.
    positions : ndarray of shape (n_samples,), int
        Positions of the samples in X, in ascending order.
    advice : str
        End of the message.
    """

    def __init__(self, what: str, positions: np.ndarray, advice: str = ADVICE) -> None:
        super().__init__(what, positions, advice)
        self.what, self.positions, self.advice = what, positions, advice

    def __str__(self) -> str:
        n_samples = len(self.positions)
        which = "1 sample, " if n_samples == 1 else f"{n_samples} samples, the first of them "
        return f"{self.what} for {which}X[{self.positions[0]}]. {self.advice}"


@contextmanager
def located(index: np.ndarray, advice: str | None = None) -> Iterator[None]:
    """Convert the positions in errors raised inside; see `relocated`."""
    try:
        yield
    except OutputsNotFiniteError as error:
        raise relocated(error, index, advice) from None


def relocated(
    error: OutputsNotFiniteError, index: np.ndarray, advice: str | None = None
) -> OutputsNotFiniteError:
    """Error with converted positions, if samples are a selection of others.

    Parameters
    ----------
    error : OutputsNotFiniteError
        Error with positions among the selected samples.
    index : ndarray of shape (n_samples,), int
        Position of each sample among those that it was selected from.
    advice : str or None, default=None
        End of the message. None keeps that of the error.
    """
    positions = np.sort(index[error.positions])
    return OutputsNotFiniteError(error.what, positions, error.advice if advice is None else advice)


@contextmanager
def among_held_out() -> Iterator[None]:
    """Remove the positions from errors raised inside, if they are those in held-out samples."""
    try:
        yield
    except OutputsNotFiniteError as error:
        raise ValueError(
            f"{error.what} for {len(error.positions)} of the held-out samples. {ADVICE_IN_FIT}"
        ) from None


def check_outputs(outputs: np.ndarray, what: str) -> None:
    """Raise an error if an output is NaN or negative.

    Parameters
    ----------
    outputs : ndarray of shape (n_samples, ...)
        Probabilities or scores.
    what : str
        Beginning of the message.

    Raises
    ------
    OutputsNotFiniteError
        If an output is NaN or negative. The positions are those among these samples.
    """
    # The comparison is False for NaN, too.
    if not len(outputs) or np.minimum.reduce(outputs, axis=None) >= 0:
        return
    good = (outputs.reshape(len(outputs), -1) >= 0).all(axis=1)
    raise OutputsNotFiniteError(f"{what} NaN or negative", np.flatnonzero(~good))


def check_finite(values: np.ndarray, what: str) -> None:
    """Raise an error if a value is NaN or infinite; see `check_outputs`."""
    if not np.isfinite(values).all():
        good = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        raise OutputsNotFiniteError(f"{what} NaN or infinite", np.flatnonzero(~good))
