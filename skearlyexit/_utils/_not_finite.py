"""Outputs that are no answer: NaN, or what comes of an overflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

ADVICE = (
    "Check these samples for values that overflow, and the backbone for divisions by zero and "
    "logarithms of numbers that are not positive."
)
#: Where training is over only just.
ADVICE_IN_FIT = (
    "Training may have diverged: lower lr or scale the features. Else check these samples for "
    "values that overflow, and the backbone for divisions by zero and logarithms of numbers that "
    "are not positive."
)


class OutputsNotFiniteError(ValueError):
    """Some samples have outputs that are no answer.

    Parameters
    ----------
    what : str
        What of them, as the beginning of the message.
    positions : ndarray of shape (n_samples,), int
        Ascending positions of the samples in X.
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
def located(index: np.ndarray, advice: str = ADVICE) -> Iterator[None]:
    """Raise errors inside with the positions that samples have elsewhere.

    Parameters
    ----------
    index : ndarray of shape (n_samples,), int
        Position there of each sample.
    advice : str
        End of the message.
    """
    try:
        yield
    except OutputsNotFiniteError as error:
        positions = np.sort(index[error.positions])
        raise OutputsNotFiniteError(error.what, positions, advice) from None


@contextmanager
def among_held_out() -> Iterator[None]:
    """Raise errors inside without positions, where those are of parts of held-out samples."""
    try:
        yield
    except OutputsNotFiniteError as error:
        raise ValueError(
            f"{error.what} for {len(error.positions)} of the held-out samples. {ADVICE_IN_FIT}"
        ) from None


def check_outputs(outputs: np.ndarray, what: str) -> None:
    """Raise an error unless no number is NaN or negative.

    Parameters
    ----------
    outputs : ndarray of shape (n_samples, ...)
        Probabilities or scores.
    what : str
        Beginning of the message.

    Raises
    ------
    OutputsNotFiniteError
        With positions among these samples.
    """
    # NaN is not at least 0 either; one pass finds both.
    if not len(outputs) or outputs.min() >= 0:
        return
    good = (outputs.reshape(len(outputs), -1) >= 0).all(axis=1)
    raise OutputsNotFiniteError(f"{what} NaN or negative", np.flatnonzero(~good))


def check_embeddings(vectors: np.ndarray, what: str) -> None:
    """Raise an error unless all numbers are finite; see `check_outputs`."""
    if not np.isfinite(vectors).all():
        good = np.isfinite(vectors).all(axis=1)
        raise OutputsNotFiniteError(f"{what} NaN or infinite", np.flatnonzero(~good))
