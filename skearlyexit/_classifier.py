"""The early-exit classifier."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from joblib import Memory
from sklearn.base import _fit_context

from skearlyexit._network_classifier import BaseNetworkClassifier
from skearlyexit.calibration import Budget, OperatingPoint
from skearlyexit.combination import Combination
from skearlyexit.costs import Cost
from skearlyexit.placement import Placement
from skearlyexit.policies import Policy
from skearlyexit.routing import ExitRouter
from skearlyexit.training import TrainingStrategy


class EarlyExitClassifier(BaseNetworkClassifier):
    """Neural network classifier with early exits.

    The network is divided into stages. After each stage there is an exit with a head, a small model
    that predicts from the output of the stage. A policy computes a score for the prediction at each
    exit, by default the largest predicted probability. A sample exits at the first exit at which
    its score reaches the threshold of this exit, and the stages after it are not computed. The
    thresholds are chosen on held-out samples for a budget, an accuracy or a guarantee that the user
    sets.

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
        - Callable: called as ``f(sample_shape, n_classes)`` at the start of each training run,
          and returns any of the above. A class is called without arguments, unless it requires
          these two.
    loss : {"log_loss", "squared_hinge"}, default="log_loss"
        Loss of stages and neural heads:

        - ``"log_loss"``: cross-entropy of the predicted probabilities.
        - ``"squared_hinge"``: squared hinge loss of one class against the others, as of a linear
          support vector machine at each exit, summed over all classes, also if there are two. The
          outputs of the heads are margins, of which that of the true class should be at least 1 and
          the others at most -1. Predicted probabilities are their softmax, which is in the order of
          the margins and is not calibrated: with many classes, the largest probability is far below
          the accuracy. Thresholds are chosen for these values all the same. For calibrated
          probabilities, set `temperature_scaling`. Training strategies that learn from
          probabilities raise an error.
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

        - None: a linear head. If the backbone ends in a classifier of its own, this is the head of
          the last exit.
        - ``"linear"``, ``"mlp"`` or a head object: such as ``MLPHead()``.
        - scikit-learn classifier: cloned for each exit and fitted on the embeddings that the
          trained network computes (see `EstimatorHead`).
        - sequence: one of the above for each exit. For the last exit it may be ``"own"``, the
          classifier of the backbone.
    training : str or TrainingStrategy, default=None
        Strategy by which the weights are learned: an object such as ``JointTraining()``, or the
        name of a strategy with default parameters, which is ``"joint"``, ``"separate"``,
        ``"mixed"``, ``"distillation"``, ``"combined"``, ``"combiner"``, ``"gated"``,
        ``"layerwise"``, ``"local_error"``, ``"freeze_out"`` or ``"auxiliary"``. None is
        ``"distillation"``: all exits are trained together, and each exit also learns from the
        predictions of the last one. With ``"separate"``, the weights of a network given by the user
        are not changed. A strategy may train in several phases, such as one for the backbone and
        one for the heads.
    policy : str or Policy, default=None
        How the score of a prediction is computed: a policy object or one of the names:

        - ``"confidence"``: largest predicted probability.
        - ``"entropy"``: one minus the normalized entropy of the predicted probabilities.
        - ``"margin"``: difference between the two largest predicted probabilities.
        - ``"patience"``: number of consecutive agreements with the previous exit, divided by the
          `patience` parameter, at most 1.
        - ``"learned"``, ``"cost_sensitive"``, ``"scheduled"``: policies that are fitted on held-out
          samples.
        - ``"gate"``: output of the gates that are learned with ``training="gated"``.

        None is ``"confidence"``.
    combine : str or Combination, default=None
        How the outputs of the heads are combined into a prediction: a combination object or one of
        the names:

        - ``"own"``: output of the head at the exit, without combination.
        - ``"most_confident"``: output of the most confident head up to the exit.
        - ``"mean"``, ``"max"``, ``"cost_weighted"``: mean, maximum, or mean weighted by costs, of
          the predicted probabilities of all heads up to the exit.
        - ``"geometric"``: geometric mean of these, with weights fitted on held-out samples.
        - ``"product"``: product of the clipped logits of all heads up to the exit, for three or
          more classes.
        - ``"trained"``: as learned by a strategy such as ``"combined"`` or ``"gated"``.

        None is ``"trained"`` if the strategy learns a combination, and ``"own"`` otherwise. With
        all but ``"own"``, every head up to the exit is computed.
    temperature_scaling : bool, default=False
        Whether the predicted probabilities of each head are calibrated by temperature scaling,
        fitted on held-out samples.
    router : ExitRouter, default=None
        Which exits are asked for a sample. ``ExitRouter()`` is learned from held-out samples: by
        the score of a sample at the first exit, it omits the heads at which the sample is too
        unlikely to exit. None asks all exits in order. Policies and combinations that depend on
        several exits, strict budgets and ONNX do not support it.
    threshold : float or sequence of float, default=None
        One threshold for all exits, or one for each exit but the last. At 0 every sample exits at
        the first exit; above 1 no sample exits early. At most one of `threshold`, `budget` and
        `operating_point` may be given. They are used in `fit` and `calibrate`; to set them later
        has no effect on `predict`, whose arguments are for that.
    budget : float or Budget, default=None
        Maximum mean cost per sample. A float is in units of the cost of the plain network, that is
        the network with its last head and no other exit; ``Budget(2, unit="ms")`` is in
        milliseconds, which requires ``cost="seconds"``. Among the thresholds with at most this
        cost, those with the highest accuracy on the calibration samples are chosen.
    operating_point : OperatingPoint, default=None
        Criterion by which the thresholds are chosen: `Budget`, `AccuracyDrop`, `TargetAccuracy`,
        `RiskControl`, `ConformalRiskControl` or `Threshold`. If none of the three parameters is
        given, it is ``RiskControl(0.01, confidence_level=0.9)``: the lowest thresholds, of the same
        estimated risk at each exit, for which it is guaranteed, with a confidence of 90 %, that at
        most 1 % of new samples are misclassified at their exit and would have been classified
        correctly at the last exit. With at least 2,500 calibration samples the level is 0.005, with
        less than 287 it is 0.02. If no guarantee can be given, for example from less than 114
        samples or from samples with different weights, no sample exits early, which a warning and
        ``operating_point_.reason`` say.
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
    label_smoothing : float, default=0.05
        Share of the target that is distributed equally over all classes in the losses of the exits.
        Only used in training, not for the validation loss.
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
        it if there are at least 100 samples and three times as many as classes, in at least 10
        groups if groups are given, and `warm_start` is False.
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
        What executes `predict` and `predict_proba`. With ``"onnx"``, the fitted classifier is
        exported as in `to_onnx` in the first call, which takes seconds, and ONNX Runtime executes
        it on the CPU, which takes a fraction of the time for single samples. Predictions are the
        same up to rounding in single precision. What is compiled is neither copied nor pickled.
        An `ExportError` says what cannot be exported. Other methods are executed by torch. With
        ``cost="seconds"`` it is exported in `fit`, and costs are those of the runtime in `fit`.
    class_weight : dict or "balanced", default=None
        Weights of the classes in training, as in scikit-learn's classifiers. Calibration does not
        use them.
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
    classes_ : ndarray of shape (n_classes,)
        Class labels.
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
        Fitted head of each exit. If it is an estimator, its ``classes_`` are labels of y, or
        indices of `classes_` if it supports only the labels 0, 1, ...; see `EstimatorHead`.
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
        accuracy on the calibration samples.
    frontier_ : Frontier or None
        Pareto-optimal thresholds for all budgets. None without calibration samples, unless there is
        a single exit.
    history_ : list of dict
        Entry of each epoch of the final training, without those of the folds, with the keys:

        - ``"phase"``, ``"epoch"``, ``"dur"``: name of the phase, number of the epoch in the phase,
          and duration in seconds.
        - ``"train_loss"``: mean of the loss that the phase minimizes.
        - ``"exits"``: indices of the exits that the phase computes.
        - ``"train_exit_losses"``, ``"train_exit_accuracies"``: mean loss, with smoothed labels, and
          accuracy of each of these exits on the training samples, computed in each step before the
          weights are updated. NaN for exits that are no longer trained.
        - ``"valid_loss"``, ``"valid_exit_losses"``, ``"valid_exit_accuracies"``: the same on the
          validation samples. Only with `early_stopping`.

    See Also
    --------
    sklearn.neural_network.MLPClassifier : Neural network without early exits.
    sklearn.model_selection.TunedThresholdClassifierCV : Tunes the threshold of a binary classifier.

    Notes
    -----
    On the CPU, the prediction for a sample does not depend on the other samples of the call: with
    backbones and heads of this package and with scikit-learn heads it is bitwise the same. A strict
    budget (see `Budget`) is an exception, since it is a budget for all samples of a call together.

    X may also be a `numpy.memmap`, a sparse matrix or a map-style torch Dataset. Its samples are
    then read and checked as they are needed, and the model is the same as if they were in memory.
    A list of arrays, tensors or PIL images of the same size is stacked.

    The cache of `memory` is never cleared automatically, and callbacks are not called for phases
    that are loaded. The key of an entry includes the code of functions, classes and modules of the
    user that the parameters refer to; to read it, modules that a function imports are imported. The
    key does not include files, objects that are looked up by name (``getattr``, ``importlib``),
    environment variables and installed packages: clear the folder when one of these changes. A
    damaged entry is trained again, with a warning.

    References
    ----------
    Scardapane, Scarpiniti, Baccarelli, Uncini, "Why should we add early exits to neural
    networks?", Cognitive Computation 12, 2020. ``"squared_hinge"``: Tang, "Deep learning using
    linear support vector machines", 2013; Lee et al., "Deeply-supervised nets", AISTATS 2015.
    ``"muon"``: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu
    et al., "Muon is scalable for LLM training", 2025.

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
        loss: str = "log_loss",
        exits: str | int | Sequence[int | str] | Placement = "auto",
        head: Any = None,
        training: str | TrainingStrategy | None = None,
        policy: str | Policy | None = None,
        combine: str | Combination | None = None,
        temperature_scaling: bool = False,
        router: ExitRouter | None = None,
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
        label_smoothing: float = 0.05,
        gradient_clipping: float | None = None,
        weight_averaging: bool = True,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int | str = "auto",
        warm_start: bool = False,
        mixed_precision: bool = False,
        compile: bool | dict[str, Any] = False,
        runtime: str = "torch",
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
        self.loss = loss
        self.exits = exits
        self.head = head
        self.training = training
        self.policy = policy
        self.combine = combine
        self.temperature_scaling = temperature_scaling
        self.router = router
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
        self.label_smoothing = label_smoothing
        self.gradient_clipping = gradient_clipping
        self.weight_averaging = weight_averaging
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.mixed_precision = mixed_precision
        self.compile = compile
        self.runtime = runtime
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
        """Fit the network and the heads, and calibrate the thresholds.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Training samples, of any shape that the backbone supports; images are of shape
            (channels, height, width). May also be a sparse matrix, a `numpy.memmap` or a torch
            Dataset whose items are ``sample`` or ``(sample, label)``.
        y : array-like of shape (n_samples,), default=None
            Labels of at least two classes. May be None only if X is a Dataset whose items are
            ``(sample, label)``.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights. In training they are divided by their mean. They are used in calibration
            too, where `RiskControl` and `ConformalRiskControl` support different weights only with
            `max_weight`. Samples of weight 0 are ignored.
        X_val : array-like of shape (n_validation, ...), default=None
            Validation samples for early stopping, instead of a share of X. The steps of a pipeline
            transform them only if its `transform_input` contains ``"X_val"``.
        y_val : array-like of shape (n_validation,), default=None
            Labels of `X_val`. May be None only if `X_val` is a Dataset whose items are
            ``(sample, label)``.
        groups : array-like of shape (n_samples,), default=None
            Group labels. Samples of a group are never split between training, validation and
            calibration, and a guarantee depends on the number of groups.
        X_unlabeled : array-like of shape (n_unlabeled, ...), default=None
            Samples without labels, for a `training` that can learn from them, such as
            `DistillationTraining`. Each batch contains as many of them as labeled samples. They are
            not used for validation or calibration.

        Returns
        -------
        self : EarlyExitClassifier
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
