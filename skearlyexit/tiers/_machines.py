"""Checks of the tiers and links of a plan."""

from __future__ import annotations

from collections.abc import Sequence

from skearlyexit.costs import Link
from skearlyexit.tiers._tier import Tier


def check_machines(tiers: Sequence[Tier], links: Sequence[Link]) -> None:
    """Raise an error unless there are tiers with different names, and a link between any two."""
    for what, values, kind in (("tiers", tiers, Tier), ("links", links, Link)):
        for each in values:
            if not isinstance(each, kind):
                raise TypeError(
                    f"The '{what}' must be {kind.__name__} objects. Got {each!r} instead."
                )
    names = [tier.name for tier in tiers]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"There must be at least one tier, and each must have its own name. Got {names}."
        )
    if len(links) != len(tiers) - 1:
        raise ValueError(
            f"The 'links' must connect each tier to the next one: {len(tiers) - 1} for "
            f"{len(tiers)} tiers. Got {len(links)}."
        )
    if any(tier.n_devices > 1 for tier in tiers[1:]):
        raise ValueError(
            "Only the first tier can have several devices, whose views are merged on the next one. "
            f"Got n_devices={[tier.n_devices for tier in tiers]} for {names}."
        )
    for link in links:
        check_link(link)


def check_way_back(
    links: Sequence[Link], answer_bytes: float | None, links_back: Sequence[Link] | None
) -> None:
    """Raise an error unless answers are not sent back, or can be."""
    if answer_bytes is None:
        if links_back is not None:
            raise ValueError(
                "The 'links_back' are for answers that are sent back. Give 'answer_bytes', the "
                "size of an answer, or links_back=None."
            )
        return
    if not 0 <= answer_bytes < float("inf"):
        raise ValueError(
            f"'answer_bytes' must be None or a finite number of at least 0. Got {answer_bytes!r}."
        )
    if links_back is None:
        return
    if len(links_back) != len(links):
        raise ValueError(
            f"There must be one of 'links_back' for each of the {len(links)} links. Got "
            f"{len(links_back)}."
        )
    for link in links_back:
        check_link(link)


def check_local_link(tiers: Sequence[Tier], local_link: Link | None) -> None:
    """Raise an error unless there is no link among devices, or there are several of these."""
    if local_link is None:
        return
    check_link(local_link)
    if tiers[0].n_devices == 1:
        raise ValueError(
            "A 'local_link' connects several devices of the first tier, and "
            f"{tiers[0].name!r} is one. Give n_devices to this Tier, or local_link=None."
        )


def check_link(link: Link) -> None:
    """Raise an error unless an object is a link of a plan."""
    if not isinstance(link, Link):
        raise TypeError(f"The links of a plan must be Link objects. Got {link!r} instead.")
    if link.after is not None:
        raise ValueError(
            "The assignment determines what runs before a link, and its 'after' must be None. "
            f"Got {link!r}."
        )
