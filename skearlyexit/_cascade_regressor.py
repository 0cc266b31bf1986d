"""The cascade regressor: any regressors in a row."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import _fit_context
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_y, check_consistent_length, check_is_fitted

from skearlyexit._base_regressor import BaseExitRegressor
from skearlyexit._cascade._ensemble import RegressorPart, ensemble_parts
from skearlyexit._cascade_base import BaseCascade
from skearlyexit._data._encode import regression_rows
from skearlyexit._data._targets import Targets
from skearlyexit._fitting._chain_fitter import is_frozen
from skearlyexit._fitting._successive_fitter import SuccessiveFitter
from skearlyexit._task._regression import Regression
from skearlyexit.calibration import Budget, OperatingPoint
from skearlyexit.combination import Combination
from skearlyexit.costs import Cost
from skearlyexit.policies import Policy
from skearlyexit.policies._registry import REGRESSION_POLICIES
from skearlyexit.training._criterion import REGRESSION_LOSSES


class CascadeRegressor(BaseExitRegressor, BaseCascade):
    """Regressors in a row, each of which is asked only where those before may be far off.

    Every estimator is an exit. All samples are predicted by the first estimator. A policy computes
    a score for each prediction, by default from a learned estimate of how far it is from that of
    the last estimator, and a sample exits at the first estimator at which its score reaches a
    threshold. The next estimator is called with the samples that are left, and not at all if there
    are none. The thresholds are chosen on held-out samples for a budget or an allowed rise of the
    error, as in `EarlyExitRegressor`.

    Parameters
    ----------
    estimators : list of (str, estimator) tuples
        Names and regressors, from the cheapest to the most expensive. The names are those of the
        exits. Regressors are cloned and fitted, by default on all features. A
        `sklearn.frozen.FrozenEstimator` is not fitted again; it must have been fitted on other
        samples than those given to `fit`, from which the thresholds are chosen.
    loss : {"squared_error", "absolute_error", "huber", "quantile"}, default="squared_error"
        Loss by which the thresholds are chosen, as in `EarlyExitRegressor`. What the estimators
        minimize is a parameter of their own.
    quantile : float, default=None
        Quantile of ``loss="quantile"``, in (0, 1). Required with it, and only used then.
    policy : str or Policy, default=None
        How the score of a prediction is computed: a policy object or ``"learned"``, ``"change"`` or
        ``"patience"``, as in `EarlyExitRegressor`. None is ``"learned"``, and ``"change"`` with
        less than 100 held-out samples.
    combine : str or Combination, default=None
        How the predictions of the estimators up to the exit are combined: a combination object or
        ``"own"``, ``"mean"`` or ``"cost_weighted"``. None is ``"own"``, the prediction of the
        estimator at the exit.
    threshold : float or sequence of float, default=None
        One threshold for all exits, or one for each exit but the last. At 0 every sample exits at
        the first estimator; above 1 no sample exits early. At most one of `threshold`, `budget` and
        `operating_point` may be given. They are used in `fit` and `calibrate`; to set them later
        has no effect on `predict`, whose arguments are for that.
    budget : float or Budget, default=None
        Maximum mean cost per sample. A float is in units of the cost of the last estimator alone;
        ``Budget(2, unit="ms")`` is in milliseconds, which requires costs in seconds.
    operating_point : OperatingPoint, default=None
        Criterion by which the thresholds are chosen, as in `EarlyExitRegressor`. If none of the
        three parameters is given, it is ``ErrorRise(0.01)``.
    cost : {"seconds", "macs", "bytes"}, Cost or array-like of shape (n_estimators,), \
default="seconds"
        Cost of each estimator, as in `CascadeClassifier`.
    calibration : float, int, cross-validation splitter, "auto" or None, default="auto"
        Samples from which the thresholds are chosen, as in `CascadeClassifier`. If all estimators
        are frozen, there is nothing to fit, and all samples are used.
    pass_predictions : bool, default=False
        Whether the values that the estimators before predict are further features of an estimator,
        after those of X; in data frames they are named such as ``small_0``, for target 0 of
        ``"small"``. In training they are predicted out of fold, as in `StackingRegressor`, with 5
        further fits of each estimator but the last. Only the first estimator may be frozen. All
        estimators up to an exit are then needed, and the unit of cost is that of all of them.
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
        What executes `predict`: calls of the estimators by the interface of scikit-learn, or ONNX
        Runtime, which the fitted cascade is exported to in the first call; see `CascadeClassifier`.
        Predictions are the same up to rounding in single precision, in units of the standard
        deviations of the targets.
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
    n_outputs_ : int
        Number of targets.
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
        predictions reproducible.
    costs_ : ndarray of shape (n_exits,)
        Cumulative cost of exiting at each estimator: all estimators and decisions up to this exit.
        The unit is the cost of the last estimator alone, so that the last value is larger than 1.
    cost_table_ : CostTable
        Costs of all parts, in the unit of `cost`.
    cascade_ : Cascade
        Fitted estimators, exit rule and costs, in a frozen dataclass.
    thresholds_ : ndarray of shape (n_exits - 1,)
        Thresholds in use.
    operating_point_ : CalibratedPoint
        Thresholds in use, the criterion by which they were chosen (``request``), and the cost and
        error on the calibration samples.
    frontier_ : Frontier or None
        Pareto-optimal thresholds for all budgets. None without calibration samples, unless there is
        a single estimator.

    See Also
    --------
    CascadeClassifier : The same for classification.
    EarlyExitRegressor : Neural network with exits.

    Notes
    -----
    What `CascadeClassifier` says of samples, batches and metadata routing holds here, too. Policies
    see targets divided by the power of two that is nearest to their standard deviation, so that no
    digit is lost: what they describe in standard deviations is in units of this power.

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn.ensemble import RandomForestRegressor
    >>> from sklearn.linear_model import Ridge
    >>> from skearlyexit import CascadeRegressor
    >>> X, y = make_friedman1(1200, random_state=0)
    >>> reg = CascadeRegressor(
    ...     [("linear", Ridge()), ("forest", RandomForestRegressor(30))], cost=[1, 50],
    ...     random_state=0).fit(X[:1000], y[:1000])
    >>> reg.costs_
    array([0.02, 1.02])
    >>> values, exits = reg.predict(X[1000:], budget=0.5, return_exits=True)
    >>> bool(reg.score(X[1000:], y[1000:], budget=0.5) > 0.7)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseCascade._parameter_constraints,
        "loss": [StrOptions(set(REGRESSION_LOSSES))],
        "quantile": [Interval(Real, 0, 1, closed="neither"), None],
        "policy": [StrOptions(set(REGRESSION_POLICIES)), Policy, None],
        "pass_predictions": ["boolean"],
    }

    def __init__(
        self,
        estimators: list[tuple[str, Any]],
        *,
        loss: str = "squared_error",
        quantile: float | None = None,
        policy: str | Policy | None = None,
        combine: str | Combination | None = None,
        threshold: float | Sequence[float] | None = None,
        budget: float | Budget | None = None,
        operating_point: OperatingPoint | None = None,
        cost: str | Cost | Sequence[float] = "seconds",
        calibration: Any = "auto",
        pass_predictions: bool = False,
        columns: dict[str, Any] | None = None,
        feature_costs: Sequence[float] | dict[Any, float] | None = None,
        batch_invariant: bool = True,
        runtime: str = "sklearn",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.estimators = estimators
        self.loss = loss
        self.quantile = quantile
        self.policy = policy
        self.combine = combine
        self.threshold = threshold
        self.budget = budget
        self.operating_point = operating_point
        self.cost = cost
        self.calibration = calibration
        self.pass_predictions = pass_predictions
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

        The first members predict samples on which they agree, and the others are asked only for the
        rest. No member is called twice for a sample. The last exit is the ensemble itself: where no
        sample exits early, predictions are those of the ensemble in a single job to the last bit.
        They are those up to rounding in double precision for `LGBMRegressor`, which adds its trees
        in one call from 0, and for bagging of members that are not trees and depend on the number
        of samples in a call.

        Parameters
        ----------
        ensemble : fitted regressor
            `sklearn.ensemble.RandomForestRegressor`, `ExtraTreesRegressor`, `BaggingRegressor`,
            `GradientBoostingRegressor` or `HistGradientBoostingRegressor`,
            ``lightgbm.LGBMRegressor`` with one of its objectives for regression, or
            ``xgboost.XGBRegressor`` with the booster ``"gbtree"``. It is copied when the cascade is
            fitted.
        sizes : sequence of int
            Numbers of members up to each exit, in ascending order. The number of all members is
            added if it is not the last. The members of boosting are its iterations, and those up to
            the best one if it was stopped early.
        **params : dict
            Other parameters of the cascade. If `cost` is given by numbers, they are those of the
            members that each exit adds, such as ``[10, 20, 70]`` for ``sizes=[10, 30, 100]``.

        Returns
        -------
        reg : CascadeRegressor
            Cascade that is not fitted. Call `fit` with samples that the ensemble was not fitted on,
            from which the thresholds are chosen. It raises a ValueError if the number of members
            has changed since, or y holds other targets. The names of the exits are the numbers of
            members.

        Raises
        ------
        NotFittedError
            If the ensemble is not fitted.
        TypeError
            If the ensemble is of another type.
        ValueError
            If `sizes` are not numbers of members in ascending order, the ensemble does not sum its
            trees, or ``pass_predictions=True`` is given.

        Notes
        -----
        The disagreement of the members is known by the change of the prediction from exit to exit,
        from which ``policy="change"`` and the default, ``"learned"``, compute the score. It is not
        known at the first exit: give a small size first.

        Examples
        --------
        >>> from sklearn.datasets import make_friedman1
        >>> from sklearn.ensemble import RandomForestRegressor
        >>> from skearlyexit import CascadeRegressor
        >>> X, y = make_friedman1(1500, random_state=0)
        >>> forest = RandomForestRegressor(100, random_state=0).fit(X[:1000], y[:1000])
        >>> reg = CascadeRegressor.from_ensemble(
        ...     forest, sizes=[5, 10, 30], cost="macs", budget=0.5, random_state=0)
        >>> reg.fit(X[1000:], y[1000:]).exit_names_
        ['5', '10', '30', '100']
        >>> _, exits = reg.predict(X[1000:], return_exits=True)
        >>> bool(reg.costs_[exits].mean() < 0.6)
        True
        """
        if params.get("pass_predictions", False):
            raise ValueError(
                "pass_predictions=True needs estimators that are fitted on the predictions of "
                "those before, and the members of the ensemble have been fitted. Leave it out."
            )
        parts = ensemble_parts(ensemble, sizes, RegressorPart)
        return cls([(str(part.stop), FrozenEstimator(part)) for part in parts], **params)

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None
    ) -> CascadeRegressor:
        """Fit the estimators that are not frozen, and calibrate the thresholds.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Training samples, of any type that the estimators support.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Values of the targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, which all estimators that are fitted must support. In training they are
            divided by their mean. They are used in calibration too. Samples of weight 0 are
            ignored.
        groups : array-like of shape (n_samples,), default=None
            Group labels. Samples of a group are never split between training and calibration, and
            a guarantee depends on the number of groups.

        Returns
        -------
        self : CascadeRegressor
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
        Regression.check_loss(self)
        names, estimators = self._estimators_in_use()
        for each in filter(is_frozen, estimators):
            check_is_fitted(each)
        rows = self._given(X, y)
        y = _check_y(y, multi_output=True, y_numeric=True, estimator=self)
        check_consistent_length(X, y)
        samples, targets, weight = regression_rows(
            rows, y, sample_weight, groups, make=Targets.exact
        )
        task = Regression.of(targets, samples, self)
        fitter = self._chain_fitter(names, estimators, samples, task)
        if len(names) > 1 and self.pass_predictions:
            fitter = SuccessiveFitter(**vars(fitter), passes=True, share=1.0)
        self._fit_chain(fitter, samples, weight)
