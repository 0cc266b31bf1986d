"""The cost of a transfer between machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral


@dataclass(frozen=True)
class Link:
    """Connection between two machines that run parts of the network.

    As one of the `links` of a cost, it is added to the cost of the block after it. All samples that
    do not exit before the link pay it, whether there is an exit at this point or not. In a
    `skearlyexit.tiers.TierPlan`, it connects a tier to the next one.

    Parameters
    ----------
    after : int, str or None, default=None
        Index or name of the last block that runs on the first machine. It is required in a cost,
        and None in a `TierPlan`, whose assignment determines what runs where.
    bandwidth : float, default=inf
        Bandwidth in bytes per second.
    latency : float, default=0.0
        Seconds that are added for each sample, independent of its size.
    energy : float, default=0.0
        Energy per byte, such as joules. Costs in seconds have no use for it.
    price : float, default=0.0
        Price per byte. Costs in seconds have no use for it.

    Raises
    ------
    ValueError
        If `after` is not an integer, a string or None, the bandwidth is not positive, or another
        number is negative or not finite.

    Examples
    --------
    >>> Link(after="block2", bandwidth=1e6, latency=0.002).seconds(n_bytes=4000)
    0.006
    """

    after: int | str | None = None
    bandwidth: float = float("inf")
    latency: float = 0.0
    energy: float = 0.0
    price: float = 0.0

    def __post_init__(self) -> None:
        if self.after is not None and not isinstance(self.after, str | Integral):
            raise ValueError(f"A Link needs a block, by index or name. Got after={self.after!r}.")
        if not self.bandwidth > 0 or not 0 <= self.latency < float("inf"):
            raise ValueError(
                "A Link needs a positive bandwidth, in bytes per second, and a latency of at "
                f"least 0 seconds. Got bandwidth={self.bandwidth!r}, latency={self.latency!r}."
            )
        if not (0 <= self.energy < float("inf") and 0 <= self.price < float("inf")):
            raise ValueError(
                "The energy and the price of a Link are finite numbers of at least 0 per byte. Got "
                f"energy={self.energy!r}, price={self.price!r}."
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
    """Raise an error unless all are links after a block, whose cost is a time."""
    for link in links:
        if not isinstance(link, Link):
            raise TypeError(f"The 'links' of {owner} must be Link objects. Got {link!r} instead.")
        if link.after is None:
            raise ValueError(
                f"A link of {owner} needs the block after which it is. Got {link!r}; give 'after'."
            )
        if link.energy or link.price:
            raise ValueError(
                f"The links of {owner} cost seconds only, without energy and price. Got {link!r}. "
                "skearlyexit.tiers.TierPlan computes all of them."
            )
