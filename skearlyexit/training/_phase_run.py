"""A phase of a training that runs one epoch at a time, and can continue from a checkpoint."""

from __future__ import annotations

import builtins
import io
from collections.abc import Iterable
from contextlib import ExitStack
from pickle import Pickler, PicklingError, Unpickler
from types import BuiltinFunctionType
from typing import Any

from skearlyexit._determinism._random import RandomStream
from skearlyexit.training._interrupts import is_early_stop
from skearlyexit.training._phases import Phase
from skearlyexit.training._state import put_state, state_of
from skearlyexit.training._trainer import batches_of_one_named, to_main_memory

#: Distance between the seeds of streams, larger than the number of phases.
STREAM_STEP = 1_000_003
#: Prefix of the names of functions that Python has built in, in checkpoints.
BUILTIN = "built-in function "


class PhaseRun:
    """Run of a phase, with the same result as `Trainer.fit`.

    Parameters
    ----------
    phase : Phase
        Phase with parameters to train.
    stream : int, default=0
        Number of the stream of random numbers. That of `Trainer.fit` is 0.

    Attributes
    ----------
    has_ended : bool
        Whether the phase has ended, by the number of epochs or early stopping.
    train_batches, validation_batches : iterable of batches, or None
        Batches of the trainer's samples.
    """

    def __init__(self, phase: Phase, *, stream: int = 0) -> None:
        trainer, view = phase.trainer, phase.view
        self.phase = phase
        self.parameters = view.trainable()
        self.n_epochs = trainer._n_epochs(phase.share)
        self.has_ended = False
        seed = (next(trainer.seeds) + STREAM_STEP * stream) % 2**32
        self._random = RandomStream(seed, trainer.device)
        self._context = ExitStack()
        self._context.enter_context(trainer._prepared(view))
        with self._random.continued():
            self.net, self._progress = trainer._net(view, phase.loss, self.n_epochs)
            self.net.notify("on_train_begin", X=trainer.rows, y=None)
            self.train_batches = self.net.get_iterator(trainer.rows, training=True)
            self.validation_batches = (
                None
                if trainer.validation is None
                else self.net.get_iterator(trainer.validation, training=False)
            )

    def epoch(self, train: Iterable[Any], validation: Iterable[Any] | None) -> dict[str, Any]:
        """Train for an epoch.

        Parameters
        ----------
        train, validation : iterable of (inputs, targets)
            Batches of the epoch.

        Returns
        -------
        entry : dict
            Entry of the history.
        """
        net, trainer = self.net, self.phase.trainer
        rows = {"dataset_train": trainer.rows, "dataset_valid": trainer.validation}
        with self._random.continued(), batches_of_one_named():
            net.notify("on_epoch_begin", **rows)
            net.run_single_epoch(train, training=True, prefix="train", step_fn=net.train_step)
            net.run_single_epoch(
                validation, training=False, prefix="valid", step_fn=net.validation_step
            )
            try:
                net.notify("on_epoch_end", **rows)
            except KeyboardInterrupt as interrupt:
                if not is_early_stop(interrupt):
                    raise
                self.has_ended = True
            self.has_ended = self.has_ended or len(net.history) == self.n_epochs
            if self.has_ended:
                net.notify("on_train_end", X=trainer.rows, y=None)
        if self.has_ended:
            self._end()
        return self._progress.records_[-1]

    def _end(self) -> None:
        self.phase.trainer._check_finite(self.net, self.parameters, self.phase.name)
        self._context.close()
        self.phase.view.eval()
        self.phase.view.advance(0.0)

    def checkpoint(self) -> bytes:
        """State after an epoch, from which another run of the same phase can continue."""
        net, file = self.net, io.BytesIO()
        state = {
            "random": self._random.states,
            "view": state_of(net.module_, "cpu"),
            "loss": state_of(net.criterion_, "cpu"),
            "optimizer": to_main_memory(net.optimizer_.state_dict()),
            # Not the objects, whose classes may be those of a script or a notebook.
            "callbacks": [vars(callback) for callback in self._callbacks()],
            "history": net.history,
        }
        try:
            _Pickler(file, self._parts()).dump(state)
        except (PicklingError, TypeError, AttributeError) as error:
            raise TypeError(
                "The state of the training cannot be stored in a checkpoint, since an attribute of "
                f"one of the 'callbacks' cannot be pickled: {error}. Give callbacks whose "
                "attributes can be."
            ) from error
        return file.getvalue()

    def restore(self, checkpoint: bytes) -> None:
        """Continue from the checkpoint of another run of this phase."""
        net = self.net
        state = _Unpickler(io.BytesIO(checkpoint), self._parts()).load()
        self._random.states = state["random"]
        put_state(net.module_, state["view"])
        put_state(net.criterion_, state["loss"])
        net.optimizer_.load_state_dict(state["optimizer"])
        for callback, attributes in zip(self._callbacks(), state["callbacks"], strict=True):
            vars(callback).clear()
            vars(callback).update(attributes)
        net.history = state["history"]

    def _callbacks(self) -> list[Any]:
        """Callbacks with a state that is a part of the training."""
        first = self.phase.trainer.first_callback
        return [callback for _, callback in self.net.callbacks_ if callback is not first]

    def _parts(self) -> dict[str, Any]:
        """What callbacks may refer to and is not copied with them, by name."""
        net = self.net
        parts = {"net": net, "optimizer": net.optimizer_, "loss": net.criterion_}
        parts["progress"] = self.phase.trainer.execution.progress
        parts |= {f"module {name}": each for name, each in net.module_.named_modules()}
        return parts | {f"parameter {name}": each for name, each in net.module_.named_parameters()}


class _Pickler(Pickler):
    def __init__(self, file: Any, parts: dict[str, Any]) -> None:
        super().__init__(file)
        self.names = {id(part): name for name, part in parts.items()}

    def persistent_id(self, part: Any) -> str | None:
        if isinstance(part, BuiltinFunctionType) and part.__self__ is builtins:
            # Ray replaces `print` by its own, and callbacks of skorch hold the original.
            return f"{BUILTIN}{part.__name__}"
        return self.names.get(id(part))


class _Unpickler(Unpickler):
    def __init__(self, file: Any, parts: dict[str, Any]) -> None:
        super().__init__(file)
        self.parts = parts

    def persistent_load(self, name: str) -> Any:
        if name.startswith(BUILTIN):
            return getattr(builtins, name.removeprefix(BUILTIN))
        return self.parts[name]
