"""The interface over HTTP, without a server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skearlyexit.runtime._part import OnTheWay
from skearlyexit.serve._codec import (
    JSON,
    NPY,
    read_bounded,
    read_instances,
    read_json,
    read_npy,
    write_json,
    write_npy,
)
from skearlyexit.serve._errors import RequestError
from skearlyexit.serve._front import Front
from skearlyexit.serve._metrics import Answered
from skearlyexit.serve._points import Point

logger = logging.getLogger("skearlyexit.serve")

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Largest body of a request for another operating point.
POINT_BYTES = 2**16
#: A threshold in JSON above which no sample exits.
NEVER = 2.0
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Request:
    """A request.

    Attributes
    ----------
    method, path : str
        Such as "POST" and "/predict".
    query, headers : mapping of str to str
        Parameters, and headers with names in lower case.
    chunks : async iterator of bytes
        The body.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True)
class Reply:
    """A reply."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class Http:
    """Replies to requests.

    Parameters
    ----------
    front : Front
        What answers.
    check_tiers : callable
        Returns an awaitable of whether each tier answers.
    """

    def __init__(self, front: Front, check_tiers: Callable[[], Awaitable[list[bool]]]) -> None:
        self._front, self._check_tiers = front, check_tiers
        self._routes: dict[str, dict[str, Callable[[Request], Awaitable[Reply]]]] = {
            "/predict": {"POST": self._predict},
            "/health": {"GET": self._health},
            "/metrics": {"GET": self._metrics},
            "/operating-point": {"GET": self._point, "PUT": self._set_point},
        }

    async def reply(self, request: Request) -> Reply:
        """Reply to a request. Errors are replies, too."""
        try:
            reply = await self._route(request)(request)
        except RequestError as error:
            body = write_json({"error": error.message})
            reply = Reply(body, error.status, headers=error.headers)
        except Exception:
            logger.exception("A request has failed.")
            reply = Reply(write_json({"error": "The server has failed; see its log."}), 500)
        if request.path == "/predict":
            self._front.metrics.replied(reply.status)
        return reply

    def _route(self, request: Request) -> Callable[[Request], Awaitable[Reply]]:
        methods = self._routes.get(request.path)
        if methods is None:
            raise RequestError(
                404, f"There is no {request.path[:100]!r}. There are {list(self._routes)}."
            )
        if request.method not in methods:
            allowed = ", ".join(methods)
            raise RequestError(405, f"{request.path} supports {allowed} only.", {"Allow": allowed})
        return methods[request.method]

    async def _predict(self, request: Request) -> Reply:
        # Of the time when it came in, before what may take long.
        point, begin = self._front.point, asyncio.get_running_loop().time()
        limits, model = self._front.limits, self._front.model
        unknown = set(request.query) - {"deadline", "probabilities"}
        if unknown:
            raise RequestError(
                400,
                f"There is no parameter {min(unknown)[:50]!r}. There are 'deadline', in seconds, "
                "and 'probabilities'.",
            )
        end = begin + _deadline(request.query.get("deadline"), limits.deadline)
        with_probabilities = _boolean(request.query.get("probabilities", "false"))
        if with_probabilities and model.classes is None:
            raise RequestError(400, "A regressor has no probabilities. Leave out 'probabilities'.")
        kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        if kind not in (JSON, NPY):
            raise RequestError(
                415, f"The Content-Type must be {JSON} or {NPY}. Got {kind[:100]!r}."
            )
        read = read_instances if kind == JSON else read_npy
        with self._front.queued_bytes() as count:
            with self._front.queued(1):  # whose number of samples is not known yet
                body = await _body(request, limits.max_request_bytes, count, end)
                samples = await _converted(
                    lambda body: model.samples.samples(read(body, limits.max_rows)), body, end
                )
            answered = await self._front.predict(
                samples, point, with_probabilities=with_probabilities, begin=begin, end=end
            )
        if NPY in request.headers.get("accept", ""):
            return Reply(write_npy(self._columns(answered)), media_type=NPY)
        return Reply(write_json(self._content(answered)))

    def _columns(self, answered: Answered) -> dict[str, np.ndarray]:
        """Fields of an answer as an array."""
        is_classifier = self._front.model.classes is not None
        columns = {
            "label" if is_classifier else "prediction": answered.labels,
            "exit": answered.exits,
            "tier": answered.tiers,
            "degraded": answered.degraded,
        }
        if answered.probabilities is not None:
            columns["probabilities"] = answered.probabilities
        return columns

    def _content(self, answered: Answered) -> dict[str, Any]:
        """An answer in JSON."""
        model = self._front.model
        content = {
            "labels" if model.classes is not None else "predictions": answered.labels,
            "exits": answered.exits,
            "tiers": [model.tier_names[i] for i in answered.tiers],
            "degraded": answered.degraded,
        }
        if answered.probabilities is not None:
            content |= {"classes": model.classes, "probabilities": answered.probabilities}
        return content

    async def _health(self, request: Request) -> Reply:
        found = await self._check_tiers()
        status = "ok" if all(found) else "degraded" if found[0] else "unavailable"
        names = self._front.model.tier_names
        tiers = {name: "ok" if is_ok else "gone" for name, is_ok in zip(names, found, strict=True)}
        body = write_json({"status": status, "tiers": tiers})
        return Reply(body, 200 if found[0] else 503)

    async def _metrics(self, request: Request) -> Reply:
        front = self._front
        text = front.metrics.text(front.point, front.n_queued, front.n_queued_bytes)
        return Reply(text, media_type=METRICS_TYPE)

    async def _point(self, request: Request) -> Reply:
        return _described(self._front.point)

    async def _set_point(self, request: Request) -> Reply:
        end = asyncio.get_running_loop().time() + self._front.limits.deadline
        with self._front.queued_bytes() as count:
            asked = read_json(await _body(request, POINT_BYTES, count, end))
        try:
            point = self._front.set_point(asked)
        except (TypeError, ValueError) as error:
            raise RequestError(422, str(error)) from None
        except OverflowError:
            raise RequestError(
                422, "A number is too large. A threshold of 2 stands for infinity."
            ) from None
        return _described(point)


async def _body(
    request: Request, max_bytes: int, count: Callable[[int], None], end: float
) -> bytes:
    """Body of a request that is complete in time."""
    try:
        async with asyncio.timeout_at(end):
            return await read_bounded(request.headers, request.chunks, max_bytes, count)
    except TimeoutError:
        raise RequestError(
            408, "The body was not complete in time. Send fewer samples, or give a later deadline."
        ) from None


async def _converted(convert: Callable[[bytes], OnTheWay], body: bytes, end: float) -> OnTheWay:
    """Result of a conversion, during which other requests are answered, if it comes in time."""
    # A conversion that is given up stays in the queue of the threads until its turn. It must not
    # keep the body, which is no longer counted.
    waiting = [body]
    del body
    try:
        async with asyncio.timeout_at(end):
            return await asyncio.to_thread(lambda: convert(waiting.pop()))
    except TimeoutError:
        raise RequestError(
            504,
            "The samples were not read and transformed in time, and no exit is before that. Send "
            "fewer samples, or give a later deadline.",
        ) from None
    finally:
        waiting.clear()


def _described(point: Point) -> Reply:
    content = {
        "operating_point": point.name,
        "version": point.version,
        "thresholds": np.minimum(point.thresholds, NEVER),
        "exit_rates": point.rates,
    }
    return Reply(write_json(content))


def _deadline(given: str | None, longest: float) -> float:
    if given is None:
        return longest
    try:
        seconds = float(given)
    except ValueError:
        seconds = float("nan")
    if not 0 < seconds <= longest:
        raise RequestError(
            400,
            f"'deadline' must be a number of seconds above 0, at most {longest:g}. Got "
            f"{given[:50]!r}.",
        )
    return seconds


def _boolean(given: str) -> bool:
    if given.lower() not in BOOLEANS:
        raise RequestError(400, f"'probabilities' must be true or false. Got {given[:50]!r}.")
    return BOOLEANS[given.lower()]
