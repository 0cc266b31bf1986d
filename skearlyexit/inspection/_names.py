"""Names that are short enough to be drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

#: Maximum number of characters of a name at an axis or in a legend.
WIDTH = 24
#: Inches of a character of a text of medium size, on average.
CHARACTER = 0.08
ELLIPSIS = "…"


def shortened(names: Iterable[Any], width: int = WIDTH) -> list[str]:
    """Names of at most `width` characters, with an ellipsis for what is left out.

    What long names begin with in common is left out, so that they can be told apart, and then their
    middles are.

    Parameters
    ----------
    names : iterable of objects
        Converted to strings.
    width : int, default=24

    Returns
    -------
    names : list of str

    Examples
    --------
    >>> shortened(["stem", "encoder.layers.0.attention", "encoder.layers.1.attention"], 14)
    ['stem', '…s.0.attention', '…s.1.attention']
    >>> shortened(["a name that is too long"], 14)
    ['a name …o long']
    """
    full = [str(name) for name in names]
    short = {name: name for name in full}
    _shorten({name for name in full if len(name) > width}, width, short)
    return [short[name] for name in full]


def _shorten(long: set[str], width: int, short: dict[str, str]) -> None:
    """Set the short forms of names that are too long."""
    # The names that come first and last in alphabetical order have least in common.
    pairs = zip(min(long, default=""), max(long, default=""), strict=False)
    n_common = next((i for i, (one, other) in enumerate(pairs) if one != other), 0)
    alike = defaultdict(set)
    for name in long:
        # An ellipsis needs to be shorter than what it stands for.
        rest = name if n_common < 2 else ELLIPSIS + name[min(n_common, len(name) - width + 1) :]
        if len(rest) > width:
            n_last = (width - 1) // 2
            rest = rest[: width - 1 - n_last] + ELLIPSIS + rest[len(rest) - n_last :]
        short[name] = rest
        alike[rest].add(name)
    for names in alike.values():
        if 1 < len(names) < len(long):
            _shorten(names, width, short)


def longest(names: Sequence[str]) -> int:
    """Number of characters of the longest name, 0 without names."""
    return max(map(len, names), default=0)
