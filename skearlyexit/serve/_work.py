"""What a tier computes for the requests of a batch."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from skearlyexit._cascade._chain import State
from skearlyexit._utils._not_finite import OutputsNotFiniteError
from skearlyexit.runtime._driver import Answers
from skearlyexit.runtime._onnx_session import Session
from skearlyexit.runtime._part import OnTheWay, PartAnswers
from skearlyexit.serve._errors import INVALID
from skearlyexit.tiers._compression import packed, unpacked

logger = logging.getLogger("skearlyexit.serve")


@dataclass(frozen=True, eq=False)
class Ask:
    """Samples of one request that a tier is asked about.

    Attributes
    ----------
    samples : OnTheWay
        The samples.
    thresholds : ndarray of shape (n_exits - 1,)
        Thresholds in force when the request came in.
    with_probabilities : bool
        Whether probabilities are returned.
    """

    samples: OnTheWay
    thresholds: np.ndarray
    with_probabilities: bool


@dataclass(frozen=True)
class Refused:
    """Samples for which there is no valid answer.

    Attributes
    ----------
    message : str
        The reason.
    not_finite : OutputsNotFiniteError or None, default=None
        The reason if outputs are not finite, with the positions of these samples.
    """

    message: str
    not_finite: OutputsNotFiniteError | None = None


#: What exits are run by: a part of a cascade, or a whole exported one.
Runner = Callable[..., list[PartAnswers]]


@dataclass(frozen=True, eq=False)
class TierWork:
    """What a tier computes.

    Attributes
    ----------
    run : CascadePart or ExportedPart
        Runs the exits of the tier.
    compression : str or None
        Format in which embeddings are sent to the next tier.
    """

    run: Runner
    compression: str | None = None

    def __call__(self, asks: Sequence[Ask]) -> list[PartAnswers | Refused]:
        """Answers for each request, in the order in which they are given."""
        found: list[PartAnswers | Refused | None] = [None] * len(asks)
        alike: dict[tuple[Any, ...], list[int]] = {}
        for i, ask in enumerate(asks):
            # Together, samples of different types would become samples of another one.
            types = _dtypes(ask.samples.carry)
            key = ask.thresholds.tobytes(), ask.with_probabilities, types
            alike.setdefault(key, []).append(i)
        for positions in alike.values():
            answers = self._of_alike([asks[i] for i in positions])
            for i, answer in zip(positions, answers, strict=True):
                found[i] = answer
        return [each for each in found if each is not None]

    def _of_alike(self, asks: list[Ask]) -> list[PartAnswers | Refused]:
        """Answers for requests with the same thresholds and types, computed together."""
        given = [replace(ask.samples, carry=unpacked(ask.samples.carry)) for ask in asks]
        try:
            found = self.run(
                given, asks[0].thresholds, with_probabilities=asks[0].with_probabilities
            )
        except INVALID as error:
            if len(asks) == 1:
                if isinstance(error, OutputsNotFiniteError):
                    return [Refused(str(error), error)]
                logger.warning("The model has refused samples.", exc_info=True)
                return [Refused(str(error))]
            # One of the requests must not take the others with it.
            return [self._of_alike([ask])[0] for ask in asks]
        return [self._sent(each) for each in found]

    def _sent(self, found: PartAnswers) -> PartAnswers:
        if self.compression is None or found.onward is None:
            return found
        carry = packed(found.onward.carry, self.compression)
        return replace(found, onward=replace(found.onward, carry=carry))


@dataclass(frozen=True, eq=False)
class ExportedPart:
    """All exits of an exported model, run by ONNX Runtime.

    Attributes
    ----------
    model : bytes
        Content of the file.
    """

    model: bytes

    @cached_property
    def session(self) -> Session:
        """Session of one thread, since there may be several replicas."""
        return Session(self.model, 1)

    def __call__(
        self,
        given: Sequence[OnTheWay],
        thresholds: np.ndarray,
        *,
        with_probabilities: bool = False,
    ) -> list[PartAnswers]:
        """Run all exits; see `CascadePart`."""
        X = np.concatenate([each.carry for each in given])
        answers = self.session.run(X, thresholds, with_probabilities=with_probabilities)
        stops = np.cumsum([each.n_samples for each in given])[:-1]
        nothing: list[Any] = [None] * len(given)
        columns = (
            np.split(answers.labels, stops),
            np.split(answers.exits, stops),
            nothing if answers.probabilities is None else np.split(answers.probabilities, stops),
        )
        return [
            PartAnswers(Answers(*each), np.arange(0), None) for each in zip(*columns, strict=True)
        ]


def _dtypes(carry: Any) -> Any:
    """Types of the values of samples, hashable. None if they have no such types."""
    if isinstance(carry, tuple):
        return tuple(map(_dtypes, carry))
    return tuple(carry.dtypes) if hasattr(carry, "columns") else getattr(carry, "dtype", None)


def sent_bytes(samples: OnTheWay) -> int:
    """Bytes of samples as they are sent, without those of the protocol."""
    remembered = sum(part.nbytes for part in samples.state if part is not None)
    return _nbytes(samples.carry) + remembered


def _nbytes(carry: Any) -> int:
    if carry is None:
        return 0
    if isinstance(carry, tuple):
        return sum(map(_nbytes, carry))
    if isinstance(carry, State):
        return carry.values.nbytes
    # Others are texts, data frames and sparse matrices.
    return int(carry.nbytes) if hasattr(carry, "nbytes") else len(pickle.dumps(carry))
