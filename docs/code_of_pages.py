"""The code of the pages is run, and its output shown.

Doctests that allow any digits after some, as in ``0.9...``, would hide what a reader wants to see.
The page shows what its code prints when the site is built, three digits of a long fraction.
"""

import contextlib
import doctest
import io
import pathlib
import re
from typing import Any

from docutils.nodes import Node, literal_block
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

#: Width of the lines of a page. Longer output, such as of errors, stays elided.
MAX_WIDTH = 100
LONG_FRACTION = re.compile(r"(\.\d{3})\d{3,}")
ELIDED = re.compile(r"  # doctest:[^\n]*\+ELLIPSIS[^\n]*")


class Recorder(doctest.DocTestRunner):
    """Runner that records the output of each example, and stops at an example that fails."""

    def __init__(self) -> None:
        super().__init__(verbose=False)
        self.outputs: dict[doctest.Example, str] = {}

    def report_success(
        self, out: Any, test: doctest.DocTest, example: doctest.Example, got: str
    ) -> None:
        """Record the output."""
        self.outputs[example] = got

    def report_failure(
        self, out: Any, test: doctest.DocTest, example: doctest.Example, got: str
    ) -> None:
        """Stop the build."""
        raise doctest.DocTestFailure(test, example, got)

    def report_unexpected_exception(
        self, out: Any, test: doctest.DocTest, example: doctest.Example, exc_info: Any
    ) -> None:
        """Stop the build."""
        raise doctest.UnexpectedException(test, example, exc_info)


def show_outputs(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace elided outputs in the source of a page by those of this build."""
    if not ELIDED.search(source[0]):
        return
    test = doctest.DocTestParser().get_doctest(source[0], {}, docname, docname, 0)
    recorder = Recorder()
    recorder.run(test, clear_globs=False)
    lines = source[0].splitlines()
    for example in reversed(test.examples):
        if not example.options.get(doctest.ELLIPSIS) or example.exc_msg is not None:
            continue
        start = example.lineno + example.source.count("\n")
        stop = start + example.want.count("\n")
        indent = " " * example.indent
        output = LONG_FRACTION.sub(r"\1...", recorder.outputs[example]).splitlines()
        if max(map(len, output)) <= MAX_WIDTH:
            lines[start:stop] = [indent + line for line in output]
    source[0] = ELIDED.sub("", "\n".join(lines) + "\n")


class Printed(Directive):
    """Directive that runs the doctests above it, prints an expression and shows both."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[Node]:
        """Run the doctests above, and return the call of print with its output as a block."""
        lines = pathlib.Path(self.state.document["source"]).read_text().splitlines()
        namespace: dict[str, Any] = {}
        with contextlib.redirect_stdout(io.StringIO()):
            above = "\n".join(lines[: self.lineno - 1])
            for example in doctest.DocTestParser().get_examples(above):
                exec(example.source, namespace)
        printed = str(eval(self.arguments[0], namespace))
        text = f">>> print({self.arguments[0]})\n{printed}"
        return [literal_block(text, text, language="pycon")]


def setup(app: Sphinx) -> None:
    """Add the directive, and the handler of sources."""
    app.add_directive("printed", Printed)
    app.connect("source-read", show_outputs)
