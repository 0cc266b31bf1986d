"""Requests that a tier computes together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from skearlyexit.serve._work import Ask


class Batcher:
    """Queue of requests, of which those that wait at the same time are computed together.

    A batch is computed as soon as it is full, or its first request has waited for the longest time,
    in a thread of its own, one batch after the other. Requests that were given up are left out.

    Parameters
    ----------
    work : callable
        Function from a list of requests to their answers.
    max_batch_size : int
        Largest number of samples of a batch. A request with more is a batch of its own.
    max_wait : float
        Seconds for which the first request of a batch waits at most for others.
    """

    def __init__(
        self, work: Callable[[Sequence[Ask]], list[Any]], max_batch_size: int, max_wait: float
    ) -> None:
        self._work, self._max_batch_size, self._max_wait = work, max_batch_size, max_wait
        self._waiting: deque[tuple[Ask, asyncio.Future[Any], float]] = deque()
        self._came = asyncio.Event()
        self._thread = ThreadPoolExecutor(1)
        self._task: asyncio.Task[None] | None = None

    async def answer(self, ask: Ask) -> Any:
        """Answer of a request."""
        loop = asyncio.get_running_loop()
        if self._task is None:
            self._task = loop.create_task(self._run())
        future = loop.create_future()
        self._waiting.append((ask, future, loop.time()))
        self._came.set()
        return await future

    async def _run(self) -> None:
        """Compute one batch after the other."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._batch()
            try:
                answers = await loop.run_in_executor(
                    self._thread, self._work, [ask for ask, _ in batch]
                )
            except Exception as error:  # handed on to those who asked
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)

    async def _batch(self) -> list[tuple[Ask, asyncio.Future[Any]]]:
        """Wait for a batch, and take it from the queue."""
        loop = asyncio.get_running_loop()
        while True:
            while self._waiting and self._waiting[0][1].done():
                self._waiting.popleft()
            # From when it came, which may have been while the batch before was computed.
            end = self._waiting[0][2] + self._max_wait if self._waiting else None
            n_waiting = sum(ask.samples.n_samples for ask, _, _ in self._waiting)
            if n_waiting >= self._max_batch_size or (end is not None and loop.time() >= end):
                break
            self._came.clear()
            try:
                async with asyncio.timeout_at(end):
                    await self._came.wait()
            except TimeoutError:
                continue
        batch: list[tuple[Ask, asyncio.Future[Any]]] = []
        n_taken = 0
        while self._waiting:
            ask, future, _ = self._waiting[0]
            if batch and n_taken + ask.samples.n_samples > self._max_batch_size:
                break
            self._waiting.popleft()
            if not future.done():
                batch.append((ask, future))
                n_taken += ask.samples.n_samples
        return batch
