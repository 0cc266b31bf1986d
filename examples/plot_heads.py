"""
Neural and classical heads on one network
=========================================

What should predict at an exit: a linear layer, a small perceptron, a tree, a forest, boosting, a
support vector machine, neighbors? Any scikit-learn classifier can, fitted on the embeddings of the
frozen network. Here all of them stand on the same network, and three things are compared: how good
each exit is, what it costs, and how long a single row waits for it.
"""

# %%
# One network
# -----------
# ``training="separate"`` trains the network first and the heads on it afterwards. With ``memory``
# the phases of training are kept on disk: the network is trained for the first kind of head, and
# read for all others. (Thresholds are cross-fitted on data of this size, hence four networks.)
#
# The MLP stands at the early exits only, since another neural head at the end would be trained with
# the network, and make it another one. Heads that are trained after the network take epochs of
# their own.

import tempfile
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import CNNBackbone, EarlyExitClassifier
from skearlyexit.inspection import CostAccuracyDisplay

torch.set_num_threads(1)  # as fast as more on a network this small
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

heads = {
    "linear": "linear",
    "MLP": ["mlp", "mlp", "linear"],
    "tree": DecisionTreeClassifier(min_samples_leaf=5),
    "forest": RandomForestClassifier(50),
    "boosting": HistGradientBoostingClassifier(max_iter=20, early_stopping=False),
    "SVM": make_pipeline(StandardScaler(), SVC(C=5)),
    "neighbors": make_pipeline(StandardScaler(), KNeighborsClassifier(5)),
}
models = {}
with tempfile.TemporaryDirectory() as folder:
    for name, head in heads.items():
        n_epochs = 24 if name in ("linear", "MLP") else 12  # the network's are 12
        start = time.perf_counter()
        models[name] = EarlyExitClassifier(
            CNNBackbone((16, 32), n_blocks=1, image_shape=(8, 8)),
            exits=["stem", "group1.block1"],
            head=head,
            training="separate",
            max_epochs=n_epochs,
            memory=folder,
            random_state=0,
        ).fit(X_train, y_train)
        print(f"{name:<11} fitted in {time.perf_counter() - start:4.1f} s")

# %%
# Every exit alone
# ----------------
# If all rows left at the same exit. What costs what is counted in multiply-accumulates; the unit is
# the network with its linear head.

unit = models["linear"].cost_table_.plain
print(f"{'':<11}" + "".join(f"{name:>16}" for name in models["linear"].exit_names_))
accuracies = {}
for name, clf in models.items():
    accuracies[name] = [np.mean(labels == y_test) for labels in clf.staged_predict(X_test)]
    costs = clf.costs_ * clf.cost_table_.plain / unit
    cells = [f"{a:.1%} at {c:.2f}" for a, c in zip(accuracies[name], costs, strict=True)]
    print(f"{name:<11}" + "".join(f"{cell:>16}" for cell in cells))

# %%
# Averaged over the picture, the sixteen channels of the stem hold little that a linear layer could
# use; what can bend does better there. At the end the network has been trained so that a linear
# layer suffices, and little is left to gain.

figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
width = 0.8 / len(models)
for i, name in enumerate(models):
    positions = np.arange(3) + (i - (len(models) - 1) / 2) * width
    axes.bar(positions, 100 * np.array(accuracies[name]), 0.9 * width, label=name)
axes.set_xticks(range(3), models["linear"].exit_names_)
axes.set_ylabel("test accuracy in %")
axes.set_ylim(40, 100)
axes.set_title("Digits: every exit alone")
axes.spines[["top", "right"]].set_visible(False)
figure.legend(loc="outside right center", frameon=False)

# %%
# The clock
# ---------
# Counted operations are not seconds. A forest does few comparisons, and yet a call of it takes
# milliseconds for a single row; for many rows at once that no longer matters.

print(f"{'':<11}{'one row':>12}{'450 rows':>12}   leaving at the first exit")
for name, clf in models.items():
    seconds = []
    for rows in (X_test[:1], X_test):
        times = []
        for _ in range(10):
            start = time.perf_counter()
            clf.predict(rows, threshold=0)
            times.append(time.perf_counter() - start)
        seconds.append(np.median(times))
    print(f"{name:<11}{1e3 * seconds[0]:>9.2f} ms{1e3 * seconds[1]:>9.2f} ms")

# %%
# Accuracy against cost
# ---------------------
# What counts in the end is how much of the network is saved at the same accuracy. For that a head
# has to be good, and to know when it is.

figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
for name in ("linear", "MLP", "forest", "SVM"):
    CostAccuracyDisplay.from_estimator(
        models[name], X_test, y_test, plain_cost=unit, name=name, ax=axes
    )
axes.set_title("Digits: accuracy for the cost, by the kind of head")

# %%
# The report of one of them tells where the rows leave, with intervals: 450 test rows do not tell
# half a point apart.

models["forest"].exit_report(X_test, y_test)
