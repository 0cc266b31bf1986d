"""skorch's training, of which an interrupt is no regular end."""

from __future__ import annotations

import dis
from typing import Any

import skorch
from skorch.callbacks import EarlyStopping


def train(net: skorch.NeuralNet, rows: Any) -> None:
    """Train an initialized net, as its `partial_fit` does, which takes any interrupt for an end.

    Parameters
    ----------
    net : skorch.NeuralNet
    rows : TrainingRows

    Raises
    ------
    KeyboardInterrupt
        If the program is interrupted, or a callback other than `skorch.callbacks.EarlyStopping`
        raises it. `on_train_end` is not called then.
    """
    net.notify("on_train_begin", X=rows, y=None)
    try:
        net.fit_loop(rows, None)
    except KeyboardInterrupt as interrupt:
        if not _is_early_stop(interrupt):
            raise
    net.notify("on_train_end", X=rows, y=None)


def _is_early_stop(interrupt: KeyboardInterrupt) -> bool:
    """Whether skorch's early stopping has raised it, and not the user while that ran."""
    traceback: Any = interrupt.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    raised = code.co_code[traceback.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raised and code is EarlyStopping.on_epoch_end.__code__
