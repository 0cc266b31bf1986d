"""Six devices with one answer: bytes and accuracy of a distributed deep neural network (DDNN).

Each sample is six views of one image, made as follows: the image is turned by some angle, a square
of two thirds of its side is cut out, noise is added, and a share of the samples is not seen at all,
as in the data of the paper. Views differ in all of these; from one to the next, they get worse. At
least two views of each sample are seen. Digits are enlarged to 24 x 24 pixels before.

Each device has two convolutions of its own, and sends ten outputs of 4 bytes to the local exit. A
gateway merges them, as in the paper: the outputs of the first device are sent, too.
Samples that do not exit there are sent to the cloud, as maps of 8 x 4 x 4 numbers of 8 bits from
each device, where they are merged, and two further convolutions follow. Both exits are trained
jointly, with equal weights. Thresholds are chosen on validation samples: those with the fewest
bytes of which the accuracy there is at most one point below that of the last exit. Accuracies and
bytes are those of the test samples. Bytes are those of all devices, also for views that are not
seen. Images are sent with one byte for a pixel. "a device fails" is the mean, and "lowest" the
lowest accuracy at the same thresholds if one of the six devices sees nothing, without the samples
of which then no view is left. "first view alone" is the same network, without exits, for the best
view.

    python benchmarks/ddnn.py
    python benchmarks/ddnn.py --sets digits,mnist5k,fashion
    python benchmarks/ddnn.py --print

Teerapittayanon, McDanel, Kung, "Distributed deep neural networks over the cloud, the edge and end
devices", ICDCS 2017.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import available, make_parser
from _harness.data import SETS
from _harness.raw import Raw, print_facts, saved_or_run
from _harness.report import spread, table
from _harness.samples import Samples
from scipy import ndimage
from torch import nn

from skearlyexit import AccuracyDrop, EarlyExitClassifier, Link, MultiViewBackbone
from skearlyexit.tiers import Tier, TierPlan, choose_plan

#: Value of all pixels of a view that is not seen.
UNSEEN = -1.0
#: How outputs and embeddings are merged.
MERGES = [("max", "max"), ("mean", "mean"), ("concat", "concat"), ("max", "concat")]
DROP = 0.01
#: Outputs of the first device, which plans do not count, since it merges them itself.
OUTPUT_BYTES = 4 * 10


@dataclass(frozen=True)
class Camera:
    """How a device sees an image: turned by degrees, from a corner, with noise, or not at all."""

    angle: float
    corner: tuple[float, float]
    noise: float
    unseen: float


CAMERAS = [
    Camera(0, (0.5, 0.5), 0.2, 0.1),
    Camera(-20, (0.0, 0.5), 0.3, 0.2),
    Camera(20, (1.0, 0.5), 0.4, 0.3),
    Camera(40, (0.5, 0.0), 0.5, 0.4),
    Camera(-40, (0.5, 1.0), 0.6, 0.5),
    Camera(90, (0.0, 0.0), 0.8, 0.7),
]


def views_of(images: np.ndarray, seed: int) -> np.ndarray:
    """Views of images of shape (n, side, side), of shape (n, n_views, 1, size, size)."""
    rng, side = np.random.default_rng(seed), images.shape[1]
    size = 2 * side // 3
    views = np.empty((len(images), len(CAMERAS), 1, size, size), dtype=np.float32)
    for i, camera in enumerate(CAMERAS):
        turned = ndimage.rotate(images, camera.angle, axes=(2, 1), reshape=False, order=1)
        top, left = (round(share * (side - size)) for share in camera.corner)
        part = turned[:, top : top + size, left : left + size]
        part = part + camera.noise * rng.standard_normal(part.shape)
        views[:, i, 0] = np.clip(part, 0, 1)
    seen = rng.random((len(images), len(CAMERAS))) >= [camera.unseen for camera in CAMERAS]
    seen[seen.sum(axis=1) < 2, :2] = True
    views[~seen] = UNSEEN
    return views


def layers() -> nn.Sequential:
    """Two blocks of one device, and two in the cloud."""

    def block(n_in: int, n_out: int, *more: nn.Module) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU(), *more
        )

    return nn.Sequential(
        nn.Sequential(block(1, 8, nn.MaxPool2d(2)), block(8, 8, nn.MaxPool2d(2))),
        block(8, 32),
        block(32, 32, nn.MaxPool2d(2), nn.Flatten()),
    )


def classifier(backbone: Any, seed: int, args: Any, **params: Any) -> EarlyExitClassifier:
    """Classifier that trains for a fixed length."""
    return EarlyExitClassifier(
        backbone,
        training="joint",
        early_stopping=False,
        optimizer="adamw",
        calibration=None,
        max_epochs=args.epochs,
        random_state=seed,
        **params,
    )


def initial(row_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """New layers, which draw other weights for each device."""
    return layers()


def study(name: str, samples: Samples, seed: int, args: Any, raw: Raw) -> None:
    """Train the networks of a set and seed, and measure them."""
    parts = [*samples.parts(seed), samples.test]
    (X, y), (X_val, y_val), (X_test, y_test) = (
        (views_of(images_of(name, rows), 100 * seed + i), labels)
        for i, (rows, labels) in enumerate(parts)
    )
    tiers = [Tier("devices", rate=1e7, n_devices=len(CAMERAS)), Tier("cloud", rate=1e9)]
    links, pixels = [Link(bandwidth=1e5, latency=0.02)], X[0].size
    first = [np.maximum(rows[:, 0], 0) for rows in (X, X_test)]
    alone = classifier(initial, seed, args, exits=1).fit(first[0], y)
    raw.add(set=name, seed=seed, merge="first view alone", last=alone.score(first[1], y_test))
    for local_merge, merge in MERGES:
        backbone = MultiViewBackbone(
            initial, merge=merge, local_merge=local_merge, missing_values=UNSEEN
        )
        clf = classifier(backbone, seed, args, exits=[0]).fit(X, y)
        plan = TierPlan(tiers, links, ["devices", "cloud"], compression="int8")
        choice = choose_plan(
            tiers,
            links,
            clf,
            X_val,
            y_val,
            minimize="bytes",
            operating_point=AccuracyDrop(DROP),
            sample_bytes=pixels,
            compression="int8",
        )
        thresholds = next(
            each.thresholds for each in choice.ranking if each.plan.assignment == plan.assignment
        )

        def report(
            at: Any, plan: TierPlan = plan, clf: Any = clf, rows: np.ndarray = X_test
        ) -> Any:
            return plan.report(clf, rows, y_test, threshold=at, sample_bytes=pixels)

        found, failed = report(thresholds), []
        for i in range(len(CAMERAS)):
            without = X_test.copy()
            without[:, i] = UNSEEN
            some = (without != UNSEEN).any(axis=(1, 2, 3, 4))
            labels = clf.predict(without[some], threshold=thresholds)
            failed.append(np.mean(labels == y_test[some]))
        raw.add(
            set=name,
            seed=seed,
            merge=f"{local_merge}, {merge}",
            samples=[len(X), len(X_val), len(X_test)],
            local=report(0.0).accuracy,
            last=report(np.inf).accuracy,
            accuracy=found.accuracy,
            exit_rate=found.exit_rate[0],
            n_bytes=found.n_bytes + OUTPUT_BYTES,
            all_bytes=report(np.inf).n_bytes + OUTPUT_BYTES,
            image_bytes=pixels,
            sent_images=report(np.inf, TierPlan(tiers, links, ["cloud"] * 2)).accuracy,
            failed=failed,
        )


def images_of(name: str, rows: np.ndarray) -> np.ndarray:
    """Images with values from 0 to 1, of at least 24 pixels a side."""
    images = rows.reshape(len(rows), *SETS[name].image_shape)
    return ndimage.zoom(images, (1, 3, 3), order=1) if name == "digits" else images


def print_report(name: str, entries: list[dict[str, Any]]) -> None:
    """Print means over the seeds."""
    whole = [entry for entry in entries if "samples" in entry]
    train, validation, test = whole[0]["samples"]
    n_seeds = len({entry["seed"] for entry in entries})
    print(
        f"{SETS[name].title}: {train:,} training, {validation:,} validation and {test:,} test "
        f"samples, {n_seeds} seed(s). All images: {whole[0]['image_bytes']:,} bytes; outputs and "
        f"embeddings of all devices: {whole[0]['all_bytes']:,.0f} bytes.\n"
    )

    def cell(merge: str, value: Any, digits: int = 1) -> str:
        return spread(np.array([value(e) for e in entries if e["merge"] == merge]), digits)

    lines = []
    for merge in dict.fromkeys(entry["merge"] for entry in whole):
        lines.append(
            [
                merge,
                cell(merge, lambda e: 100 * e["local"]),
                cell(merge, lambda e: 100 * e["last"]),
                cell(merge, lambda e: 100 * e["sent_images"]),
                cell(merge, lambda e: 100 * e["accuracy"]),
                cell(merge, lambda e: 100 * e["exit_rate"], 0),
                cell(merge, lambda e: e["n_bytes"], 0),
                cell(merge, lambda e: 100 * np.mean(e["failed"])),
                cell(merge, lambda e: 100 * np.min(e["failed"])),
            ]
        )
    lines.append(
        ["first view alone", "", "", cell("first view alone", lambda e: 100 * e["last"]), *[""] * 5]
    )
    header = [
        "merge: local, cloud",
        "local exit, %",
        "cloud, %",
        "cloud, images sent",
        "both, %",
        "exit locally, %",
        "bytes",
        "a device fails, %",
        "lowest",
    ]
    print(table(lines, header))


def run(args: Any, raw: Raw) -> None:
    """Measure all sets and seeds."""
    warnings.simplefilter("ignore")
    for name in available(args.sets):
        samples = Samples(name, args.max_train, args.max_test)
        for seed in range(args.seeds):
            study(name, samples, seed, args, raw)


def main() -> None:
    """Run all sets and seeds, or print what is saved."""
    parser = make_parser(__doc__, sets="digits,mnist5k", seeds=3, raw=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--max-train", type=int, default=2000, help="training samples")
    parser.add_argument("--max-test", type=int, default=2000, help="test samples")
    args = parser.parse_args()
    torch.set_num_threads(1)
    content = saved_or_run("ddnn", args, partial(run, args))
    for name in dict.fromkeys(entry["set"] for entry in content["entries"]):
        print_report(name, [entry for entry in content["entries"] if entry["set"] == name])
    print_facts(content)


if __name__ == "__main__":
    main()
