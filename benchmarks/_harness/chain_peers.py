"""What a cascade of two classifiers is compared with: rules that choose one threshold by hand."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator

from _harness.data import Arrays

#: Number of thresholds that `skfb` tries, and margins that are tried for LightGBM.
N_THRESHOLDS = 40
MARGINS = [0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]


@dataclass(frozen=True)
class TwoStages:
    """The few lines that many write: ask the large model where the small one is not confident."""

    small: Any
    large: Any
    threshold: float

    def predict(self, X: np.ndarray) -> np.ndarray:
        probabilities = self.small.predict_proba(X)
        labels = self.small.classes_[probabilities.argmax(axis=1)]
        asked = probabilities.max(axis=1) < self.threshold
        if asked.any():
            labels[asked] = self.large.predict(X[asked])
        return labels

    def share_of_last(self, X: np.ndarray) -> float:
        """Share of the samples for which the large model is asked."""
        return float(np.mean(self.small.predict_proba(X).max(axis=1) < self.threshold))


def lowest_threshold(scores: np.ndarray, lost: np.ndarray, allowed: float) -> float:
    """Lowest threshold at which at most this share of the samples is lost.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        Score of each sample at the first exit.
    lost : ndarray of shape (n_samples,), bool
        Whether a sample is wrong there, and right at the end.
    allowed : float
    """
    order = np.argsort(-scores, kind="stable")
    too_many = np.flatnonzero(np.cumsum(lost[order]) > allowed * len(lost))
    # Samples with the score of one that is lost too much do not exit either.
    return float(np.nextafter(scores[order[too_many[0]]], 2)) if len(too_many) else 0.0


def by_hand(small: Any, large: Any, held_out: Arrays, allowed: float) -> TwoStages:
    """Rule whose threshold keeps the allowed share on the held-out samples."""
    X, y = held_out
    probabilities = small.predict_proba(X)
    right = small.classes_[probabilities.argmax(axis=1)] == y
    lost = ~right & (large.predict(X) == y)
    return TwoStages(small, large, lowest_threshold(probabilities.max(axis=1), lost, allowed))


def by_skfb(small: Any, large: Any, held_out: Arrays, allowed: float) -> Any:
    """`skfb.ensemble.ThresholdCascadeClassifierCV` of fitted models, or None if not installed."""
    try:
        from skfb.ensemble import ThresholdCascadeClassifierCV
    except ImportError:
        print("scikit-fallback is not installed: pip install --no-deps scikit-fallback")
        return None
    X, y = held_out
    clf = ThresholdCascadeClassifierCV(
        [FrozenEstimator(small), FrozenEstimator(large)],
        costs=[1.0, 50.0],
        cv_thresholds=np.linspace(1 / len(small.classes_), 1.0, N_THRESHOLDS),
        min_score=float(np.mean(large.predict(X) == y)) - allowed,
        strategy="max_cost",
        cv=2,
        return_earray=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return clf.fit(X, y)


@dataclass(frozen=True)
class EarlyStopped:
    """LightGBM with `pred_early_stop`, which ends the sum of a sample at a margin."""

    model: Any
    margin: float

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(
            self.model.predict(
                X,
                pred_early_stop=True,
                pred_early_stop_freq=10,
                pred_early_stop_margin=self.margin,
            )
        )


def early_stopped(model: Any, held_out: Arrays, allowed: float) -> EarlyStopped:
    """Smallest margin that keeps the allowed share on the held-out samples."""
    X, y = held_out
    last = model.predict(X) == y
    for margin in MARGINS:
        found = EarlyStopped(model, margin)
        if np.mean((found.predict(X) != y) & last) <= allowed:
            return found
    return EarlyStopped(model, 10.0)  # the default of LightGBM
