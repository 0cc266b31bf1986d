"""What cutting a network costs at run time, and how long tracing and cutting take.

A network that is cut at four exits runs all its stages; the same network uncut runs its own
forward. Both run in turns, on one thread. Printed are the median ratio of the times with its
quartiles, and whether the profiler recorded the same kernels in the same order.

    python benchmarks/cutting.py
"""

from __future__ import annotations

from functools import partial
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from _harness.command import make_parser
from _harness.measure import ratio, repeated, seconds, take_turns
from torch import nn
from torch.profiler import ProfilerActivity, profile

from skearlyexit import CostShare, TracedBackbone
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit.backbones._measure import measure_blocks
from skearlyexit.placement import Candidates


class Residual(nn.Module):
    """Two convolutions around which the input is added, in place."""

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(n_out), nn.BatchNorm2d(n_out)
        self.second = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        same = stride == 1 and n_in == n_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.norm2(self.second(self.relu(self.norm1(self.first(x)))))
        out += self.shortcut(x)
        return self.relu(out)


class ResidualNetwork(nn.Module):
    """Residual blocks in three groups, for 3 x 32 x 32 pixels."""

    def __init__(self, n_blocks: int, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        for i in range(3):
            n_in = width * 2 ** max(i - 1, 0)
            blocks = [Residual(n_in, width * 2**i, 1 if i == 0 else 2)]
            blocks += [Residual(width * 2**i, width * 2**i) for _ in range(n_blocks - 1)]
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(4 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.stem(x)))))
        return self.fc(x.mean((2, 3)))


class DenseNetwork(nn.Module):
    """Each layer gets the outputs of all before it, for vectors of 64 numbers."""

    def __init__(self, n_layers: int = 12, growth: int = 64) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64 + i * growth, growth) for i in range(n_layers))
        self.fc = nn.Linear(64 + n_layers * growth, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = [x]
        for layer in self.layers:
            seen.append(F.relu(layer(torch.cat(seen, dim=1))))
        return self.fc(torch.cat(seen, dim=1))


def kernels(run: Any) -> list[str]:
    """Operations of torch that a call consists of."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        run()
    return [event.name for event in recorded.events() if event.name.startswith("aten::")]


def run_stages(stages: list[Any], head: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    carry: Any = rows
    embedding = rows
    for stage in stages:
        carry, embedding = stage(carry)
    return head(embedding)


def compare(title: str, module: nn.Module, shape: tuple[int, ...], repeats: int) -> None:
    """Kernels and times of the network cut at equal shares of its cost, and whole."""
    X = np.random.RandomState(0).randn(3, *shape).astype(np.float32)
    with isolated_random_state(0):
        network = TracedBackbone(module.eval()).build(X, 10)
    costs = measure_blocks(network, torch.tensor(X)).costs
    candidates = Candidates(network.names, costs, natural=network.natural)
    stages = [stage.eval() for stage in network.cut(CostShare(4).place(candidates).ends)]
    assert network.head is not None
    for n_rows in (1, 16, 256):
        rows = torch.randn(n_rows, *shape, generator=torch.Generator().manual_seed(0))
        both = {
            "cut": partial(run_stages, stages, network.head.eval(), rows),
            "whole": partial(module, rows),
        }
        with torch.inference_mode():
            assert torch.equal(both["cut"](), both["whole"]())
            same = kernels(both["cut"]) == kernels(both["whole"])
            times = take_turns(both, repeats)
        kind = "the same kernels" if same else "OTHER KERNELS"
        _, quotient = ratio(times["cut"], times["whole"])
        print(f"{title:<22}{n_rows:>5} samples: {kind}, time of cut / whole {quotient}", flush=True)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=60)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, 1 thread; cut into 4 stages")
    compare("residual, 20 layers", ResidualNetwork(3), (3, 32, 32), args.repeats)
    compare("dense, 13 layers", DenseNetwork(), (64,), args.repeats)
    module = ResidualNetwork(16)
    n_layers = sum(isinstance(part, nn.Conv2d | nn.Linear) for part in module.modules())
    X = np.zeros((3, 3, 32, 32), dtype=np.float32)

    def trace() -> Any:
        with isolated_random_state(0):
            network = TracedBackbone(module).build(X, 10)
        network.cut([9, 99, len(network.names) - 1])
        return network

    print(f"tracing and cutting {n_layers} layers: {np.median(repeated(trace, 5)):.2f} s")
    network = trace()
    took = seconds(lambda: measure_blocks(network, torch.tensor(X)))
    print(f"counting the cost of each of its {len(network.names)} places: {took:.2f} s")


if __name__ == "__main__":
    main()
