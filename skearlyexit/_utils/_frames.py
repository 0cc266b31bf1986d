"""Tables as text, and as pandas data frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def import_pandas(what: str) -> Any:
    """Import pandas.

    Parameters
    ----------
    what : str
        Name of the function that needs pandas, for the error message.

    Returns
    -------
    pandas : module

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
    """Lines of a table, in which the first and the last column are left-aligned.

    Parameters
    ----------
    columns : mapping of str to sequence of str
        Cells of each column, by its title.

    Returns
    -------
    lines : list of str
        The titles, followed by the rows of the table.
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
    """Preformatted text as HTML, for notebooks."""
    return f"<pre>{escape(text)}</pre>"
