"""Models without early exits in the comparison on tables and images."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from _harness.comparison_base import Context, Model
from _harness.networks import Params


def _build_boosting(params: Params, context: Context, seed: int) -> Any:
    iterations = min(params["max_iter"], 3 * context.max_epochs)
    return HistGradientBoostingClassifier(**params | {"max_iter": iterations}, random_state=seed)


def _first_boosting(context: Context) -> Params:
    return {
        "learning_rate": 0.1,
        "max_iter": 100,
        "max_leaf_nodes": 31,
        "min_samples_leaf": 20,
        "l2_regularization": 0.0,
        "max_features": 0.1 if context.kind == "image" else 1.0,
    }


def _space_boosting(context: Context) -> Params:
    """On pixels 100 iterations of ten classes take minutes already, so that there are no more."""
    image = context.kind == "image"
    return {
        "learning_rate": [0.03, 0.1, 0.2],
        "max_iter": [100] if image else [100, 200, 400],
        "max_leaf_nodes": [15, 31, 63],
        "min_samples_leaf": [5, 20, 50],
        "l2_regularization": [0.0, 1.0, 10.0],
        "max_features": [0.1, 0.3] if image else [0.3, 1.0],
    }


def _build_forest(params: Params, context: Context, seed: int) -> Any:
    return RandomForestClassifier(**params, random_state=seed)


def _size_forest(params: Params, context: Context) -> float:
    share = params["max_features"]
    n_features = context.X.shape[1]
    return params["n_estimators"] * (n_features**0.5 if share == "sqrt" else share * n_features)


def _build_svc(params: Params, context: Context, seed: int) -> Any:
    """`gamma` is in units of what scikit-learn calls "scale"."""
    scaler = StandardScaler() if params["standardize"] else None
    variance = 1.0 if params["standardize"] else float(context.X.var())
    gamma = params["gamma"] / (context.X.shape[1] * variance)
    return make_pipeline(scaler or "passthrough", SVC(C=params["C"], gamma=gamma))


def _space_svc(context: Context) -> Params:
    standardize = [True, False] if context.kind == "image" else [True]
    return {
        "C": [1.0, 3.0, 10.0, 30.0, 100.0],
        "gamma": [0.25, 0.5, 1.0, 2.0, 4.0],
        "standardize": standardize,
    }


def _build_mlp(params: Params, context: Context, seed: int) -> Any:
    mlp = MLPClassifier(**params, max_iter=min(60, 3 * context.max_epochs), random_state=seed)
    return make_pipeline(StandardScaler(), mlp)


def _size_mlp(params: Params, context: Context) -> float:
    widths = [context.X.shape[1], *params["hidden_layer_sizes"], context.n_classes]
    return float(np.dot(widths[:-1], widths[1:])) * (1 if params["early_stopping"] else 2)


def _build_logistic(params: Params, context: Context, seed: int) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(**params, max_iter=300))


def _first_lightgbm(context: Context) -> Params:
    return {
        "learning_rate": 0.1,
        "n_estimators": 100,
        "num_leaves": 31,
        "min_child_samples": 20,
        "colsample_bytree": 0.1 if context.kind == "image" else 1.0,
    }


def _space_lightgbm(context: Context) -> Params:
    """As for boosting in scikit-learn, whose iterations are limited for images."""
    image = context.kind == "image"
    return {
        "learning_rate": [0.03, 0.1, 0.2],
        "n_estimators": [100] if image else [100, 200, 400],
        "num_leaves": [15, 31, 63],
        "min_child_samples": [5, 20, 50],
        "colsample_bytree": [0.1, 0.3] if image else [0.3, 1.0],
    }


#: In a random search each. LightGBM takes part if it is installed.
PEERS = {
    "boosting": Model(
        "HistGradientBoosting",
        _build_boosting,
        _first_boosting,
        _space_boosting,
        lambda params, context: params["max_iter"] * params["max_leaf_nodes"],
    ),
    "forest": Model(
        "RandomForest",
        _build_forest,
        lambda context: {"n_estimators": 200, "max_features": "sqrt", "min_samples_leaf": 1},
        lambda context: {
            "n_estimators": [100, 200],
            "max_features": ["sqrt", 0.1, 0.3, 0.6],
            "min_samples_leaf": [1, 2, 5],
            "criterion": ["gini", "entropy"],
        },
        _size_forest,
    ),
    "svc": Model(
        "SVC",
        _build_svc,
        lambda context: {"C": 10.0, "gamma": 1.0, "standardize": True},
        _space_svc,
        lambda params, context: 1.0,
    ),
    "mlp": Model(
        "MLPClassifier",
        _build_mlp,
        lambda context: {
            "hidden_layer_sizes": (256, 256),
            "early_stopping": True,
            "alpha": 1e-4,
            "learning_rate_init": 0.001,
        },
        lambda context: {
            "hidden_layer_sizes": [(100,), (256,), (256, 256), (128, 128, 128)],
            "early_stopping": [True, False],
            "alpha": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1],
            "learning_rate_init": [0.001, 0.003],
        },
        _size_mlp,
    ),
}
PEERS["logistic"] = Model(
    "LogisticRegression",
    _build_logistic,
    lambda context: {"C": 1.0},
    lambda context: {"C": [0.001, 0.01, 0.1, 1.0, 10.0, 100.0]},
    lambda params, context: 1.0,
)
try:
    from lightgbm import LGBMClassifier
except ImportError:
    pass
else:
    PEERS["lightgbm"] = Model(
        "LightGBM",
        lambda params, context, seed: LGBMClassifier(
            **params, random_state=seed, n_jobs=1, verbose=-1
        ),
        _first_lightgbm,
        _space_lightgbm,
        lambda params, context: params["n_estimators"] * params["num_leaves"],
    )
