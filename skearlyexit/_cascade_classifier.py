"""The cascade classifier: any classifiers in a row."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import _fit_context
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_y, check_consistent_length

from skearlyexit._base_classifier import BaseExitClassifier
from skearlyexit._cascade._ensemble import ClassifierPart, ensemble_parts
from skearlyexit._cascade_base import BaseCascade
from skearlyexit._data._encode import classification_rows
from skearlyexit._data._given import GivenRows
from skearlyexit._data._labels import check_labels
from skearlyexit._fitting._chain_fitter import frozen_classes
from skearlyexit._fitting._successive_fitter import SuccessiveFitter
from skearlyexit._task._classification import Classification
from skearlyexit.calibration import Budget, OperatingPoint
from skearlyexit.combination import Combination
from skearlyexit.costs import Cost
from skearlyexit.policies import Policy
from skearlyexit.policies._registry import POLICIES
from skearlyexit.routing import ExitRouter


class CascadeClassifier(BaseExitClassifier, BaseCascade):
    """Classifiers in a row, each of which is asked only if those before are not confident.

    Every estimator is an exit. All samples are predicted by the first estimator. A policy computes
    a score for each prediction, by default the largest predicted probability, and a sample exits at
    the first estimator at which its score reaches a threshold. The next estimator is called with
    the samples that are left, and not at all if there are none. The thresholds are chosen on
    held-out samples for a budget, an accuracy or a guarantee that the user sets, as in
    `EarlyExitClassifier`.

    Parameters
    ----------
    estimators : list of (str, estimator) tuples
        Names and classifiers, from the cheapest to the most expensive. The names are those of the
        exits. Classifiers are cloned and fitted, by default on all features and samples. A
        `sklearn.frozen.FrozenEstimator` is not fitted again; it must have been fitted on other
        samples than those given to `fit`, from which the thresholds are chosen.
    policy : str or Policy, default=None
        How the score of a prediction is computed: a policy object or ``"confidence"``,
        ``"entropy"``, ``"margin"``, ``"patience"``, ``"learned"``, ``"cost_sensitive"`` or
        ``"scheduled"``, as in `EarlyExitClassifier`. None is ``"confidence"``. All but
        ``"patience"`` need estimators with `predict_proba`.
    combine : str or Combination, default=None
        How the predictions of the estimators up to the exit are combined: a combination object or
        ``"own"``, ``"most_confident"``, ``"mean"``, ``"max"``, ``"cost_weighted"``,
        ``"geometric"`` or ``"product"``, as in `EarlyExitClassifier`. None is ``"own"``, the
        prediction of the estimator at the exit.
    temperature_scaling : bool, default=False
        Whether the predicted probabilities of each estimator are calibrated by temperature scaling,
        fitted on held-out samples.
    router : ExitRouter, default=None
        Which estimators are asked for a sample. ``ExitRouter()`` is learned from held-out samples:
        by the score of a sample at the first estimator, it omits those at which the sample is too
        unlikely to exit. None asks all of them in order. Policies and combinations that depend on
        several estimators, parts of an ensemble, `pass_probabilities`, `feature_costs`, strict
        budgets and `to_onnx` do not support it. With costs in seconds, it compares the operations
        of the estimators, which must be countable.
    threshold : float or sequence of float, default=None
        One threshold for all exits, or one for each exit but the last. At 0 every sample exits at
        the first estimator; above 1 no sample exits early. At most one of `threshold`, `budget` and
        `operating_point` may be given. They are used in `fit` and `calibrate`; to set them later
        has no effect on `predict`, whose arguments are for that.
    budget : float or Budget, default=None
        Maximum mean cost per sample. A float is in units of the cost of the last estimator alone;
        ``Budget(2, unit="ms")`` is in milliseconds, which requires costs in seconds. Among the
        thresholds with at most this cost, those with the highest accuracy on the calibration
        samples are chosen.
    operating_point : OperatingPoint, default=None
        Criterion by which the thresholds are chosen, as in `EarlyExitClassifier`. If none of the
        three parameters is given, it is ``RiskControl(0.01, confidence_level=0.9)``: it is
        guaranteed, with a confidence of 90 %, that at most 1 % of new samples are misclassified at
        their exit and would have been classified correctly by the last estimator. With at least
        2,500 calibration samples the level is 0.005, with less than 287 it is 0.02. If no guarantee
        can be given, no sample exits early, which a warning and ``operating_point_.reason`` say.
    cost : {"seconds", "macs", "bytes"}, Cost or array-like of shape (n_estimators,), \
default="seconds"
        Cost of each estimator: seconds measured on this machine on training samples, counted
        operations (see `skearlyexit.costs.estimator_macs`), bytes, a cost object such as
        ``GivenCost({"small": 1, "large": 20}, unit="mJ")``, or a number for each estimator, of
        which the last must not be 0. Of an ensemble, as in `from_ensemble`, it is the cost of the
        members that an exit adds to those before.
    calibration : float, int, cross-validation splitter, "auto" or None, default="auto"
        Samples from which the thresholds are chosen:

        - float: this share of the training samples. The estimators are fitted on the others.
        - int or splitter: number of folds, or a splitter of scikit-learn. For each fold, the
          estimators are fitted on the other folds, and their predictions for the samples of the
          fold are used. The final estimators are fitted on all samples.
        - ``"auto"``: with less than 2,500 samples, cross-fitting with as many of 3 folds as contain
          600 samples (or groups), or with all. With less than 15,000 samples, cross-fitting with
          one of 5 folds. With more, 3,000 samples are held out, and not used for training.
        - None: no samples. Until `calibrate` is called, thresholds can only be set by `threshold`.

        If all estimators are frozen, there is nothing to fit, and all samples are used.
    pass_probabilities : bool, default=False
        Whether the probabilities that the estimators before predict are further features of an
        estimator, after those of X; in data frames they are named such as ``small_0``, for class 0
        of ``"small"``. In training they are predicted out of fold, as in `StackingClassifier`, with
        5 further fits of each estimator but the last. Only the first estimator may be frozen.
        All estimators up to an exit are then needed, and the unit of cost is that of all of them.
    train_share : float, default=1.0
        Share of the training samples of an estimator on which the next one is fitted: those for
        which the largest probability that the estimator predicts is lowest, since they are most
        likely to reach the next one. At 1, all estimators are fitted on all samples. Below 1, the
        probabilities are predicted out of fold as for `pass_probabilities`, and all estimators need
        `predict_proba`. It shortens the training of later estimators. It does not make them more
        accurate, in particular not for the other samples, which they predict if none exits early.
    columns : dict of str to columns, default=None
        Columns of X that an estimator is given, by its name, such as
        ``{"small": ["age", "income"]}``. They are specified as in
        `sklearn.compose.ColumnTransformer`: names of a data frame, positions, a slice, a mask, or a
        callable of X. Estimators that are not named are given all columns.
    feature_costs : array-like of shape (n_features,) or dict, default=None
        Cost of getting each column of X, in the unit of `cost`: a number for each of them, or a
        dict from names or positions to numbers, in which the others are 0. A column is paid for at
        the first exit whose estimator is given it by `columns`, and not again at later exits. The
        unit of cost includes the columns of the last estimator.
    batch_invariant : bool, default=True
        Whether the prediction for a sample is the same to the last bit whatever other samples are
        in the call. If False, an estimator is called with any number of samples and on any number
        of threads of BLAS, which takes less time for few samples if it is such as
        `sklearn.svm.SVC`. Predictions may then differ by rounding.
    runtime : {"sklearn", "onnx"}, default="sklearn"
        What executes `predict` and `predict_proba`: calls of the estimators by the interface of
        scikit-learn, or ONNX Runtime. With ``"onnx"``, the fitted cascade is exported as in
        `to_onnx` in the first call, which may take seconds. Single samples then take a fraction of
        the time. X must hold numbers without missing values, which are converted to single
        precision. Predictions are the same up to rounding in it, which may depend on the batch.
        What is compiled is neither copied nor pickled. An `ExportError` says what cannot be
        exported. Other methods call the estimators. With ``cost="seconds"`` the cascade is exported
        in `fit`, and costs are those of the runtime in `fit`.
    n_jobs : int, default=None
        Number of estimators that are fitted in parallel, including those of the folds. None means 1
        unless in a `joblib.parallel_backend` context. -1 means using all processors.
    random_state : int, RandomState instance or None, default=None
        Determines the splits of the samples, and the seeds of estimators whose `random_state` is
        None. Pass an int for reproducible results across calls.
    verbose : bool, default=False
        Whether the time of each fit is printed.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_features_in_ : int
        Number of features seen in `fit`. Defined only if X has a second axis.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen in `fit`. Defined only if X has feature names that are all strings.
    n_exits_ : int
        Number of estimators.
    exit_names_ : list of str
        Names of the estimators.
    estimators_ : list of estimator
        Fitted estimators, and copies of those that were frozen. Their `n_jobs` is 1, which makes
        predictions reproducible. ``classes_`` of an estimator are labels of y, or indices of
        `classes_` if it supports only the labels 0, 1, ...
    costs_ : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each estimator: all estimators and decisions up to this exit.
        The unit is the cost of the last estimator alone, so that the last value is larger than 1.
    cost_table_ : CostTable
        Costs of all parts, in the unit of `cost`. ``cost_table_.plain`` is the cost of the last
        estimator alone.
    cascade_ : Cascade
        Fitted estimators, exit rule and costs, in a frozen dataclass.
    thresholds_ : ndarray of shape (n_exits - 1,)
        Thresholds in use.
    operating_point_ : CalibratedPoint
        Thresholds in use, the criterion by which they were chosen (``request``), and the cost and
        accuracy on the calibration samples.
    frontier_ : Frontier or None
        Pareto-optimal thresholds for all budgets. None without calibration samples, unless there is
        a single estimator.

    See Also
    --------
    EarlyExitClassifier : Neural network with exits.
    sklearn.ensemble.StackingClassifier : Asks all estimators for every sample.
    sklearn.frozen.FrozenEstimator : Marks an estimator that is already fitted.

    Notes
    -----
    Samples are handed on to the estimators as they are given: arrays, data frames, sparse matrices,
    or lists of texts for pipelines that begin with a vectorizer.

    With ``batch_invariant=True``, an estimator is called with a multiple of 16 and at most 4,096
    samples at a time on one thread of BLAS, and with exactly 256 if its predictions are found to
    depend on their number.

    With metadata routing, ``set_fit_request(sample_weight=True)`` is called on this estimator, and
    weights are passed to all estimators; their own requests are not read.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.naive_bayes import MultinomialNB
    >>> from skearlyexit import CascadeClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> clf = CascadeClassifier(
    ...     [("bayes", MultinomialNB()), ("forest", RandomForestClassifier())],
    ...     cost=[1, 50], random_state=0).fit(X_train, y_train)
    >>> clf.costs_
    array([0.02, 1.02])
    >>> labels, exits = clf.predict(X_test, budget=0.5, return_exits=True)
    >>> float((labels == y_test).mean())  # accuracy  # doctest: +ELLIPSIS
    0.9...
    >>> float(clf.costs_[exits].mean())  # mean cost of a sample  # doctest: +ELLIPSIS
    0.1...
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseCascade._parameter_constraints,
        "policy": [StrOptions(set(POLICIES) - {"gate"}), Policy, None],
        "temperature_scaling": ["boolean"],
        "router": [ExitRouter, None],
        "pass_probabilities": ["boolean"],
        "train_share": [Interval(Real, 0, 1, closed="right")],
    }

    def __init__(
        self,
        estimators: list[tuple[str, Any]],
        *,
        policy: str | Policy | None = None,
        combine: str | Combination | None = None,
        temperature_scaling: bool = False,
        router: ExitRouter | None = None,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        operating_point: OperatingPoint | None = None,
        cost: str | Cost | Sequence[float] = "seconds",
        calibration: Any = "auto",
        pass_probabilities: bool = False,
        train_share: float = 1.0,
        columns: dict[str, Any] | None = None,
        feature_costs: Sequence[float] | dict[Any, float] | None = None,
        batch_invariant: bool = True,
        runtime: str = "sklearn",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.estimators = estimators
        self.policy = policy
        self.combine = combine
        self.temperature_scaling = temperature_scaling
        self.router = router
        self.threshold = threshold
        self.budget = budget
        self.operating_point = operating_point
        self.cost = cost
        self.calibration = calibration
        self.pass_probabilities = pass_probabilities
        self.train_share = train_share
        self.columns = columns
        self.feature_costs = feature_costs
        self.batch_invariant = batch_invariant
        self.runtime = runtime
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def from_ensemble(cls, ensemble: Any, sizes: Sequence[int], **params: Any) -> Self:
        """Make a cascade of the members of a fitted forest, bagging or boosting.

        The first members answer easy samples, and the others are asked only for samples of which
        the answer so far is not confident. No member is called twice for a sample. The last exit is
        the ensemble itself: where no sample exits early, probabilities are those of the ensemble in
        a single job to the last bit, and so are labels unless two classes have exactly the same
        probability. They are those up to rounding in double precision for
        `LGBMClassifier`, which adds its trees in one call from 0, and for bagging of members that
        are not trees and depend on the number of samples in a call.

        Parameters
        ----------
        ensemble : fitted classifier
            `sklearn.ensemble.RandomForestClassifier`, `ExtraTreesClassifier`, `BaggingClassifier`,
            `GradientBoostingClassifier` or `HistGradientBoostingClassifier`,
            ``lightgbm.LGBMClassifier`` with the objective ``"binary"`` or ``"multiclass"``, or
            ``xgboost.XGBClassifier`` with the booster ``"gbtree"``. It is copied when the cascade
            is fitted.
        sizes : sequence of int
            Numbers of members up to each exit, in ascending order. The number of all members is
            added if it is not the last. The members of boosting are its iterations, and those up to
            the best one if it was stopped early.
        **params : dict
            Other parameters of the cascade. If `cost` is given by numbers, they are those of the
            members that each exit adds, such as ``[10, 20, 70]`` for ``sizes=[10, 30, 100]``.

        Returns
        -------
        clf : CascadeClassifier
            Cascade that is not fitted. Call `fit` with samples that the ensemble was not fitted on,
            from which the thresholds are chosen. It raises a ValueError if the number of members
            has changed since. The names of the exits are the numbers of members.

        Raises
        ------
        NotFittedError
            If the ensemble is not fitted.
        TypeError
            If the ensemble is of another type.
        ValueError
            If `sizes` are not numbers of members in ascending order, the ensemble predicts several
            outputs or does not sum its trees, or ``pass_probabilities=True`` is given.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.ensemble import RandomForestClassifier
        >>> from sklearn.model_selection import train_test_split
        >>> from skearlyexit import CascadeClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> X_train, X_held, y_train, y_held = train_test_split(X, y, random_state=0)
        >>> forest = RandomForestClassifier(100, random_state=0).fit(X_train, y_train)
        >>> clf = CascadeClassifier.from_ensemble(forest, sizes=[10, 30], cost="macs", budget=0.5)
        >>> clf.fit(X_held, y_held).exit_names_
        ['10', '30', '100']
        >>> _, exits = clf.predict(X_held, return_exits=True)
        >>> float(clf.costs_[exits].mean())  # doctest: +ELLIPSIS
        0.2...
        """
        if params.get("pass_probabilities", False):
            raise ValueError(
                "pass_probabilities=True needs estimators that are fitted on the probabilities of "
                "those before, and the members of the ensemble have been fitted. Leave it out."
            )
        parts = ensemble_parts(ensemble, sizes, ClassifierPart)
        if getattr(ensemble, "n_outputs_", 1) > 1:
            raise ValueError(
                f"The 'ensemble' must predict a single output. Got {ensemble.n_outputs_} outputs."
            )
        return cls([(str(part.stop), FrozenEstimator(part)) for part in parts], **params)

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None
    ) -> CascadeClassifier:
        """Fit the estimators that are not frozen, and calibrate the thresholds.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Training samples, of any type that the estimators support.
        y : array-like of shape (n_samples,)
            Labels of at least two classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, which all estimators that are fitted must support. In training they are
            divided by their mean. They are used in calibration too, where `RiskControl` and
            `ConformalRiskControl` support different weights only with `max_weight`. Samples of
            weight 0 are ignored.
        groups : array-like of shape (n_samples,), default=None
            Group labels. Samples of a group are never split between training and calibration, and
            a guarantee depends on the number of groups.

        Returns
        -------
        self : CascadeClassifier
            Fitted estimator. If an error is raised, the estimator is unchanged.

        Raises
        ------
        TypeError
            If a parameter or X is of a type that is not supported.
        ValueError
            If a parameter is invalid or in conflict with another one, an estimator does not support
            what is required of it, X, y or weights are invalid, or the operating point cannot be
            satisfied.
        """
        self._or_unchanged(lambda: self._fit(X, y, sample_weight, groups))
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> None:
        names, estimators = self._estimators_in_use()
        known = frozen_classes(names, estimators)
        rows, y = self._labeled(X, y)
        samples, classes, weight = classification_rows(
            rows, y, sample_weight, None, groups, name=type(self).__name__, classes=known
        )
        task = Classification(classes)
        fitter = self._chain_fitter(names, estimators, samples, task)
        learns_less = self.train_share < 1 and not fitter.is_fitted
        if len(names) > 1 and (self.pass_probabilities or learns_less):
            fitter = SuccessiveFitter(
                **vars(fitter), passes=self.pass_probabilities, share=self.train_share
            )
        self._fit_chain(fitter, samples, weight)

    def _labeled(self, X: Any, y: Any) -> tuple[GivenRows, np.ndarray]:
        """Training samples as they are given, and validated labels."""
        rows = self._given(X, y)
        check_labels(y)
        y = _check_y(y, estimator=self)
        check_consistent_length(X, y)
        return rows, y
