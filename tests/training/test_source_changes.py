"""Keys of trainings see the changes of source code that can be followed, and no others."""

import importlib
import sys

import pytest
import torch

import skearlyexit.training._memory as memory_module
from skearlyexit.training._fingerprint import fingerprint
from tests._data import blobs, quick, same

X, y, X_NEW, Y_NEW = blobs()

ACT = "def act(x):\n    return x + {}\n"
PACKAGE = {"pkg/__init__.py": "", "pkg/sub.py": ACT.format(1)}

# The code that uses it, and one file that changes.
REACHED = {
    "import pkg.sub": "import pkg.sub\n\ndef f(x):\n    return pkg.sub.act(x)\n",
    "import pkg.sub as": "import pkg.sub as s\n\ndef f(x):\n    return s.act(x)\n",
    "from pkg import sub": "from pkg import sub\n\ndef f(x):\n    return sub.act(x)\n",
    "from pkg.sub import": "from pkg.sub import act\n\ndef f(x):\n    return act(x)\n",
    "import inside": "def f(x):\n    import pkg.sub\n    return pkg.sub.act(x)\n",
    "import as inside": "def f(x):\n    import pkg.sub as s\n    return s.act(x)\n",
    "from inside": "def f(x):\n    from pkg.sub import act\n    return act(x)\n",
    "module from inside": "def f(x):\n    from pkg import sub\n    return sub.act(x)\n",
    "inner function": "def f(x):\n    def g():\n        import pkg.sub\n"
    "        return pkg.sub.act(x)\n    return g()\n",
    "method": "import pkg.sub\n\nclass f:\n    def forward(self, x):\n"
    "        return pkg.sub.act(x)\n",
    "default": "import pkg.sub\n\ndef f(x, act=pkg.sub.act):\n    return act(x)\n",
    "lambda": "import pkg.sub\n\nf = lambda x: pkg.sub.act(x)\n",
}

SEEN = {
    "star": ("def f(args):\n    return args\n", "def f(*args):\n    return args\n"),
    "two stars": ("def f(*args):\n    return args\n", "def f(**args):\n    return args\n"),
    "keyword only": ("def f(a, b):\n    return a\n", "def f(a, *, b):\n    return a\n"),
    "positional only": ("def f(a, b):\n    return a\n", "def f(a, b, /):\n    return a\n"),
    "generator": ("def f(a):\n    return [a]\n", "def f(a):\n    yield a\n"),
    "default": ("def f(a=1):\n    return a\n", "def f(a=2):\n    return a\n"),
    "constant": ("def f(a):\n    return a + 1\n", "def f(a):\n    return a + 2\n"),
    "global": ("S = 1\ndef f(a):\n    return S\n", "S = 2\ndef f(a):\n    return S\n"),
    "operator": ("def f(a):\n    return a + a\n", "def f(a):\n    return a * a\n"),
    "attribute": ("def f(a):\n    return a.min()\n", "def f(a):\n    return a.max()\n"),
    "helper": (
        "def g(a):\n    return a\ndef f(a):\n    return g(a)\n",
        "def g(a):\n    return -a\ndef f(a):\n    return g(a)\n",
    ),
    "branch": (
        "def f(a):\n    return a if a > 0 else 0\n",
        "def f(a):\n    return a if a < 0 else 0\n",
    ),
    "base class": (
        "class B:\n    x = 1\nclass f(B):\n    pass\n",
        "class B:\n    x = 2\nclass f(B):\n    pass\n",
    ),
    "comprehension": (
        "def f(a):\n    return [x + 1 for x in a]\n",
        "def f(a):\n    return [x + 2 for x in a]\n",
    ),
}

UNSEEN = {
    "comment": ("def f(a):\n    return a\n", "def f(a):\n    # why\n    return a\n"),
    "line": ("def f(a):\n    return a\n", "\n\n\ndef f(a):\n    return a\n"),
    "other function": (
        "def f(a):\n    return a\n",
        "def f(a):\n    return a\ndef g():\n    pass\n",
    ),
    "annotation of a module": ("def f(a):\n    return a\n", "X: int\ndef f(a):\n    return a\n"),
    "spaces": ("def f(a):\n    return a+1\n", "def f(a):\n    return a + 1\n"),
}


@pytest.fixture
def key_of(tmp_path, monkeypatch):
    """A function that gives the key of `f` in some code, beside the files of a package."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def key(code, **files):
        for name in [each for each in sys.modules if each.split(".")[0] in ("pkg", "user_code")]:
            monkeypatch.delitem(sys.modules, name)
        for name, text in {"user_code.py": code, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        importlib.invalidate_caches()
        return fingerprint(importlib.import_module("user_code").f)

    yield key
    for name in [each for each in sys.modules if each.split(".")[0] in ("pkg", "user_code")]:
        sys.modules.pop(name)


@pytest.mark.parametrize("code", REACHED.values(), ids=REACHED)
def test_functions_of_other_modules_count(key_of, code):
    first = key_of(code, **PACKAGE)
    assert key_of(code, **PACKAGE) == first
    assert key_of(code, **PACKAGE | {"pkg/sub.py": ACT.format(2)}) != first
    assert key_of(code, **PACKAGE | {"pkg/sub.py": "# why\n" + ACT.format(1)}) == first


def test_imports_inside_a_long_function_count(key_of):
    """Its constants and names have numbers that take more than one byte."""
    lines = [f"    a{i} = x.name{i} + {i}.5" for i in range(300)]
    code = "\n".join(["def f(x):", *lines, "    import pkg.sub", "    return pkg.sub.act(x)\n"])
    first = key_of(code, **PACKAGE)
    assert key_of(code, **PACKAGE | {"pkg/sub.py": ACT.format(2)}) != first


def test_an_import_that_ends_the_process(key_of):
    files = {"pkg/__init__.py": "", "pkg/sub.py": "raise SystemExit(3)\n"}
    code = "def f(x):\n    if x:\n        import pkg.sub\n    return x\n"
    assert key_of(code, **files) == key_of(code, **files)


@pytest.mark.parametrize(("before", "after"), SEEN.values(), ids=SEEN)
def test_what_changes_the_result_changes_the_key(key_of, before, after):
    assert key_of(before) != key_of(after)


@pytest.mark.parametrize(("before", "after"), UNSEEN.values(), ids=UNSEEN)
def test_what_changes_nothing_keeps_the_key(key_of, before, after):
    assert key_of(before) == key_of(after)


def test_the_precision_of_products_counts():
    before, precision = memory_module._surroundings(), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert memory_module._surroundings() != before
    finally:
        torch.set_float32_matmul_precision(precision)


def test_what_is_there_is_read_without_a_lock(tmp_path, monkeypatch):
    clf = quick(max_epochs=1, calibration=None, memory=tmp_path)
    expected = clf.fit(X, y).predict_proba(X_NEW)

    def refuse(*args):
        raise PermissionError("read-only")

    monkeypatch.setattr(memory_module, "FileLock", refuse)
    assert same(clf.fit(X, y).predict_proba(X_NEW), expected)


def test_a_damaged_entry_is_named_and_replaced(tmp_path):
    clf = quick(max_epochs=1, calibration=None, training="joint", memory=tmp_path)
    expected = clf.fit(X, y).predict_proba(X_NEW)
    (entry,) = tmp_path.rglob("output.pkl")
    entry.write_bytes(entry.read_bytes()[:100])
    with pytest.warns(UserWarning, match=r"'memory' is damaged.*output\.pkl"):
        assert same(clf.fit(X, y).predict_proba(X_NEW), expected)
    assert same(clf.fit(X, y).predict_proba(X_NEW), expected)
