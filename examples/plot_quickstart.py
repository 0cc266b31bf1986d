"""
Early exits on images
=====================

An :class:`~skearlyexit.EarlyExitClassifier` is a neural network with several exits. A sample exits
at the first one that is confident enough, and the rest of the network is not computed for it. In
this example, the data are images of handwritten digits, and everything has its default parameters.
Accuracy and time of a prediction are compared with those of the same network without early exits
and of scikit-learn's classifiers.
"""

# %%
# Training
# --------
# Samples with three axes (channels, height, width) are images, for which the default network is a
# small residual convolutional network. It stops training by itself. The thresholds of the exits
# are chosen on samples on which the network was not trained: by default, data of this size are
# cross-fitted. The test samples are only used for the results below.
#
# ``exits=1`` is the same network with its last head only, trained on its own.

import argparse
from functools import partial
from time import perf_counter

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from skearlyexit import EarlyExitClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--output", default="quickstart.png", help="file of the figure")
output = parser.parse_known_args()[0].output
torch.set_num_threads(1)

X, y = load_digits(return_X_y=True)
images = X.reshape(-1, 1, 8, 8) / 16
X_train, X_test, y_train, y_test = train_test_split(images, y, stratify=y, random_state=0)

clf = EarlyExitClassifier(random_state=0).fit(X_train, y_train)
plain = EarlyExitClassifier(exits=1, random_state=0).fit(X_train, y_train)

# %%
# Accuracy and cost
# -----------------
# At the default operating point, with a confidence of 90 %, at most one sample in a hundred is
# wrong because it exits early. The report says how many samples exit where, and what to change:
# these images are so easy that hardly any needs the later exits.

print(clf.exit_report(X_test, y_test, plain=plain))

# %%
# Accuracy and time
# -----------------
# The functions are called in turns, and the median times are compared.

others = {
    "logistic regression": LogisticRegression(max_iter=1000),
    "multi-layer perceptron": MLPClassifier(max_iter=500, random_state=0),
    "support vector machine": SVC(),
}
flat_train, flat_test = X_train.reshape(len(X_train), -1), X_test.reshape(len(X_test), -1)
predictions = {
    name: partial(model.fit(flat_train, y_train).predict, flat_test)
    for name, model in others.items()
}
predictions["network without early exits"] = partial(plain.predict, X_test)
predictions["early exits, default"] = partial(clf.predict, X_test)

times = {name: [] for name in predictions}
for _ in range(15):
    for name, predict in predictions.items():
        start = perf_counter()
        predict()
        times[name].append(1e6 * (perf_counter() - start) / len(X_test))
time = {name: np.median(each) for name, each in times.items()}
accuracy = {name: 100 * np.mean(predict() == y_test) for name, predict in predictions.items()}

for name in predictions:
    print(f"{name:28} accuracy {accuracy[name]:.1f} %, {time[name]:5.1f} us per sample")
ratio = time["network without early exits"] / time["early exits, default"]
print(f"Early exits are {ratio:.1f} times as fast as the same network without them.")

# %%
# Other programs on the machine change the times, but hardly their ratios.

figure, axes = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
for name, marker in zip(predictions, "vs^o*", strict=True):
    size = 14 if marker == "*" else 8
    axes.plot(time[name], accuracy[name], marker, markersize=size, linestyle="none", label=name)
axes.set_xscale("log")
axes.set_xlabel("time per sample in microseconds, one thread")
axes.set_ylabel("test accuracy in %")
axes.set_title(f"Digits: the same network, {ratio:.1f} times as fast with early exits")
axes.grid(alpha=0.3, which="both")
axes.set_axisbelow(True)
axes.legend(loc="lower right", frameon=False)
figure.savefig(output, dpi=150)
print(f"Figure saved to {output}")
