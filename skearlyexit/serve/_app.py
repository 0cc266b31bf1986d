"""Applications of Ray Serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from skearlyexit._utils._ray import import_ray
from skearlyexit.tiers import TierPlan

if TYPE_CHECKING:
    from skearlyexit.serve._division import Division

#: Name of the deployment that answers over HTTP.
FRONT = "front"
BATCH_SIZE, BATCH_WAIT = 64, 0.002
HOST, PORT = "127.0.0.1", 8000
#: A line for each request takes longer than many a request.
LOGGING = {"enable_access_log": False}


def build_app(
    model: Any,
    *,
    tiers: TierPlan | Sequence[int] | None = None,
    threshold: float | Sequence[float] | None = None,
    budget: Any = None,
    operating_points: Mapping[str, Mapping[str, Any]] | None = None,
    deadline: float = 10.0,
    max_batch_size: int | Sequence[int] | None = None,
    batch_wait: float | Sequence[float] | None = None,
    replicas: int | Sequence[int] | None = None,
    max_queued: int = 4096,
    max_queued_bytes: int = 2**28,
    max_rows: int = 1024,
    max_request_bytes: int = 2**23,
    drift_window: int = 1000,
    drift_level: float = 1e-6,
    simulate_links: bool = False,
    ray_actor_options: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
) -> Any:
    """Make an application of Ray Serve from a fitted model.

    Each tier becomes a deployment, which runs the stages, heads and decisions of some exits. A
    deployment before them, ``"front"``, checks requests, calls one tier after the other for the
    samples that have not exited, and answers. Requests are computed in batches in each tier.
    Answers are those of `predict` with the same thresholds, to the last bit for models for which
    `predict` does not depend on the batch.

    ``POST /predict`` predicts, ``GET /health`` states whether all tiers answer, ``GET /metrics``
    returns metrics in Prometheus' format, and ``GET`` and ``PUT /operating-point`` show and change
    the thresholds. The user guide describes them.

    Parameters
    ----------
    model : estimator, OnnxCascade, str or path-like
        Fitted estimator with exits, fitted pipeline whose last step is one, or the path of a file:
        one of ``joblib.dump``, which may execute code when it is loaded, or, with the suffix
        ``.onnx``, one of `to_onnx`. It is sent to the machines with the application, to each tier
        the models of its own exits.
    tiers : sequence of int or TierPlan, default=None
        Number of exits of each tier, which are named ``"tier0"``, ``"tier1"`` and so on; or a plan,
        of which names, assignment, compression, `max_batch_size`, `max_batch_wait` and `n_workers`
        (replicas) are used. By default, a `Tier` computes one sample at a time; give it a
        `max_batch_size`, or give one below. None is a single tier. Exported models and those with a
        router run in a single one.
    threshold, budget : default=None
        Operating point at the start, as in `predict`. None is that of the model.
    operating_points : mapping of str to mapping, default=None
        Names for further operating points, such as ``{"busy": {"budget": 0.2}}``.
    deadline : float, default=10.0
        Seconds after which the last exits that have answered are final, from when a request comes
        in. A body that is not complete by then is refused. A request may ask for an earlier
        deadline.
    max_batch_size : int or sequence of int, default=None
        Maximum number of samples that a tier computes together, for all tiers or for each. None is
        64, or the number of the plan.
    batch_wait : float or sequence of float, default=None
        Seconds that a request waits at most for others of its batch. None is 0.002, or the number
        of the plan.
    replicas : int or sequence of int, default=None
        Number of replicas of each tier. None is 1, or the number of the plan.
    max_queued : int, default=4096
        Maximum number of samples without an answer. A request that is being read counts as one.
        Further requests are refused with status 503.
    max_queued_bytes : int, default=268435456
        Maximum number of bytes of all requests without an answer. A request counts with the length
        that it declares, or else with what has been read. Further requests are refused with status
        503.
    max_rows : int, default=1024
        Maximum number of samples of a request.
    max_request_bytes : int, default=8388608
        Maximum size of a request.
    drift_window : int, default=1000
        Number of recent samples whose exit rates are compared with those on the calibration
        samples.
    drift_level : float, default=1e-6
        Probability of an alarm in a test if nothing has changed. There is a test for each tenth of
        a window.
    simulate_links : bool, default=False
        Whether what is sent to a tier is delayed by the links of the plan, to see on one machine
        how it would be on several. The plan must have one device a tier, and no way back.
    ray_actor_options : dict or sequence of dict, default=None
        Options of the replicas of all tiers or of each, such as ``{"num_gpus": 1}`` or
        ``{"resources": {"edge": 1}}``. By default, replicas reserve no processors, so that all of
        them start on a small machine.

    Returns
    -------
    app : ray.serve.Application
        Application, for ``ray.serve.run``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If Ray Serve is not installed.
    TypeError
        If the model has no exits.
    ValueError
        If an argument is invalid, the model cannot be divided, or its operating point is a strict
        budget, which holds for the samples of one call.

    See Also
    --------
    run : Start an application.
    skearlyexit.tiers.choose_plan : Choose the tiers.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.serve import build_app
    >>> X, y = make_classification(300, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], random_state=0).fit(X, y)
    >>> app = build_app(clf, tiers=[1, 1], deadline=0.5)  # for ray.serve.run(app)
    """
    serve = import_ray("a service", "ray.serve").serve
    # They need packages that come with Ray Serve.
    from skearlyexit.serve._division import divided
    from skearlyexit.serve._front import Limits
    from skearlyexit.serve._replicas import FrontReplica, TierReplica

    for name, whole in (
        ("max_queued", max_queued),
        ("max_queued_bytes", max_queued_bytes),
        ("max_rows", max_rows),
        ("max_request_bytes", max_request_bytes),
        ("drift_window", drift_window),
    ):
        _check_count(name, whole)
    _check("deadline", deadline, _is_real(deadline) and 0 < deadline < float("inf"), "positive")
    _check("drift_level", drift_level, _is_real(drift_level) and 0 < drift_level < 1, "in (0, 1)")
    if max_rows > max_queued:
        raise ValueError(
            f"A request of 'max_rows' samples must fit into the queue. Got max_rows={max_rows} "
            f"and max_queued={max_queued}."
        )
    if max_request_bytes > max_queued_bytes:
        raise ValueError(
            "A request of 'max_request_bytes' must fit into the queue. Got max_request_bytes="
            f"{max_request_bytes} and max_queued_bytes={max_queued_bytes}."
        )
    plan = tiers if isinstance(tiers, TierPlan) else None
    if simulate_links and plan is None:
        raise ValueError("'simulate_links' needs the links of a TierPlan. Give one as 'tiers'.")
    if simulate_links and plan is not None:
        _check_simulated(plan)
    served, works, division = divided(
        model, tiers, threshold, budget, {} if operating_points is None else operating_points
    )
    if FRONT in division.names:
        raise ValueError(
            f"The deployment before all tiers is named {FRONT!r}. Got a tier of this name; give it "
            "another one."
        )
    planned = _Planned(plan, division)
    sizes = planned.each("max_batch_size", max_batch_size, "max_batch_size", BATCH_SIZE)
    waits = planned.each("batch_wait", batch_wait, "max_batch_wait", BATCH_WAIT)
    numbers = planned.each("replicas", replicas, "n_workers", 1)
    for name, values in (("max_batch_size", sizes), ("replicas", numbers)):
        for whole in values:
            _check_count(name, whole)
    for wait in waits:
        _check("batch_wait", wait, _is_real(wait) and 0 <= wait < deadline, "below the deadline")
    options = planned.each("ray_actor_options", ray_actor_options, "", {"num_cpus": 0})
    bound = [
        serve.deployment(TierReplica)
        .options(
            name=name,
            num_replicas=int(n_replicas),
            # The front limits the queue.
            max_ongoing_requests=int(max_queued),
            ray_actor_options=dict(option),
            logging_config=LOGGING,
        )
        .bind(work, int(size), float(wait))
        for name, work, size, wait, n_replicas, option in zip(
            division.names, works, sizes, waits, numbers, options, strict=True
        )
    ]
    limits = Limits(
        float(deadline),
        int(max_queued),
        int(max_queued_bytes),
        int(max_rows),
        int(max_request_bytes),
    )
    links = division.links if simulate_links else [[] for _ in works]
    front = serve.deployment(FrontReplica).options(
        name=FRONT,
        num_replicas=1,
        # Those that are refused are requests, too.
        max_ongoing_requests=2 * int(max_queued),
        # Others would wait where no deadline is known.
        max_queued_requests=int(max_queued),
        ray_actor_options={"num_cpus": 0},
        logging_config=LOGGING,
    )
    return front.bind(served, limits, (int(drift_window), float(drift_level)), links, *bound)


def run(
    model: Any,
    *,
    host: str | None = None,
    port: int | None = None,
    address: str | None = None,
    name: str = "skearlyexit",
    route_prefix: str = "/",
    blocking: bool = False,
    **options: Any,
) -> Any:
    """Serve a fitted model on this machine or a cluster.

    Parameters
    ----------
    model : estimator, OnnxCascade, str or path-like
        Model, as in `build_app`.
    host : str, default=None
        Address on which requests are accepted. "0.0.0.0" accepts those of other machines. None is
        that of Ray Serve if it runs already in the cluster, or else "127.0.0.1".
    port : int, default=None
        Port for requests. None is that of Ray Serve if it runs already, or else 8000.
    address : str, default=None
        Cluster, such as ``"auto"`` or ``"ray://head:10001"``. All its machines need this package.
        None is the cluster that the process is connected to, or else a new one on this machine,
        without Ray's dashboard.
    name : str, default="skearlyexit"
        Name of the application.
    route_prefix : str, default="/"
        Beginning of all paths.
    blocking : bool, default=False
        Whether to wait until the process is interrupted.
    **options : dict
        Other arguments of `build_app`.

    Returns
    -------
    handle : ray.serve.handle.DeploymentHandle
        Handle of the application. ``ray.serve.shutdown()`` ends it.

    Raises
    ------
    ImportError, TypeError, ValueError
        As in `build_app`, before anything is started. A ValueError also if Ray Serve runs already
        with another host or port.

    Examples
    --------
    >>> from skearlyexit.serve import run
    >>> run("model.joblib", tiers=[1, 1])
    Traceback (most recent call last):
    FileNotFoundError: There is no file 'model.joblib'.
    """
    ray = import_ray("a service", "ray.serve")
    app = build_app(model, **options)
    if address is not None:
        ray.init(address=address, ignore_reinit_error=True)
    elif not ray.is_initialized():
        ray.init(address="local", include_dashboard=False)
    _start_serve(ray.serve, host, port)
    return ray.serve.run(app, name=name, route_prefix=route_prefix, blocking=blocking)


def _start_serve(serve: Any, host: str | None, port: int | None) -> None:
    """Start Ray Serve, unless it runs already with this host and port."""
    # Ray has no public function for the options of the one that runs. It may still hold a client of
    # a cluster that was shut down.
    serve.context._set_global_client(None)
    client = serve.context._get_global_client(raise_if_no_controller_running=False)
    if client is None:
        options = {"host": HOST if host is None else host, "port": PORT if port is None else port}
        serve.start(http_options=options)
        return
    runs = client.http_config
    asked = (("host", host, runs.host), ("port", port, runs.port))
    others = [f"{name}={given!r}" for name, given, own in asked if given not in (None, own)]
    if others:
        raise ValueError(
            f"Ray Serve runs already in this cluster with host={runs.host!r} and port={runs.port}, "
            f"which it has for all applications. Got {', '.join(others)}. Leave this out, or end "
            "Ray Serve with all its applications by ray.serve.shutdown() before."
        )


class _Planned:
    """Numbers for each tier, by an argument, a plan, or a default."""

    def __init__(self, plan: TierPlan | None, division: Division) -> None:
        self._names = division.names
        machines = [] if plan is None else plan.tiers
        self._tiers = {tier.name: tier for tier in machines}

    def each(self, name: str, given: Any, attribute: str, default: Any) -> list[Any]:
        """Values of the tiers with exits."""
        if given is None:
            return [getattr(self._tiers.get(tier), attribute, default) for tier in self._names]
        if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
            return [given] * len(self._names)
        if len(given) != len(self._names):
            raise ValueError(
                f"{name!r} must be one value or one for each of the tiers {self._names}. Got "
                f"{given!r}."
            )
        return list(given)


def _check_simulated(plan: TierPlan) -> None:
    """Raise a ValueError if the links of a plan are not only those to the next tiers."""
    others = {
        "n_devices": max(tier.n_devices for tier in plan.tiers) > 1,
        "answer_bytes": plan.answer_bytes is not None,
        "links_back": plan.links_back is not None,
        "local_link": plan.local_link is not None,
    }
    given = [name for name, is_given in others.items() if is_given]
    if given:
        raise ValueError(
            "'simulate_links' delays what is sent to the next tier, and neither answers nor what "
            f"several devices send. Got a plan with {', '.join(given)}; leave this out, or give "
            "simulate_links=False."
        )


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_count(name: str, value: Any) -> None:
    is_valid = isinstance(value, int | np.integer) and bool(value > 0)
    _check(name, value, is_valid, "a positive integer")


def _check(name: str, value: Any, is_valid: bool, what: str) -> None:
    if not is_valid or isinstance(value, bool):
        raise ValueError(f"{name!r} must be {what}. Got {value!r}.")
