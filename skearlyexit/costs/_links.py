"""The cost of a transfer between machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral


@dataclass(frozen=True)
class Link:
    """Connection between two machines that run parts of the network.

    The cost of the link is added to the cost of the block after it. All samples that do not exit
    before the link pay it, whether there is an exit at this point or not.

    Parameters
    ----------
    after : int or str
        Index or name of the last block that runs on the first machine.
    bandwidth : float
        Bandwidth in bytes per second.
    latency : float, default=0.0
        Seconds that are added for each sample, independent of its size.

    Raises
    ------
    ValueError
        If `after` is neither an integer nor a string, the bandwidth is not positive, or the latency
        is negative or not finite.

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
            raise ValueError(f"A Link needs a block, by index or name. Got after={self.after!r}.")
        if not self.bandwidth > 0 or not 0 <= self.latency < float("inf"):
            raise ValueError(
                "A Link needs a positive bandwidth, in bytes per second, and a latency of at "
                f"least 0 seconds. Got bandwidth={self.bandwidth!r}, latency={self.latency!r}."
            )

    def seconds(self, n_bytes: float) -> float:
        """Compute the time of the transfer of one sample.

        Parameters
        ----------
        n_bytes : float
            Size of the sample in bytes.

        Returns
        -------
        seconds : float
            Time in seconds.
        """
        return n_bytes / self.bandwidth + self.latency


def check_links(links: Sequence[Link], owner: str) -> None:
    """Raise a TypeError unless all are links."""
    for link in links:
        if not isinstance(link, Link):
            raise TypeError(f"The 'links' of {owner} must be Link objects. Got {link!r} instead.")
