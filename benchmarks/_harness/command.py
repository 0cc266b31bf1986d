"""The command line of the scripts: options that they share, and where tables go."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from _harness.data import SETS, MissingData

#: Sets of the scripts that train networks for several comparisons.
DEFAULT_SETS = "letter,magic,mnist5k,fashion"
RESULTS = Path(__file__).parent.parent / "results"
CACHE = Path(tempfile.gettempdir()) / "skearlyexit-benchmarks"


def make_parser(
    description: str | None,
    *,
    sets: str = "",
    seeds: int = 0,
    cache: bool = False,
    output: bool = False,
    raw: bool = False,
) -> argparse.ArgumentParser:
    """Parser with the options that several scripts share.

    Parameters
    ----------
    description : str
        Shown by ``--help``.
    sets : str, default=""
        Default of ``--sets``; "" leaves this option out.
    seeds : int, default=0
        Default of ``--seeds``; 0 leaves this option out.
    cache, output : bool, default=False
        Whether trained models or samples are kept, and whether tables are written.
    raw : bool, default=False
        Whether raw results are written, and can be printed again.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if sets:
        parser.add_argument(
            "--sets", type=some_of(SETS), default=sets, help="names, with commas between"
        )
    if seeds:
        parser.add_argument("--seeds", type=int, default=seeds)
    if cache:
        parser.add_argument(
            "--cache", type=Path, default=CACHE, help="folder of trained models and samples"
        )
    if output or raw:
        what = "raw results" if raw else "tables"
        parser.add_argument("--output", type=Path, default=RESULTS, help=f"folder for the {what}")
    if raw:
        parser.add_argument("--print", action="store_true", help="only print what is saved")
    return parser


def some_of(known: Iterable[str], separator: str = ",") -> Callable[[str], list[str]]:
    """Type of an option that takes some of the known names, with a separator between."""
    known = list(known)

    def read(text: str) -> list[str]:
        found = [name.strip() for name in text.split(separator) if name.strip()]
        unknown = [name for name in found if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {unknown}; there are {known}")
        return found

    return read


def numbers(text: str) -> list[float]:
    """Numbers, with commas between."""
    return [float(part) for part in text.split(",")]


def available(names: Iterable[str]) -> list[str]:
    """Those of the sets that are installed; for the others the command that gets them is shown."""
    found = []
    for name in names:
        try:
            SETS[name].load()
        except MissingData as missing:
            print(missing)
        else:
            found.append(name)
    return found


def write_table(folder: Path, name: str, text: str) -> None:
    """Write a table in Markdown to ``<name>.md`` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text)
