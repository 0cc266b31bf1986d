"""
Comparing heads on the same network
===================================

A head can be a linear layer, a multi-layer perceptron or any scikit-learn classifier that is
fitted on the embeddings of the frozen network. In this example, linear layers, multi-layer
perceptrons, trees, forests, boosting, support vector machines and nearest neighbors are used on
the same network. The accuracy of each exit, its cost and the time of a prediction are compared.
"""

# %%
# Models
# ------
# ``training="separate"`` trains the network first and the heads afterwards. With ``memory`` the
# phases of the training are stored on disk, so that the network is trained for the first kind of
# head and read for all others. By default, thresholds are cross-fitted on data of this size, so
# that three networks are trained.
#
# The multi-layer perceptrons (MLP) are used at the early exits only. At the last exit a neural
# head is trained with the network, so that another one would change the network. Neural heads need
# further epochs after those of the network.

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
# Single exits
# ------------
# The table contains the accuracy and the cost if all samples exit at the same exit. The unit of
# the cost is the network with a linear head at its end.

unit = models["linear"].cost_table_.plain
print(f"{'':<11}" + "".join(f"{name:>16}" for name in models["linear"].exit_names_))
accuracies = {}
for name, clf in models.items():
    accuracies[name] = [np.mean(labels == y_test) for labels in clf.staged_predict(X_test)]
    costs = clf.costs_ * clf.cost_table_.plain / unit
    cells = [f"{a:.1%} at {c:.2f}" for a, c in zip(accuracies[name], costs, strict=True)]
    print(f"{name:<11}" + "".join(f"{cell:>16}" for cell in cells))

# %%
# The embedding of the stem is the mean of sixteen channels over the image. A linear classifier
# cannot use much of it, and nonlinear ones are more accurate. At the last exit, the network was
# trained so that a linear layer is sufficient, and other heads gain little.

figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
width = 0.8 / len(models)
for i, name in enumerate(models):
    positions = np.arange(3) + (i - (len(models) - 1) / 2) * width
    axes.bar(positions, 100 * np.array(accuracies[name]), 0.9 * width, label=name)
axes.set_xticks(range(3), models["linear"].exit_names_)
axes.set_ylabel("test accuracy in %")
axes.set_ylim(40, 100)
axes.set_title("Digits: accuracy of single exits")
axes.spines[["top", "right"]].set_visible(False)
figure.legend(loc="outside right center", frameon=False)

# %%
# Prediction time
# ---------------
# Counted operations are not times. A forest needs few comparisons, but a call takes milliseconds
# even for a single sample. For many samples at once this matters less.

print(f"{'':<11}{'1 sample':>12}{'450 samples':>12}   all exit at the first exit")
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
# The most important comparison is the cost at the same accuracy. For a low cost, a head has to be
# accurate, and its scores have to show for which samples it is.

figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
for name in ("linear", "MLP", "forest", "SVM"):
    CostAccuracyDisplay.from_estimator(
        models[name], X_test, y_test, plain_cost=unit, name=name, ax=axes
    )
axes.set_title("Digits: accuracy and cost with different heads")

# %%
# The report of a model contains the exit rates, with confidence intervals. With 450 test samples,
# a difference of half a percentage point is not significant.

models["forest"].exit_report(X_test, y_test)
