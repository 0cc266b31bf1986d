"""
Easy rows leave early
=====================

An :class:`~skearlyexit.EarlyExitClassifier` is a neural network with several exits. At each of them
stands a head that can already answer, and a row that the head is sure about is not computed any
further. Here the heads are linear layers, decision trees and support vector machines, on
handwritten digits; the number to look at is the accuracy for the mean cost of a row, where 1 is the
network without early exits.
"""

# %%
# Data and heads
# --------------
# A head is None, for linear layers that are trained with the network, or any scikit-learn
# classifier, which is fitted on the embeddings of the trained network. Support vector machines have
# no probabilities of their own here, and are calibrated without being asked to.

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
parser.add_argument("--output", default="quickstart.png", help="where the picture goes")
output = parser.parse_known_args()[0].output

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

heads = {
    "linear": None,
    "tree": make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=8)),
    "SVM": make_pipeline(StandardScaler(), SVC()),
}

# %%
# Training
# --------
# Thresholds must not be judged on rows that the network has learned from. On data of this size the
# default is to cross-fit: three more networks are trained, each on two thirds of the training rows,
# and asked about the remaining third. The test rows are used below only, and choose nothing.
#
# The network is chosen from the shape of the data: a stem and eight residual blocks. Digits are
# easy, so most exits stand at its beginning; ``exits=4`` would put four at equal shares of cost.

torch.set_num_threads(1)  # as fast as more on a network this small
blocks = ["stem", "block1", "block2", "block4"]  # and always the end
models = {
    name: EarlyExitClassifier(exits=blocks, head=head, max_epochs=30, random_state=0)
    for name, head in heads.items()
}
for clf in models.values():
    clf.fit(X_train, y_train)

# %%
# A budget
# --------
# ``predict(budget=0.4)`` asks for at most 40 % of the cost per row, on average over rows like those
# of the calibration. The least that can be asked for is the cost of the first exit. One training
# serves all budgets: each is a look-up.

for name, clf in models.items():
    last = clf.score(X_test, y_test, threshold=np.inf)
    budget = max(0.4, clf.costs_[0])  # less cannot be had
    labels, exits = clf.predict(X_test, budget=budget, return_exits=True)
    shares = np.bincount(exits, minlength=clf.n_exits_) / len(exits)
    print(f"{name} heads, costs of the exits {clf.costs_.round(2).tolist()}")
    print(f"  last exit   accuracy {last:.3f}, cost {clf.costs_[-1]:.2f}")
    print(
        f"  budget {budget:.1f}  accuracy {np.mean(labels == y_test):.3f}, "
        f"mean cost {clf.costs_[exits].mean():.2f}"
    )
    print(f"  leaving at each exit: {', '.join(f'{share:.1%}' for share in shares)}")

# %%
# Accuracy against cost
# ---------------------
# Lines are budgets, all that make a difference; markers are single exits, if every row left there.
# A line ends where calibration saw nothing more to gain from a larger budget; where the first exit
# was the best already, it is a point. There are 450 test rows: half a point is two of them.
#
# The unit of ``costs_`` is the network with its own last head and no other exit; here all are put
# in that of the linear heads. Every row is compared with every support vector, and scikit-learn
# calibrates class by class, which is why the exits of the SVM cost more.

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
        label=f"{name}, every exit alone",
    )

axes.set_xscale("log")
axes.set_xticks(ticks := [0.03, 0.05, 0.1, 0.2, 0.5, 1, 2], labels=map(str, ticks))
axes.set_xticks([], minor=True)
axes.set_xlabel("mean cost of a row (1 = the network with a linear head and no early exit)")
axes.set_ylabel("test accuracy in %")
axes.set_title("Digits: accuracy for the cost, by the kind of head")
axes.grid(alpha=0.3)
axes.set_axisbelow(True)
figure.legend(loc="outside lower center", ncols=3, frameon=False)
figure.savefig(output, dpi=150)
print(f"Picture in {output}")
