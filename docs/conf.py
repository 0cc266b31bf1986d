"""Configuration of the documentation."""

import inspect
import pathlib
import re
import shutil
import sys
from typing import Any

from docutils.nodes import Element, Node, SkipNode, TextElement, reference
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.addnodes import desc_signature, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode, nested_parse_with_titles
from sphinx.writers.html5 import HTML5Translator
from sphinx_gallery.sorting import ExplicitOrder

import skearlyexit

HERE = pathlib.Path(__file__).parent

project = "skearlyexit"
copyright = "the skearlyexit developers"
release = version = skearlyexit.__version__

sys.path.insert(0, str(HERE))
extensions = [
    "code_of_pages",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_examples", "gallery_header.rst"]
# Names in single backquotes are linked if a page describes them.
default_role = "py:obj"
smartquotes = False

# -- docstrings -------------------------------------------------------------------------------
autosummary_generate = True
# The docstrings contain the types, with shapes and defaults.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# -- links ------------------------------------------------------------------------------------
nitpicky = True
# In docstrings, parameters and values are also in single backquotes, and types may be those of
# Python. Only roles such as :class: and :meth: must find their target.
nitpick_ignore_regex = [("py:obj", ".*"), ("py:class", r"collections\.abc\.\w+")]

# -- examples ---------------------------------------------------------------------------------
# The examples run in a copy, because some of them write files.
STAGED = HERE / "_examples"
STAGED.mkdir(exist_ok=True)
for old in STAGED.glob("*.py"):
    old.unlink()
for example in sorted((HERE.parent / "examples").glob("*.py")):
    shutil.copy2(example, STAGED)
shutil.copy2(HERE / "gallery_header.rst", STAGED / "GALLERY_HEADER.rst")
# From the first fit to comparisons of methods. An example that is not listed stops the build.
ORDER = [
    "plot_quickstart.py",
    "plot_mixed_table.py",
    "plot_color_images.py",
    "plot_own_network.py",
    "plot_serving.py",
    "plot_heads.py",
    "plot_placement.py",
    "plot_trainings.py",
    "plot_measures.py",
    "plot_optuna.py",
]
sphinx_gallery_conf = {
    "within_subsection_order": ExplicitOrder(ORDER),
    "examples_dirs": "_examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"/_",
    "abort_on_example_error": False,
    "capture_repr": ("_repr_html_",),
    "doc_module": ("skearlyexit",),
    "backreferences_dir": "generated/backreferences",
    "reference_url": {"skearlyexit": None},
    "show_signature": False,
    "download_all_examples": False,
    "write_computation_times": False,
    "remove_config_comments": True,
}

# -- figures of the guide ---------------------------------------------------------------------
plot_include_source = True
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = ["svg"]

# -- pages ------------------------------------------------------------------------------------
html_theme = "furo"
html_title = f"skearlyexit {release}"
# Browsers render MathML without scripts, so that nothing is fetched from other servers.
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}


class Changelog(Directive):
    """Directive that shows a changelog in Markdown, whose headings and links it translates."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Return the sections below the title of the file."""
        file = HERE / self.arguments[0]
        self.state.document.settings.record_dependencies.add(str(file))
        lines: list[str] = []
        for line in file.read_text().partition("\n")[2].splitlines():
            marks, _, heading = line.partition(" ")
            if marks in ("##", "###"):
                lines += [heading.strip("[]"), {"##": "-", "###": "~"}[marks] * len(heading)]
            else:
                lines.append(re.sub(r"\[([^]]+)\]\((\S+)\)", r"`\1 <\2>`__", line))
        section = Element()
        nested_parse_with_titles(self.state, StringList(lines, str(file)), section)
        return section.children


def skip_member(
    app: Sphinx, what: str, name: str, member: object, skip: bool, options: object
) -> bool | None:
    """Skip members of scikit-learn and torch, and fitted attributes, which the class describes."""
    if name.startswith("_"):
        return True
    if isinstance(member, property):
        # The section "Attributes" of the class describes the fitted attributes.
        return True if name.endswith("_") else None
    function = inspect.unwrap(getattr(member, "__func__", member))
    if not inspect.isfunction(function):
        return None
    return None if _is_documented_here(function) else True


def _is_documented_here(function: Any) -> bool:
    """Whether a method and its docstring, which may be inherited, are of this package."""
    if not function.__module__.startswith("skearlyexit"):
        return False
    if function.__doc__:
        return True
    class_name, _, name = function.__qualname__.rpartition(".")
    owner = getattr(sys.modules[function.__module__], class_name, None)
    bases = inspect.getmro(owner) if inspect.isclass(owner) else ()
    documented = (base for base in bases if getattr(vars(base).get(name), "__doc__", None))
    first = next(documented, None)
    return first is not None and first.__module__.startswith("skearlyexit")


def find_reference(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: TextElement
) -> Element | None:
    """Link names of scikit-learn, and public names without their module."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target:
        return None
    if re.fullmatch(r"sklearn\.[a-z_.]+\.\w+", target):
        address = f"https://scikit-learn.org/stable/modules/generated/{target}.html"
        return reference("", "", contnode, refuri=address, internal=False)
    found = {
        (entry.docname, entry.node_id)
        for name, entry in env.domains["py"].objects.items()
        if name.endswith(f".{target.removeprefix('skearlyexit.').lstrip('~')}")
    }
    if len(found) != 1:
        return None
    docname, anchor = found.pop()
    return make_refnode(app.builder, node["refdoc"], docname, anchor, contnode)


def add_places(app: Sphinx, domain: str, objtype: str, content: Element) -> None:
    """Give a public name also the place to which the page of its source code links back.

    All names of a file are linked there by one module, also those that are public in two.
    """
    for signature in content.parent.findall(desc_signature):
        name = signature.get("fullname", "")
        if signature.get("module") == "skearlyexit" and "." not in name:
            module = getattr(skearlyexit, name).__module__.partition("._")[0]
            if (place := f"{module}.{name}") not in signature["ids"]:
                signature["ids"].append(place)


def write_inline_formula(translator: HTML5Translator, node: Element) -> None:
    """Write an inline formula as MathML."""
    translator.body.append(tex2mathml(node.astext(), as_block=False))
    raise SkipNode


def write_formula(translator: HTML5Translator, node: Element) -> None:
    """Write a displayed formula as MathML."""
    translator.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode


def setup(app: Sphinx) -> None:
    """Add the directive and the handlers."""
    app.add_directive("changelog", Changelog)
    app.add_html_math_renderer("mathml", (write_inline_formula, None), (write_formula, None))
    app.connect("autodoc-skip-member", skip_member)
    app.connect("object-description-transform", add_places)
    app.connect("missing-reference", find_reference)
