"""A service on Ray Serve under load, with a tier that is killed, bad requests, and slow links.

Three questions, about an MLP of 4 blocks on the digits of scikit-learn, in two tiers on this
machine:

- `load`: is every request answered once and right while the second tier is killed and started
  again? Some clients send one sample after the other. An answer is right if label and exit are
  those of `predict`, or, if it is flagged as degraded, those of the last exit of the first tier for
  a sample that would have gone on. Before and after are the times in which the second tier answers,
  and during is the time from its end to its first answer. Throughput and latencies are those that
  clients see; clients and service share the processors.
- `malformed`: are requests that are not valid refused, and does the memory of the deployment that
  checks them stay the same? Bodies are cut, random or too large, headers of arrays are wrong, and
  samples have other shapes or types. Memory is that of the process after each tenth of the
  requests.
- `links`: how far is the mean latency that `TierPlan.simulate` computes from the measured one?
  Requests of single samples come in at random, and the service simulates the link. The time of the
  calls of each tier is measured before and after, with one request at a time, and is the `overhead`
  of the tiers of the plan.

    python benchmarks/serve_load.py
    python benchmarks/serve_load.py --seconds 20 --malformed 500 --requests 200
    python benchmarks/serve_load.py --print
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import _harness  # noqa: F401 - before everything that starts threads
import aiohttp
import numpy as np
import ray
import ray.serve
from _harness.command import make_parser, some_of
from _harness.raw import Raw, print_facts, saved_or_run
from _harness.report import table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skearlyexit import EarlyExitClassifier, Link, MLPBackbone
from skearlyexit.serve import run as run_service
from skearlyexit.tiers import Tier, TierPlan

QUESTIONS = ("load", "malformed", "links")
ASSIGNMENT = ["device", "device", "cloud"]
#: Bytes of an embedding, which take 100 ms on the link, beside its latency: several times as long
#: as a call of a tier, whose time depends on what else the machine does.
N_BYTES = 256
LINK = Link(bandwidth=N_BYTES / 0.1, latency=0.1)
MAX_BYTES = 2**16
PHASES = ("before", "during", "after")


def model() -> tuple[EarlyExitClassifier, np.ndarray, np.ndarray]:
    """A fitted classifier, and test samples of which some reach each exit."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
    clf = EarlyExitClassifier(
        MLPBackbone(4, width=64, hidden=64),
        exits=["stem", "block2"],
        calibration=0.3,
        max_epochs=10,
        random_state=0,
    ).fit(X_train, y_train)
    scores = clf.exit_table(X_test).scores
    first = np.quantile(scores[:, 0], 0.6)
    return clf.set_params(threshold=[first, np.quantile(scores[:, 1], 0.7)]), X_test, y_test


@contextmanager
def service(clf: EarlyExitClassifier, **options: Any) -> Iterator[str]:
    """Address of a service, which ends after it is used."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    try:
        run_service(clf, port=port, threshold=clf.threshold, **options)
        yield f"http://127.0.0.1:{port}"
    finally:
        ray.shutdown()


def bodies(X: np.ndarray) -> list[bytes]:
    """A request for each sample."""
    return [json.dumps({"instances": [row.tolist()]}).encode() for row in X]


async def post(session: aiohttp.ClientSession, url: str, body: bytes, kind: str) -> tuple[int, Any]:
    """Status and content of the reply."""
    async with session.post(url, data=body, headers={"Content-Type": kind}) as reply:
        return reply.status, await reply.json()


def load(args: argparse.Namespace) -> dict[str, Any]:
    """Load for some time, in which the second tier is killed."""
    clf, X, _ = model()
    labels, exits = clf.predict(X, threshold=clf.threshold, return_exits=True)
    fallback = list(clf.staged_predict(X))[1]
    rows: list[tuple[Any, ...]] = []
    with service(clf, tiers=[2, 1], deadline=args.deadline) as url:
        asyncio.run(_load(url, bodies(X), args, rows))
        killed = rows.pop()[0]
        counted = asyncio.run(_samples_total(url))
    *columns, contents = zip(*rows, strict=True)
    sample, start, end, status = map(np.array, columns)
    n_right, degraded, second = 0, np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    for i, (row, content) in enumerate(zip(sample, contents, strict=True)):
        if status[i] != 200:
            continue
        got = (content["labels"], content["exits"])
        degraded[i], second[i] = content["degraded"][0], content["tiers"][0] == "tier1"
        if degraded[i]:
            n_right += got == ([fallback[row]], [1]) and exits[row] > 1
        else:
            n_right += got == ([labels[row]], [exits[row]])
    again = end[(second) & (start > killed)].min(initial=np.inf)
    phase = np.where(end < killed, 0, np.where(start < again, 1, 2))
    found = {}
    for i, name in enumerate(PHASES):
        chosen = phase == i
        seconds = end[chosen] - start[chosen]
        span = np.diff([0.0, killed, min(again, end.max()), end.max()])[i]
        found[name] = {
            "requests": int(chosen.sum()),
            "seconds": float(span),
            "degraded": int(degraded[chosen].sum()),
            "latencies": np.quantile(seconds, [0.5, 0.95, 0.99]) if chosen.any() else None,
        }
    return {
        "sent": len(rows),
        "statuses": dict(zip(*np.unique(status.astype(str), return_counts=True), strict=True)),
        "right": n_right,
        "counted by the service": counted,
        "phases": found,
    }


async def _load(url: str, sent: list[bytes], args: argparse.Namespace, rows: list[Any]) -> None:
    """Send requests, and add what became of each; the time of the end of the tier comes last."""
    begin = time.perf_counter()
    order = iter(np.random.default_rng(0).integers(len(sent), size=10**7))

    async def client(session: aiohttp.ClientSession) -> None:
        while time.perf_counter() - begin < args.seconds:
            sample = int(next(order))
            start = time.perf_counter() - begin
            reply = await post(session, f"{url}/predict", sent[sample], "application/json")
            rows.append((sample, start, time.perf_counter() - begin, *reply))

    async def killer() -> float:
        await asyncio.sleep(args.seconds / 3)
        names = [each["name"] for each in ray.util.list_named_actors(all_namespaces=True)]
        (name,) = [each for each in names if "#tier1#" in each]
        killed = time.perf_counter() - begin
        ray.kill(ray.get_actor(name, namespace="serve"))
        return killed

    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        killing = asyncio.create_task(killer())
        await asyncio.gather(*(client(session) for _ in range(args.clients)))
        rows.append((await killing,))


async def _samples_total(url: str) -> int:
    """Number of samples that the service has answered, by its metrics."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    return sum(
        int(float(line.split()[-1]))
        for line in lines
        if line.startswith("skearlyexit_samples_total")
    )


def bad_requests(n_requests: int) -> Iterator[tuple[bytes, str]]:
    """Requests that are not valid, with their types."""
    rng = np.random.default_rng(0)
    good = rng.normal(size=(3, 64))
    stream = io.BytesIO()
    np.save(stream, good)
    array, text = stream.getvalue(), json.dumps({"instances": good.tolist()}).encode()
    json_, npy = "application/json", "application/x-npy"
    for _ in range(n_requests):
        cut = int(rng.integers(1, len(array) - 1))
        kinds = [
            (text[: cut % len(text)], json_),
            (array[:cut], npy),
            (rng.bytes(1000), json_),
            (rng.bytes(1000), npy),
            (array[:8] + rng.bytes(118) + array[126:], npy),
            (b"[" * 10_000, json_),
            (b'{"instances": [[NaN]]}', json_),
            (b'{"instances": [[1, 2], [3]]}', json_),
            (b'{"instances": [["a"]]}', json_),
            (json.dumps({"instances": good[:, : cut % 63 + 1].tolist()}).encode(), json_),
            (b" " * (2 * MAX_BYTES), json_),
            (text, "text/plain"),
        ]
        yield kinds[int(rng.integers(len(kinds)))]


def malformed(args: argparse.Namespace) -> dict[str, Any]:
    """Requests that are not valid, and the memory of the deployment that checks them."""
    clf, X, _ = model()

    async def send(url: str) -> tuple[dict[str, int], list[int]]:
        statuses: dict[str, int] = {}
        memory = []
        async with aiohttp.ClientSession() as session:
            for i, (body, kind) in enumerate(bad_requests(args.malformed)):
                status, _ = await post(session, f"{url}/predict", body, kind)
                statuses[str(status)] = statuses.get(str(status), 0) + 1
                if (i + 1) % max(1, args.malformed // 10) == 0:
                    memory.append(resident("front"))
            valid, _ = await post(session, f"{url}/predict", bodies(X[:1])[0], "application/json")
        return {**statuses, f"then {valid}": 1}, memory

    with service(clf, tiers=[2, 1], max_request_bytes=MAX_BYTES) as url:
        statuses, memory = asyncio.run(send(url))
    return {"statuses": statuses, "memory": memory}


def resident(deployment: str) -> int:
    """Resident bytes of the replica of a deployment."""
    title = f"ray::ServeReplica:skearlyexit:{deployment}"
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if (folder / "cmdline").read_text().startswith(title):
                    return int((folder / "statm").read_text().split()[1]) * 4096
            except OSError:
                continue
    raise SystemExit(f"There is no process {title!r}.")


def links(args: argparse.Namespace) -> dict[str, Any]:
    """Mean latency of a plan, measured and simulated."""
    clf, X, y = model()
    machines = [Tier("device", rate=1e10), Tier("cloud", rate=1e10)]
    plan = TierPlan(machines, [LINK], ASSIGNMENT)
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(X), size=args.requests)
    arrivals = np.cumsum(rng.exponential(1 / args.rate, size=args.requests))
    exits = clf.predict(X, threshold=clf.threshold, return_exits=True)[1]
    sent = bodies(X)

    async def measured(url: str) -> tuple[np.ndarray, np.ndarray]:
        async with aiohttp.ClientSession() as session:

            async def once(sample: int) -> float:
                start = time.perf_counter()
                await post(session, f"{url}/predict", sent[sample], "application/json")
                return time.perf_counter() - start

            for sample in chosen[:20]:
                await once(sample)
            half = args.idle // 2
            idle = [await once(sample) for sample in chosen[:half]]
            begin = time.perf_counter()

            async def later(sample: int, arrival: float) -> float:
                await asyncio.sleep(begin + arrival - time.perf_counter())
                return await once(sample)

            under_load = await asyncio.gather(*map(later, chosen, arrivals))
            idle += [await once(sample) for sample in chosen[half : args.idle]]
        return np.array(idle), np.array(under_load)

    options = {"max_batch_size": 1, "batch_wait": 0.0, "simulate_links": True}
    with service(clf, tiers=plan, **options) as url:
        idle, under_load = asyncio.run(measured(url))
    goes_on = exits[chosen[: args.idle]] > 1
    first = float(idle[~goes_on].mean())
    second = float(idle[goes_on].mean()) - first - LINK.seconds(N_BYTES)
    found = TierPlan(
        [
            Tier("device", rate=1e10, overhead=first),
            Tier("cloud", rate=1e10, overhead=max(second, 0.0)),
        ],
        [LINK],
        ASSIGNMENT,
    ).simulate(clf, X[chosen], y[chosen], arrivals=arrivals, threshold=clf.threshold)
    return {
        "rate": args.rate,
        "overheads": [first, second],
        "idle": float(idle.mean()),
        "measured": float(under_load.mean()),
        "measured percentiles": np.quantile(under_load, [0.5, 0.95, 0.99]),
        "simulated": found.latency,
        "simulated percentiles": [found.latency_p50, found.latency_p95, found.latency_p99],
        "link_utilization": found.link_utilization,
    }


def report(entries: list[dict[str, Any]]) -> None:
    """Print the results of each question."""
    for entry in entries:
        {"load": _print_load, "malformed": _print_malformed, "links": _print_links}[
            entry["question"]
        ](entry)


def _print_load(entry: dict[str, Any]) -> None:
    lines = []
    for name, phase in entry["phases"].items():
        if not phase["requests"]:
            continue
        latencies = [f"{1e3 * each:.1f}" for each in phase["latencies"]]
        rate = phase["requests"] / phase["seconds"]
        seconds, degraded = f"{phase['seconds']:.1f}", f"{phase['degraded']:,}"
        lines.append([name, seconds, f"{phase['requests']:,}", f"{rate:.0f}", degraded, *latencies])
    titles = ["phase", "seconds", "requests", "a second", "degraded", "p50 ms", "p95 ms", "p99 ms"]
    print("\n" + table(lines, titles))
    print(
        f"{entry['sent']:,} requests sent, replies by status {entry['statuses']}, "
        f"{entry['right']:,} right; the service counts {entry['counted by the service']:,} answers"
    )


def _print_malformed(entry: dict[str, Any]) -> None:
    memory = ", ".join(f"{each / 2**20:.1f}" for each in entry["memory"])
    print(f"\nrequests that are not valid, replies by status {entry['statuses']}")
    print(f"MiB after each tenth of them: {memory}")


def _print_links(entry: dict[str, Any]) -> None:
    lines = [
        [name, *(f"{1e3 * each:.1f}" for each in (entry[name], *entry[f"{name} percentiles"]))]
        for name in ("measured", "simulated")
    ]
    print("\n" + table(lines, ["latency", "mean ms", "p50 ms", "p95 ms", "p99 ms"]))
    difference = entry["simulated"] / entry["measured"] - 1
    print(
        f"{entry['rate']:g} requests a second, the link in use for "
        f"{entry['link_utilization'][0]:.0%}; the simulated mean differs by {difference:+.1%}"
    )


def answer(args: argparse.Namespace, raw: Raw) -> None:
    """Answer the questions."""
    for question in args.questions:
        raw.add(question=question, **globals()[question](args))


def main() -> None:
    """Answer the questions, or print what is saved."""
    warnings.simplefilter("ignore")
    parser = make_parser(__doc__, raw=True)
    parser.add_argument(
        "--questions", type=some_of(QUESTIONS), default=",".join(QUESTIONS), help="some of them"
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="of the load")
    parser.add_argument("--clients", type=int, default=8, help="that send at the same time")
    parser.add_argument("--deadline", type=float, default=0.5, help="of the load, in seconds")
    parser.add_argument("--malformed", type=int, default=10_000, help="requests that are not valid")
    parser.add_argument("--requests", type=int, default=1000, help="of the comparison of latencies")
    parser.add_argument(
        "--idle", type=int, default=200, help="requests one at a time before and after"
    )
    parser.add_argument("--rate", type=float, default=8.0, help="requests a second of it")
    args = parser.parse_args()
    content = saved_or_run("serve_load", args, partial(answer, args))
    report(content["entries"])
    print_facts(content)


if __name__ == "__main__":
    main()
