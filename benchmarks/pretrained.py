"""Pretrained networks as they are: whole, cut at one place, or with early exits.

EfficientNet-Lite0, trained on ImageNet, gets images of 28 x 28 pixels, enlarged to 96 x 96; MiniLM,
a sentence encoder, gets the first 64 tokens of reviews. Nothing of a network is trained. Heads of
one kind are fitted on its embeddings of the training samples. Compared are

- "whole": the network with a head at its end only;
- "cut": the network up to one place, with a head there only. The place is the cheapest whose
  accuracy on selection samples is at most 0.5 points below that of the best place;
- early exits in the network up to the best place, at the places chosen by default. Thresholds are
  chosen on calibration samples: "guarantee" is the default operating point, and "drop" the cheapest
  that loses at most 0.5 points against the last exit;
- for both, "cut as costly": the best place out of those up to the first that costs at least as much
  as the early exits, on selection samples.

Accuracies, mean costs and differences are those of test samples. Each seed divides the samples
anew, and standard errors are those of the mean over the seeds. Costs are multiply-accumulates in
units of the whole network. "advice" counts the seeds in which the exit report of selection samples
advises to cut: that of exits at all places for the whole network, and that of the early exits.

A network runs once on all samples, and models are fitted on the embeddings; for times, linear heads
are fitted again with the network itself. Times are those of the processor, with one thread, and
their ratios medians over turns, with quartiles, of the whole network to the others. A turn has one
call with many samples, or several with one sample each, timed together; the samples are drawn from
the test samples, with replacement. Networks without exits run in torch or in ONNX Runtime without
anything else.

    python benchmarks/pretrained.py
    python benchmarks/pretrained.py --tasks mnist,recommended --heads linear,SVM
    python benchmarks/pretrained.py --print
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness import peers
from _harness.command import make_parser, some_of
from _harness.data import MissingData
from _harness.embedded import PARTS, Division, divided, embed, stages_at
from _harness.encoders import TASKS, Task
from _harness.measure import ratio
from _harness.raw import Raw, print_facts, saved_or_run
from _harness.report import table
from _harness.samples import subsample
from _harness.store import kept
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from skearlyexit import AccuracyDrop, EarlyExitClassifier, RiskControl
from skearlyexit.heads import QuarterPooling

HEADS: dict[str, Any] = {
    "linear": "linear",
    "MLP": "mlp",
    "logistic": make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200)),
    "SVM": make_pipeline(StandardScaler(), SVC(C=5)),
}
POINTS = {"guarantee": RiskControl(0.01, confidence_level=0.9), "drop": AccuracyDrop(0.005)}
TOLERANCE = 0.005
ONE_BY_ONE = 10
#: Samples of a call, and turns.
CALLS = {1: 9, 200: 3, 10_000: 2}
BATCH = 16


def compare(division: Division) -> dict[str, Any]:
    """Test accuracy and cost of every model of a division; costs in units of the whole network."""
    ks = range(len(division.places))
    every = division.fit(ks, division.places)
    X, y = division.samples("select", ks)
    chosen = (every.classes_[every.exit_table(X).labels] == y[:, None]).mean(axis=0)
    best = int(chosen.argmax())
    cut = int(np.argmax(chosen >= chosen[best] - TOLERANCE))
    plain = cache(lambda k: division.fit([k], 1))
    costs, unit = every.cost_table_, every.cost_table_.plain

    def outcome(clf: EarlyExitClassifier, ks: Sequence[int]) -> dict[str, float]:
        X, y = division.samples("test", ks)
        labels, exits = clf.predict(X, return_exits=True)
        cost = clf.costs_[exits].mean() * clf.cost_table_.plain / unit
        return {"accuracy": np.mean(labels == y), "cost": cost}

    def at(k: int) -> dict[str, Any]:
        return {"place": k, **outcome(plain(k), [k])}

    found: dict[str, Any] = {"selection": chosen, "best": best}
    found["costs"] = (np.cumsum(costs.stage_costs) + costs.head_costs) / unit
    found |= {"whole": at(ks[-1]), "cut": at(cut)}
    early = division.fit(ks[: best + 1], "auto")
    found["exits"] = early.exit_names_
    for name, point in POINTS.items():
        early.calibrate(*division.samples("calibrate", ks[: best + 1]), point)
        result = outcome(early, ks[: best + 1])
        within = [k for k in ks if k == 0 or found["costs"][k - 1] < result["cost"]]
        found[name] = {
            **result,
            "thresholds": early.thresholds_,
            "certified": early.operating_point_.certified,
            "advice": early.exit_report(*division.samples("select", ks[: best + 1])).advice,
            "cut as costly": at(max(within, key=lambda k: chosen[k])),
        }
    every.calibrate(*division.samples("calibrate", ks))
    found["advice"] = every.exit_report(X, y).advice
    return found


def clocked(task: Task, X: np.ndarray, y: np.ndarray, found: dict[str, Any]) -> dict[str, Any]:
    """Times with linear heads, of the networks of the first division."""
    parts = divided(0)
    early = EarlyExitClassifier(
        task.backbone(found["exits"][-1]),
        exits=found["exits"],
        head="linear",
        training="separate",
        calibration=None,
        random_state=0,
    ).fit(X[parts["train"]], y[parts["train"]])
    ways: dict[str, dict[str, Callable[[np.ndarray], Any]]] = {"torch": {}, "onnx": {}}
    X_test, y_test = (each[parts["test"]] for each in (X, y))
    entry: dict[str, Any] = {}
    places = {"whole": len(task.places) - 1, "cut": found["cut"]["place"]}
    places["cut as costly"] = found["guarantee"]["cut as costly"]["place"]
    plain = {k: plain_network(task, k, X, len(early.classes_)) for k in set(places.values())}
    sessions = {k: peers.onnx_session(network, X, 1) for k, network in plain.items()}
    for name, k in places.items():
        ways["torch"][name] = partial(peers.by_torch, plain[k], BATCH)
        ways["onnx"][name] = partial(peers.by_session, sessions[k], BATCH)
    onnx = copy.deepcopy(early).set_params(runtime="onnx")
    for name in POINTS:
        options = {"threshold": found[name]["thresholds"]}
        for clf, functions in zip((early, onnx), ways.values(), strict=True):
            functions[name] = partial(clf.predict, **options)
        labels, exits = early.predict(X_test, return_exits=True, **options)
        entry[name] = {"accuracy": np.mean(labels == y_test), "cost": early.costs_[exits].mean()}
    entry["times"] = {
        f"{runtime}, {n:,}": take_turns(functions, X_test, n, turns)
        for runtime, functions in ways.items()
        for n, turns in CALLS.items()
    }
    return entry


def plain_network(task: Task, k: int, X: np.ndarray, n_classes: int) -> nn.Module:
    """The network up to a place with a linear head, whose weights do not matter for times."""
    head = nn.Sequential(QuarterPooling(), nn.LazyLinear(n_classes))
    network = peers.Plain(stages_at(task, [task.places[k]], X), head).eval()
    with torch.no_grad():
        network(torch.from_numpy(X[:2]))  # the width of its head is found
    return network


def take_turns(functions: Any, X: np.ndarray, n: int, turns: int) -> dict[str, list[float]]:
    """Processor seconds of each function in each turn: of many samples, or of some one by one."""
    rng = np.random.RandomState(0)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():  # the first call of a function takes longer
        function(X[: min(n, 200)])
    for _ in range(turns):
        rows = X[rng.randint(len(X), size=max(n, ONE_BY_ONE))]
        calls = np.split(rows, len(rows) // n)
        for name in rng.permutation(list(functions)):
            start = time.process_time()
            for rows in calls:
                functions[name](rows)
            times[name].append((time.process_time() - start) / len(calls))
    return times


def report(entries: list[dict[str, Any]]) -> None:
    """Print the tables of the entries of one task."""
    print(f"## {TASKS[entries[0]['task']].title}\n")
    for head in HEADS:
        if some := [each for each in entries if each["head"] == head and "best" in each]:
            report_head(head, some)
    for entry in entries:
        if "times" in entry:
            report_times(entry)


def report_head(head: str, entries: list[dict[str, Any]]) -> None:
    """Print accuracies and costs with one kind of head."""
    first = entries[0]
    names = [place.split(".")[-1] for place in TASKS[first["task"]].places]
    means = 100 * np.mean([each["selection"] for each in entries], axis=0)
    places = zip(names, first["costs"], means, strict=True)
    cuts = {names[each["cut"]["place"]] for each in entries}
    print(f"{head}; place (its cost) and accuracy on selection samples in %:")
    print(", ".join(f"{name} ({cost:.2f}) {mean:.1f}" for name, cost, mean in places))
    print(f"cut after {sorted(cuts)}; exits in the first seed: {', '.join(first['exits'])}\n")
    whole, cut = ([each[name] for each in entries] for name in ("whole", "cut"))
    rows = []
    for name in ("whole", "cut", *POINTS):
        results = [each[name] for each in entries]
        costly, certified = [each.get("cut as costly") for each in results], "-"
        advised = entries if name == "whole" else results
        if name == "guarantee":
            certified = str(sum(each["certified"] for each in results))
        rows.append(
            [
                name,
                f"{100 * mean_of(results, 'accuracy'):.2f}",
                f"{mean_of(results, 'cost'):.2f}",
                difference(results, whole),
                difference(results, cut),
                f"{difference(results, costly)} at {mean_of(costly, 'cost'):.2f}"
                if costly[0]
                else "-",
                certified,
                "-" if name == "cut" else str(sum(bool(each["advice"]) for each in advised)),
            ]
        )
    differences = [f"minus {name}" for name in ("whole", "cut", "cut as costly")]
    header = [f"{head}, {len(entries)} seeds", "accuracy, %", "cost", *differences]
    print(table(rows, [*header, "certified", "advice"]), flush=True)


def mean_of(results: list[dict[str, Any]], key: str) -> float:
    return float(np.mean([each[key] for each in results]))


def difference(results: list[dict[str, Any]], base: list[dict[str, Any]]) -> str:
    """Mean difference of accuracies in points, with its standard error over the seeds."""
    accuracies = np.array([[each["accuracy"] for each in some] for some in (results, base)])
    points = 100 * (accuracies[0] - accuracies[1])
    return f"{points.mean():+.2f} ± {points.std(ddof=1) / len(points) ** 0.5:.2f}"


def report_times(entry: dict[str, Any]) -> None:
    """Print times and ratios with linear heads."""
    rows = []
    for title, times in entry["times"].items():
        whole, *others = (np.array(values) for values in times.values())
        rows.append([title, f"{1e3 * np.median(whole):.4g}", *(ratio(whole, o)[1] for o in others)])
    _, *names = times
    points = [f"{n} {100 * entry[n]['accuracy']:.1f} % at {entry[n]['cost']:.2f}" for n in POINTS]
    print(f"on the test samples, cost in units of the best place: {', '.join(points)}\n")
    print(table(rows, ["samples in a call", "whole, ms", *(f"{n}, times as fast" for n in names)]))


def study(name: str, args: Any, raw: Raw) -> None:
    """Measure a task."""
    task = TASKS[name]
    try:
        X, y = task.load()
        task.backbone(task.places[0])
    except MissingData as missing:
        print(missing)
        return
    X, y = subsample((X, y), sum(PARTS.values()))
    known = kept(args.cache / f"pretrained-{name}.joblib", lambda: embed(task, X))
    for head in args.heads:
        for seed in range(args.seeds):
            division = Division(task.places, known, y, HEADS[head], seed)
            path = args.cache / f"pretrained-{name}-{head}-{seed}.joblib"
            found = kept(path, partial(compare, division))
            entry = raw.add(task=name, head=head, seed=seed, **found)
            if head == "linear" and seed == 0:
                raw.add(task=name, head=head, **clocked(task, X, y, entry))
    report([each for each in raw.content["entries"] if each["task"] == name])


def run(args: Any, raw: Raw) -> None:
    """Measure all tasks."""
    warnings.simplefilter("ignore")
    for name in args.tasks:
        study(name, args, raw)


def main() -> None:
    """Run all tasks, or print what is saved."""
    parser = make_parser(__doc__, seeds=3, cache=True, raw=True)
    parser.add_argument("--tasks", type=some_of(TASKS), default="fashion,department")
    parser.add_argument("--heads", type=some_of(HEADS), default="linear,MLP,logistic")
    args = parser.parse_args()
    torch.set_num_threads(1)
    content = saved_or_run("pretrained", args, partial(run, args))
    if args.print:
        for name in dict.fromkeys(each["task"] for each in content["entries"]):
            report([each for each in content["entries"] if each["task"] == name])
    print_facts(content)


if __name__ == "__main__":
    main()
