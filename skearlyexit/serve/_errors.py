"""Errors of requests, and of tiers."""

from __future__ import annotations

from collections.abc import Mapping

#: What models raise for samples that are not valid, such as numbers where texts are read.
INVALID = (AttributeError, LookupError, OverflowError, TypeError, ValueError)


class RequestError(Exception):
    """A request that is refused.

    Parameters
    ----------
    status : int
        Status code of HTTP.
    message : str
        What is wrong, what was got and what to do.
    headers : mapping of str to str, default={}
        Further headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


class TierGoneError(Exception):
    """A tier that cannot be reached, or whose process ended before it answered."""
