"""Tables as text and as data frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def import_pandas(what: str) -> Any:
    """Import pandas, or say how to get it.

    Parameters
    ----------
    what : str
        What needs it, for the message.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    try:
        import pandas  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(
            f"{what} requires pandas. You can install it with `pip install pandas`."
        ) from error
    return pandas


def aligned(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Lines of a table, with a line of titles: the first and the last column on the left.

    Parameters
    ----------
    columns : mapping of str to sequence of str
        Cells of each column, by its title.
    """
    cells = [[title, *values] for title, values in columns.items()]
    widths = [max(map(len, column)) for column in cells]
    left = {0, len(cells) - 1}
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in zip(*cells, strict=True)
    ]


def preformatted(text: str) -> str:
    """Text for a notebook."""
    return f"<pre>{escape(text)}</pre>"
