"""
A table with categories, missing values and a rare class
========================================================

Tables often have categories, missing values and classes of different size. In this example they
are preprocessed in a :class:`~sklearn.pipeline.Pipeline` that ends in an
:class:`~skearlyexit.EarlyExitClassifier`. The budget is passed to ``predict`` of the pipeline.
Models are compared by their balanced accuracy, the mean of the accuracies of both classes, because
a model that ignores a rare class has a high accuracy, too.
"""

# %%
# A generated table
# -----------------
# No table of scikit-learn has all of this without a download. The table of this example is
# therefore **generated**: parcels, of which one in six is late. For most routes, only the carrier
# and the distance matter. For every third route, weight and hour matter, too. Weights are missing
# more often for one of the carriers.

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skearlyexit import EarlyExitClassifier

torch.set_num_threads(1)  # as fast as more on a network this small


def generate_parcels(n_samples, random_state):
    """Return a table of parcels, and whether each of them is late."""
    rng = np.random.default_rng(random_state)
    routes = [f"route {i:02}" for i in range(30)]
    parcels = pd.DataFrame(
        {
            "carrier": rng.choice(["A", "B", "C", "D"], n_samples, p=[0.4, 0.3, 0.2, 0.1]),
            "route": rng.choice(routes, n_samples),
            "weekday": rng.choice(["Mon", "Tue", "Wed", "Thu", "Fri"], n_samples),
            "distance": rng.gamma(2, 150, n_samples).round(),
            "weight": rng.lognormal(0.5, 0.8, n_samples).round(2),
            "hour": rng.uniform(6, 20, n_samples).round(1),
        }
    )
    slow = np.where(parcels["carrier"].isin(["A", "D"]), 1.0, -1.0)
    hour = (parcels["hour"] - 13) / 4
    weight = np.clip(np.log(parcels["weight"]) - 0.5, -2, 2)
    complicated = parcels["route"].isin(routes[::3])
    logit = parcels["distance"] / 150 + slow - 3.6
    logit += np.where(complicated, 3 * slow * hour + 1.5 * weight, -1.5)
    is_late = rng.random(n_samples) < 1 / (1 + np.exp(-2.5 * logit))
    is_missing = rng.random(n_samples) < np.where(parcels["carrier"] == "B", 0.3, 0.05)
    parcels.loc[is_missing, "weight"] = np.nan
    parcels.loc[rng.random(n_samples) < 0.05, "carrier"] = None
    return parcels, np.where(is_late, "late", "in time")


X, y = generate_parcels(8000, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
print(X_train.head())
print(f"late: {np.mean(y_train == 'late'):.1%}")

# %%
# The pipeline
# ------------
# Categories are one-hot encoded, missing ones as a category of their own. Missing numbers are
# replaced by the median, and a further column says where they were missing. The network
# standardizes its input, so that no scaler is needed. With ``class_weight="balanced"`` both
# classes have the same weight in training. The calibration does not use class weights, and chooses
# thresholds by the accuracy.

encode = make_column_transformer(
    (
        make_pipeline(
            SimpleImputer(strategy="constant", fill_value="missing"),
            OneHotEncoder(handle_unknown="ignore", sparse_output=False),
        ),
        make_column_selector(dtype_exclude="number"),
    ),
    (
        SimpleImputer(strategy="median", add_indicator=True),
        make_column_selector(dtype_include="number"),
    ),
)
model = make_pipeline(encode, EarlyExitClassifier(class_weight="balanced", random_state=0))
model.fit(X_train, y_train)
clf = model[-1]
for name, cost in zip(clf.exit_names_, clf.costs_, strict=True):
    print(f"{name:7} costs {cost:.2f} of the network")

# %%
# Budgets
# -------
# The pipeline passes ``budget`` and ``return_exits`` on to the last step. One fitted model serves
# all budgets. On new samples, the mean cost may exceed a budget by the sampling error.

budgets = [0.05, 0.1, 0.15, 0.2, 0.25]
costs, scores = [], []
for budget in budgets:
    labels, exits = model.predict(X_test, budget=budget, return_exits=True)
    costs.append(clf.costs_[exits].mean())
    scores.append(balanced_accuracy_score(y_test, labels))
    print(f"budget {budget:.2f}: mean cost {costs[-1]:.3f}, balanced accuracy {scores[-1]:.3f}")

# %%
# What is gained
# --------------
# The default operating point is compared with the network without early exits, and with two other
# classifiers after the same encoding. The time is that of the last step for all test samples.

others = {
    "logistic regression": make_pipeline(
        encode, StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced")
    ),
    "boosting": make_pipeline(
        encode, HistGradientBoostingClassifier(class_weight="balanced", random_state=0)
    ),
}
for other in others.values():
    other.fit(X_train, y_train)


def describe(name, pipeline, **thresholds):
    """Print the balanced accuracy and the median time of a prediction, and return the former."""
    encoded = pipeline[:-1].transform(X_test)
    times = []
    for _ in range(7):
        start = perf_counter()
        labels = pipeline[-1].predict(encoded, **thresholds)
        times.append(perf_counter() - start)
    score = balanced_accuracy_score(y_test, labels)
    print(f"{name:21} balanced accuracy {score:.3f}, {1e3 * np.median(times):5.1f} ms")
    return score


references = {name: describe(name, other) for name, other in others.items()}
whole = describe("without early exits", model, threshold=np.inf)
default = describe("early exits, default", model)
_, exits = model.predict(X_test, return_exits=True)
print(f"The default computes {clf.costs_[exits].mean():.0%} of the operations of the network.")

# %%
# For a table, always compare with boosting. It is often better than a network, and early exits
# make a network cheaper, but not more accurate: see :doc:`../guide/when_not`.

figure, axes = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
axes.plot(costs, scores, "o-", label="early exits, budgets")
axes.plot(clf.costs_[exits].mean(), default, "*", markersize=14, label="early exits, default")
axes.plot(clf.costs_[-1], whole, "s", label="without early exits")
for (name, score), line in zip(references.items(), ("--", ":"), strict=True):
    axes.axhline(score, color="0.4", linestyle=line, label=name)
axes.set_xlabel("mean cost of a sample (plain network = 1)")
axes.set_ylabel("balanced accuracy")
axes.set_title("Generated parcels: balanced accuracy and cost")
axes.grid(alpha=0.3)
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
