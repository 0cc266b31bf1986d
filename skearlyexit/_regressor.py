"""The early-exit regressor."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from joblib import Memory
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit._base_regressor import BaseExitRegressor
from skearlyexit._data._encode import regression_rows, rows_of_known_targets
from skearlyexit._data._samples import Samples
from skearlyexit._fitting._partial_fit import check_goes_on
from skearlyexit._network_base import BaseEarlyExitNetwork
from skearlyexit._task._base import Task
from skearlyexit._task._regression import Regression
from skearlyexit._utils._available_if import available_if
from skearlyexit._utils._warnings import warn
from skearlyexit.calibration import Budget, OperatingPoint
from skearlyexit.combination import Combination
from skearlyexit.costs import Cost
from skearlyexit.placement import Placement
from skearlyexit.policies import Policy
from skearlyexit.policies._registry import REGRESSION_POLICIES
from skearlyexit.training import TrainingStrategy
from skearlyexit.training._criterion import REGRESSION_LOSSES


class EarlyExitRegressor(BaseExitRegressor, BaseEarlyExitNetwork):
    """Neural network regressor with early exits.

    The network is divided into stages. After each stage there is an exit with a head, a small model
    that predicts from the output of the stage. A policy computes a score for the prediction at each
    exit, by default from a learned estimate of how much the prediction will still change. A sample
    exits at the first exit at which its score reaches the threshold of this exit, and the stages
    after it are not computed. The thresholds are chosen on held-out samples for a budget or an
    allowed rise of the error.

    Parameters
    ----------
    backbone : object, default=None
        Network to which exits are added:

        - None: `MLPBackbone` for feature vectors, and `CNNBackbone` for samples with two or three
          axes, which are interpreted as images.
        - ``"mlp"``, ``"cnn"``, ``"conv1d"``, ``"recurrent"`` or ``"transformer"``: the backbone of
          this name with its default parameters.
        - Backbone object: such as ``MLPBackbone(n_blocks=6)``.
        - Torch module: an ``nn.Sequential`` or a list of modules (see `SequentialBackbone`), or any
          other module that can be traced (see `TracedBackbone`). It is copied, and training starts
          from its weights.
        - Fitted skorch net: its module, as above.
        - Callable: called as ``f(sample_shape, n_targets)`` at the start of each training run,
          and returns any of the above. A class is called without arguments, unless it requires
          these two.
    loss : {"squared_error", "absolute_error", "huber", "quantile"}, default="squared_error"
        Loss that is minimized in training and, if a budget is given, by the choice of the
        thresholds. ``"huber"`` is quadratic for errors of up to half a standard deviation of the
        target, and linear above. ``"quantile"`` estimates the `quantile`. The mean over several
        targets is taken in units of their standard deviations.
    quantile : float, default=None
        Quantile that is estimated, in (0, 1). Required with ``loss="quantile"``, and only used
        then.
    exits : "auto", int, sequence of int or str, or Placement, default="auto"
        Where the exits are placed:

        - ``"auto"``: `CostRatio`, exits at costs that grow by a factor of at least 1.4.
        - int: number of exits including the last one, evenly spaced by the cost of the network.
          With 1, there are no early exits.
        - sequence: indices or names of the blocks or submodules after which exits are placed, in
          addition to the last exit. `list_exits` returns the names.
        - Placement object: such as `ExactPlacement`.
    head : object, default=None
        Model that predicts at the exits:

        - None: a linear head. If the backbone ends in a layer with one value for each target, this
          is the head of the last exit.
        - ``"linear"``, ``"mlp"`` or a head object: such as ``MLPHead()``.
        - scikit-learn regressor: cloned for each exit and fitted on the embeddings that the
          trained network computes (see `EstimatorHead`).
        - sequence: one of the above for each exit. For the last exit it may be ``"own"``, the
          last layer of the backbone.
    training : str or TrainingStrategy, default=None
        Strategy by which the weights are learned: an object such as ``JointTraining()``, or the
        name of a strategy with default parameters, which is ``"joint"``, ``"separate"``,
        ``"mixed"``, ``"distillation"``, ``"layerwise"``, ``"local_error"``, ``"freeze_out"`` or
        ``"auxiliary"``. Strategies that learn from or combine probabilities raise an error. None is
        ``"distillation"``: all exits are trained together, and the squared difference of each
        exit from the predictions of the last one is added to its loss. With ``"separate"``, the
        weights of a network given by the user are not changed. A strategy may train in several
        phases, such as one for the backbone and one for the heads.
    policy : str or Policy, default=None
        How the score of a prediction is computed: a policy object or one of the names:

        - ``"learned"``: a regressor that is fitted on held-out samples estimates how much the
          prediction will change until the last exit; see `LearnedErrorPolicy`.
        - ``"change"``: by how little the predicted value differs from that of the previous exit;
          see `ChangePolicy`.
        - ``"patience"``: number of consecutive exits that differ by at most a tolerance; see
          `TolerancePolicy`.

        None is ``"learned"``, and ``"change"`` with less than 100 held-out samples.
    combine : str or Combination, default=None
        How the outputs of the heads are combined into a prediction: a combination object or one of
        the names:

        - ``"own"``: output of the head at the exit, without combination.
        - ``"mean"``, ``"cost_weighted"``: mean, or mean weighted by costs, of the values predicted
          by all heads up to the exit, all of which are computed.

        None is ``"own"``.
    threshold : float or sequence of float, default=None
        One threshold for all exits, or one for each exit but the last. At 0 every sample exits at
        the first exit; above 1 no sample exits early. At most one of `threshold`, `budget` and
        `operating_point` may be given. They are used in `fit` and `calibrate`; to set them later
        has no effect on `predict`, whose arguments are for that.
    budget : float or Budget, default=None
        Maximum mean cost per sample. A float is in units of the cost of the plain network, that is
        the network with its last head and no other exit; ``Budget(2, unit="ms")`` is in
        milliseconds, which requires ``cost="seconds"``. Among the thresholds with at most this
        cost, those with the lowest loss on the calibration samples are chosen.
    operating_point : OperatingPoint, default=None
        Criterion by which the thresholds are chosen: `Budget`, `ErrorRise`, `Threshold`, or
        `RiskControl` and `ConformalRiskControl` with a function as the `risk`. If none of the three
        parameters is given, it is ``ErrorRise(0.01)``: the lowest mean cost at which the root mean
        squared error on the calibration samples, plus 1.645 standard errors of the difference, is
        at most 1 % above that of the last exit, or the mean loss if another `loss` is given.
    cost : {"macs", "seconds", "bytes"} or Cost, default="macs"
        Unit of costs: counted multiply-accumulate operations (MACs), seconds measured on this
        machine in the `runtime`, bytes of parameters, or a cost object such as `GivenCost`.
    calibration : float, int, cross-validation splitter, "auto" or None, default="auto"
        Samples from which the thresholds are chosen:

        - float: this share of the training samples. The network is trained on the others.
        - int or splitter: number of folds, or a splitter of scikit-learn. For each fold, a network
          is trained on the other folds, for as many steps as the final one if there is no early
          stopping, and its outputs for the samples of the fold are used. The final network is
          trained on all samples. With at least 2,500 samples, its training continues that of
          the last fold if early stopping ended it, and the network of the fold is kept if it has
          the lower validation loss.
        - ``"auto"``: with less than 2,500 samples, cross-fitting with as many of 3 folds as contain
          600 samples (or groups), or with all. With less than 15,000 samples, cross-fitting with
          one of 5 folds. With more, 3,000 samples are held out, and not used for training.
        - None: no samples. Until `calibrate` is called, thresholds can only be set by `threshold`.
    max_epochs : int or "auto", default="auto"
        Number of epochs, divided between the phases of the training. Strategies that train stage by
        stage, such as ``"layerwise"``, use this number for each stage. ``"auto"`` is 200 with early
        stopping, and 40 without. A final training that continues that of a fold, see
        `calibration`, has up to as many epochs again.
    lr : float, default=0.005
        Learning rate.
    lr_schedule : {"auto", "cosine", "constant"}, default="auto"
        Schedule of the learning rate in each phase of the training. ``"cosine"`` increases it in
        the first 5 % of the steps and then decreases it to 0. ``"auto"`` is ``"constant"`` with
        early stopping, and ``"cosine"`` without.
    batch_size : int or "auto", default="auto"
        Maximum number of samples in a training step. The numbers of samples in the steps of an
        epoch differ by at most one. ``"auto"`` is 256 if samples and embeddings are vectors, and
        512 if there are at least 4,000 of them, including those held out. If samples or embeddings
        have several axes, as for images and series, it is 64 on the CPU and 256 otherwise.
    optimizer : {"auto", "adamw", "muon", "adam", "sgd"} or callable, default="auto"
        Optimizer:

        - ``"auto"``: Muon for `CNNBackbone`, `Conv1DBackbone` and `TransformerBackbone`, and for
          `MLPBackbone` if there are at least 4,000 samples, including those held out.
          AdamW otherwise: for `MLPBackbone` in `partial_fit`, for other networks, and if a callable
          returns one of these backbones. In a search, folds with fewer samples may get another
          optimizer than the final fit: give it by name if `lr` is tuned, for example.
        - ``"muon"``: Muon for the weights of linear and convolutional layers in the stages, and
          AdamW for everything else, such as heads and biases. The steps of Muon are orthogonalized
          momentum. They take longer than those of AdamW, above all if layers are wide.
        - ``"adamw"``, ``"adam"``, ``"sgd"``: optimizer of torch, with its default parameters
          besides the learning rate and `weight_decay`.
        - callable: called as ``optimizer(parameters, lr=lr)``, and returns an optimizer.
    weight_decay : float, default=None
        Weight decay of the optimizer, if it is given by name. None is 0.01 for ``"adamw"`` and
        ``"muon"``, and 0 for the others.
    gradient_clipping : float, default=None
        Maximum norm of the gradient of all parameters together. None does not clip gradients.
    weight_averaging : bool, default=True
        Whether the weights at the end of a phase, and those on which the validation loss is
        computed, are an exponential running mean over the last steps: about one epoch and at least
        20 steps, but at most a tenth of all steps so far. It replaces a decrease of the learning
        rate, at any time at which the training may stop. `partial_fit` does not use it. In networks
        with convolutions over time, statistics of batch normalization are computed anew for these
        weights, unless the training is compiled or distributed.
    early_stopping : bool or "auto", default="auto"
        Whether to end a phase of the training when the validation loss is not improving, and to
        return to the weights with the lowest validation loss. The loss is that of the phase, on
        `X_val` and `y_val` given to `fit`, or on a share of the training samples. ``"auto"`` uses
        it if there are at least 100 samples, in at least 10 groups if groups are given, and
        `warm_start` is False.
    validation_fraction : float, default=0.1
        Share of the training samples that is held out for early stopping, in addition to the
        calibration samples. Only used with early stopping, if no `X_val` is given.
    n_iter_no_change : int or "auto", default="auto"
        Number of epochs after which a phase ends if none of them improved the lowest validation
        loss by more than 0.01 %. ``"auto"`` is as many epochs as have 30 steps, at least 3. Only
        used with early stopping.
    warm_start : bool, default=False
        Whether `fit` continues from the weights of the previous call, with all phases of the
        training. The network may have been trained on any sample then, so `calibration` must be
        None.
    mixed_precision : bool, default=False
        Whether the forward passes in training use bfloat16 autocast. Requires
        ``dtype="float32"``. Predictions are computed in float32.
    compile : bool or dict, default=False
        Whether to compile the forward passes in training with ``torch.compile``; a dict holds its
        keyword arguments. Compilation takes up to minutes for each phase of each training run.
    runtime : {"torch", "onnx"}, default="torch"
        What executes `predict`. With ``"onnx"``, the fitted regressor is exported as in `to_onnx`
        in the first call, which takes seconds, and ONNX Runtime executes it on the CPU; see
        `EarlyExitClassifier`. Predictions are the same up to rounding in single precision, in units
        of the standard deviations of the targets.
    device : str, default="cpu"
        Torch device on which the network is trained and run.
    dtype : {"float32", "float64"}, default="float32"
        Precision of the network. Features that single precision cannot resolve, such as
        timestamps, are standardized in double precision by the backbones of this package. A network
        given by the user receives them in single precision, with a warning.
    memory : str, path or joblib.Memory, default=None
        Folder in which training phases are cached. A phase with the same network, samples,
        parameters and seed is trained once and then loaded from the cache, also by other fits and
        processes: a search over scikit-learn heads, policies or operating points trains each
        network once. Has no effect if `random_state` is None. See the Notes.
    n_jobs : int, default=None
        Number of scikit-learn heads that are fitted in parallel. None means 1 unless in a
        `joblib.parallel_backend` context. -1 means using all processors.
    callbacks : list of skorch callbacks, default=None
        Callbacks, which are copied for each phase of each training run. They can monitor
        ``train_loss`` and, with `early_stopping`, ``valid_loss``. ``EpochScoring`` and
        ``BatchScoring`` are not supported, since they score a single output and the network has one
        for each exit. `skorch.callbacks.EarlyStopping` ends a phase; a ``KeyboardInterrupt`` raised
        by any other callback ends `fit`.
    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the batches, the splits of the samples and the seeds of the
        heads. Pass an int for reproducible results across calls.
    verbose : int, default=0
        If 1, the progress of `fit` is shown, on a terminal as one bar with an estimate of the time
        left, and elsewhere as one line for each phase. With larger values, the losses of each epoch
        are printed, too.

    Attributes
    ----------
    n_outputs_ : int
        Number of targets.
    n_features_in_ : int
        Number of features seen in `fit`, the length of the second axis of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen in `fit`. Defined only if X has feature names that are all strings.
    n_exits_ : int
        Number of exits, including the last one.
    exit_names_ : list of str
        Name of each exit, which is that of the block after which it is placed.
    stages_ : list of torch.nn.Module
        Stage before each exit. Its output is ``(carry, embedding)``: the input of the next stage
        and that of the head.
    heads_ : list of torch.nn.Module or estimator
        Fitted head of each exit. A torch module returns standardized values of the targets, and an
        estimator values in the units of y.
    costs_ : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each exit: all stages, heads and decisions up to this exit.
        The unit is the cost of the plain network.
    cost_table_ : CostTable
        Costs of all parts, in the unit of `cost`. ``cost_table_.plain`` is the cost of the plain
        network.
    cascade_ : Cascade
        Fitted network, exit rule and costs, in a frozen dataclass.
    placement_report_ : PlacementReport
        Candidates for exits, with the reason why an exit is placed there or not.
    thresholds_ : ndarray of shape (n_exits - 1,)
        Thresholds in use.
    operating_point_ : CalibratedPoint
        Thresholds in use, the criterion by which they were chosen (``request``), and the cost and
        error on the calibration samples.
    frontier_ : Frontier or None
        Pareto-optimal thresholds for all budgets. Its `accuracies` are shares of the loss that are
        explained, similar to R2. None without calibration samples, unless there is a single exit.
    history_ : list of dict
        Entry of each epoch of the final training, without those of the folds, with the keys:

        - ``"phase"``, ``"epoch"``, ``"dur"``: name of the phase, number of the epoch in the phase,
          and duration in seconds.
        - ``"train_loss"``: mean of the loss that the phase minimizes.
        - ``"exits"``: indices of the exits that the phase computes.
        - ``"train_exit_losses"``: mean loss of each of these exits on the training samples, in
          units of the standard deviations of the targets, computed in each step before the weights
          are updated. NaN for exits that are no longer trained.
        - ``"valid_loss"``, ``"valid_exit_losses"``: the same on the validation samples. Only with
          `early_stopping`.

    See Also
    --------
    EarlyExitClassifier : The same for classification.
    sklearn.neural_network.MLPRegressor : Neural network without early exits.

    Notes
    -----
    The targets are standardized for the training, and predictions are in the units of y. What holds
    for samples, batches and the cache of `memory` is described in the notes of
    `EarlyExitClassifier`.

    References
    ----------
    Scardapane, Scarpiniti, Baccarelli, Uncini, "Why should we add early exits to neural
    networks?", Cognitive Computation 12, 2020. ``"muon"``: Jordan et al., "Muon: An optimizer for
    hidden layers in neural networks", 2024; Liu et al., "Muon is scalable for LLM training", 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import train_test_split
    >>> from skearlyexit import EarlyExitRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> reg = EarlyExitRegressor(calibration=0.3, max_epochs=20, random_state=0)
    >>> reg = reg.fit(X_train, y_train)
    >>> values, exits = reg.predict(X_test, budget=0.5, return_exits=True)
    >>> values.shape, bool(reg.score(X_test, y_test, budget=0.5) > 0.2)
    ((111,), True)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseEarlyExitNetwork._parameter_constraints,
        "loss": [StrOptions(set(REGRESSION_LOSSES))],
        "quantile": [Interval(Real, 0, 1, closed="neither"), None],
        "policy": [StrOptions(set(REGRESSION_POLICIES)), Policy, None],
    }

    def __init__(
        self,
        backbone: Any = None,
        *,
        loss: str = "squared_error",
        quantile: float | None = None,
        exits: str | int | Sequence[int | str] | Placement = "auto",
        head: Any = None,
        training: str | TrainingStrategy | None = None,
        policy: str | Policy | None = None,
        combine: str | Combination | None = None,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        operating_point: OperatingPoint | None = None,
        cost: str | Cost = "macs",
        calibration: Any = "auto",
        max_epochs: int | str = "auto",
        lr: float = 0.005,
        lr_schedule: str = "auto",
        batch_size: int | str = "auto",
        optimizer: str | Callable[..., torch.optim.Optimizer] = "auto",
        weight_decay: float | None = None,
        gradient_clipping: float | None = None,
        weight_averaging: bool = True,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int | str = "auto",
        warm_start: bool = False,
        mixed_precision: bool = False,
        compile: bool | dict[str, Any] = False,
        runtime: str = "torch",
        device: str = "cpu",
        dtype: str = "float32",
        memory: str | os.PathLike | Memory | None = None,
        n_jobs: int | None = None,
        callbacks: Sequence[Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.loss = loss
        self.quantile = quantile
        self.exits = exits
        self.head = head
        self.training = training
        self.policy = policy
        self.combine = combine
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
        self.weight_decay = weight_decay
        self.gradient_clipping = gradient_clipping
        self.weight_averaging = weight_averaging
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.mixed_precision = mixed_precision
        self.compile = compile
        self.runtime = runtime
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
    ) -> EarlyExitRegressor:
        """Fit the network and the heads, and calibrate the thresholds.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Training samples, of any shape that the backbone supports; images are of shape
            (channels, height, width). May also be a sparse matrix, a `numpy.memmap` or a torch
            Dataset whose items are ``sample`` or ``(sample, value)``.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            Values of the targets. May be None only if X is a Dataset whose items are
            ``(sample, value)``.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights. In training they are divided by their mean. They are used in calibration
            too, where `RiskControl` and `ConformalRiskControl` support different weights only with
            `max_weight`. Samples of weight 0 are ignored.
        X_val : array-like of shape (n_validation, ...), default=None
            Validation samples for early stopping, instead of a share of X. The steps of a pipeline
            transform them only if its `transform_input` contains ``"X_val"``.
        y_val : array-like of shape (n_validation,) or (n_validation, n_targets), default=None
            Values of the targets for `X_val`. May be None only if `X_val` is a Dataset whose items
            are ``(sample, value)``.
        groups : array-like of shape (n_samples,), default=None
            Group labels. Samples of a group are never split between training, validation and
            calibration, and a guarantee depends on the number of groups.
        X_unlabeled : array-like of shape (n_unlabeled, ...), default=None
            Samples without targets, for a `training` that can learn from them, such as
            `DistillationTraining`. Each batch contains as many of them as samples with targets.
            They are not used for validation or calibration.

        Returns
        -------
        self : EarlyExitRegressor
            Fitted estimator. If an error is raised, the estimator is unchanged.

        Raises
        ------
        TypeError
            If a parameter or X is of a type that is not supported.
        ValueError
            If a parameter is invalid or in conflict with another one, X, y or weights are invalid,
            the operating point cannot be satisfied, or the training diverges.
        """
        self._or_unchanged(
            lambda: self._fit(X, y, sample_weight, X_val, y_val, groups, X_unlabeled)
        )
        return self

    def _training_samples(
        self, X: Any, y: np.ndarray, sample_weight: Any, groups: Any
    ) -> tuple[Samples, Task, np.ndarray | None]:
        # A network whose training continues predicts in the scale of its targets.
        known = self._task.targets if self._goes_on else None
        Regression.check_loss(self)
        samples, targets, weight = regression_rows(X, y, sample_weight, groups, known)
        return samples, Regression.of(targets, samples, self), weight

    @available_if(check_goes_on)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train for one pass over the given samples.

        Training continues from the weights of `fit` or of the previous call, at a constant learning
        rate, which is `lr`, or a tenth of it after a fit: its weights are means over many steps,
        and large steps would make them less accurate. If the further samples are more than those of
        the fit, or follow another distribution, set `lr` ten times as high before. The targets are
        standardized as in `fit`, or as in the first call without one. Thresholds calibrated before
        are discarded, since the network has changed: unless the parameter `threshold` is set, no
        sample exits early until `calibrate` is called with samples that the network has not been
        trained on.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Training samples.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            Values of the targets. May be None only if X is a torch Dataset whose items are pairs of
            a sample and its value.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights. Unlike in `fit` they are not divided by their mean, which would differ
            between calls. Samples of weight 0 are ignored.

        Returns
        -------
        self : object
            Trained estimator. If an error is raised, nothing is changed.

        Raises
        ------
        ValueError
            If the parameters describe another network than the fitted one, or X, y or a weight is
            invalid.

        Notes
        -----
        The method is available only if `training`, `head`, `policy`, `combine` and `exits` support
        incremental training, and `early_stopping` is not used. The default policy is then
        ``"change"``.
        """
        self._or_unchanged(lambda: self._partial_fit(X, y, sample_weight))
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any) -> None:
        first = not hasattr(self, "cascade_")
        Regression.check_loss(self)
        X, y = self._checked_rows(X, y, reset=first)
        known = None if first else self._task.targets
        rows, targets = rows_of_known_targets(X, y, sample_weight, known, self.dtype)
        task = Regression.of(targets, rows, self)
        if not first:
            task = replace(task, constant_loss=self._task.constant_loss)
        elif (np.ptp(rows.y, axis=0) == 0).any():
            warn(
                "A target has the same value in all samples of the first partial_fit, so that it "
                "is not scaled, also later. Begin with more samples."
            )
        self._update(rows, task, first=first)
