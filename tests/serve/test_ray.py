"""Applications on Ray Serve, over HTTP."""

import asyncio
import io
import json
import socket
import sys
import urllib.error
import urllib.request
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

import skearlyexit
from skearlyexit import Link
from skearlyexit.serve import build_app, run
from skearlyexit.serve.__main__ import arguments, main
from skearlyexit.serve._errors import RequestError, TierGoneError
from skearlyexit.tiers import Tier, TierPlan
from tests.serve._served import THRESHOLD, X_TEST, instances, network

LABELS, EXITS = network().predict(X_TEST, threshold=THRESHOLD, return_exits=True)


class Client:
    """Requests to an application, as (status, content)."""

    def __init__(self, port, prefix=""):
        self.url = f"http://127.0.0.1:{port}{prefix}"

    def __call__(self, path="/predict", body=None, method=None, **headers):
        headers = {"content_type": "application/json", **headers}
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def predicted(self, rows=X_TEST):
        status, body = self(body=instances(rows))
        assert status == 200, body
        return json.loads(body)


@pytest.fixture(scope="module")
def port(ray_cluster):
    serve = pytest.importorskip("ray.serve")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": number})
    yield number
    serve.shutdown()


@pytest.fixture(scope="module")
def client(port):
    """A model in the two tiers of a plan."""
    plan = TierPlan(
        [Tier("device", 1e6), Tier("cloud", 1e9)],
        [Link(latency=0.001)],
        ["device", "device", "cloud", "cloud"],
    )
    options = {"deadline": 30.0, "simulate_links": True, "max_request_bytes": 2**17}
    # Without a host, that of the service that runs.
    options |= {"name": "a", "route_prefix": "/a", "port": port}
    run(network(), tiers=plan, threshold=THRESHOLD, **options)
    return Client(port, "/a")


def test_answers_are_those_of_predict(client):
    found = client.predicted()
    assert (found["labels"], found["exits"]) == (LABELS.tolist(), EXITS.tolist())
    assert found["tiers"] == np.array(["device", "cloud"])[(EXITS >= 2).astype(int)].tolist()
    stream = io.BytesIO()
    np.save(stream, X_TEST.astype(np.float32))
    npy = "application/x-npy"
    status, body = client(body=stream.getvalue(), content_type=npy, accept=npy)
    assert status == 200
    table = np.load(io.BytesIO(body), allow_pickle=False)
    assert np.array_equal(table["label"], LABELS)
    assert np.array_equal(table["exit"], EXITS)


def test_another_host_or_port_than_those_of_ray_serve(client, port):
    for asked, got in (({"host": "0.0.0.0"}, "host='0.0.0.0'"), ({"port": 1}, "port=1")):
        with pytest.raises(ValueError, match=f"port={port}.*Got {got}.*shutdown") as found:
            run(network(), name="b", route_prefix="/b", **asked)
        assert "host='127.0.0.1'" in str(found.value)
    assert Client(port, "/b")("/health")[0] == 404


def test_ray_serve_of_a_cluster_that_was_shut_down_does_not_run(client, port):
    # Ray compares numbers of jobs, and the first job of each cluster has the same.
    context = import_module("ray.serve.context")
    context._set_global_client(SimpleNamespace(http_config=SimpleNamespace(host="a", port=1)))
    with pytest.raises(ValueError, match=f"port={port}.*Got port=1"):
        run(network(), name="b", route_prefix="/b", port=1)


def test_other_paths(client):
    assert json.loads(client("/health")[1]) == {
        "status": "ok",
        "tiers": {"device": "ok", "cloud": "ok"},
    }
    client.predicted(X_TEST[:7])
    assert b'skearlyexit_requests_total{status="200"}' in client("/metrics")[1]
    status, body = client("/operating-point", b'{"threshold": 0}', "PUT")
    assert (status, json.loads(body)["thresholds"]) == (200, [0.0, 0.0, 0.0])
    assert set(client.predicted()["exits"]) == {0}
    assert client("/operating-point", b'{"operating_point": "default"}', "PUT")[0] == 200
    assert client.predicted()["exits"] == EXITS.tolist()


def test_what_is_no_request_is_refused(client):
    assert client(body=b"{}")[0] == 400
    assert client(body=b" " * 2**18)[0] == 413
    assert client("/nothing")[0] == 404
    assert client.predicted()["exits"] == EXITS.tolist()


def test_without_a_tier_the_last_exit_before_answers(client, ray_cluster):
    (name,) = [
        each["name"]
        for each in ray_cluster.util.list_named_actors(all_namespaces=True)
        if each["name"].startswith("SERVE_REPLICA::a#cloud#")
    ]
    ray_cluster.kill(ray_cluster.get_actor(name, namespace="serve"))
    # Sooner than a process starts.
    status, body = client("/predict?deadline=1.5", instances(X_TEST))
    found = json.loads(body)
    assert status == 200
    assert np.array_equal(found["degraded"], EXITS >= 2)
    assert np.array_equal(found["exits"], np.minimum(EXITS, 1))


def test_a_client_that_leaves_is_no_fault_of_the_server():
    pytest.importorskip("ray.serve")
    from starlette.requests import Request

    from skearlyexit.serve._replicas import read_chunks

    async def left():
        return {"type": "http.disconnect"}

    async def read():
        return [chunk async for chunk in read_chunks(Request({"type": "http"}, left))]

    with pytest.raises(RequestError, match="closed before the end") as found:
        asyncio.run(read())
    assert found.value.status == 400


def test_a_tier_is_gone_whatever_ray_says_of_it():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.serve")
    from skearlyexit.serve._replicas import TierCall

    async def failing(error):
        raise error

    def call(error):
        method = SimpleNamespace(remote=lambda *args: failing(error))
        return TierCall(SimpleNamespace(answer=method, is_well=method))

    for gone in (
        ray.exceptions.WorkerCrashedError(),
        ray.exceptions.ObjectLostError("0", None, ""),
    ):
        with pytest.raises(TierGoneError):
            asyncio.run(call(gone)(None))
    own = ray.exceptions.RayTaskError("answer", "traceback", ValueError("its own"))
    with pytest.raises(ray.exceptions.RayTaskError):
        asyncio.run(call(own)(None))
    assert not asyncio.run(call(own).is_well())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deadline": 0}, "'deadline' must be positive. Got 0"),
        ({"max_rows": 10, "max_queued": 5}, "max_rows=10 and max_queued=5"),
        ({"max_queued_bytes": 10}, "max_request_bytes=8388608 and max_queued_bytes=10"),
        ({"max_queued": 1.5}, "'max_queued' must be a positive integer. Got 1.5"),
        ({"drift_level": 2}, "'drift_level' must be in"),
        ({"simulate_links": True}, "needs the links of a TierPlan"),
        (
            {
                "tiers": TierPlan([Tier("a", 1)], [], [0] * 4, answer_bytes=4),
                "simulate_links": True,
            },
            "Got a plan with answer_bytes",
        ),
        ({"tiers": [4], "replicas": [1, 2]}, r"one for each of the tiers \['tier0'\]"),
        ({"replicas": 0}, "'replicas' must be a positive integer"),
        ({"batch_wait": 20}, "'batch_wait' must be below the deadline"),
        ({"operating_points": {"default": {"budget": 1}}}, "'default' is taken"),
        ({"operating_points": {"a": {"operating_point": "a"}}}, "a threshold or a budget"),
        ({"operating_points": {"low": {"budget": 1e-9}}}, "budget"),
        ({"tiers": TierPlan([Tier("front", 1)], [], [0] * 4)}, "named 'front'"),
    ],
)
def test_options_are_checked(options, message):
    pytest.importorskip("ray.serve")
    with pytest.raises(ValueError, match=message):
        build_app(network(), **options)


def test_without_ray_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(skearlyexit, "serve", skearlyexit.serve)
    for name in [each for each in sys.modules if each.startswith("skearlyexit.serve")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("ray", "ray.serve", "starlette", "prometheus_client"):
        monkeypatch.setitem(sys.modules, name, None)
    module = import_module("skearlyexit.serve")
    with pytest.raises(ImportError, match=r"pip install 'skearlyexit\[ray\]'"):
        module.build_app(network())


def test_the_command_line_tells_errors_without_a_traceback(monkeypatch):
    pytest.importorskip("ray.serve")
    monkeypatch.setattr(sys, "argv", ["serve", "missing.joblib"])
    with pytest.raises(SystemExit, match=r"serve: error: There is no file 'missing.joblib'"):
        main()


def test_the_command_line_is_that_of_run():
    line = "model.joblib --tiers 2,4 --port 8001 --address auto --replicas 1,3 --budget 0.4"
    assert arguments(line.split()) == {
        "model": "model.joblib",
        "tiers": [2, 4],
        "port": 8001,
        "address": "auto",
        "replicas": [1, 3],
        "budget": 0.4,
    }
    assert arguments(["m.onnx", "--tiers", "3", "--threshold", "0.5,0.6"]) == {
        "model": "m.onnx",
        "tiers": [3],
        "threshold": [0.5, 0.6],
    }
