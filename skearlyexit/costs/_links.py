"""What it costs to hand rows on to another machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral


@dataclass(frozen=True)
class Link:
    """A connection between two machines, after a block of the network.

    Rows that go on past the block pay for it, whether an exit stands there or not.

    Parameters
    ----------
    after : int or str
        Block, by index or name.
    bandwidth : float
        Bytes per second.
    latency : float, default=0.0
        Seconds for each row, whatever its size.

    Raises
    ------
    ValueError
        If the bandwidth is no positive number, or the latency a negative one.

    Examples
    --------
    >>> Link(after="block2", bandwidth=1e6, latency=0.002).seconds(n_bytes=4000)
    0.006
    """

    after: int | str
    bandwidth: float
    latency: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.after, str | Integral):
            raise ValueError(
                f"A Link stands after a block, by index or name. Got after={self.after!r}."
            )
        if not self.bandwidth > 0 or not 0 <= self.latency < float("inf"):
            raise ValueError(
                "A Link needs a positive bandwidth, in bytes per second, and a latency of at "
                f"least 0 seconds. Got bandwidth={self.bandwidth!r}, latency={self.latency!r}."
            )

    def seconds(self, n_bytes: float) -> float:
        """Seconds that a row of this many bytes takes."""
        return n_bytes / self.bandwidth + self.latency


def check_links(links: Sequence[Link], owner: str) -> None:
    """Raise a TypeError unless all are links."""
    for link in links:
        if not isinstance(link, Link):
            raise TypeError(f"The 'links' of {owner} must be Link objects. Got {link!r} instead.")
