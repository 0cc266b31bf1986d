"""
Early exits on color images
===========================

In this example, the default network for images classifies small patches of scikit-learn's two
sample photographs: does a patch belong to the photograph of a temple or of a flower? Some patches
are more difficult than others. They are drawn by the exit at which they exit.
"""

# %%
# Patches of two photographs
# --------------------------
# The photographs are cut into patches of 8 x 8 pixels that do not overlap. The mean color of each
# patch is subtracted, because blue and green alone would be sufficient in most cases. Training and
# test patches come from the same two photographs, so that the figures are for new patches of these,
# and not for other photographs.

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_sample_images
from sklearn.model_selection import train_test_split

from skearlyexit import CNNBackbone, EarlyExitClassifier

torch.set_num_threads(1)  # as fast as more on images this small
SIZE = 8


def patches_of(photograph):
    """Return all patches of a photograph, with shape (n_patches, SIZE, SIZE, 3)."""
    rows, columns = photograph.shape[0] // SIZE, photograph.shape[1] // SIZE
    cut = photograph[: rows * SIZE, : columns * SIZE].reshape(rows, SIZE, columns, SIZE, 3)
    return cut.swapaxes(1, 2).reshape(-1, SIZE, SIZE, 3)


photographs = load_sample_images().images
patches = np.concatenate([patches_of(photograph) for photograph in photographs])
y = np.repeat(["temple", "flower"], len(patches) // 2)
X = (patches - patches.mean(axis=(1, 2), keepdims=True)) / 255
X_train, X_test, y_train, y_test, _, shown = train_test_split(
    X, y, patches, train_size=1000, test_size=1000, stratify=y, random_state=0
)

# %%
# Training
# --------
# The network is the default one for images. ``data_format`` says that the channels come last, as in
# most image files. Without it, this is recognized for these shapes, with a warning.
#
# ``calibration=0.3`` holds out 300 patches to choose the thresholds, and trains one network. The
# default would train two networks, each on more patches.

clf = EarlyExitClassifier(
    CNNBackbone(data_format="channels_last"), calibration=0.3, random_state=0
).fit(X_train, y_train)
accuracies = [np.mean(labels == y_test) for labels in clf.staged_predict(X_test)]
for name, cost, accuracy in zip(clf.exit_names_, clf.costs_, accuracies, strict=True):
    print(f"{name:14} cost {cost:.2f}, accuracy of this exit for all patches {accuracy:.1%}")

# %%
# Patches by exit
# ---------------
# A patch exits where the largest class probability is at least 0.9. The figure contains the first
# patches at each exit, with their colors.

labels, exits = clf.predict(X_test, threshold=0.9, return_exits=True)
figure, rows = plt.subplots(clf.n_exits_, 12, figsize=(9, 4), layout="constrained")
for exit_, axes in enumerate(rows):
    here = np.flatnonzero(exits == exit_)
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for ax, i in zip(axes, here, strict=False):
        ax.imshow(shown[i])
    axes[0].set_ylabel(
        f"{clf.exit_names_[exit_]}\n{len(here)} patches", rotation=0, ha="right", va="center"
    )
figure.suptitle("Patches by the exit at which they exit, with a threshold of 0.9")

# %%
# What is gained
# --------------
# The same network without early exits, at the default operating point, and with two budgets. With
# so few calibration samples, the guarantee of the default lets most patches pass to later exits.


def time_of(**thresholds):
    """Return the median time of predict in milliseconds."""
    times = []
    for _ in range(7):
        start = perf_counter()
        clf.predict(X_test, **thresholds)
        times.append(perf_counter() - start)
    return 1e3 * np.median(times)


for name, thresholds in {
    "no early exits": {"threshold": np.inf},
    "default": {},
    "budget of 0.3": {"budget": 0.3},
    "budget of 0.1": {"budget": 0.1},
}.items():
    labels, exits = clf.predict(X_test, return_exits=True, **thresholds)
    print(
        f"{name:15} accuracy {np.mean(labels == y_test):.1%}, "
        f"mean cost {clf.costs_[exits].mean():.2f}, "
        f"{time_of(**thresholds):5.1f} ms for {len(X_test)} patches"
    )
