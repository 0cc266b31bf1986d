"""The structure of the package: which room imports which, as CONTRIBUTING says."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "skearlyexit"
ROW = re.compile(r"^\| `(\w+)` \| .+ \| (.+) \|$", re.MULTILINE)
#: The estimators, which lie above all rooms.
ESTIMATORS = {
    "__init__",
    "_base",
    "_base_classifier",
    "_base_regressor",
    "_cascade_base",
    "_cascade_classifier",
    "_cascade_regressor",
    "_classifier",
    "_network_base",
    "_network_classifier",
    "_regressor",
    "_version",
}


def stated():
    """Which rooms import which others, by the table; rooms in its order."""
    rooms = {}
    for room, imports in ROW.findall((ROOT / "CONTRIBUTING.md").read_text()):
        rooms[room] = set(rooms) if imports == "all above" else set(re.findall(r"`(\w+)`", imports))
    return rooms


def imported():
    """Which rooms import which others, by the code."""
    rooms = {}
    for file in PACKAGE.rglob("*.py"):
        first, *inside = file.relative_to(PACKAGE).parts
        room = first if inside else file.stem
        found = re.findall(
            r"^\s*(?:from|import) skearlyexit\.(\w+)", file.read_text(), re.MULTILINE
        )
        rooms.setdefault(room, set()).update(set(found) - {room, "_version"})
    return rooms


def test_every_room_is_in_the_table():
    assert stated().keys() == imported().keys() - ESTIMATORS


@pytest.mark.parametrize("room", stated())
def test_imports_are_those_of_the_table(room):
    if room == "_fitting":
        assert imported()[room] <= stated()[room]
    else:
        assert imported()[room] == stated()[room]


def test_imports_run_down():
    rooms = list(stated())
    for room, others in stated().items():
        assert all(rooms.index(other) < rooms.index(room) for other in others)


def listed():
    """Names on the API page, by the module under which they stand."""
    found, module = {}, ""
    for line in (ROOT / "docs" / "api.rst").read_text().splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.split()[-1]
        elif re.fullmatch(r"   \w+", line):
            found.setdefault(module, set()).add(line.strip())
    return found


def public():
    """Names that each module publishes."""
    folders = [each for each in PACKAGE.iterdir() if (each / "__init__.py").exists()]
    names = ["skearlyexit", *(f"skearlyexit.{each.name}" for each in folders)]
    return {name: set(getattr(import_module(name), "__all__", ())) for name in names}


def test_what_is_public_is_on_the_page_of_the_api():
    """Names that are public in two modules stand there once."""
    names = set().union(*public().values()) - {"__version__"}
    assert set().union(*listed().values()) == names


def test_the_page_of_the_api_says_where_names_are():
    for module, names in listed().items():
        assert names <= public()[module]


def test_what_is_public_has_an_example():
    for module, names in public().items():
        for name in names - {"__version__"}:
            thing = getattr(import_module(module), name)
            if callable(thing) and inspect.getdoc(thing):
                assert ">>> " in (thing.__doc__ or ""), f"{module}.{name}"
