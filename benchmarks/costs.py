"""Counted cost against measured time, stage by stage within six networks.

Every block of a network is timed alone, on one thread, at a stated batch size: median and quartiles
of the repetitions. Printed are the correlation of counted and measured costs within the network,
and the worst ratio: how many times more, or less, of the measured time than of the counted cost
falls on one stage. Stages of less than 1 % of either are left out of the ratio, since no exit would
be decided by them.

    python benchmarks/costs.py
    python benchmarks/costs.py --batch-size 1 --repeats 200
"""

from __future__ import annotations

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import make_parser
from sklearn.feature_extraction.image import grid_to_graph

from skearlyexit import (
    CNNBackbone,
    Conv1DBackbone,
    GraphConvBackbone,
    MACsCost,
    MLPBackbone,
    RecurrentBackbone,
    SecondsCost,
    TransformerBackbone,
)
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit.backbones import Backbone
from skearlyexit.backbones._measure import measure_blocks

SMALLEST_SHARE = 0.01

#: Shape of a sample, and the network.
NETWORKS: dict[str, tuple[tuple[int, ...], Backbone]] = {
    "perceptron": ((16,), MLPBackbone(8, width=128, hidden=128)),
    "image convolution": ((1, 28, 28), CNNBackbone(stem_stride=2)),
    "series convolution": ((12, 64), Conv1DBackbone()),
    "LSTM over time": ((12, 64), RecurrentBackbone(step=8)),
    "transformer": ((30,), TransformerBackbone()),
    "graph convolution": ((64,), GraphConvBackbone(grid_to_graph(8, 8))),
}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=50)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, 1 thread, {args.batch_size} samples a call\n")
    summary = []
    for title, (shape, backbone) in NETWORKS.items():
        X = np.random.RandomState(0).randn(8, *shape).astype(np.float32)
        with isolated_random_state(0):
            network = backbone.build(X, 10)
        rows = torch.tensor(X)
        cost = SecondsCost(args.batch_size, n_repeats=args.repeats)
        counted = measure_blocks(network, rows, MACsCost()).costs
        measured = measure_blocks(network, rows, cost).costs
        print(title)
        print(
            f"  {'block':<16}{'MACs':>12}{'us/sample':>10}{'counted':>9}{'measured':>9}{'ratio':>7}"
        )
        shares = counted / counted.sum(), measured / measured.sum()
        for name, n, seconds, c, m in zip(network.names, counted, measured, *shares, strict=True):
            ratio = f"{m / c:.2f}" if c else "-"
            print(f"  {name:<16}{n:>10,.0f}{1e6 * seconds:>10.2f}{c:>10.1%}{m:>10.1%}{ratio:>10}")
        large = (shares[0] > SMALLEST_SHARE) & (shares[1] > SMALLEST_SHARE)
        ratios = shares[1][large] / shares[0][large]
        worst = float(np.exp(np.abs(np.log(ratios)).max()))
        varied = len(np.unique(counted)) > 1
        linear = np.corrcoef(counted, measured)[0, 1] if varied else np.nan
        until = np.abs(np.cumsum(shares[0]) - np.cumsum(shares[1])).max()
        rate = 1e-9 * counted.sum() / measured.sum()
        summary.append((title, linear, worst, until, rate))
    print(f"\n{'':<20}{'correlation':>12}{'worst ratio':>12}{'off at an exit':>16}{'GMAC/s':>8}")
    for title, linear, worst, until, rate in summary:
        print(f"{title:<20}{linear:>12.3f}{worst:>12.2f}{until:>15.1%}{rate:>9.2f}")
    print(
        "'off at an exit': the largest difference, in shares of the network, between the counted "
        "cost and the measured time until an exit."
    )


if __name__ == "__main__":
    main()
