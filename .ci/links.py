"""Follows the links inside a built site, and looks for public names without a page.

python .ci/links.py docs/_build/html
"""

import importlib
import pathlib
import pkgutil
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import skearlyexit


class Page(HTMLParser):
    """Links of a page, and the places in it that one can link to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.anchors = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag refers to, and its name."""
        values = {name: value for name, value in attrs if value}
        for name in ("href", "src"):
            if name in values:
                # What a browser fetches without being asked to has to lie in the site.
                (self.links if tag == "a" else self.fetched).add(values[name])
        self.anchors |= {values[name] for name in ("id", "name") if name in values}


def main(site: pathlib.Path) -> list[str]:
    """What is wrong with the site, one line each."""
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html")}
    wrong = [] if pages else [f"{site} holds no page"]
    for path, page in pages.items():
        for link in sorted(page.links | page.fetched):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.fetched and parts.scheme != "data":
                    wrong.append(f"{path}: fetches {link}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                wrong.append(f"{path}: {link} leads nowhere")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                wrong.append(f"{path}: {link} has no such place")
    described = {path.stem.rpartition(".")[2] for path in site.glob("generated/*.html")}
    for room in (skearlyexit, *_rooms()):
        for name in getattr(room, "__all__", ()):
            if callable(getattr(room, name)) and name not in described:
                wrong.append(f"{room.__name__}.{name} has no page")
    return wrong


def _rooms() -> list:
    names = [module.name for module in pkgutil.iter_modules(skearlyexit.__path__)]
    return [
        importlib.import_module(f"skearlyexit.{name}") for name in names if not name.startswith("_")
    ]


if __name__ == "__main__":
    problems = main(pathlib.Path(sys.argv[1]).resolve())
    print("\n".join(problems) or "every link leads somewhere")
    sys.exit(bool(problems))
