"""Compares the figures of README and guide with what the benchmarks printed.

A section that names a command ``python benchmarks/<name>.py`` reports its results. Every decimal
number, percentage and number with a unit in such a section has to be printed, as precisely or more
precisely, in ``benchmarks/printed/<name>.txt`` of one of the commands that the section names. Code
and settings in backquotes are left out.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[1]
PRINTED = ROOT / "benchmarks" / "printed"
COMMAND = re.compile(r"python\s+benchmarks/(\w+)\.py")
UNITS = "%|times|points?|ms|us|s|seconds|milliseconds|microseconds|minutes|MiB|GiB"
NUMBER = r"(?<![\w.,/])[-+]?\d[\d,]*(?:\.\d+)?(?![\w/])"
FIGURE = re.compile(rf"({NUMBER})(?:\s+({UNITS})\b|\s*(%))?")


def sections(text: str, markdown: bool) -> list[tuple[str, str]]:
    """Titles and texts, split at headings."""
    heading = r"^#+ (.+)$" if markdown else r"^(\S.*)\n[=\-~]{3,}$"
    parts = re.split(heading, text, flags=re.MULTILINE)
    return list(zip(["", *parts[1::2]], parts[0::2], strict=True))


def prose(text: str) -> str:
    """Text without code, settings, names and links."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^ *(>>>|\.\.\. ).*(\n .*|\n\S.*)*", "", text, flags=re.MULTILINE)
    return re.sub(r"``.*?``|`[^`]*`", " ", text, flags=re.DOTALL)


def numbers(text: str) -> list[float]:
    """All numbers of a printed text."""
    found = re.findall(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", text)
    return [float(number.replace(",", "").rstrip(".")) for number in found]


def is_printed(figure: str, printed: list[float]) -> bool:
    """Whether a figure is one of the printed numbers, or their share in percent, rounded."""
    digits = len(figure.partition(".")[2])
    value = abs(float(figure.replace(",", "")))
    near = 0.5 * 10.0**-digits * (1 + 1e-9)
    return any(abs(value - number * unit) <= near for number in printed for unit in (1, 100))


def missing(path: pathlib.Path) -> list[str]:
    """Figures of a page that no command of their section has printed."""
    found = []
    for title, text in sections(path.read_text(), path.suffix == ".md"):
        commands = dict.fromkeys(COMMAND.findall(text))
        files = [PRINTED / f"{name}.txt" for name in commands]
        absent = [file.name for file in files if not file.exists()]
        if absent:
            found.append(f"{path.name}, {title!r}: no printed results {', '.join(absent)}")
        printed = numbers("\n".join(file.read_text() for file in files if file.exists()))
        for figure, unit, percent in FIGURE.findall(prose(text)) if commands and not absent else []:
            if ("." in figure or unit or percent) and not is_printed(figure, printed):
                found.append(f"{path.name}, {title!r}: {figure} {unit or percent}")
    return found


def main() -> None:
    """Print what is missing, and exit with an error if anything is."""
    guide = sorted((ROOT / "docs/guide").glob("*.rst"))
    pages = [ROOT / "README.md", ROOT / "docs/index.rst", *guide]
    found = [line for page in pages for line in missing(page)]
    print("\n".join(found))
    sys.exit(f"{len(found)} figures are not those of a command." if found else 0)


if __name__ == "__main__":
    main()
