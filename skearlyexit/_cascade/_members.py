"""Sums over the members of an ensemble, in parts of which each continues the one before."""

from __future__ import annotations

import json
from abc import ABCMeta, abstractmethod
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.ensemble._gradient_boosting import predict_stages
from sklearn.tree import BaseDecisionTree
from sklearn.utils.validation import validate_data

from skearlyexit._determinism._estimator import run_in_one_job
from skearlyexit._determinism._softmax import softmax
from skearlyexit.costs import estimator_macs
from skearlyexit.costs._estimators import CALL


@dataclass(frozen=True)
class SomeMembers:
    """Members of an ensemble, whose operations are counted and whose size is measured.

    Attributes
    ----------
    members : list
        Trees or other estimators.
    per_member : float
        Operations for each member in addition to its own.
    """

    members: list[Any]
    per_member: float


@estimator_macs.register(SomeMembers)
def _(some: SomeMembers) -> float:
    counts = [estimator_macs(member) for member in some.members]
    return float(sum(counts) + len(counts) * some.per_member)


class Members(metaclass=ABCMeta):
    """Members of a fitted ensemble, whose sum is computed as the ensemble itself does.

    Parameters
    ----------
    ensemble : fitted classifier
        The ensemble. It is not copied.
    """

    #: Whether a prediction for a sample certainly does not depend on the other samples of a call.
    is_by_sample = False

    def __init__(self, ensemble: Any) -> None:
        self.ensemble = ensemble

    @property
    @abstractmethod
    def n_members(self) -> int:
        """Number of members. Trees of boosting for different classes count as one member."""

    @abstractmethod
    def add(self, X: Any, total: np.ndarray | None, start: int, stop: int) -> np.ndarray:
        """Sum over the members up to one, from the sum over those before another one.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Samples.
        total : ndarray of shape (n_samples, n_values) or None
            Sum over the members before `start`, which is not changed. None if there are none.
        start, stop : int
            Members that are called.

        Returns
        -------
        total : ndarray of shape (n_samples, n_values)
            Sum over the members before `stop`.
        """

    @abstractmethod
    def probabilities(self, total: np.ndarray, count: int) -> np.ndarray:
        """Class probabilities of shape (n_samples, n_classes) from the sum over some members."""

    @abstractmethod
    def some(self, start: int, stop: int) -> SomeMembers:
        """Members whose cost is measured."""

    def run_in_one_job(self) -> None:
        """Let predictions of the ensemble and of its members use one thread."""
        run_in_one_job(self.ensemble)


class Forest(Members):
    """Trees of a forest, whose probabilities are averaged."""

    @property
    def is_by_sample(self) -> bool:  # type: ignore[override]
        # A tree follows the path of each sample by itself.
        return all(isinstance(member, BaseDecisionTree) for member in self.ensemble.estimators_)

    @property
    def n_members(self) -> int:
        return len(self.ensemble.estimators_)

    def add(self, X: Any, total: np.ndarray | None, start: int, stop: int) -> np.ndarray:
        X = self.ensemble._validate_X_predict(X)
        total = self._copied(X, total)
        for tree in self.ensemble.estimators_[start:stop]:
            total += tree.predict_proba(X, check_input=False)
        return total

    def _copied(self, X: Any, total: np.ndarray | None) -> np.ndarray:
        if total is None:
            return np.zeros((X.shape[0], len(self.ensemble.classes_)))
        return total.copy()

    def probabilities(self, total: np.ndarray, count: int) -> np.ndarray:
        return np.asarray(total / count)

    def some(self, start: int, stop: int) -> SomeMembers:
        per_member = CALL + len(self.ensemble.classes_)
        return SomeMembers(self.ensemble.estimators_[start:stop], per_member)


class Bagging(Forest):
    """Estimators of bagging, whose probabilities or votes are averaged."""

    def add(self, X: Any, total: np.ndarray | None, start: int, stop: int) -> np.ndarray:
        ensemble = self.ensemble
        X = validate_data(
            ensemble,
            X,
            reset=False,
            accept_sparse=["csr", "csc"],
            dtype=None,
            ensure_all_finite=False,
        )
        total = self._copied(X, total)
        members = zip(ensemble.estimators_, ensemble.estimators_features_, strict=True)
        for member, features in list(members)[start:stop]:
            columns = X[:, features]
            if hasattr(member, "predict_proba"):
                # A member may not have seen all classes, of which these are indices.
                total[:, member.classes_] += member.predict_proba(columns)
            else:
                total[np.arange(len(total)), member.predict(columns)] += 1
        return total


class GradientBoosting(Members):
    """Trees of `sklearn.ensemble.GradientBoostingClassifier`."""

    @property
    def n_members(self) -> int:
        return len(self.ensemble.estimators_)

    def add(self, X: Any, total: np.ndarray | None, start: int, stop: int) -> np.ndarray:
        ensemble = self.ensemble
        X = validate_data(
            ensemble, X, dtype=np.float32, order="C", accept_sparse="csr", reset=False
        )
        if total is None:
            total = ensemble._raw_predict_init(X)
        total = np.array(total, order="C")
        predict_stages(ensemble.estimators_[start:stop], X, ensemble.learning_rate, total)
        return total

    def probabilities(self, total: np.ndarray, count: int) -> np.ndarray:
        found: np.ndarray = self.ensemble._loss.predict_proba(total)
        return found

    def some(self, start: int, stop: int) -> SomeMembers:
        return SomeMembers(list(np.ravel(self.ensemble.estimators_[start:stop])), 1.0)


class HistGradientBoosting(Members):
    """Trees of `sklearn.ensemble.HistGradientBoostingClassifier`."""

    @property
    def n_members(self) -> int:
        return len(self.ensemble._predictors)

    def add(self, X: Any, total: np.ndarray | None, start: int, stop: int) -> np.ndarray:
        ensemble = self.ensemble
        X = ensemble._preprocess_X(X, reset=False)
        if total is None:
            shape = len(X), ensemble.n_trees_per_iteration_
            total = np.zeros(shape, dtype=ensemble._baseline_prediction.dtype)
            total += ensemble._baseline_prediction
        total = np.array(total, order="F")
        some = ensemble._predictors[start:stop]
        ensemble._predict_iterations(X, some, total, is_binned=False, n_threads=1)
        return total

    def probabilities(self, total: np.ndarray, count: int) -> np.ndarray:
        # In the layout of the ensemble itself, since NumPy adds in the order of the memory.
        found: np.ndarray = self.ensemble._loss.predict_proba(np.asfortranarray(total))
        return found

    def some(self, start: int, stop: int) -> SomeMembers:
        trees = [tree for each in self.ensemble._predictors[start:stop] for tree in each]
        return SomeMembers(trees, 1.0)


class LightGBM(Members):
    """Trees of `lightgbm.LGBMClassifier`."""

    def __init__(self, ensemble: Any) -> None:
        super().__init__(ensemble)
        described = ensemble.booster_.dump_model(num_iteration=1)
        self.objective, *options = described.get("objective", "none").split()
        self.options = dict(option.split(":") for option in options if ":" in option)
        if self.objective not in ("binary", "multiclass") or described["average_output"]:
            raise ValueError(
                "The trees of LGBMClassifier can be in a row with objective='binary' or "
                f"'multiclass' and without boosting_type='rf'. Got {self.objective!r} and "
                f"{ensemble.boosting_type!r}."
            )

    @property
    def n_members(self) -> int:
        # With early stopping, the ensemble predicts by its best iterations.
        return int(self.ensemble.best_iteration_ or self.ensemble.n_iter_)

    def add(self, X: Any, total: np.ndarray | None, start: int, stop: int) -> np.ndarray:
        found = self.ensemble.predict(
            X, raw_score=True, start_iteration=start, num_iteration=stop - start
        )
        found = found.reshape(len(found), -1)
        return found if total is None else total + found

    def probabilities(self, total: np.ndarray, count: int) -> np.ndarray:
        if self.objective == "multiclass":
            return softmax(total)
        positive = expit(float(self.options["sigmoid"]) * total[:, 0])
        return np.column_stack([1 - positive, positive])

    def some(self, start: int, stop: int) -> SomeMembers:
        whole = self.ensemble.booster_
        text = whole.model_to_string(num_iteration=stop - start, start_iteration=start)
        return SomeMembers([type(whole)(model_str=text)], 0.0)


class XGBoost(Members):
    """Trees of `xgboost.XGBClassifier`."""

    def __init__(self, ensemble: Any) -> None:
        super().__init__(ensemble)
        booster = ensemble.get_booster()
        config = json.loads(booster.save_config())["learner"]
        kind = config["gradient_booster"]["name"]
        if kind != "gbtree":
            raise ValueError(
                "The trees of XGBClassifier can be in a row with booster='gbtree'. Got "
                f"booster={kind!r}."
            )
        # Without trees, it computes probabilities from the sums as the ensemble itself does.
        options = {
            "objective": config["objective"]["name"],
            "num_feature": booster.num_features(),
            "nthread": 1,
        }
        n_classes = int(config["learner_model_param"]["num_class"])
        if n_classes:
            options["num_class"] = n_classes
        self.without_trees = copy(ensemble)
        self.without_trees._Booster = type(booster)(options)

    @property
    def n_members(self) -> int:
        # With early stopping, the ensemble predicts by its best rounds.
        _, stop = self.ensemble._get_iteration_range(None)
        return int(stop or self.ensemble.get_booster().num_boosted_rounds())

    def add(self, X: Any, total: np.ndarray | None, start: int, stop: int) -> np.ndarray:
        found = self.ensemble.predict(
            X, output_margin=True, base_margin=total, iteration_range=(start, stop)
        )
        return np.asarray(found).reshape(len(found), -1)

    def probabilities(self, total: np.ndarray, count: int) -> np.ndarray:
        n_features = self.ensemble.n_features_in_
        nothing = np.zeros((len(total), n_features), dtype=np.float32)
        return np.asarray(
            self.without_trees.predict_proba(nothing, base_margin=total), dtype=np.float64
        )

    def some(self, start: int, stop: int) -> SomeMembers:
        return SomeMembers([self.ensemble.get_booster()[start:stop]], 0.0)

    def run_in_one_job(self) -> None:
        super().run_in_one_job()
        self.ensemble.get_booster().set_param({"nthread": 1})


#: What computes the sums, by package and name of a class, so that no package is imported.
KINDS: dict[tuple[str, str], type[Members]] = {
    ("sklearn", "ForestClassifier"): Forest,
    ("sklearn", "BaggingClassifier"): Bagging,
    ("sklearn", "GradientBoostingClassifier"): GradientBoosting,
    ("sklearn", "HistGradientBoostingClassifier"): HistGradientBoosting,
    ("lightgbm", "LGBMClassifier"): LightGBM,
    ("xgboost", "XGBClassifier"): XGBoost,
}


def kind_of_members(ensemble: Any) -> type[Members]:
    """What computes the sums over the members of an ensemble, by its class.

    Raises
    ------
    TypeError
        If the ensemble is of another type.
    """
    for each in type(ensemble).__mro__:
        found = KINDS.get((each.__module__.partition(".")[0], each.__name__))
        if found is not None:
            return found
    raise TypeError(
        "The 'ensemble' must be a RandomForestClassifier, ExtraTreesClassifier, BaggingClassifier, "
        "GradientBoostingClassifier, HistGradientBoostingClassifier, LGBMClassifier or "
        f"XGBClassifier. Got {type(ensemble).__name__} instead."
    )
