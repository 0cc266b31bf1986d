"""Sums over the members of an ensemble, in parts of which each continues the one before."""

from __future__ import annotations

import json
from abc import ABCMeta, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit
from sklearn.ensemble._gradient_boosting import predict_stages
from sklearn.tree import BaseDecisionTree
from sklearn.utils.validation import validate_data

from skearlyexit._determinism._estimator import run_in_one_job
from skearlyexit._determinism._softmax import softmax
from skearlyexit.costs import estimator_macs
from skearlyexit.costs._estimators import per_member


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
    ensemble : fitted classifier or regressor
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
    def outputs(self, total: np.ndarray, count: int) -> np.ndarray:
        """Class probabilities, or values of targets, from the sum over some members.

        The shape is (n_samples, n_outputs).
        """

    @abstractmethod
    def some(self, start: int, stop: int) -> SomeMembers:
        """Members whose cost is measured."""

    def run_in_one_job(self) -> None:
        """Let predictions of the ensemble and of its members use one thread."""
        run_in_one_job(self.ensemble)


class Forest(Members):
    """Trees of a forest of classifiers, whose probabilities are averaged."""

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
            total += self._of_tree(tree, X)
        return total

    def _copied(self, X: Any, total: np.ndarray | None) -> np.ndarray:
        return np.zeros((X.shape[0], self._n_values)) if total is None else total.copy()

    @property
    def _n_values(self) -> int:
        """Number of values that a tree predicts for a sample."""
        return len(self.ensemble.classes_)

    def _of_tree(self, tree: Any, X: Any) -> np.ndarray:
        """Values of shape (n_samples, n_values) that a tree predicts."""
        found: np.ndarray = tree.predict_proba(X, check_input=False)
        return found

    def outputs(self, total: np.ndarray, count: int) -> np.ndarray:
        return np.asarray(total / count)

    def some(self, start: int, stop: int) -> SomeMembers:
        return SomeMembers(self.ensemble.estimators_[start:stop], per_member(self.ensemble))


class Bagging(Forest):
    """Classifiers of bagging, whose probabilities or votes are averaged."""

    def add(self, X: Any, total: np.ndarray | None, start: int, stop: int) -> np.ndarray:
        total = self._copied(X, total)
        for member, columns in self._with_columns(X, start, stop):
            if hasattr(member, "predict_proba"):
                # A member may not have seen all classes, of which these are indices.
                total[:, member.classes_] += member.predict_proba(columns)
            else:
                total[np.arange(len(total)), member.predict(columns)] += 1
        return total

    def _with_columns(self, X: Any, start: int, stop: int) -> Iterator[tuple[Any, Any]]:
        """Members, and samples with the columns of each."""
        ensemble = self.ensemble
        X = validate_data(
            ensemble,
            X,
            reset=False,
            accept_sparse=["csr", "csc"],
            dtype=None,
            ensure_all_finite=False,
        )
        members = zip(ensemble.estimators_, ensemble.estimators_features_, strict=True)
        for member, features in list(members)[start:stop]:
            yield member, X[:, features]


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

    def outputs(self, total: np.ndarray, count: int) -> np.ndarray:
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

    def outputs(self, total: np.ndarray, count: int) -> np.ndarray:
        # In the layout of the ensemble itself, since NumPy adds in the order of the memory.
        found: np.ndarray = self.ensemble._loss.predict_proba(np.asfortranarray(total))
        return found

    def some(self, start: int, stop: int) -> SomeMembers:
        trees = [tree for each in self.ensemble._predictors[start:stop] for tree in each]
        return SomeMembers(trees, 1.0)


class LightGBM(Members):
    """Trees of `lightgbm.LGBMClassifier`."""

    #: Objectives from whose sums the outputs are computed, and how they are described.
    objectives: ClassVar[Collection[str]] = ("binary", "multiclass")
    described: ClassVar[str] = "'binary' or 'multiclass'"

    def __init__(self, ensemble: Any) -> None:
        super().__init__(ensemble)
        found = ensemble.booster_.dump_model(num_iteration=1)
        self.objective, *self.options = found.get("objective", "none").split()
        if self.objective not in self.objectives or found["average_output"]:
            raise ValueError(
                f"The trees of {type(ensemble).__name__} can be in a row with "
                f"objective={self.described} and without boosting_type='rf'. Got "
                f"{self.objective!r} and {ensemble.boosting_type!r}."
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

    def outputs(self, total: np.ndarray, count: int) -> np.ndarray:
        if self.objective == "multiclass":
            return softmax(total)
        options = dict(option.split(":") for option in self.options if ":" in option)
        positive = expit(float(options["sigmoid"]) * total[:, 0])
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
                f"The trees of {type(ensemble).__name__} can be in a row with booster='gbtree'. "
                f"Got booster={kind!r}."
            )
        # Without trees, it computes outputs from the sums as the ensemble itself does.
        options = {
            "objective": config["objective"]["name"],
            "num_feature": booster.num_features(),
            "nthread": 1,
            **self._further_options(config),
        }
        self.without_trees = copy(ensemble)
        self.without_trees._Booster = type(booster)(options)

    def _further_options(self, config: dict[str, Any]) -> dict[str, Any]:
        """Options of the booster on which the number and the kind of the outputs depend."""
        n_classes = int(config["learner_model_param"]["num_class"])
        return {"num_class": n_classes} if n_classes else {}

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

    def outputs(self, total: np.ndarray, count: int) -> np.ndarray:
        nothing = np.zeros((len(total), self.ensemble.n_features_in_), dtype=np.float32)
        found = self._predict(self.without_trees, nothing, base_margin=total)
        return np.asarray(found, dtype=np.float64).reshape(len(total), -1)

    def _predict(self, ensemble: Any, X: Any, **options: Any) -> Any:
        """Outputs of an ensemble."""
        return ensemble.predict_proba(X, **options)

    def some(self, start: int, stop: int) -> SomeMembers:
        return SomeMembers([self.ensemble.get_booster()[start:stop]], 0.0)

    def run_in_one_job(self) -> None:
        super().run_in_one_job()
        self.ensemble.get_booster().set_param({"nthread": 1})


#: What computes the sums, by package and name of a class, so that no package is imported.
Kinds = Mapping[tuple[str, str], type[Members]]

CLASSIFIERS: Kinds = {
    ("sklearn", "RandomForestClassifier"): Forest,
    ("sklearn", "ExtraTreesClassifier"): Forest,
    ("sklearn", "BaggingClassifier"): Bagging,
    ("sklearn", "GradientBoostingClassifier"): GradientBoosting,
    ("sklearn", "HistGradientBoostingClassifier"): HistGradientBoosting,
    ("lightgbm", "LGBMClassifier"): LightGBM,
    ("xgboost", "XGBClassifier"): XGBoost,
}


def kind_of_members(ensemble: Any, kinds: Kinds) -> type[Members]:
    """What computes the sums over the members of an ensemble, by its class.

    Raises
    ------
    TypeError
        If the ensemble is of another type.
    """
    for each in type(ensemble).__mro__:
        found = kinds.get((each.__module__.partition(".")[0], each.__name__))
        if found is not None:
            return found
    *names, last = (name for _, name in kinds)
    raise TypeError(
        f"The 'ensemble' must be a {', '.join(names)} or {last}. Got {type(ensemble).__name__} "
        "instead."
    )
