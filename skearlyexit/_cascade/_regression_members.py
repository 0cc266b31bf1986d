"""Sums over the members of ensembles of regressors."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np

from skearlyexit._cascade._members import (
    Bagging,
    Forest,
    GradientBoosting,
    HistGradientBoosting,
    Kinds,
    LightGBM,
    XGBoost,
)


class RegressionForest(Forest):
    """Trees of a forest of regressors, whose values are averaged."""

    @property
    def _n_values(self) -> int:
        return int(self.ensemble.n_outputs_)

    def _of_tree(self, tree: Any, X: Any) -> np.ndarray:
        return _in_columns(tree.predict(X, check_input=False))


class RegressionBagging(Bagging):
    """Regressors of bagging, whose values are averaged."""

    def add(self, X: Any, total: np.ndarray | None, start: int, stop: int) -> np.ndarray:
        found = [
            _in_columns(member.predict(columns))
            for member, columns in self._with_columns(X, start, stop)
        ]
        return np.asarray(sum(found, start=0 if total is None else total))


class RegressionGradientBoosting(GradientBoosting):
    """Trees of `sklearn.ensemble.GradientBoostingRegressor`."""

    def outputs(self, total: np.ndarray, count: int) -> np.ndarray:
        return total


class RegressionHistGradientBoosting(HistGradientBoosting):
    """Trees of `sklearn.ensemble.HistGradientBoostingRegressor`."""

    def outputs(self, total: np.ndarray, count: int) -> np.ndarray:
        found: np.ndarray = self.ensemble._loss.link.inverse(total)
        return found


class RegressionLightGBM(LightGBM):
    """Trees of `lightgbm.LGBMRegressor`."""

    #: Objectives of which the logarithm is the sum of the trees.
    logarithmic: ClassVar[tuple[str, ...]] = ("poisson", "gamma", "tweedie")
    objectives = (
        *("regression", "regression_l1", "huber", "fair", "quantile", "mape"),
        *logarithmic,
    )
    described = "'regression', 'regression_l1', 'huber', 'fair', 'quantile', 'mape', 'poisson', \
'gamma' or 'tweedie'"

    def outputs(self, total: np.ndarray, count: int) -> np.ndarray:
        if self.objective in self.logarithmic:
            return np.exp(total)
        # The square root of the targets is fitted with reg_sqrt=True.
        return total * np.abs(total) if "sqrt" in self.options else total


class RegressionXGBoost(XGBoost):
    """Trees of `xgboost.XGBRegressor`."""

    def _further_options(self, config: dict[str, Any]) -> dict[str, Any]:
        options = {"num_target": int(config["learner_model_param"]["num_target"])}
        quantiles = config["objective"].get("quantile_loss_param")
        if quantiles:
            options["quantile_alpha"] = json.loads(quantiles["quantile_alpha"])
        return options

    def _predict(self, ensemble: Any, X: Any, **options: Any) -> Any:
        return ensemble.predict(X, **options)


REGRESSORS: Kinds = {
    ("sklearn", "RandomForestRegressor"): RegressionForest,
    ("sklearn", "ExtraTreesRegressor"): RegressionForest,
    ("sklearn", "BaggingRegressor"): RegressionBagging,
    ("sklearn", "GradientBoostingRegressor"): RegressionGradientBoosting,
    ("sklearn", "HistGradientBoostingRegressor"): RegressionHistGradientBoosting,
    ("lightgbm", "LGBMRegressor"): RegressionLightGBM,
    ("xgboost", "XGBRegressor"): RegressionXGBoost,
}


def _in_columns(values: np.ndarray) -> np.ndarray:
    """Values of shape (n_samples, n_targets)."""
    return np.asarray(values).reshape(len(values), -1)
