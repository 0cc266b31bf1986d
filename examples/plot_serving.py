"""
Saving and serving a model
==========================

A fitted classifier is saved with joblib, as any scikit-learn estimator, or exported to an ONNX
file, which needs neither this package nor torch where it is used. In this example both are loaded
again, their predictions are compared, and a loop measures how long calls of different size take.
"""

# %%
# A model
# -------
# The default network for images on handwritten digits, and the same network without early exits, to
# compare with. Both are trained for a few epochs only.

import tempfile
from pathlib import Path
from time import perf_counter

import joblib
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skearlyexit import EarlyExitClassifier
from skearlyexit.runtime import OnnxCascade

torch.set_num_threads(1)
X, y = load_digits(return_X_y=True)
images = (X.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(images, y, stratify=y, random_state=0)

clf = EarlyExitClassifier(calibration=0.3, max_epochs=8, random_state=0).fit(X_train, y_train)
plain = EarlyExitClassifier(exits=1, max_epochs=8, random_state=0).fit(X_train, y_train)

# %%
# Saving with joblib
# ------------------
# The file contains the network, heads, thresholds and the frontier, so that budgets can be asked
# for after loading. As for every pickle, load only files that you trust, with the same versions of
# the packages. Classes of your own, such as the module of a network, must be importable.

folder = Path(tempfile.mkdtemp())
joblib.dump(clf, folder / "digits.joblib", compress=3)
loaded = joblib.load(folder / "digits.joblib")
print(f"file of {(folder / 'digits.joblib').stat().st_size / 1024:.0f} KiB")
differences = np.abs(loaded.predict_proba(X_test) - clf.predict_proba(X_test))
print(f"largest difference between probabilities: {differences.max()}")

# %%
# Export to ONNX
# --------------
# One file contains all stages, and those after the exit of a sample are skipped.
# :class:`~skearlyexit.runtime.OnnxCascade` predicts from it with budgets and thresholds. Its
# probabilities are equal up to rounding.

clf.to_onnx(folder / "digits.onnx")
plain.to_onnx(folder / "plain.onnx")
cascade = OnnxCascade(folder / "digits.onnx")
plain_cascade = OnnxCascade(folder / "plain.onnx")
print(f"file of {(folder / 'digits.onnx').stat().st_size / 1024:.0f} KiB")
labels, exits = cascade.predict(X_test, budget=0.5, return_exits=True)
print(
    f"accuracy {np.mean(labels == y_test):.3f} at a mean cost of {cascade.costs_[exits].mean():.2f}"
)
print(
    f"labels that differ from the classifier's: {np.sum(labels != clf.predict(X_test, budget=0.5))}"
)

# %%
# A loop of calls
# ---------------
# A service gets its samples in calls of one or more. The models are called in turns, with other
# samples each time, and the median time of a sample is computed. Other programs on the machine
# change the times, but hardly their ratios.

models = {
    "plain, torch": plain,
    "early exits, torch": loaded,
    "plain, ONNX Runtime": plain_cascade,
    "early exits, ONNX Runtime": cascade,
}
sizes = [1, 16, 128, 1024]
random_state = np.random.RandomState(0)
times = {name: [] for name in models}
for size in sizes:
    calls = {name: [] for name in models}
    for _ in range(20):
        samples = X_test[random_state.randint(len(X_test), size=size)]
        for name, model in models.items():
            start = perf_counter()
            model.predict(samples)
            calls[name].append(perf_counter() - start)
    for name in models:
        times[name].append(1e6 * np.median(calls[name]) / size)

print(f"{'microseconds per sample':26}" + "".join(f"{size:>8}" for size in sizes))
for name in models:
    print(f"{name:26}" + "".join(f"{time:>8.1f}" for time in times[name]))

# %%
# What is gained
# --------------
# Early exits save time in both runtimes. ONNX Runtime has less overhead in each call than torch and
# Python, which matters most for calls of few samples.

figure, axes = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
for (name, values), style in zip(times.items(), ("o:", "o-", "s:", "s-"), strict=True):
    color = "C1" if "early" in name else "C0"
    axes.plot(sizes, values, style, color=color, label=name)
axes.set_xscale("log", base=2)
axes.set_yscale("log")
axes.set_xticks(sizes, [str(size) for size in sizes])
axes.set_xlabel("samples in a call")
axes.set_ylabel("microseconds per sample, one thread")
axes.set_title("Digits: time of a sample in calls of different size")
axes.grid(alpha=0.3)
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
ratio = times["plain, torch"][-1] / times["early exits, ONNX Runtime"][-1]
print(f"1,024 samples in a call: early exits in ONNX Runtime are {ratio:.1f} times as fast as the")
print("network without early exits in torch.")
