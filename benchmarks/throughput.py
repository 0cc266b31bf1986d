"""Throughput and latency: early exits against everything else that could run the network.

The models are `EarlyExitClassifier()`, at its default operating point and at a budget. All ways to
run them take an array and return labels, in one process:

- plain network: its stages with the last head and the layers of torch, in torch, compiled by
  torch.compile, in ONNX Runtime, and as `NeuralNetClassifier.predict` of skorch;
- `MLPClassifier` of scikit-learn with as many units in as many layers, for tables. It is trained
  for one epoch, since its weights do not change its time;
- `HistGradientBoostingClassifier`, for tables, another model;
- early exits as papers measure them, one sample after the other in a loop; and by the package
  earlyon, of whose batches all samples exit together;
- `predict` with ``runtime="torch"`` and ``runtime="onnx"``, and of `to_predictor` with both, in
  torch also without padding;
- ideal: stages and heads on prepared batches of the samples that reach them, without decisions,
  the least that early exits could take in torch.

They take turns in random order, each turn with other test samples. Where there are batches, they
are of the best of several sizes for the number of samples. The loop is timed with 256 of the
samples, and multiplied. Ratios are medians over the turns of the time of the plain network in torch
to that of the other, with quartiles: above 1 is faster. Accuracies are those of test samples in
calls of 256.

Calls of single samples are then also timed in loops, in which a way is called with one sample after
the other, so that model and code stay in the caches of the processor.

Then several threads of Python call at once: as many calls one after the other take so many times
as long.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --sets letter --threads 2
    python benchmarks/throughput.py --print
    python benchmarks/throughput.py --print --plot docs/throughput.png
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
import torch
from _harness import peers
from _harness.command import available, make_parser
from _harness.data import SETS
from _harness.measure import ratio, seconds, take_turns
from _harness.raw import Raw, print_facts, saved_or_run
from _harness.report import table
from _harness.samples import subsample, take_test
from _harness.store import kept
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skearlyexit import EarlyExitClassifier

SIZES = (1, 16, 256, 4096)
#: Also for images, at the budget.
MANY = 10_000
BATCHES = (16, 64, 256, 1024, 4096)
#: Samples of the loop over single samples, and of a call whose accuracy is measured.
N_LOOP, N_CALL = 256, 256
#: Calls of single samples in a row, of which the first are not timed, and repetitions of all.
N_FIRST, N_ROW, N_ROWS = 20, 100, 15
PLAIN, MLP, BOOSTING = "plain, torch", "MLPClassifier", "HistGradientBoosting"
MAX_TRAIN = {"tabular": 16_000, "image": 5000}

#: From samples to a call that is timed. What is prepared before takes no time.
Prepare = Callable[[np.ndarray], Callable[[], Any]]


def load(name: str, args: Any) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """Fitted models, the one with early exits first, and test samples of a set."""
    data = SETS[name]
    X, y = data.load()
    X = X.reshape(-1, *(data.image_shape or X.shape[1:])).astype(np.float32)
    train, test = take_test(X, y, 0, data.n_test)
    n_train = args.max_train or MAX_TRAIN[data.kind]

    def fit() -> list[Any]:
        clf = EarlyExitClassifier(random_state=0, max_epochs=args.max_epochs or "auto")
        models = [clf]
        if X.ndim == 2:
            models.append(HistGradientBoostingClassifier(random_state=0))
        return [model.fit(*subsample(train, n_train)) for model in models]

    path = args.cache / f"throughput-{name}-{n_train}-{args.max_epochs}.joblib"
    return kept(path, fit), *test


class Ways:
    """All ways to run a model at an operating point.

    Parameters
    ----------
    models : list
        `EarlyExitClassifier`, and `HistGradientBoostingClassifier` for tables.
    budget : float or None
        None is the default operating point.
    X, y : ndarray
        Some samples.
    n_threads : int

    Attributes
    ----------
    batched : dict of str to callable
        From a size of a batch to a function of samples that returns indices of classes.
    others : dict of str to callable
        Functions of samples. Those of `predict` return labels.
    """

    def __init__(
        self, models: list[Any], budget: float | None, X: np.ndarray, y: Any, n_threads: int
    ) -> None:
        self.clf = clf = models[0]
        index = None if budget is None else clf.frontier_.at_budget(budget)
        self.thresholds = clf.thresholds_ if index is None else clf.frontier_.thresholds[index]
        n_classes = len(clf.classes_)
        plain = peers.plain_network(clf)
        self.stages, self.heads = parts = peers.plain_parts(clf)
        self.batched = {PLAIN: lambda size: partial(peers.by_torch, plain, size)}
        if (network := _compiled(plain, X)) is not None:
            self.batched["plain, torch.compile"] = lambda size: partial(
                peers.by_torch, network, size
            )
        session = peers.onnx_session(plain, X, n_threads)
        self.batched["plain, ONNX Runtime"] = lambda size: partial(peers.by_session, session, size)
        self.batched["plain, skorch"] = lambda size: peers.by_skorch(plain, n_classes, size)
        model = _earlyon(*parts, self.thresholds, n_classes, X.shape[1:])
        if model is not None:
            self.batched["early exits, earlyon"] = lambda size: partial(
                peers.by_earlyon, model, size
            )
        options = {} if budget is None else {"budget": budget}
        onnx = copy.deepcopy(clf).set_params(runtime="onnx")
        self.loop = partial(peers.by_loop, *parts, self.thresholds)
        self.others: dict[str, peers.Predict] = {}
        if X.ndim == 2:
            self.others[MLP] = _mlp(clf, X, y).predict
            self.others[BOOSTING] = models[1].predict
        self.others |= {
            'predict, "torch"': partial(clf.predict, **options),
            'predict, "onnx"': partial(onnx.predict, **options),
            'predictor, "torch"': clf.to_predictor(**options).predict,
            "predictor, not padded": clf.to_predictor(**options, batch_invariant=False).predict,
            'predictor, "onnx"': onnx.to_predictor(**options).predict,
        }

    def batch_sizes(self, n: int, X: np.ndarray) -> dict[str, int]:
        """Best size of a batch of each way that has batches, for calls with so many samples."""
        found = {}
        for name, make in self.batched.items():
            sizes = (1, *BATCHES) if "earlyon" in name and n <= N_LOOP else BATCHES
            # Each size of a batch is compiled anew, which takes seconds.
            compiled = name == "plain, torch.compile"
            found[name] = found[PLAIN] if compiled else peers.best_batch_size(make, X[:n], sizes)
        return found

    def calls(self, batch_sizes: dict[str, int]) -> dict[str, Prepare]:
        """What is timed."""
        stages, heads = self.stages, self.heads
        functions = {name: self.batched[name](size) for name, size in batch_sizes.items()}
        return {
            **{name: partial(partial, function) for name, function in functions.items()},
            "early exits, loop": lambda X: partial(self.loop, _spread(X)),
            **{name: partial(partial, function) for name, function in self.others.items()},
            "ideal": lambda X: partial(
                peers.run_ideal, peers.ideal_plan(self.clf, stages, heads, X, self.thresholds)
            ),
        }

    def accuracies(self, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
        """Share of correct labels in calls of `N_CALL` samples."""
        classes = self.clf.classes_
        functions = {name: make(min(N_CALL, len(X))) for name, make in self.batched.items()}
        functions["early exits, loop"] = self.loop
        found = {}
        for name, function in [*functions.items(), *self.others.items()]:
            if name == MLP:
                continue  # it is hardly trained
            starts = range(0, len(X), N_CALL)
            labels = np.concatenate([function(X[i : i + N_CALL]) for i in starts])
            labels = labels if name in self.others else classes[labels]
            found[name] = float(np.mean(labels == y))
        return found


def _spread(X: np.ndarray) -> np.ndarray:
    """Those of the samples with which the loop is timed."""
    return X if len(X) <= N_LOOP else np.ascontiguousarray(X[:: len(X) // N_LOOP][:N_LOOP])


def _compiled(plain: torch.nn.Module, X: np.ndarray) -> torch.nn.Module | None:
    network = peers.compiled(plain)
    try:
        peers.by_torch(network, 1, X[:1])
    except Exception as error:  # of many kinds: there may be no compiler, or not the right one
        print(f"torch.compile does not work here: {str(error).splitlines()[0]}")
        return None
    return network


def _earlyon(*args: Any) -> Any:
    try:
        return peers.earlyon_wrapper(*args)
    except ImportError:
        print(f"earlyon is not installed. Get it by\n  {peers.EARLYON}")
        return None


def _mlp(clf: EarlyExitClassifier, X: np.ndarray, y: np.ndarray) -> Any:
    """`MLPClassifier` with the hidden layers of the network, after a standardization."""
    stages, _ = peers.plain_parts(clf)
    linear = [each for stage in stages for each in stage.modules() if type(each) is torch.nn.Linear]
    widths = [each.out_features for each in linear]
    model = make_pipeline(StandardScaler(), MLPClassifier(widths, max_iter=1, random_state=0))
    return model.fit(X, y)


def measure_calls(
    ways: Ways, X: np.ndarray, n: int, turns: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of every way in every turn, and the sizes of batches."""
    rng = np.random.RandomState(n)

    def draw() -> np.ndarray:
        return X[rng.choice(len(X), n, replace=n > len(X))]

    batch_sizes = ways.batch_sizes(n, draw()[: max(BATCHES)])
    calls = ways.calls(batch_sizes)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        samples = draw()
        for name in rng.permutation(list(calls)):
            took = seconds(calls[name](samples))
            if turn:  # the first is to warm up
                factor = max(1.0, n / N_LOOP) if name == "early exits, loop" else 1.0
                times[name].append(factor * took)
    return times, batch_sizes


def measure_rows(ways: Ways, X: np.ndarray) -> dict[str, list[float]]:
    """Mean seconds of calls of single samples, of several rows of calls of every way."""
    rng = np.random.RandomState(0)
    calls = ways.calls(ways.batch_sizes(1, X[:1]))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(N_ROWS):
        samples = X[rng.choice(len(X), N_FIRST + N_ROW)]
        for name in rng.permutation(list(calls)):
            prepared = [calls[name](samples[i : i + 1]) for i in range(len(samples))]
            for call in prepared[:N_FIRST]:
                call()
            times[name].append(np.mean([seconds(call) for call in prepared[N_FIRST:]]))
    return times


def measure_callers(
    ways: Ways, X: np.ndarray, n: int, n_callers: int, turns: int
) -> dict[str, list[float]]:
    """Ratios of the time of calls one after the other to that of the same calls at once."""
    batch_sizes = dict.fromkeys((PLAIN, "plain, ONNX Runtime"), n)
    prepared = ways.calls(batch_sizes)
    names = [*batch_sizes, *(name for name in ways.others if name.startswith("predict"))]
    n_calls = max(4, 128 // n)
    found: dict[str, list[float]] = {}
    with ThreadPoolExecutor(n_callers) as pool:
        for name in names:
            call = prepared[name](np.ascontiguousarray(X[:n]))

            def several(caller: int, call: Any = call) -> None:
                for _ in range(n_calls):
                    call()

            def one_by_one(several: Any = several) -> None:
                for caller in range(n_callers):
                    several(caller)

            def at_once(several: Any = several) -> None:
                list(pool.map(several, range(n_callers)))

            times = take_turns({"one by one": one_by_one, "at once": at_once}, turns)
            found[name] = (times["one by one"] / times["at once"]).tolist()
    return found


def n_turns(turns: int, n: int) -> int:
    """Turns with so many samples in a call: fewer for larger calls, but at least five."""
    return min(turns, max(5, round(turns / n**0.5)))


def study(name: str, args: Any, raw: Raw) -> None:
    """Measure a data set."""
    models, X, y = load(name, args)
    clf = models[0]
    for budget in (None, args.budget):
        point = "default operating point" if budget is None else f"budget of {budget:g}"
        options = {} if budget is None else {"budget": budget}
        labels, exits = clf.predict(X, return_exits=True, **options)
        ways = Ways(models, budget, X[:1000], y[:1000], args.threads)
        common = {"set": name, "point": point}
        report_model(
            raw.add(
                kind="model",
                **common,
                accuracy=np.mean(labels == y),
                last_exit=clf.score(X, y, threshold=np.inf),
                cost=clf.costs_[exits].mean(),
                exit_rates=np.bincount(exits, minlength=clf.n_exits_) / len(exits),
                accuracies=ways.accuracies(X[: 8 * N_CALL], y[: 8 * N_CALL]),
            )
        )
        sizes = [*SIZES, MANY] if budget is not None and SETS[name].kind == "image" else SIZES
        for n in sizes:
            times, batch_sizes = measure_calls(ways, X, n, n_turns(args.turns, n))
            report_calls(
                raw.add(kind="calls", **common, samples=n, times=times, batch_sizes=batch_sizes)
            )
        report_rows(raw.add(kind="rows", **common, times=measure_rows(ways, X)))
        for n in (1, 256):
            ratios = measure_callers(ways, X, n, args.callers, n_turns(args.turns, 4096))
            report_callers(
                raw.add(kind="callers", **common, samples=n, callers=args.callers, ratios=ratios)
            )


def report_model(entry: dict[str, Any]) -> None:
    """Print an operating point."""
    rates = ", ".join(f"{rate:.2f}" for rate in entry["exit_rates"])
    print(
        f"{SETS[entry['set']].title}, {entry['point']}: accuracy {100 * entry['accuracy']:.2f} % "
        f"at a mean cost of {entry['cost']:.3f}, last exit {100 * entry['last_exit']:.2f} %; exit "
        f"rates {rates}\n"
    )
    lines = [[name, f"{100 * value:.2f}"] for name, value in entry["accuracies"].items()]
    print(table(lines, [f"calls of {N_CALL} samples", "accuracy in %"]), flush=True)


def report_calls(entry: dict[str, Any]) -> None:
    """Print latencies, throughputs and ratios of calls with a number of samples."""
    n, lines = entry["samples"], []
    plain = np.array(entry["times"][PLAIN])
    for name, values in entry["times"].items():
        times = np.array(values)
        cells = [f"{1e3 * np.percentile(times, q):.3g}" for q in (50, 95, 99)]
        size = entry["batch_sizes"].get(name, "")
        speed = f"{n / np.median(times):,.0f}"
        lines.append([name, str(size), *cells, speed, ratio(plain, times)[1]])
    header = [f"{n:,} samples, {len(plain)} turns", "batch size", "p50, ms", "p95", "p99"]
    print(table(lines, [*header, "samples/s", "times as fast as the plain network"]), flush=True)


def report_rows(entry: dict[str, Any]) -> None:
    """Print the times of single samples in a loop."""
    plain = np.array(entry["times"][PLAIN])
    lines = [
        [name, f"{1e6 * np.median(values):.1f}", ratio(plain, np.array(values))[1]]
        for name, values in entry["times"].items()
    ]
    header = [f"single samples in a loop, {N_ROWS} times {N_ROW}", "mean, microseconds"]
    print(table(lines, [*header, "times as fast as the plain network"]), flush=True)


def report_callers(entry: dict[str, Any]) -> None:
    """Print the ratios of calls at once."""
    lines = [[name, ratio(np.array(v), np.ones(1))[1]] for name, v in entry["ratios"].items()]
    title = f"{entry['callers']} threads, {entry['samples']} samples a call"
    print(table(lines, [title, "times the throughput of one thread"]), flush=True)


def plot(entries: list[dict[str, Any]], name: str, path: str) -> None:
    """Draw the median times of a sample at the default operating point.

    The loop, which is slow, and the predictors in torch, which are hardly faster than `predict`,
    are left out.
    """
    import matplotlib.pyplot as plt

    chosen = [each for each in entries if each["set"] == name and "default" in each["point"]]
    accuracies = next(each["accuracies"] for each in chosen if each["kind"] == "model")
    calls = {each["samples"]: each["times"] for each in chosen if each["kind"] == "calls"}
    sizes = (min(calls), max(calls))
    left_out = ("early exits, loop", 'predictor, "torch"', "predictor, not padded")
    names = [each for each in accuracies if not each.startswith(left_out)][::-1]
    figure, axes = plt.subplots(1, len(sizes), figsize=(9, 3.2), sharey=True, layout="constrained")
    for axis, n in zip(axes, sizes, strict=True):
        times = [1e6 * np.median(calls[n][each]) / n for each in names]
        colors = ["C1" if each.startswith("predict") else "0.7" for each in names]
        axis.bar_label(axis.barh(names, times, color=colors), fmt="%.0f", padding=2)
        axis.set_title("one sample a call" if n == 1 else f"{n:,} samples a call")
        axis.set_xlabel("microseconds per sample, one thread")
        axis.margins(x=0.12)
        axis.spines[["top", "right"]].set_visible(False)
    labels = [f"{_title(each)}  ({100 * accuracies[each]:.1f} %)" for each in names]
    axes[0].set_yticks(range(len(names)), labels)
    figure.savefig(path, dpi=150)


def _title(name: str) -> str:
    titles = {
        'predict, "torch"': "early exits, torch",
        'predict, "onnx"': "early exits, ONNX Runtime",
        'predictor, "onnx"': "the same, to_predictor",
    }
    return titles.get(name, name)


REPORTS = {
    "model": report_model,
    "calls": report_calls,
    "rows": report_rows,
    "callers": report_callers,
}


def run(args: Any, raw: Raw) -> None:
    """Measure all data sets."""
    warnings.simplefilter("ignore")
    for name in available(args.sets):
        study(name, args, raw)


def main() -> None:
    """Run all data sets, or print what is saved."""
    parser = make_parser(__doc__, sets="letter,fashion", cache=True, raw=True)
    parser.add_argument("--budget", type=float, default=0.5)
    parser.add_argument(
        "--turns", type=int, default=1000, help="with one sample; fewer with more of them"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch and ONNX Runtime")
    parser.add_argument("--callers", type=int, default=4, help="threads that call at once")
    parser.add_argument("--plot", metavar="FILE", help="draw the last of the data sets")
    parser.add_argument("--max-train", type=int, help="training samples at most")
    parser.add_argument("--max-epochs", type=int, help="for a trial")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    content = saved_or_run("throughput", args, partial(run, args))
    if args.print:
        for entry in content["entries"]:
            REPORTS[entry["kind"]](entry)
    print_facts(content)
    if args.plot:
        plot(content["entries"], content["entries"][-1]["set"], args.plot)


if __name__ == "__main__":
    main()
