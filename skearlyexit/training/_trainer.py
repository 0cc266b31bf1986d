"""Training loop that all strategies use, based on skorch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any

import skorch
import torch
from skorch.callbacks import GradientNormClipping

from skearlyexit._determinism._random import isolated_random_state
from skearlyexit._utils._warnings import warn
from skearlyexit.training._acceleration import accelerated
from skearlyexit.training._averaging import Averaging
from skearlyexit.training._interrupts import train
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._memory import TrainingMemory, outcome_of, restore
from skearlyexit.training._network import View, settled_statistics
from skearlyexit.training._options import SCHEDULES, Execution, TrainingOptions
from skearlyexit.training._rows import Batches, TrainingRows, n_batches
from skearlyexit.training._skorch import Progress, Stopping, n_without_improvement

#: Number of batches from which statistics of batch normalization are computed anew, for networks
#: with convolutions over time. Means over time differ little between series, so that running means,
#: which are those of earlier weights, can be off by more than a standard deviation. On GunPoint and
#: ArrowHead, with 140 and 147 training series, three seeds and widths of 16, 32, 64, the accuracies
#: of the first and of the last exit are 95.1 and 95.6 % with 8 batches, and 74.5 and 87.2 %
#: without. Networks for tables and images do not gain from it.
N_RENEWING = 8


@dataclass
class Trainer:
    """Trainer that minimizes losses on a set of samples.

    An estimator passes it to the method `train` of its training strategy.

    Parameters
    ----------
    rows : TrainingRows
        Training samples.
    validation : TrainingRows or None
        Validation samples for early stopping.
    options : TrainingOptions
        Options of the training, such as the number of epochs.
    execution : Execution, default=Execution()
        Options of the execution, such as the device.
    seeds : iterator of int, default=itertools.count()
        Seeds of random numbers. Each phase uses the next one.
    n_rows : int, default=None
        Number of samples to which ``options.max_epochs`` refers. With fewer training samples, the
        number of epochs is increased so that the number of steps is the same. None does not change
        the number of epochs.
    memory : TrainingMemory, default=None
        Cache of phases.
    optimizer_state : dict, default=None
        State of the optimizer of an earlier phase, which the next phase continues if it trains the
        same parameters with an optimizer of the same class. It is replaced after each phase. An
        empty dict starts with a new optimizer. None starts each phase with a new optimizer, and
        stores no state.
    share : float, default=1.0
        Share of ``options.max_epochs`` that is available to this trainer.
    first_callback : skorch callback, default=None
        Callback that is called before all others, such as one that averages the gradients of
        several processes. It is not copied.
    renews_statistics : bool, default=True
        Whether statistics of batch normalization are computed anew for averaged weights, if the
        network has convolutions over time and is not compiled.
    history : list of dict, default=[]
        Entry of each epoch of all phases; `fit` appends to it.
    stopped : list of bool, default=[]
        Whether each phase reached the patience of early stopping; `fit` appends to it.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.training import ExitLoss, ExitView, TrainingStrategy
    >>> class LastFirst(TrainingStrategy):  # last exit for a quarter of the epochs, then all exits
    ...     def train(self, network, costs, trainer):
    ...         last, all_exits = [network.n_exits - 1], range(network.n_exits)
    ...         trainer.fit(ExitView(network, last), ExitLoss([1.0]), share=0.25, phase="last")
    ...         loss = ExitLoss([1.0] * len(all_exits))
    ...         trainer.fit(ExitView(network, all_exits), loss, share=0.75, phase="all")
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], training=LastFirst(),
    ...     calibration=None, max_epochs=4, random_state=0)
    >>> [(epoch["phase"], epoch["exits"]) for epoch in clf.fit(X, y).history_]
    [('last', [1]), ('all', [0, 1]), ('all', [0, 1]), ('all', [0, 1])]
    """

    rows: TrainingRows
    validation: TrainingRows | None
    options: TrainingOptions
    execution: Execution = field(default_factory=Execution)
    seeds: Iterator[int] = field(default_factory=count)
    n_rows: int | None = None
    memory: TrainingMemory | None = None
    optimizer_state: dict[str, Any] | None = None
    share: float = 1.0
    first_callback: Any = None
    renews_statistics: bool = True
    history: list[dict[str, Any]] = field(default_factory=list)
    stopped: list[bool] = field(default_factory=list)

    @property
    def device(self) -> str:
        """Device on which the training runs."""
        return self.execution.device

    def remaining(self, share: float) -> Trainer:
        """Return a trainer for a share of the epochs of this trainer.

        Parameters
        ----------
        share : float
            Share of the epochs of this trainer.

        Returns
        -------
        trainer : Trainer
            Trainer with the same samples, which appends to the same history and `stopped`.
        """
        return replace(self, share=self.share * share)

    def fit(
        self, module: View, loss: ExitLoss, *, share: float = 1.0, phase: str = "training"
    ) -> None:
        """Train a view in place in one phase of the training.

        Nothing is done if the view has no parameters to train. Afterwards, the view is in
        evaluation mode.

        Parameters
        ----------
        module : View
            View to train.
        loss : ExitLoss
            Loss to minimize.
        share : float, default=1.0
            Number of epochs, as a share of the epochs of this trainer. At least one epoch is
            trained.
        phase : str, default="training"
            Name of the phase in the history.

        Raises
        ------
        ValueError
            If the training diverges, or if batch normalization is applied to a batch of one sample.
        """
        parameters = module.trainable()
        if not parameters:
            return
        n_epochs = self._n_epochs(share)
        # Random numbers of a phase do not depend on those that were drawn before it.
        seed = next(self.seeds) % 2**32

        def run() -> list[dict[str, Any]]:
            most = "" if self.options.patience is None else "at most "
            what = f"{most}{n_epochs} epochs on {len(self.rows)} samples"
            self.execution.progress.phase(phase, what)
            with isolated_random_state(seed, self.device):
                history = self._run(module, loss, parameters, n_epochs, phase)
            module.eval()
            module.advance(0.0)
            return history

        if self.memory is None:
            history = run()
        else:
            facts = [module, loss, self._facts(), n_epochs, seed]
            history = self._recall(self.memory, module, facts, run, phase)
        self.history.extend({"phase": phase, **epoch} for epoch in history)
        self.stopped.append(self._has_stopped(history))

    def _has_stopped(self, history: list[dict[str, Any]]) -> bool:
        """Whether early stopping ended a phase, not its last epoch or another callback."""
        if self.options.patience is None:
            return False
        n_steps = len(Batches(self.rows, self.options.batch_size))
        losses = [epoch["valid_loss"] for epoch in history]
        return n_without_improvement(losses) >= self.options.patience.epochs(n_steps)

    def _n_epochs(self, share: float) -> int:
        """Number of epochs of a phase."""
        return max(1, round(self.options.max_epochs * self.share * share * self._stretch()))

    def _stretch(self) -> float:
        """Factor of the number of epochs for as many steps as with `n_rows` samples."""
        if self.n_rows is None:
            return 1.0
        batch_size = self.options.batch_size
        return n_batches(self.n_rows, batch_size) / n_batches(len(self.rows), batch_size)

    def _recall(
        self,
        memory: TrainingMemory,
        module: View,
        facts: Any,
        train: Callable[[], list[dict[str, Any]]],
        phase: str,
    ) -> list[dict[str, Any]]:
        """History of a phase, which is trained unless it is in the cache."""
        part = module.trained_part()
        outcome, recalled = memory.recall(facts, lambda: outcome_of(part, train()))
        if not recalled:
            return outcome[-1]
        module.eval()
        if not restore(part, outcome):
            warn(
                "The 'memory' parameter has no effect on this network: training changes attributes "
                "of it that are neither parameters nor buffers. Register them as buffers."
            )
            return train()
        self.execution.progress.phase(phase, "from memory")
        return outcome[-1]

    def _facts(self) -> list[Any]:
        """Everything the result of a phase depends on, besides the arguments of `fit`."""
        options = replace(self.options, max_epochs=0, callbacks=list(self.options.callbacks))
        run = self.execution
        execution = [run.device, run.mixed_precision, run.compiled]
        return [self.rows, self.validation, options, execution]

    def _run(
        self,
        module: View,
        loss: ExitLoss,
        parameters: list[torch.nn.Parameter],
        n_epochs: int,
        phase: str,
    ) -> list[dict[str, Any]]:
        """Train for some epochs, and return their history."""
        net, progress = self._net(module, loss, n_epochs)
        kind = [type(net.optimizer_), _layout(net.optimizer_), _names(module)]
        if self.optimizer_state and self.optimizer_state["kind"] == kind:
            # The current options, such as the learning rate, are kept.
            fresh = net.optimizer_.state_dict()
            net.optimizer_.load_state_dict({**fresh, "state": self.optimizer_state["state"]})
        with self._prepared(module), batches_of_one_named():
            train(net, self.rows)
        self._check_finite(net, parameters, phase)
        if self.optimizer_state is not None:
            self.optimizer_state = {"kind": kind, "state": net.optimizer_.state_dict()["state"]}
        return progress.records_

    @contextmanager
    def _prepared(self, module: View) -> Iterator[None]:
        """Context in which the forward pass of a view runs as the options require."""
        single = len(self.rows) == 1 and not self.rows.n_unlabeled
        with (
            settled_statistics(module) if single else nullcontext(),
            accelerated(
                module,
                mixed_precision=self.execution.mixed_precision,
                compiled=self.execution.compiled,
                device=self.device,
            ),
        ):
            yield

    def _check_finite(
        self, net: skorch.NeuralNet, parameters: Sequence[torch.nn.Parameter], phase: str
    ) -> None:
        """Raise an error if a phase diverged."""
        diverged = _diverged(net.module_, parameters)
        if (
            not diverged
            and self.options.patience is None
            and not math.isfinite(net.history[-1, "train_loss"])
        ):
            diverged = "its loss is"
        if diverged:
            raise ValueError(
                f"The training diverged in its phase {phase!r}: {diverged} no longer finite. Lower "
                f"lr (it is {self.options.lr!r}), scale the features, or look for NaN in what the "
                "backbone returns."
            )

    def _net(
        self, module: View, loss: ExitLoss, n_epochs: int
    ) -> tuple[skorch.NeuralNet, Progress]:
        options = self.options
        n_steps = len(Batches(self.rows, options.batch_size))
        shown = self.execution.progress
        progress = Progress(n_epochs * n_steps, SCHEDULES[options.lr_schedule], shown)
        callbacks: list[Any] = [("skearlyexit_progress", progress)]
        if self.first_callback is not None:
            callbacks.insert(0, ("skearlyexit_first", self.first_callback))
        if options.gradient_clipping is not None:
            clipping = GradientNormClipping(options.gradient_clipping)
            callbacks.append(("skearlyexit_gradient_clipping", clipping))
        if options.weight_averaging:
            averaging = Averaging(n_steps, self._n_renewing(module))
            callbacks.append(("skearlyexit_weight_averaging", averaging))
        if options.patience is not None:
            stopping = Stopping(patience=options.patience.epochs(n_steps), sink=_silent)
            callbacks.append(("skearlyexit_early_stopping", stopping))
        loss.criterion = options.criterion
        tells_losses = shown.verbose > 1  # in the table of skorch
        net = skorch.NeuralNet(
            module,
            criterion=loss,
            optimizer=partial(options.make_optimizer, module),
            lr=options.rate * options.lr,
            max_epochs=n_epochs,
            batch_size=options.batch_size,
            iterator_train=Batches,
            iterator_train__shuffle=True,
            iterator_valid=Batches,
            dataset=None,
            train_split=None if self.validation is None else self._split,
            callbacks=[*callbacks, *copy.deepcopy(list(options.callbacks))],
            device=self.device,
            verbose=shown.verbose - 1 if tells_losses else 0,
            # The callback formats its table also where it is not printed.
            **(
                {"callbacks__print_log__sink": shown.table}
                if tells_losses
                else {"callbacks__print_log": None}
            ),
        ).initialize()
        return net, progress

    def _n_renewing(self, module: View) -> int:
        """Number of batches from which statistics of batch normalization are computed anew."""
        # A compiled network would be compiled again for it.
        if not self.renews_statistics or self.execution.compiled:
            return 0
        over_time = any(isinstance(part, torch.nn.Conv1d) for part in module.modules())
        return N_RENEWING if over_time else 0

    def _split(self, rows: TrainingRows, y: Any = None, **kwargs: Any) -> tuple[Any, Any]:
        return rows, self.validation


@contextmanager
def batches_of_one_named() -> Iterator[None]:
    """Context in which the error of batch normalization for a single sample says what to do."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            "A batch of one sample cannot be normalized. Give batch_size at least 2, or a network "
            "without batch normalization and heads such as LinearHead(normalize=False)."
        ) from error


def _diverged(module: View, parameters: Sequence[torch.nn.Parameter]) -> str:
    """Values of a trained module that are not finite, as the beginning of a sentence, or empty."""
    if not all(torch.isfinite(parameter).all() for parameter in parameters):
        return "weights are"
    for part in module.trained_part().modules():
        statistics = [getattr(part, name, None) for name in ("running_mean", "running_var")]
        if not all(each is None or torch.isfinite(each).all() for each in statistics):
            return "statistics of batch normalization are"
    return ""


def to_main_memory(state: Any) -> Any:
    """Copy of the state of an optimizer, with all tensors on the CPU."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: to_main_memory(value) for key, value in state.items()}
    return state


def _layout(optimizer: torch.optim.Optimizer) -> list[dict[str, bool]]:
    """Options that determine which tensors the state of an optimizer holds, such as ``amsgrad``."""
    return [
        {
            name: bool(value)
            for name, value in group.items()
            if name in ("amsgrad", "centered", "momentum")
        }
        for group in optimizer.param_groups
    ]


def _names(module: View) -> list[str]:
    """Names of the parameters that are trained."""
    part = module.trained_part()
    return [name for name, each in part.named_parameters() if each.requires_grad]


def _silent(*args: Any) -> None:
    """Sink for the messages of early stopping, which the history contains as well."""
