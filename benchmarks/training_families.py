"""Ways of training side by side, on one budget of multiply-accumulates of training.

Within a set and seed all start from the same weights, and learn from the same samples for as many
epochs as take the operations of joint training in its own: those of the passes forward and backward
are counted over whole trainings, those between phases included. This holds for the plain network
too, which has no exits, and therefore more epochs. Thresholds are the best on validation samples;
accuracy and cost are those of test samples.

Columns: mean accuracy over the budgets from the first exit's cost to 1 ("area"); accuracy at a
budget, in points against the plain network; cost on test samples of the cheapest thresholds that
lose nothing, or half a point, on validation samples against the plain network there, what they lose
on test samples, and in how many seeds there are any; processor seconds, in units of joint training;
rise of the resident memory's peak during training; epochs; multiply-accumulates of training.

Ranks are over blocks of one set and one budget, each a mean over seeds. Every training is a process
of its own with one thread, in a mixed order, and its outcome is kept in a folder outside the
repository: an interrupted run goes on, and a strategy can be added. Delete the folder after the
package has changed.

    python benchmarks/training_families.py
    python benchmarks/training_families.py --sets letter --seeds 2 --strategies "joint;mixed"
    python benchmarks/training_families.py --sections clock
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness.command import DEFAULT_SETS, available, make_parser, numbers, some_of, write_table
from _harness.data import SETS
from _harness.measure import medians, ratio, take_turns
from _harness.networks import SMALL_NETWORKS, Params, estimator_params, fixed_length
from _harness.outcomes import BASE, PLAIN, REFERENCE, Found
from _harness.report import against, rank_header, ranked, save_figure, spread, table
from _harness.samples import kept_samples
from _harness.store import kept
from _harness.training_runs import Job, epochs_for, outcomes

from skearlyexit.experimental import BottleneckTraining, ReinforcedTraining, TargetTraining
from skearlyexit.training import (
    AuxiliaryTraining,
    CombinedTraining,
    CombinerTraining,
    DistillationTraining,
    FreezeOutTraining,
    GatedTraining,
    JointTraining,
    LayerwiseTraining,
    LocalErrorTraining,
    MixedTraining,
    SeparateTraining,
)

SECTIONS = ("families", "clock")
#: Losses against the plain network, in points, that the cheapest thresholds are chosen for.
DROPS = (0.0, 0.5)

#: Parameters of the estimator for every strategy, by family.
FAMILIES: dict[str, dict[str, Params]] = {
    "joint": {
        "joint": {"training": JointTraining()},
        "joint, depth": {"training": JointTraining("depth")},
        "joint, ramp": {"training": JointTraining("ramp")},
        "joint, adaptive": {"training": JointTraining("adaptive")},
        "joint, 0.3": {"training": JointTraining(0.3)},
        "joint, equilibrium": {"training": JointTraining(equilibrium=True)},
    },
    "separate": {"separate": {"training": SeparateTraining()}},
    "mixed": {"mixed": {"training": MixedTraining()}},
    "distillation": {
        "distillation, last": {"training": DistillationTraining("last")},
        "distillation, next": {"training": DistillationTraining("next")},
        "distillation, later": {"training": DistillationTraining("later")},
        "distillation, backbone 0.5": {"training": DistillationTraining(backbone_share=0.5)},
    },
    "combined": {
        "combined, softmax": {"training": CombinedTraining("softmax")},
        "combined, free": {"training": CombinedTraining("free")},
        "combined, positive": {"training": CombinedTraining("positive")},
        "combined, mean": {"training": CombinedTraining("mean")},
        "combined, max": {"training": CombinedTraining("max")},
        "combined, softmax, end only": {"training": CombinedTraining("softmax", every_exit=False)},
    },
    "combiner": {"combiner": {"training": CombinerTraining()}},
    "gated": {
        "gated": {"training": GatedTraining()},
        "gated, gate": {"training": GatedTraining(), "policy": "gate"},
        "gated, no own losses": {"training": GatedTraining(head_weight=0.0)},
        "gated, no own losses, gate": {
            "training": GatedTraining(head_weight=0.0),
            "policy": "gate",
        },
    },
    "auxiliary": {"auxiliary": {"training": AuxiliaryTraining()}},
    "layer by layer": {"layerwise": {"training": LayerwiseTraining()}},
    "local errors": {
        "local, decoupled": {"training": LocalErrorTraining("decoupled")},
        "local, feedback": {"training": LocalErrorTraining("feedback")},
        "local, similarity": {"training": LocalErrorTraining("similarity")},
    },
    "freezing": {
        "freeze-out, cubic": {"training": FreezeOutTraining(spacing="cubic")},
        "freeze-out, linear": {"training": FreezeOutTraining(spacing="linear")},
    },
    "experimental": {
        "bottleneck": {"training": BottleneckTraining()},
        "targets": {"training": TargetTraining()},
        "reinforced": {"training": ReinforcedTraining()},
        "reinforced, gate": {"training": ReinforcedTraining(), "policy": "gate"},
    },
}

ENTRIES: dict[str, Params] = {
    **{name: params for entries in FAMILIES.values() for name, params in entries.items()},
    PLAIN: {"training": JointTraining(), "exits": 1},
}

#: Training samples at most, and epochs of joint training, by which the budget is measured.
MAX_TRAIN = {"tabular": 4000, "image": 2500}
EPOCHS = {"letter": 40, "magic": 25, "mnist5k": 16, "fashion": 16}


def compare(names: list[str], args: argparse.Namespace) -> Found:
    """Count, train and judge all that is not kept."""
    folder, wanted = args.cache / "families", args.strategies
    samples, params = {}, {}
    for name in names:
        kind = SETS[name].kind
        max_train = args.max_train or MAX_TRAIN[kind]
        for seed in range(args.seeds):
            samples[name, seed] = kept_samples(name, seed, max_train, folder)
        for entry in wanted:
            params[name, entry] = estimator_params(kind, SMALL_NETWORKS[kind], ENTRIES[entry])
    print(f"Counting {len(params)} trainings")
    counts = {
        (name, entry): Job(f"{name}, {entry}", samples[name, 0], each, 0, 0, folder)
        for (name, entry), each in params.items()
    }
    counted = outcomes(counts, args.jobs)
    jobs: dict[Any, Job] = {}
    macs = {}
    for name, seed in sorted(samples, key=lambda key: key[1]):
        once, each = counted[name, BASE]
        budget = once + each * (args.epochs or EPOCHS[name])
        n_train = len(kept(samples[name, seed])[0][1])
        for entry in wanted:
            if (name, entry) not in counted:
                continue
            once, each = counted[name, entry]
            epochs = epochs_for(budget, (once, each))
            macs[name, entry] = n_train * (once + each * epochs)
            label = f"{name}, {entry}, seed {seed}"
            jobs[name, entry, seed] = Job(
                label, samples[name, seed], params[name, entry], seed, epochs, folder
            )
    # Within a seed all sets and strategies are mixed, so that what slows the machine hits all.
    order = np.random.RandomState(0).permutation(len(jobs))
    keys = list(jobs)
    mixed = sorted((keys[i] for i in order), key=lambda key: key[2])
    print(f"Training {len(jobs)} networks")
    done = outcomes({key: jobs[key] for key in mixed}, args.jobs)
    complete = [
        entry
        for entry in wanted
        if all((name, entry, seed) in done for name in names for seed in range(args.seeds))
    ]
    for entry in set(wanted) - set(complete):
        print(f"Left out, as some of its trainings failed: {entry}")
    return Found(names, complete, args.seeds, done, macs)


def clock(names: list[str], args: argparse.Namespace) -> list[str]:
    """Seconds of freezing stages against joint training of as many epochs, in turns."""
    torch.set_num_threads(1)
    lines = ["Seconds of training by freeze-out against joint training of as many epochs:"]
    strategies = {
        "joint": JointTraining(),
        "cubic": FreezeOutTraining(spacing="cubic"),
        "linear": FreezeOutTraining(spacing="linear"),
    }
    for kind in ("tabular", "image"):
        name = next((name for name in names if SETS[name].kind == kind), None)
        if name is None:
            continue
        X, y = kept(kept_samples(name, 0, args.clock_samples, args.cache / "families"))[0]
        fits = {}
        for label, strategy in strategies.items():
            params = estimator_params(kind, SMALL_NETWORKS[kind], {"training": strategy})
            clf = fixed_length(**params, max_epochs=args.clock_epochs, random_state=0)
            fits[label] = partial(clf.fit, X, y)
        times = take_turns(fits, args.repeats)
        ratios = ", ".join(
            f"{label} {ratio(times[label], times['joint'])[1]}" for label in ("cubic", "linear")
        )
        lines.append(
            f"- {kind} ({name}, {len(X)} samples, {args.clock_epochs} epochs, {args.repeats} "
            f"turns): {ratios}; medians {medians(times)}"
        )
        print(lines[-1], flush=True)
    return lines


def mean_of(values: Any, digits: int = 2) -> str:
    """Mean and spread, or nothing where there are no numbers."""
    values = np.asarray(values, dtype=float)
    return spread(values, digits) if np.isfinite(values).all() else "-"


def cheapest(found: Found, name: str, strategy: str, drop: float) -> str:
    """Cost on test samples of thresholds that lose little on validation samples, and their loss."""
    costs, lost = [], []
    plain = found.of(name, PLAIN)
    for curve, end in zip(found.curves(name, strategy), plain, strict=True):
        cost, accuracy = curve.cheapest(end.validation - drop / 100)
        costs.append(cost)
        lost.append(100 * (end.alone[-1] - accuracy))
    some = np.isfinite(costs)
    if not some.any():
        return "never"
    text = f"{spread(np.array(costs)[some])}, loses {np.mean(np.array(lost)[some]):.2f}"
    return text + ("" if some.all() else f" ({some.sum()} of {len(some)})")


def set_tables(found: Found, name: str, budgets: list[float]) -> str:
    """Markdown of one set."""
    plain = np.array([outcome.alone[-1] for outcome in found.of(name, PLAIN)])
    base = np.array([outcome.seconds for outcome in found.of(name, BASE)])
    exits, numbers = [], []
    for strategy in found.strategies:
        outcomes, curves = found.of(name, strategy), found.curves(name, strategy)
        alone = 100 * np.array([outcome.alone for outcome in outcomes])
        several = strategy in found.cascades
        exits.append([strategy, *[mean_of(column) for column in alone.T]])
        gains = []
        for budget in budgets:
            at = np.array([curve.at(budget)[0] for curve in curves])
            gains.append(mean_of(100 * (at - plain)))
        seeds = range(found.seeds)
        numbers.append(
            [
                strategy,
                mean_of([found.area(name, strategy, seed) for seed in seeds]) if several else "-",
                *(gains if several else ["-"] * len(budgets)),
                mean_of(100 * (alone[:, -1] / 100 - plain)),
                *(cheapest(found, name, strategy, d) if several else "-" for d in DROPS),
                mean_of([o.seconds / b for o, b in zip(outcomes, base, strict=True)]),
                mean_of([outcome.peak_bytes / 2**20 for outcome in outcomes], 0),
                f"{outcomes[0].epochs}",
                f"{found.macs[name, strategy] / 1e9:.1f}",
            ]
        )
    n_exits = max(len(line) for line in exits) - 1
    exits = [[line[0], *["-"] * (n_exits + 1 - len(line)), *line[1:]] for line in exits]
    costs = found.of(name, BASE)[0].exit_costs
    header = [f"exit {i + 1}, cost {cost:.2f}" for i, cost in enumerate(costs)]
    columns = [
        "strategy",
        f"area from {found.low(name):.2f}",
        *(f"at {budget}, to plain" for budget in budgets),
        "last exit, to plain",
        *(f"cheapest within {drop} points" for drop in DROPS),
        "seconds to joint",
        "peak, MiB",
        "epochs",
        "GMACs",
    ]
    return (
        f"### {SETS[name].title}\n\nTest accuracy of every exit in %, mean ± spread over seeds.\n\n"
        + table(exits, ["strategy", *header])
        + f"\nPlain network {mean_of(100 * plain)} %; joint training took {mean_of(base, 1)} s.\n\n"
        + table(numbers, columns)
    )


def summary(found: Found, budgets: list[float]) -> str:
    """Ranks over blocks, and differences from the strategy that the others are compared with."""
    methods = found.cascades
    blocks = [(name, budget) for name in found.sets for budget in budgets]
    scores = np.array(
        [
            [
                np.mean([found.accuracy(budget, name, m, seed) for seed in range(found.seeds)])
                for m in methods
            ]
            for name, budget in blocks
        ]
    )
    scores = np.where(np.isnan(scores), -np.inf, scores)
    areas = {m: found.each(found.area, m) for m in methods}
    cells, tests = ranked(methods, scores, REFERENCE)
    rows = []
    for method, ranks in cells.items():
        mean, above, below, p_value = against(areas[method].ravel(), areas[REFERENCE].ravel())
        ends = found.each(found.end, method) - found.each(found.end, PLAIN)
        rows.append(
            [
                method,
                *ranks,
                f"{areas[method].mean():.2f}",
                f"{mean:+.3f}",
                f"{above} : {below}",
                "" if method == REFERENCE else f"{p_value:.3f}",
                *(f"{found.to_plain(budget, method):+.2f}" for budget in budgets),
                f"{ends.mean():+.2f}",
                f"{found.seconds_to_base(method):.2f}",
            ]
        )
    header = [
        "strategy",
        *rank_header(REFERENCE),
        "area",
        f"area to {REFERENCE}",
        "above : below, sets and seeds",
        "Wilcoxon p",
        *(f"at {budget}, to plain" for budget in budgets),
        "last exit, to plain",
        f"seconds to {BASE}",
    ]
    return f"### All sets\n\n{len(blocks)} blocks of one set and budget. {tests}" + table(
        rows, header
    )


def difference(found: Found, value: Callable[[str, str, int], float], one: str, other: str) -> str:
    """Mean difference over sets and seeds, and how often it is above or below."""
    gain = found.each(value, one) - found.each(value, other)
    sets = ", ".join(
        f"{name} {mean_of(values)}" for name, values in zip(found.sets, gain, strict=True)
    )
    there = np.isfinite(gain)
    if not there.any():
        return "not possible"
    mean, above, below, p_value = against(gain[there], np.zeros(there.sum()))
    return (
        f"{mean:+.2f} points (above : below in {above} : {below} sets and seeds, Wilcoxon p = "
        f"{p_value:.3f}); {sets}"
    )


def known_results(found: Found, budgets: list[float]) -> list[str]:
    """Lines on results known from the literature, if their strategies were run."""
    lines = []

    def add(text: str, value: Callable[[str, str, int], float], one: str, other: str) -> None:
        if {one, other} <= set(found.strategies):
            lines.append(f"- {text}: {difference(found, value, one, other)}")

    small = min(budgets)

    def at_small(name: str, strategy: str, seed: int) -> float:
        return found.accuracy(small, name, strategy, seed)

    add("Area, mixed against joint", found.area, "mixed", "joint")
    add("Area, mixed against separate", found.area, "mixed", "separate")
    add("Area, joint against separate", found.area, "joint", "separate")
    add("Last exit, joint with equal weights against plain", found.end, "joint", PLAIN)
    add("Last exit, mixed against plain", found.end, "mixed", PLAIN)
    add("Last exit, separate against plain", found.end, "separate", PLAIN)
    add(f"Accuracy at budget {small}, separate against joint", at_small, "separate", "joint")
    add(f"Accuracy at budget {small}, separate against mixed", at_small, "separate", "mixed")
    return lines


def draw(ax: Any, name: str, found: Found) -> dict[str, Any]:
    """Accuracy against cost on one set: the best of each family as a thick line, its others thin.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    name : str
        Key of `SETS`.
    found : Found

    Returns
    -------
    handles : dict
        For the legend, by family.
    """
    import matplotlib as mpl

    colors = (*mpl.color_sequences["tab10"], "navy", "gold", "black")
    budgets = np.linspace(found.low(name), 1.0, 60)
    handles: dict[str, Any] = {}
    lowest, highest = [], []
    for color, (family, entries) in zip(colors, FAMILIES.items(), strict=False):
        lines = {
            entry: mean_curve(found, name, entry, budgets)
            for entry in entries
            if entry in found.cascades
        }
        best = max(lines, key=lambda entry: lines[entry].mean(), default="")
        for entry, line in lines.items():
            if entry == best:
                (handles[family],) = ax.plot(budgets, line, color=color, linewidth=2.0, zorder=3)
                lowest.append(line[0])
                highest.append(line[-1])
            else:
                ax.plot(budgets, line, color=color, linewidth=0.7, alpha=0.6, zorder=2)
        for entry in set(entries) & set(found.strategies) - set(lines):
            handles[family] = point(ax, found, name, entry, color=color, marker="D")
    handles[PLAIN] = point(ax, found, name, PLAIN, color="black", marker="*")
    plain = point_of(found, name, PLAIN)[0]
    ax.axhline(plain, color="black", linewidth=0.7, linestyle=":")
    # A family that learns little would press all others together.
    bottom, top = float(np.median(lowest)), max(plain, *highest)
    ax.set_ylim(bottom - 0.25 * (top - bottom), top + 0.1 * (top - bottom))
    ax.set(
        title=SETS[name].title,
        xlabel="budget, share of the plain network's cost",
        ylabel="accuracy on test samples, %",
    )
    return handles


def mean_curve(found: Found, name: str, entry: str, budgets: np.ndarray) -> np.ndarray:
    """Mean accuracy over seeds at each budget, in %."""
    curves = found.curves(name, entry)
    return 100 * np.array([np.mean([curve.at(b)[0] for curve in curves]) for b in budgets])


def point_of(found: Found, name: str, entry: str) -> tuple[float, float]:
    """Mean and spread of the last exit's accuracy, in %."""
    ends = [found.end(name, entry, seed) for seed in range(found.seeds)]
    return float(np.mean(ends)), float(np.std(ends))


def point(ax: Any, found: Found, name: str, entry: str, **style: Any) -> object:
    """A network without exits, at cost 1."""
    mean, error = point_of(found, name, entry)
    return ax.errorbar(
        [1.0], [mean], [error], linestyle="none", markersize=9, elinewidth=0.8, zorder=4, **style
    )


def parse() -> argparse.Namespace:
    """Options of the command line."""
    parser = make_parser(__doc__, sets=DEFAULT_SETS, seeds=5, cache=True, output=True)
    parser.add_argument(
        "--strategies",
        type=some_of(ENTRIES, ";"),
        default=[*ENTRIES],
        help="names, with semicolons between",
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--epochs", type=int, default=0, help="of joint training; 0: by set")
    parser.add_argument("--max-train", type=int, default=0, help="samples; 0: by kind of data")
    parser.add_argument("--budgets", type=numbers, default="0.3,0.5,0.7")
    parser.add_argument(
        "--sections", type=some_of(SECTIONS), default=[*SECTIONS], help="some of the default"
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns by the clock")
    parser.add_argument("--clock-epochs", type=int, default=6)
    parser.add_argument("--clock-samples", type=int, default=2000)
    args = parser.parse_args()
    # Those that the others are compared with are always among them.
    wanted = {*args.strategies, BASE, REFERENCE, PLAIN}
    args.strategies = [name for name in ENTRIES if name in wanted]
    return args


def main() -> None:
    args = parse()
    names = available(args.sets)
    if "families" in args.sections:
        found = compare(names, args)
        parts = [f"## Ways of training, {args.seeds} seeds\n"]
        parts += [set_tables(found, name, args.budgets) for name in names]
        parts += [summary(found, args.budgets), "### Known results\n"]
        text = "\n".join([*parts, *known_results(found, args.budgets)]) + "\n"
        print("\n" + text)
        write_table(args.output, "training_families", text)
        path = args.output / "training_families.png"
        save_figure(
            path,
            partial(draw, found=found),
            names,
            n_columns=2,
            size=(5.6, 4.2),
            n_legend_columns=5,
        )
        print(f"Wrote {path} and the tables beside it")
    if "clock" in args.sections:
        write_table(args.output, "training_families-clock", "\n".join(clock(names, args)) + "\n")


if __name__ == "__main__":
    main()
