"""From samples to answers, through one tier after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skearlyexit._utils._not_finite import relocated
from skearlyexit.costs import Link
from skearlyexit.runtime._driver import Answers
from skearlyexit.runtime._part import OnTheWay, PartAnswers
from skearlyexit.serve._drift import Drift
from skearlyexit.serve._errors import RequestError, TierGoneError
from skearlyexit.serve._metrics import Answered, Metrics
from skearlyexit.serve._points import Point, Points
from skearlyexit.serve._samples import SampleFormat
from skearlyexit.serve._work import Ask, Refused, sent_bytes

logger = logging.getLogger("skearlyexit.serve")

#: Seconds after which a client should try again, and between two calls of the first tier.
RETRY_AFTER, PAUSE = 1, 0.1


@dataclass(frozen=True, eq=False)
class ServedModel:
    """What is known of a model beside its exits.

    Attributes
    ----------
    samples : SampleFormat
        What its samples are.
    decoded : callable
        Function from what the exits predict to what the user is told.
    classes : ndarray of shape (n_classes,) or None
        Class labels. None for regressors.
    exit_names, tier_names : list of str
        Names of the exits and tiers.
    points : Points
        Operating points.
    """

    samples: SampleFormat
    decoded: Callable[[np.ndarray], np.ndarray]
    classes: np.ndarray | None
    exit_names: list[str]
    tier_names: list[str]
    points: Points


@dataclass(frozen=True)
class Limits:
    """Limits of an application; see `build_app`."""

    deadline: float
    max_queued: int
    max_queued_bytes: int
    max_rows: int
    max_request_bytes: int


class SlowLink:
    """Delay of what is sent over a link, one transmission after the other."""

    def __init__(self, link: Link) -> None:
        self._link, self._free = link, 0.0

    async def sent(self, n_bytes: float) -> None:
        """Wait for the end of a transmission."""
        now = asyncio.get_running_loop().time()
        self._free = max(now, self._free) + n_bytes / self._link.bandwidth
        await asyncio.sleep(self._free + self._link.latency - now)


class Front:
    """What answers requests by asking the tiers.

    Parameters
    ----------
    model : ServedModel
        The model.
    tiers : sequence of callable
        Each maps an `Ask` to an awaitable of `PartAnswers` or `Refused`, and raises a
        `TierGoneError` if it cannot be reached.
    limits : Limits
        Limits of the application.
    drift : Drift
        Test of the exit rates.
    links : sequence of sequence of SlowLink, default=()
        Links before each tier, whose delays are simulated.
    """

    def __init__(
        self,
        model: ServedModel,
        tiers: Sequence[Callable[[Ask], Awaitable[PartAnswers | Refused]]],
        limits: Limits,
        drift: Drift,
        links: Sequence[Sequence[SlowLink]] = (),
    ) -> None:
        self.model, self.limits, self.drift = model, limits, drift
        self._tiers = tiers
        self._links = links or [()] * len(tiers)
        self.metrics = Metrics(model.exit_names, model.tier_names, model.points.costs, drift)
        self.n_queued = self.n_queued_bytes = 0
        self._set(model.points.start())

    def set_point(self, request: Any) -> Point:
        """Change the operating point for all requests that come in from now on.

        Raises
        ------
        ValueError
            As in `Points.asked`. The point is then as it was.
        """
        self._set(replace(self.model.points.asked(request), version=self.point.version + 1))
        return self.point

    def _set(self, point: Point) -> None:
        self.point = point
        self.drift.start(point.rates, point.n_reference)

    async def predict(
        self,
        samples: OnTheWay,
        point: Point,
        *,
        with_probabilities: bool,
        begin: float,
        end: float,
    ) -> Answered:
        """Answer a request, all samples of which are under the same thresholds.

        Parameters
        ----------
        samples : OnTheWay
            Samples before the first exit.
        point : Point
            Operating point when the request came in.
        with_probabilities : bool
            Whether probabilities are returned.
        begin, end : float
            Time of the running loop when the request came in, and after which the last exits that
            have answered are final.

        Raises
        ------
        RequestError
            With status 422 if the model has no valid outputs for a sample, 503 if too many samples
            are waiting or the first tier is gone, and 504 if it has not answered in time.
        """
        with self.queued(samples.n_samples):
            answered = await self._through(samples, point, with_probabilities, end)
        self.metrics.answered(answered, asyncio.get_running_loop().time() - begin)
        if point is self.point and self.drift.add(answered.exits, answered.degraded):
            self._tell_drift()
        return answered

    @contextmanager
    def queued(self, n_samples: int) -> Iterator[None]:
        """Count samples that wait for their answers, unless there are too many.

        Raises
        ------
        RequestError
            With status 503 if there are.
        """
        if self.n_queued + n_samples > self.limits.max_queued:
            raise _too_many("samples", self.n_queued, self.limits.max_queued, n_samples)
        self.n_queued += n_samples
        try:
            yield
        finally:
            self.n_queued -= n_samples

    @contextmanager
    def queued_bytes(self) -> Iterator[Callable[[int], None]]:
        """Count the bytes of a request until it is answered, unless there are too many.

        Yields
        ------
        count : callable
            Counts further bytes. It raises a RequestError with status 503 if there are too many.
        """
        n_counted = 0

        def count(n_bytes: int) -> None:
            nonlocal n_counted
            if self.n_queued_bytes + n_bytes > self.limits.max_queued_bytes:
                raise _too_many("bytes", self.n_queued_bytes, self.limits.max_queued_bytes, n_bytes)
            self.n_queued_bytes += n_bytes
            n_counted += n_bytes

        try:
            yield count
        finally:
            self.n_queued_bytes -= n_counted

    async def _through(
        self, samples: OnTheWay, point: Point, with_probabilities: bool, end: float
    ) -> Answered:
        """Let the samples of a request pass the tiers."""
        n_samples = samples.n_samples
        rows, found = np.arange(n_samples), None
        tiers, degraded = np.zeros(n_samples, dtype=int), np.zeros(n_samples, dtype=bool)
        for tier in range(len(self._tiers)):
            ask = Ask(samples, point.thresholds, with_probabilities)
            told = await self._asked(tier, ask, end, is_needed=found is None)
            if told is None:
                degraded[rows] = True
                break
            if isinstance(told, Refused):
                raise RequestError(422, _reason(told, rows))
            tiers[rows] = tier
            if found is None:
                found = _copied(told.answers)
            else:
                _update(found, rows, told.answers)
            if told.onward is None:
                break
            rows, samples = rows[told.staying], told.onward
        assert found is not None
        labels = self.model.decoded(found.labels)
        return Answered(labels, found.exits, tiers, degraded, found.probabilities, point)

    async def _asked(
        self, tier: int, ask: Ask, end: float, *, is_needed: bool
    ) -> PartAnswers | Refused | None:
        """Answers of a tier. None if it gives none and there are those of the tiers before."""
        name, is_gone = self.model.tier_names[tier], False
        try:
            async with asyncio.timeout_at(end):
                for link in self._links[tier]:
                    await link.sent(sent_bytes(ask.samples))
                while True:
                    try:
                        told = await self._tiers[tier](ask)
                        if is_needed or not _is_failure(told):
                            return told
                        logger.error("The tier %r has failed; see its log.", name)
                        self.metrics.failed(tier, "error")
                    except TierGoneError:
                        self.metrics.failed(tier, "gone")
                        is_gone = True
                    except Exception:
                        self.metrics.failed(tier, "error")
                        if is_needed:
                            raise
                        logger.exception("The tier %r has failed.", name)
                    if not is_needed:
                        return None
                    await asyncio.sleep(PAUSE)
        except TimeoutError:
            self.metrics.failed(tier, "late")
            if not is_needed:
                return None
            raise RequestError(
                503 if is_gone else 504,
                f"The tier {name!r} has not answered in time, and no exit is before it. Try again "
                "later, or give a later deadline.",
                {"Retry-After": str(RETRY_AFTER)} if is_gone else {},
            ) from None

    def _tell_drift(self) -> None:
        """Log that an alarm has begun or ended."""
        if not self.drift.is_alarm:
            logger.warning("The exit rates are those of the calibration samples again.")
            return
        self.metrics.alarm()
        assert self.point.rates is not None
        now, before = (
            ", ".join(f"{rate:.3f}" for rate in rates)
            for rates in (self.drift.rates_now(len(self.point.rates)), self.point.rates)
        )
        logger.warning(
            "The exit rates of the last %d samples, %s, differ from those of the calibration "
            "samples, %s (p = %.1e). The accuracy may have changed, too: calibrate the model on "
            "new samples.",
            self.drift.window,
            now,
            before,
            self.drift.p_value,
        )


def _too_many(what: str, n_queued: int, maximum: int, n_more: int) -> RequestError:
    return RequestError(
        503,
        f"{n_queued} {what} are waiting, and at most {maximum} may. Got {n_more} more; try again "
        "later.",
        {"Retry-After": str(RETRY_AFTER)},
    )


def _is_failure(told: PartAnswers | Refused) -> bool:
    """Whether a tier has failed, if the tiers before have accepted the samples."""
    return isinstance(told, Refused) and told.not_finite is None


def _reason(refused: Refused, rows: np.ndarray) -> str:
    """Why samples are refused, by their positions in the request, some of which were sent."""
    error = refused.not_finite
    message = refused.message if error is None else str(relocated(error, rows))
    return f"The samples are not valid: {message}"


def _copied(answers: Answers) -> Answers:
    """Answers that may be changed, which what is received may not."""
    probabilities = None if answers.probabilities is None else answers.probabilities.copy()
    return Answers(answers.labels.copy(), answers.exits.copy(), probabilities)


def _update(found: Answers, rows: np.ndarray, later: Answers) -> None:
    """Replace the answers of some samples by those of later exits."""
    found.labels[rows], found.exits[rows] = later.labels, later.exits
    if found.probabilities is not None:
        found.probabilities[rows] = later.probabilities
