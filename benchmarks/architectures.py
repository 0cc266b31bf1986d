"""Which published classification networks can be cut, and whether their outputs stay the same.

Of torchvision, timm and pytorchcv one or two small networks of each family are built with random
weights, traced, cut at equal shares of the cost and at places drawn at random, and run. The outputs
of the stages and the network's own classifier are compared with those of the whole network, by the
largest difference relative to the largest logit, for three samples together and for one alone. In
training mode the stages also have to draw the same random numbers, and to end with the same running
statistics.

Nothing is downloaded. A package that is not installed is left out:

    pip install --no-deps torchvision timm pytorchcv
    python benchmarks/architectures.py --packages torchvision,pytorchcv --names resnet
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import make_parser, some_of

from skearlyexit import CostShare, TracedBackbone
from skearlyexit._determinism._random import isolated_random_state
from skearlyexit.backbones._measure import measure_blocks
from skearlyexit.placement import Candidates

N_CLASSES = 10
#: Relative difference up to which two runs count as the same: of sums added up in another order.
CLOSE = 1e-4

#: Name, and the sides of an image, after a colon unless it is 64 (below, 224), or of a clip.
TORCHVISION = """
alexnet vgg11_bn googlenet:96 inception_v3:299 resnet18 resnet50 resnext50_32x4d wide_resnet50_2
densenet121 mobilenet_v2 mobilenet_v3_small efficientnet_b0 efficientnet_v2_s shufflenet_v2_x0_5
squeezenet1_1 mnasnet0_5 regnet_x_400mf regnet_y_400mf convnext_tiny vit_b_32 swin_t swin_v2_t
maxvit_t:224 video.r3d_18:8x32x32 video.mc3_18:8x32x32 video.r2plus1d_18:8x32x32
video.swin3d_t:8x64x64
"""
TIMM = """
resnet18 resnet26d legacy_seresnet18 ecaresnet26t res2net50_14w_8s skresnet18 densenet121 dla34
dpn48b hrnet_w18_small mobilenetv2_050 mobilenetv3_small_050 mobilenetv4_conv_small efficientnet_b0
efficientnet_lite0 tf_efficientnetv2_b0 mixnet_s ghostnet_050 lcnet_050 tinynet_e rexnet_100
regnetx_002 regnety_002 nf_regnet_b0 repvgg_a0 mobileone_s0 fastvit_t8 convnext_atto
convnextv2_atto xception41 selecsls42 cspresnet50 ese_vovnet19b_dw hgnetv2_b0 repghostnet_050
repvit_m0_9 rdnet_tiny starnet_s1 inception_next_atto tresnet_m poolformer_s12 edgenext_xx_small
efficientvit_b0 efficientvit_m0:224 focalnet_tiny_srf swiftformer_xs visformer_tiny:224
levit_128s:224 pit_ti_224:224 vit_tiny_patch16_224:224 deit3_small_patch16_224:224
eva02_tiny_patch14_224:224 cait_xxs24_224:224 xcit_nano_12_p16_224:224 crossvit_9_240:240
coat_lite_tiny:224 convit_tiny:224 mixer_s32_224:224 gmlp_s16_224:224 resmlp_12_224:224
swin_tiny_patch4_window7_224:224 swinv2_cr_tiny_ns_224:224 mvitv2_tiny:224
maxvit_rmlp_pico_rw_256:256 coatnet_nano_rw_224:224 davit_tiny:224 gcvit_xxtiny:224
hiera_tiny_224:224 nest_tiny:224 nextvit_small pvt_v2_b0 twins_pcpvt_small:224 tiny_vit_5m_224:224
tnt_s_patch16_224:224 volo_d1_224:224 mobilevit_xxs mobilevitv2_050 efficientformer_l1:224
efficientformerv2_s0:224 botnet26t_256:256 halonet26t:256
"""
PYTORCHCV = """
resnet10 preresnet10 seresnet10 resnext14_16x4d resnesta18 diracnet18v2 regnetx002 sparsenet121
condensenet74_c4_g4 peleenet dpn68 dla34 hrnet_w18_small_v1 vovnet27s hardnet39ds selecsls42b
mobilenet_wd4 fdmobilenet_wd4 igcv3_wd4 menet108_8x1_g3 shufflenet_g1_wd4 shufflenetv2_wd2
squeezenet_v1_0 sqnxt23_w1 ghostnet proxylessnas_cpu spnasnet nasnet_4a1056 nin_cifar10:32
resnet20_cifar10:32 densenet40_k12_cifar10:32 rir_cifar10:32 shakeshakeresnet20_2x16d_cifar10:32
wrn20_10_1bit_cifar10:32
"""


@dataclass(frozen=True)
class Case:
    """A network of a package, and the shape of its samples."""

    name: str
    shape: tuple[int, ...]
    build: Callable[[], torch.nn.Module]


def _names(text: str, usual: int = 64) -> Iterator[tuple[str, tuple[int, ...]]]:
    for word in text.split():
        name, _, size = word.partition(":")
        sides = [int(side) for side in (size or str(usual)).split("x")]
        yield name, (3, *(sides if len(sides) > 1 else 2 * sides))


def torchvision_cases() -> Iterator[Case]:
    # Its compiled operations need torch's CUDA build, and it does not start without declaring
    # these two. No classification network uses any of them.
    library = torch.library.Library("torchvision", "FRAGMENT")
    if not hasattr(torch.ops.torchvision, "nms"):
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    models = import_module("torchvision.models")
    special = {
        "googlenet": {"init_weights": False},
        "inception_v3": {"init_weights": False},
        "vit_b_32": {"image_size": 64},
        "maxvit_t": {"input_size": (224, 224)},
    }
    for name, shape in _names(TORCHVISION):
        options = {"weights": None, "num_classes": N_CLASSES, **special.get(name, {})}
        *_, short = name.split(".")
        make = getattr(models.video if name.startswith("video.") else models, short)

        def build(make: Any = make, options: Any = options) -> torch.nn.Module:
            return make(**options)

        yield Case(name, shape, build)


def timm_cases() -> Iterator[Case]:
    list(torchvision_cases())  # which timm starts
    timm = import_module("timm")
    for name, shape in _names(TIMM):

        def build(name: str = name) -> torch.nn.Module:
            return timm.create_model(name, pretrained=False, num_classes=N_CLASSES)

        yield Case(name, shape, build)


def pytorchcv_cases() -> Iterator[Case]:
    list(torchvision_cases())  # which it starts too
    provider = import_module("pytorchcv.model_provider")
    for name, shape in _names(PYTORCHCV, 224):

        def build(name: str = name) -> torch.nn.Module:
            return provider.get_model(name, pretrained=False, num_classes=N_CLASSES)

        yield Case(name, shape, build)


PACKAGES = {"torchvision": torchvision_cases, "timm": timm_cases, "pytorchcv": pytorchcv_cases}


def run(stages: list[torch.nn.Module], head: torch.nn.Module | None, rows: torch.Tensor) -> Any:
    """What the pieces return one after the other."""
    carry: Any = rows
    for stage in stages:
        carry, embedding = stage(carry)
    return embedding if head is None else head(embedding)


def difference(output: Any, expected: torch.Tensor) -> float:
    """Largest, relative to the largest value."""
    if output.shape != expected.shape:
        return float("inf")
    scale = expected.abs().max().clamp_min(1e-12)
    return float((output - expected).abs().max() / scale)


def in_training(modules: list[torch.nn.Module], call: Callable[[], Any]) -> tuple[Any, Any]:
    """Output and buffers after one pass in training mode from a set seed."""
    with isolated_random_state(1), torch.no_grad():
        output = call()
    return output, {name: 1.0 * b for module in modules for name, b in module.named_buffers()}


def study(case: Case, seed: int) -> dict[str, Any]:
    """Trace, cut and compare one network."""
    with isolated_random_state(seed):
        module = case.build().eval()
        X = np.random.standard_normal((4, *case.shape)).astype(np.float32)
    rows = torch.tensor(X)
    with torch.no_grad():
        expected = module(rows)
        alone = module(rows[:1])
    with isolated_random_state(seed):
        start = time.perf_counter()
        network = TracedBackbone(module).build(X, N_CLASSES)
        n_places = len(network.names)
        network.cut([n_places - 1])
        found: dict[str, Any] = {"seconds": time.perf_counter() - start, "places": n_places}
        start = time.perf_counter()
        facts = measure_blocks(network, rows[:2])
        found["measuring"] = time.perf_counter() - start
    candidates = Candidates(facts.names, facts.costs, natural=network.natural)
    found["natural"] = len(candidates.places)
    found["head"] = network.head is not None
    with warnings.catch_warnings(action="ignore"):
        cuts = [CostShare(4).place(candidates).ends]
    rng = np.random.RandomState(seed)
    for _ in range(3):
        chosen = rng.choice(n_places, min(n_places, 3), replace=False)
        cuts.append(sorted({int(place) for place in chosen} | {n_places - 1}))
    found["shares"], *others = (_compare(network, ends, rows, expected, alone) for ends in cuts)
    found["random"] = max(others)
    found["training"] = _compare_in_training(module, X, cuts[1], seed)
    return found


def _compare(network: Any, ends: list[int], rows: Any, expected: Any, alone: Any) -> float:
    stages = [stage.eval() for stage in network.cut(ends)]
    head = None if network.head is None else network.head.eval()
    with torch.no_grad():
        together = difference(run(stages, head, rows), expected)
        return max(together, difference(run(stages, head, rows[:1]), alone))


def _compare_in_training(
    module: torch.nn.Module, X: np.ndarray, ends: list[int], seed: int
) -> float:
    """Difference of outputs and buffers, or nan if there is nothing to compare with."""
    rows = torch.tensor(X)
    whole = copy.deepcopy(module).train()
    try:
        expected, buffers = in_training([whole], lambda: whole(rows))
    except Exception:
        return float("nan")  # not possible for a few small samples
    if not isinstance(expected, torch.Tensor):
        return float("nan")  # auxiliary classifiers draw random numbers, too
    network = TracedBackbone(module.train()).build(X, N_CLASSES)
    stages = [stage.train() for stage in network.cut(ends)]
    head = None if network.head is None else network.head.train()
    parts = stages if head is None else [*stages, head]
    output, others = in_training(parts, lambda: run(stages, head, rows))
    pairs = [(value, buffers[name]) for name, value in others.items() if name in buffers]
    return max(difference(a, b) for a, b in [(output, expected), *pairs])


def cause(error: Exception) -> str:
    """First line of an error, and of what it came from."""
    origin: BaseException = error
    while origin.__cause__ is not None:
        origin = origin.__cause__
    text = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    if origin is not error and str(origin):
        first = str(origin).splitlines()[0]
        text += "" if first in text else f" [{type(origin).__name__}: {first}]"
    return text


def study_package(package: str, wanted: list[str], seed: int) -> str:
    """Table of a package, printed as it grows; returns the summary."""
    print(f"\n**{package}**\n", flush=True)
    print(
        f"{'network':<32}{'sample':>13}{'places':>8}{'natural':>9}{'own head':>10}{'shares':>10}"
        f"{'random':>10}{'training':>10}{'trace, s':>10}{'measure, s':>12}"
    )
    n_cut, seconds, failures = 0, [], []
    for case in PACKAGES[package]():
        if wanted and not any(part in case.name for part in wanted):
            continue
        label = f"{case.name:<32}{'x'.join(map(str, case.shape)):>13}"
        try:
            with warnings.catch_warnings(action="ignore"):
                found = study(case, seed)
        except Exception as error:
            failures.append(case.name)
            print(f"{label}  {cause(error)}", flush=True)
            continue
        differences = [found[key] for key in ("shares", "random", "training")]
        right = not max(value for value in differences if value == value) > CLOSE
        n_cut += right
        seconds.append(found["seconds"])
        if not right:
            failures.append(case.name)
        print(
            f"{label}{found['places']:>8}{found['natural']:>9}"
            f"{'yes' if found['head'] else '-':>10}"
            + "".join(f"{value:>10.1e}" for value in differences)
            + f"{found['seconds']:>10.2f}{found['measuring']:>12.2f}"
            + ("" if right else "  DIFFERS"),
            flush=True,
        )
    n_all = n_cut + len(failures)
    summary = f"{package}: {n_cut} of {n_all} cut and the same to {CLOSE:g}"
    if seconds:
        summary += f"; {np.median(seconds):.2f} s to trace and cut in the median"
    return summary + (f"; not: {', '.join(failures)}" if failures else "")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--packages", type=some_of(PACKAGES), default=",".join(PACKAGES), help="with commas between"
    )
    parser.add_argument("--names", default="", help="only networks with one of these in their name")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    summaries = []
    for package in args.packages:
        try:
            import_module(package) if package == "pytorchcv" else next(PACKAGES[package]())
        except ImportError as missing:
            print(f"{package} is left out ({missing}): pip install --no-deps {package}")
            continue
        wanted = [part for part in args.names.split(",") if part]
        summaries.append(study_package(package, wanted, args.seed))
    print("\n" + "\n".join(summaries))


if __name__ == "__main__":
    main()
