"""The early-exit classifier."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from joblib import Memory
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import column_or_1d

from skearlyexit._data._encode import classification_rows
from skearlyexit._data._labels import check_labels
from skearlyexit._data._sources import labels_of
from skearlyexit._data._weights import checked_weight, scaled
from skearlyexit._determinism._random import ending_turns
from skearlyexit._fitting._fit import fit_model
from skearlyexit._network_base import BaseEarlyExitNetwork
from skearlyexit._utils._gradients import gradients
from skearlyexit.calibration import Budget, OperatingPoint
from skearlyexit.combination import Combination
from skearlyexit.costs import Cost
from skearlyexit.placement import Placement
from skearlyexit.policies import Policy
from skearlyexit.training import TrainingStrategy


class EarlyExitClassifier(ClassifierMixin, BaseEarlyExitNetwork):
    """Neural network whose easy rows leave early.

    The network is cut into stages, and after each stands a head that can already answer. A row
    leaves at the first exit whose score reaches that exit's threshold; what lies behind is not
    computed for it. Thresholds are calibrated on held-out rows, so that one asks for a budget, an
    accuracy or a guarantee.

    Parameters
    ----------
    backbone : object, default=None
        The network. None chooses `MLPBackbone` for vectors and `CNNBackbone` for rows of two or
        three axes, which it takes for images. Also ``"mlp"``, ``"cnn"``, ``"conv1d"``,
        ``"recurrent"``, ``"transformer"`` or a backbone object; any torch module that can be
        traced (see `TracedBackbone`), or an ``nn.Sequential`` or list of modules, copied and
        trained on from the weights it has; a fitted skorch net; or a callable
        ``f(row_shape, n_classes)`` that returns one of these and is called for every training, as
        is a class, without arguments unless it needs these two.
    exits : int, sequence of int or str, or Placement, default=4
        Number of exits at equal shares of the network's cost, the last included; the blocks or
        submodules, by name or index, after which exits stand besides the last; or a placement
        such as `ExactPlacement`. 1 is the plain network.
    head : object, default=None
        What predicts at the exits: ``"linear"``, ``"mlp"``, a head object, any scikit-learn
        classifier, or a sequence with one for each exit, in which ``"own"`` at the last exit is
        the classifier that the network brings. None is linear, except that a network that brings
        its own classifier keeps it at the last exit.
    training : str or TrainingStrategy, default=None
        How the weights are learned: ``"joint"``, ``"separate"``, ``"mixed"``, ``"distillation"``,
        ``"combined"``, ``"combiner"``, ``"gated"``, ``"layerwise"``, ``"local_error"``,
        ``"freeze_out"``, ``"auxiliary"``, or a strategy with its parameters. None is
        ``"distillation"``: everything together, and earlier exits imitate the last one, too. With
        ``"separate"`` a network given with weights keeps them.
    policy : str or Policy, default=None
        What makes a score of an answer: ``"confidence"``, ``"entropy"``, ``"margin"``,
        ``"patience"``; ``"learned"``, ``"cost_sensitive"`` or ``"scheduled"``, which learn from
        held-out rows; ``"gate"``, the gates of ``training="gated"``; or a policy object. None
        is ``"confidence"``.
    combine : str or Combination, default=None
        How the outputs of the heads are combined: ``"own"``, those of the head at the exit alone;
        ``"most_confident"``, ``"mean"``, ``"max"``, ``"cost_weighted"`` or ``"product"`` of all
        heads so far; ``"geometric"``, with weights learned from held-out samples; ``"trained"``,
        what a training such as ``"combined"`` or ``"gated"`` has learned; or a combination object.
        None is ``"trained"`` where there is such a thing, and else ``"own"``. With any but
        ``"own"`` every head runs.
    temperature_scaling : bool, default=False
        Whether the probabilities of each head are scaled by a temperature that is fitted on
        held-out rows.
    threshold : float or sequence of float, default=None
        Operating point by hand: one threshold, or one for each exit but the last. 0 lets
        every sample exit at once, anything above 1 none.
    budget : float, default=None
        Operating point by cost: the largest mean cost per row, in units of the plain network.
    operating_point : OperatingPoint, default=None
        `Budget`, `AccuracyDrop`, `RiskControl` or `Threshold`. With none of the three given it is
        ``RiskControl(0.01, confidence_level=0.9)``: the cheapest thresholds for which, with 90 %
        confidence, at most one row in a hundred is wrong on leaving and would have been right at
        the end. Where too few samples are held out to certify any, none exits early, and
        `operating_point_` says so.
    cost : {"macs", "seconds", "bytes"} or Cost, default="macs"
        Unit of costs: multiply-accumulates that are counted, seconds that are measured
        on this machine, bytes of parameters, or a cost object such as `GivenCost`.
    calibration : float, int, splitter, "auto" or None, default="auto"
        Where the rows for thresholds come from. A float holds out that share of the training
        rows; an integer or splitter cross-fits, which trains once more for each fold, for as many
        steps, and calibrates on all rows; ``"auto"`` cross-fits with 3 folds below 2,500 rows and
        holds out a fifth from there on. None holds out nothing, and only thresholds can be asked
        for until `calibrate` is called.
    max_epochs : int, default=40
        Passes over the training rows, all phases of the training together.
    lr : float, default=0.003
        Learning rate.
    lr_schedule : {"cosine", "constant"}, default="cosine"
        How the learning rate changes within each phase of the training.
    batch_size : int, default=128
        Samples of a training step.
    optimizer : {"adamw", "adam", "sgd"} or callable, default="adamw"
        A callable is called as ``optimizer(parameters, lr=lr)``.
    early_stopping : bool, default=False
        Whether each phase ends once the validation loss, summed over its exits, no longer falls,
        and returns to the best weights.
    validation_fraction : float, default=0.1
        Share of the training rows held out for early stopping, besides those for calibration.
    n_iter_no_change : int, default=10
        Epochs without a lower validation loss before a phase ends.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the fit before, with all its phases. The network
        may have seen any row then, so that `calibration` has to be None.
    mixed_precision : bool, default=False
        Whether training runs under bfloat16 autocast. Predictions are computed in float32.
    compile : bool or dict, default=False
        Whether the passes of training are compiled, by ``torch.compile`` with the keyword
        arguments in a dict. That takes up to minutes, for every phase of every training.
    class_weight : dict or "balanced", default=None
        Weights of the classes in training; calibration counts rows as they come.
    device : str, default="cpu"
        Torch device that trains and runs the network.
    dtype : {"float32", "float64"}, default="float32"
        Precision of the network. With ``"float32"`` the ready-made networks still tell values far
        from zero apart, such as times in seconds: these are centered in double precision before
        they are rounded. A network of yours gets them rounded, with a warning.
    memory : str, path or joblib.Memory, default=None
        Folder in which the phases of training are kept, each under the network, data, settings and
        seed it started from. The same phase is trained once and then read, by other fits and other
        processes too: a search over scikit-learn heads, policies or operating points trains the
        network once per fold. The folder grows until it is cleared, callbacks are not called
        for what is read, and without an integer `random_state` hardly anything is ever the same.
        The key includes the code of functions, classes and modules of yours that the parameters
        refer to; modules that a function imports are imported for it. Files, names in strings
        (``getattr``, ``importlib``), environment variables and installed packages that are changed
        at run time are not included: clear the folder when they change. A damaged entry is replaced
        with a warning.
    n_jobs : int, default=None
        Scikit-learn heads fitted at the same time.
    callbacks : list of skorch callbacks, default=None
        Copied, and used in every phase of every training. They can monitor ``train_loss`` and,
        with `early_stopping`, ``valid_loss``; ``EpochScoring`` and ``BatchScoring``, which score
        one prediction instead of one for each exit, are refused. `skorch.callbacks.EarlyStopping`
        ends a phase; a ``KeyboardInterrupt`` from any other callback ends `fit`, as one from the
        keyboard does.
    random_state : int, RandomState instance or None, default=None
        Seeds weights, batches, splits and heads. None draws the seed from numpy's own generator.
    verbose : int, default=0
        Whether to print each phase and, by skorch, each epoch of it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_features_in_ : int
        Number of features seen in fit; the length of the second axis of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had any.
    n_exits_ : int
        Number of exits, the last included.
    exit_names_ : list of str
        Blocks after which the exits stand.
    stages_ : list of torch.nn.Module
        Parts of the network between exits. A stage returns ``(carry, embedding)``.
    heads_ : list
        Torch module or fitted scikit-learn estimator of each exit. The ``classes_`` of an
        estimator are labels of y, or, where it takes no labels but 0, 1, ..., indices of
        `classes_`; see `EstimatorHead`.
    costs_ : ndarray of shape (n_exits,)
        Cumulative cost of leaving at each exit, in units of the plain network: every stage, head
        and decision until then.
    cost_table_ : CostTable
        Costs of all parts in multiply-accumulates, or what else `cost` asks for.
        ``cost_table_.plain`` is the unit of `costs_`: the network with its last head only.
    placement_report_ : PlacementReport
        What spoke for and against each place that an exit might have.
    thresholds_ : ndarray of shape (n_exits - 1,)
        Thresholds in force.
    operating_point_ : CalibratedPoint
        What they were chosen for, and what they do on the calibration rows.
    frontier_ : Frontier or None
        Best operating points for all budgets; None without calibration rows.
    history_ : list of dict
        The final training, one entry for each epoch: ``"phase"``, ``"epoch"``, ``"train_loss"``,
        what the phase minimizes, and of the ``"exits"`` that it looks at ``"train_exit_losses"``,
        mean cross-entropies, and ``"train_exit_accuracies"``, by each step's weights and before it,
        NaN for exits that have stopped learning. With `early_stopping` the same of the validation
        rows, ``"valid_..."``.

    See Also
    --------
    sklearn.model_selection.TunedThresholdClassifierCV : Tunes the threshold of a binary decision.

    Notes
    -----
    On the CPU, for the ready-made networks, the heads of this package and scikit-learn's, the
    answer for a row is the same to the last bit whatever rows are asked with it.

    Wherever X is taken it may be a `numpy.memmap`, a sparse matrix or a map-style torch Dataset:
    rows are then read as they are needed and checked as they are read, and the model is that of the
    same rows in memory. A list of arrays, tensors or PIL images of one size is stacked.

    References
    ----------
    Scardapane, Scarpiniti, Baccarelli, Uncini, "Why should we add early exits to neural
    networks?", Cognitive Computation 12, 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from skearlyexit import EarlyExitClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> clf = EarlyExitClassifier(calibration=0.2, max_epochs=20, random_state=0)
    >>> clf = clf.fit(X_train, y_train)
    >>> labels, exits = clf.predict(X_test, budget=0.5, return_exits=True)
    >>> bool(clf.costs_[exits].mean() < 0.6), bool((labels == y_test).mean() > 0.9)
    (True, True)
    """

    def __init__(
        self,
        backbone: Any = None,
        *,
        exits: int | Sequence[int | str] | Placement = 4,
        head: Any = None,
        training: str | TrainingStrategy | None = None,
        policy: str | Policy | None = None,
        combine: str | Combination | None = None,
        temperature_scaling: bool = False,
        threshold: float | Sequence[float] | None = None,
        budget: float | None = None,
        operating_point: OperatingPoint | None = None,
        cost: str | Cost = "macs",
        calibration: Any = "auto",
        max_epochs: int = 40,
        lr: float = 0.003,
        lr_schedule: str = "cosine",
        batch_size: int = 128,
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        mixed_precision: bool = False,
        compile: bool | dict[str, Any] = False,
        class_weight: dict | str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        memory: str | os.PathLike | Memory | None = None,
        n_jobs: int | None = None,
        callbacks: Sequence[Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.exits = exits
        self.head = head
        self.training = training
        self.policy = policy
        self.combine = combine
        self.temperature_scaling = temperature_scaling
        self.threshold = threshold
        self.budget = budget
        self.operating_point = operating_point
        self.cost = cost
        self.calibration = calibration
        self.max_epochs = max_epochs
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.mixed_precision = mixed_precision
        self.compile = compile
        self.class_weight = class_weight
        self.device = device
        self.dtype = dtype
        self.memory = memory
        self.n_jobs = n_jobs
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        groups: Any = None,
        X_unlabeled: Any = None,
    ) -> EarlyExitClassifier:
        """Train network and heads, and calibrate the thresholds.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Training rows; rows of any shape that the backbone takes. A `numpy.memmap`, and a torch
            Dataset whose items are a row or ``(row, label)``, are read as they are needed.
        y : array-like of shape (n_samples,), default=None
            Labels, of at least two classes. None takes those in the items of a Dataset, in one
            pass over it before all others; anything else needs them.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights in training, where they count relative to their mean, and in calibration, where
            no guarantee is given for samples of different weight unless the largest weight that
            can occur is known: see `RiskControl`, and its parameter `max_weight`. Samples of
            weight 0 are left out.
        X_val : array-like of shape (n_validation, ...), default=None
            Samples for early stopping, instead of a share of X; of any kind that X may be of.
        y_val : array-like of shape (n_validation,), default=None
            Their labels. None takes those in the items of a Dataset.
        groups : array-like of shape (n_samples,), default=None
            Samples of a group are never split between fitting, validation and calibration.
        X_unlabeled : array-like of shape (n_unlabeled, ...), default=None
            Further rows, without labels, for a `training` that learns from such. Every network
            trains on all of them, with as many in each batch as rows of X; nothing is calibrated
            or judged on them.

        Returns
        -------
        self : EarlyExitClassifier

        Raises
        ------
        ValueError, TypeError
            If data or parameters do not fit. What can be known before training is raised before.
        """
        before = dict(vars(self))
        try:
            with gradients():
                ending_turns(
                    lambda: self._fit(X, y, sample_weight, X_val, y_val, groups, X_unlabeled)
                )
        except BaseException:
            # A model that was fitted before stays as it was.
            self.__dict__ = before
            raise
        return self

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        X_val: Any,
        y_val: Any,
        groups: Any,
        X_unlabeled: Any,
    ) -> None:
        X, y = self._checked_rows(X, y)
        samples, classes, weight = classification_rows(
            X, y, sample_weight, self.class_weight, groups, name=type(self).__name__
        )
        samples = replace(samples, unlabeled=self._unlabeled_rows(X_unlabeled))
        validation = self._validation_rows(X_val, y_val, classes)
        start = self._start(classes)
        read_as = None if start is None else self.cascade_.network.dtype
        model = fit_model(self, samples, classes, weight, validation, start, read_as)
        self._set_fitted(model, classes)

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
    ) -> float:
        """Accuracy.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        y : array-like of shape (n_samples,), default=None
            None takes the labels in the items of a torch Dataset.
        sample_weight : array-like of shape (n_samples,), default=None
        threshold : float or sequence of float, default=None
            As in `predict`.
        budget : float or Budget, default=None
            As in `predict`.

        Returns
        -------
        score : float
        """
        y = labels_of(X, y)
        check_labels(y)
        y = column_or_1d(y)
        labels = self.predict(X, threshold=threshold, budget=budget)
        weight = scaled(checked_weight(sample_weight, labels))
        return float(accuracy_score(y, labels, sample_weight=weight))
