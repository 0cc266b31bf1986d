"""Training loop of skorch in which an interrupt is not ignored."""

from __future__ import annotations

import dis
from typing import Any

import skorch
from skorch.callbacks import EarlyStopping


def train(net: skorch.NeuralNet, rows: Any) -> None:
    """Train an initialized net like its method `partial_fit`, but do not ignore interrupts.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialized net.
    rows : TrainingRows
        Training samples.

    Raises
    ------
    KeyboardInterrupt
        If the program is interrupted, or if a callback other than `skorch.callbacks.EarlyStopping`
        raises it. The callbacks' `on_train_end` is then not called.
    """
    net.notify("on_train_begin", X=rows, y=None)
    try:
        net.fit_loop(rows, None)
    except KeyboardInterrupt as interrupt:
        if not is_early_stop(interrupt):
            raise
    net.notify("on_train_end", X=rows, y=None)


def is_early_stop(interrupt: KeyboardInterrupt) -> bool:
    """Whether it was raised by skorch's early stopping itself, not by the user meanwhile."""
    traceback: Any = interrupt.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    raised = code.co_code[traceback.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raised and code is EarlyStopping.on_epoch_end.__code__
