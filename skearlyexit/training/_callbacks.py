"""Validation of the callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skorch.callbacks import BatchScoring, Checkpoint, EarlyStopping, EpochScoring, LRScheduler

_LOGS = (
    "Callbacks can monitor 'train_loss' and, with early_stopping=True, 'valid_loss', and values "
    "that a custom callback records in on_epoch_end."
)


def check_callbacks(callbacks: Sequence[Any] | None, *, early_stopping: bool) -> None:
    """Raise an error if a callback is not supported.

    Parameters
    ----------
    callbacks : sequence of skorch callbacks, or None
        Objects, classes, or pairs of a name and one of these, as in skorch.
    early_stopping : bool
        Whether there is a validation loss.

    Raises
    ------
    TypeError
        If an item is not a callback.
    ValueError
        If a callback scores predictions, or monitors the validation loss without early stopping.
    """
    for given in callbacks or ():
        callback = given[1] if isinstance(given, tuple) and len(given) == 2 else given
        if callback is None:
            continue
        kind = callback if isinstance(callback, type) else type(callback)
        if not hasattr(kind, "set_params"):
            raise TypeError(
                "The 'callbacks' parameter must hold callbacks of skorch, or pairs of a name and a "
                f"callback. Got {given!r} instead."
            )
        if issubclass(kind, EpochScoring | BatchScoring):
            raise ValueError(
                f"The 'callbacks' parameter must not contain {kind.__name__}: it scores a single "
                "output, and a network in training has one for each exit. "
                f"{_LOGS} Remove it, and use exit_report(X, y) after fit."
            )
        monitor = _monitored(callback, kind)
        if not early_stopping and monitor in ("valid_loss", "valid_loss_best"):
            raise ValueError(
                f"The callback {kind.__name__} of the 'callbacks' parameter monitors {monitor!r}, "
                f"which does not exist with early_stopping=False. {_LOGS} Set early_stopping=True, "
                f"or give {kind.__name__}(monitor='{monitor.replace('valid', 'train')}')."
            )


def _monitored(callback: Any, kind: type) -> Any:
    """Name of the value that the callback monitors, or None."""
    if issubclass(kind, LRScheduler):
        policy = getattr(callback, "policy", None)
        if "ReduceLROnPlateau" not in (policy, getattr(policy, "__name__", None)):
            return None
    elif not issubclass(kind, EarlyStopping | Checkpoint):
        return None
    made = callback() if isinstance(callback, type) else callback
    return made.monitor
