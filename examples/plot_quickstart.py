"""
Early exits with neural, tree and SVM heads
===========================================

An :class:`~skearlyexit.EarlyExitClassifier` is a neural network with several exits. Each exit has
a head, which is a classifier. A sample exits at the first head that is confident enough, and the
rest of the network is not computed for it. In this example, the heads are linear layers, decision
trees and support vector machines, and the data are handwritten digits. They are compared by the
accuracy at a given mean cost of a sample, where a cost of 1 is that of the plain network, that is
the network with its last head and no other exit.
"""

# %%
# Data and heads
# --------------
# None stands for linear layers, which are trained with the network. A scikit-learn classifier is
# fitted on the embeddings of the trained network. Support vector machines have no
# ``predict_proba`` here, and are given probabilities automatically.

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import EarlyExitClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--output", default="quickstart.png", help="file of the figure")
output = parser.parse_known_args()[0].output

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

heads = {
    "linear": None,
    "tree": make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=10)),
    "SVM": make_pipeline(StandardScaler(), SVC()),
}

# %%
# Training
# --------
# The thresholds must not be chosen on samples on which the network was trained. By default, they
# are cross-fitted on data of this size: two more networks are trained, each on two thirds of the
# training samples, and predict the remaining third. The test samples are only used for the results
# below.
#
# The network is chosen by the shape of the data: a linear layer, the stem, and six residual blocks.
# Digits are easy, so most exits are placed at its beginning. ``exits=4`` would place four exits at
# equal shares of the cost.

torch.set_num_threads(1)  # as fast as more on a network this small
blocks = ["stem", "block1", "block2", "block4"]  # the end is always an exit
models = {
    name: EarlyExitClassifier(exits=blocks, head=head, max_epochs=30, random_state=0)
    for name, head in heads.items()
}
for clf in models.values():
    clf.fit(X_train, y_train)

# %%
# A budget
# --------
# ``predict(budget=0.4)`` asks for a mean cost of at most 40 % of the cost of the network. The
# lowest possible budget is the cost of the first exit. One fitted model serves all budgets.

for name, clf in models.items():
    last = clf.score(X_test, y_test, threshold=np.inf)
    budget = max(0.4, clf.costs_[0])  # the lowest possible budget
    labels, exits = clf.predict(X_test, budget=budget, return_exits=True)
    shares = np.bincount(exits, minlength=clf.n_exits_) / len(exits)
    print(f"{name} heads, costs of the exits {clf.costs_.round(2).tolist()}")
    print(f"  last exit   accuracy {last:.3f}, cost {clf.costs_[-1]:.2f}")
    print(
        f"  budget {budget:.1f}  accuracy {np.mean(labels == y_test):.3f}, "
        f"mean cost {clf.costs_[exits].mean():.2f}"
    )
    print(f"  exit rates: {', '.join(f'{share:.1%}' for share in shares)}")

# %%
# Accuracy against cost
# ---------------------
# Each line contains all budgets that make a difference. It ends where a larger budget does not
# increase the accuracy on the calibration samples, and is a point if the first exit is the best
# one already. The hollow markers are the accuracies if all samples exit at the same exit. There
# are 450 test samples, so that two of them are half a percentage point.
#
# The unit of ``costs_`` is the network with its own last head and no other exit. Here all costs
# are converted to that of the network with linear heads. The exits of the SVM are more expensive,
# because a kernel is computed with every support vector, and every class is calibrated.

figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
for (name, clf), marker in zip(models.items(), "os^", strict=True):
    exit_costs = clf.costs_ * clf.cost_table_.plain / models["linear"].cost_table_.plain
    points = []
    for budget in clf.frontier_.costs:
        labels, exits = clf.predict(X_test, budget=budget, return_exits=True)
        points.append((exit_costs[exits].mean(), 100 * np.mean(labels == y_test)))
    costs, accuracies = np.transpose(points)
    (line,) = axes.plot(costs, accuracies, ".-", linewidth=2, label=f"{name}, by budget")
    alone = [100 * np.mean(labels == y_test) for labels in clf.staged_predict(X_test)]
    axes.plot(
        exit_costs,
        alone,
        marker,
        color=line.get_color(),
        markersize=8,
        markerfacecolor="none",
        markeredgewidth=1.6,
        label=f"{name}, single exits",
    )

axes.set_xscale("log")
axes.set_xticks(ticks := [0.03, 0.05, 0.1, 0.2, 0.5, 1, 2], labels=map(str, ticks))
axes.set_xticks([], minor=True)
axes.set_xlabel("mean cost of a sample (1 = the network with a linear head and no early exit)")
axes.set_ylabel("test accuracy in %")
axes.set_title("Digits: accuracy and cost with different heads")
axes.grid(alpha=0.3)
axes.set_axisbelow(True)
figure.legend(loc="outside lower center", ncols=3, frameon=False)
figure.savefig(output, dpi=150)
print(f"Figure saved to {output}")
