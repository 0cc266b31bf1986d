"""Deployments of Ray Serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.requests import ClientDisconnect
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response

from skearlyexit.costs import Link
from skearlyexit.runtime._part import PartAnswers
from skearlyexit.serve._batcher import Batcher
from skearlyexit.serve._drift import Drift
from skearlyexit.serve._errors import RequestError, TierGoneError
from skearlyexit.serve._front import Front, Limits, ServedModel, SlowLink
from skearlyexit.serve._http import Http, Request
from skearlyexit.serve._work import Ask, Refused, TierWork

#: Seconds in which a tier has to answer to be healthy.
HEALTH_SECONDS = 2.0


class TierReplica:
    """Replica of a tier, which computes requests in batches."""

    def __init__(self, work: TierWork, max_batch_size: int, batch_wait: float) -> None:
        self._batcher = Batcher(work, max_batch_size, batch_wait)

    async def answer(self, ask: Ask) -> PartAnswers | Refused:
        """Answer of a request."""
        answer: PartAnswers | Refused = await self._batcher.answer(ask)
        return answer

    async def is_well(self) -> bool:
        """Whether the replica can be called."""
        return True


class TierCall:
    """Calls of the replicas of a tier."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    def __call__(self, ask: Ask) -> Awaitable[PartAnswers | Refused]:
        """Answer of one of the replicas."""
        return self._called(self._handle.answer.remote(ask))

    async def is_well(self) -> bool:
        """Whether a replica answers in time."""
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                return bool(await self._called(self._handle.is_well.remote()))
        except Exception:  # whatever it is, the tier has not answered
            return False

    async def _called(self, response: Any) -> Any:
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except RayTaskError:  # the replica has answered, by an error of its own
            raise
        except (RayError, RayServeException) as error:
            raise TierGoneError(str(error)) from error


class FrontReplica:
    """Replica that answers requests over HTTP by asking the tiers."""

    def __init__(
        self,
        model: ServedModel,
        limits: Limits,
        drift: tuple[int, float],
        links: Sequence[Sequence[Link]],
        *tiers: DeploymentHandle,
    ) -> None:
        calls = [TierCall(handle) for handle in tiers]
        slow = [[SlowLink(link) for link in before] for before in links]
        front = Front(model, calls, limits, Drift(*drift), slow)

        async def check_tiers() -> list[bool]:
            return list(await asyncio.gather(*(call.is_well() for call in calls)))

        self._http = Http(front, check_tiers)

    async def __call__(self, request: StarletteRequest) -> Response:
        """Reply to a request."""
        prefix = request.scope.get("root_path", "").rstrip("/")
        path = request.url.path.removeprefix(prefix)
        reply = await self._http.reply(
            Request(
                request.method,
                path,
                dict(request.query_params),
                request.headers,
                read_chunks(request),
            )
        )
        return Response(reply.body, reply.status, dict(reply.headers), reply.media_type)


async def read_chunks(request: StarletteRequest) -> AsyncIterator[bytes]:
    """Body of a request, unless its client leaves before it is complete."""
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise RequestError(400, "The connection was closed before the end of the body.") from None
