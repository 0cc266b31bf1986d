"""
Early exits in a network of your own
====================================

Any torch module can get early exits, also one that is trained already. In this example, a small
residual network is trained in a usual torch loop. :func:`~skearlyexit.list_exits` prints where
exits can be placed. Then early exits are added in two ways: without changing the network, and by
training it further together with its exits.
"""

# %%
# A network
# ---------
# It is written and trained without a thought of early exits.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from skearlyexit import EarlyExitClassifier, list_exits
from skearlyexit.inspection import CostAccuracyDisplay

torch.set_num_threads(1)  # as fast as more on a network this small
torch.manual_seed(0)


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        """Return a map of the same shape."""
        return x + self.conv2(self.norm(self.conv1(x)).relu())


class SmallResNet(nn.Module):
    """A stem, two groups of residual blocks, and a linear classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.group1 = nn.Sequential(Residual(16), Residual(16))
        self.down = nn.Conv2d(16, 32, 2, stride=2)
        self.group2 = nn.Sequential(Residual(32), Residual(32))
        self.classifier = nn.Linear(32, 10)

    def forward(self, images):
        """Return the logits of the classes."""
        x = self.group2(self.down(self.group1(self.stem(images).relu())))
        return self.classifier(x.mean(dim=(2, 3)))


X, y = load_digits(return_X_y=True)
images = (X.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
X_rest, X_test, y_rest, y_test = train_test_split(images, y, stratify=y, random_state=0)
X_train, X_cal, y_train, y_cal = train_test_split(
    X_rest, y_rest, test_size=400, stratify=y_rest, random_state=0
)

network = SmallResNet()
optimizer = torch.optim.Adam(network.parameters(), lr=0.005)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 15)
inputs, targets = torch.from_numpy(X_train), torch.from_numpy(y_train)
for _ in range(15):
    for batch in torch.randperm(len(inputs)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs[batch]), targets[batch]).backward()
        optimizer.step()
    schedule.step()
network.eval()
with torch.no_grad():
    of_network = network(torch.from_numpy(X_test)).argmax(dim=1).numpy()
print(f"accuracy of the network: {np.mean(of_network == y_test):.1%}")

# %%
# Where exits can be placed
# -------------------------
# The network is traced. Each line is a candidate for an exit, with the share of the operations up
# to it. Any of the names can be given as ``exits``.

print(list_exits(network, X_train[:2], n_classes=10))

# %%
# Exits without changing the network
# ----------------------------------
# ``training="separate"`` leaves all weights as they are and trains only the heads of the early
# exits, on embeddings that the network computes once. Since the network knows all of ``X_train``,
# thresholds are chosen on other samples by ``calibrate``.

exits = ["stem", "group1.0", "group1", "group2.0"]
frozen = EarlyExitClassifier(
    network, exits=exits, training="separate", calibration=None, max_epochs=30, random_state=0
)
frozen = frozen.fit(X_train, y_train).calibrate(X_cal, y_cal)
*_, last = frozen.staged_predict(X_test)
print(f"predictions of the last exit that differ from the network's: {np.sum(last != of_network)}")

# %%
# Training the network with its exits
# -----------------------------------
# The default training continues from the given weights and trains all exits together. The object
# ``network`` itself is not changed, because it is copied.

together = EarlyExitClassifier(
    network, exits=exits, calibration=None, max_epochs=12, random_state=0
)
together = together.fit(X_train, y_train).calibrate(X_cal, y_cal)

# %%
# What is gained
# --------------
# At the default operating point, with a confidence of 90 %, at most one sample in a hundred is
# wrong because it exits early.

for name, clf in {"network not changed": frozen, "trained with its exits": together}.items():
    labels, taken = clf.predict(X_test, return_exits=True)
    print(
        f"{name:23} accuracy {np.mean(labels == y_test):.1%} "
        f"at {clf.costs_[taken].mean():.2f} of the cost of the network"
    )

# %%
# Digits are so easy that both are equally good. On more difficult data, a network that was trained
# alone has less accurate early exits, because its embeddings suit its own classifier: if the
# weights may change, train them with the exits. :doc:`../guide/heads` contains measurements.

figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
for name, clf in {"network not changed": frozen, "trained with its exits": together}.items():
    CostAccuracyDisplay.from_estimator(clf, X_test, y_test, name=name, ax=axes)
axes.set_title("Digits: accuracy and cost of a network with added exits")
