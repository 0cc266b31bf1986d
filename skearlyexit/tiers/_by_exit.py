"""What it takes to exit at each exit of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skearlyexit.costs import Link
from skearlyexit.tiers._parts import ModelParts
from skearlyexit.tiers._tier import Tier

if TYPE_CHECKING:
    from skearlyexit.tiers._plan import TierPlan


@dataclass(frozen=True, eq=False)
class ByExit:
    """What it takes to exit at each exit.

    Attributes
    ----------
    compute : ndarray of shape (n_exits, n_tiers)
        Seconds that each tier computes for a sample that exits there. Several devices compute at
        the same time.
    computed : ndarray of shape (n_exits, n_tiers), bool
        Whether each tier computes something for such a sample.
    occupied : ndarray of shape (n_exits, n_tiers)
        Seconds until each tier can begin the next sample. Several devices wait for each other, and
        until their outputs are merged.
    sent : ndarray of shape (n_exits, n_transfers)
        Bytes that such a sample sends in each transfer: over each link; if the answer is sent back,
        over each link on the way back, in the order of the links; and, if there are several
        devices, from these to the one that merges.
    sending : ndarray of shape (n_exits, n_transfers)
        Seconds of sending, without the latency of the link.
    crossed : ndarray of shape (n_exits, n_transfers), bool
        Whether such a sample makes each transfer.
    latency, energy, price, n_bytes : ndarray of shape (n_exits,)
        Totals of such a sample: seconds, energy, price and bytes over all links.
    """

    compute: np.ndarray
    computed: np.ndarray
    occupied: np.ndarray
    sent: np.ndarray
    sending: np.ndarray
    crossed: np.ndarray
    latency: np.ndarray
    energy: np.ndarray
    price: np.ndarray

    @property
    def n_bytes(self) -> np.ndarray:
        return np.asarray(self.sent.sum(axis=1))

    @classmethod
    def of(cls, plan: TierPlan, parts: ModelParts) -> ByExit:
        """What it takes with a plan that fits to the parts of a model."""
        runs_on = plan.tier_of_exit[:, None] == np.arange(len(plan.tiers))
        reached = np.logical_or.accumulate(runs_on)
        compute, spent = _computed(plan.tiers, parts, runs_on, reached)
        transfers = [*_onward(plan, parts), *_back(plan), *_merging(plan, parts)]
        links = [each.link for each in transfers]
        shape = parts.n_exits, len(transfers)
        crossed = _columns([each.crossed for each in transfers], shape)
        sent = crossed * _columns([each.n_bytes for each in transfers], shape)
        largest = crossed * _columns([each.largest for each in transfers], shape)
        sending = largest / values(links, "bandwidth")
        occupied = compute.copy()
        for each, seconds in zip(transfers, sending.T, strict=True):
            if each.is_merging:
                occupied[:, 0] += seconds + each.link.latency
        return cls(
            compute,
            reached,
            occupied,
            sent,
            sending,
            crossed,
            latency=compute.sum(axis=1) + sending.sum(axis=1) + crossed @ values(links, "latency"),
            energy=spent @ values(plan.tiers, "power") + sent @ values(links, "energy"),
            price=spent @ values(plan.tiers, "price") + sent @ values(links, "price"),
        )


@dataclass(frozen=True, eq=False)
class _Transfer:
    """What samples send over a link.

    Attributes
    ----------
    link : Link
    crossed : ndarray of shape (n_exits,), bool
        Whether a sample that exits at an exit sends something.
    n_bytes, largest : ndarray of shape (n_exits,)
        Bytes, and how many of them one device sends at most.
    is_merging : bool, default=False
        Whether devices send what is merged for an exit.
    """

    link: Link
    crossed: np.ndarray
    n_bytes: np.ndarray
    largest: np.ndarray
    is_merging: bool = False


def crossed_before(plan: TierPlan) -> np.ndarray:
    """Whether a link is crossed right before the stage of an exit, (n_exits, n_links)."""
    links = np.arange(len(plan.links))
    before = np.append(0, plan.tier_of_exit[:-1])
    return (before[:, None] <= links) & (links < plan.tier_of_exit[:, None])


def _computed(
    tiers: Sequence[Tier], parts: ModelParts, runs_on: np.ndarray, reached: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds that each tier computes, and the sum of those of all its devices."""
    rates = np.array([tier.rates[0] for tier in tiers])
    overheads = values(tiers, "overhead")
    compute = np.cumsum(runs_on * parts.work[:, None], axis=0) / rates + reached * overheads
    devices = tiers[0]
    if parts.views is None or devices.n_devices == 1 or not runs_on[0, 0]:
        return compute, compute
    # Every device runs the first stage on its view, and the first one merges, with the head.
    each = parts.views.work / devices.rates
    head = (parts.work[0] - parts.views.n_views * parts.views.work) / devices.rates[0]
    spent = compute.copy()
    compute[:, 0] = each.max() + head + devices.overhead
    spent[:, 0] = each.sum() + head + devices.n_devices * devices.overhead
    return compute, spent


def _onward(plan: TierPlan, parts: ModelParts) -> Iterator[_Transfer]:
    """Transfers over each link to the next tier."""
    crossed = crossed_before(plan)
    for i, link in enumerate(plan.links):
        before = crossed[:, i]
        largest = parts.n_bytes
        if parts.views is not None and plan.tiers[i].n_devices > 1:
            largest = parts.views.n_bytes
        yield _Transfer(
            link,
            np.logical_or.accumulate(before),
            np.cumsum(before * parts.n_bytes),
            np.cumsum(before * largest),
        )


def _back(plan: TierPlan) -> Iterator[_Transfer]:
    """Transfers of the answer over each link back."""
    for i, link in enumerate(plan.back):
        crossed = plan.tier_of_exit > i
        n_bytes = np.full(len(crossed), plan.answer_bytes)
        yield _Transfer(link, crossed, n_bytes, n_bytes)


def _merging(plan: TierPlan, parts: ModelParts) -> Iterator[_Transfer]:
    """Transfer of what each other device sends to the first one, which merges it for their exit."""
    if plan.tiers[0].n_devices == 1:
        return
    assert parts.views is not None
    crossed = np.full(parts.n_exits, plan.tier_of_exit[0] == 0)
    largest = np.full(parts.n_exits, parts.views.output_bytes)
    n_bytes = (parts.views.n_views - 1) * largest
    yield _Transfer(plan.local_link or Link(), crossed, n_bytes, largest, is_merging=True)


def _columns(of_transfers: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    return np.reshape(np.array(of_transfers).T, shape)


def values(machines: Sequence[Tier] | Sequence[Link], what: str) -> np.ndarray:
    """An attribute of tiers or links."""
    return np.array([getattr(machine, what) for machine in machines], dtype=np.float64)
