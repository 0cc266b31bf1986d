"""Keys of trainings: equal for equal values in any process, and different for any others."""

import functools
import importlib
import math
import shutil
import sys
import threading

import numpy as np
import pytest
import torch

from skearlyexit.training._fingerprint import fingerprint
from tests._data import make


def chain(*layers):
    return make(lambda: torch.nn.Sequential(*(layer() for layer in layers)))


def test_keys_of_equal_values_are_equal():
    def build():
        return chain(
            lambda: torch.nn.Linear(3, 4),
            lambda: torch.nn.BatchNorm1d(4),
            lambda: torch.nn.LSTM(4, 5),
            lambda: torch.nn.Linear(5, 2, dtype=torch.bfloat16),
        )

    assert fingerprint(build()) == fingerprint(build())
    assert fingerprint(lambda x: x + 1) == fingerprint(lambda x: x + 1)
    assert fingerprint([frozenset("abc")]) == fingerprint([frozenset("cba")])


def test_keys_of_different_values_differ():
    base = chain(lambda: torch.nn.Linear(3, 3), torch.nn.ReLU)
    other_number = chain(lambda: torch.nn.Linear(3, 3), torch.nn.ReLU)
    with torch.no_grad():
        other_number[0].bias[1] += 1e-7
    frozen = chain(lambda: torch.nn.Linear(3, 3), torch.nn.ReLU)
    frozen[0].weight.requires_grad_(False)
    other_setting = chain(lambda: torch.nn.Linear(3, 3), lambda: torch.nn.ReLU(inplace=True))
    shared = torch.nn.ReLU()
    values = [
        base,
        other_number,
        frozen,
        other_setting,
        chain(torch.nn.ReLU, lambda: torch.nn.Linear(3, 3)),
        torch.nn.ModuleDict({"a": shared, "b": shared}),
        torch.nn.ModuleDict({"b": shared, "a": shared}),
        torch.zeros(2),
        torch.zeros(2, dtype=torch.float64),
        torch.zeros(1, 2),
        np.zeros(2, dtype=np.float32),
        torch.zeros(2).requires_grad_(),
        lambda x: x + 1,
        lambda x: x + 2,
        lambda x, y=1: x + 1,
    ]
    assert len({fingerprint(value) for value in values}) == len(values)


def test_keys_see_constants_and_closures():
    def add(amount):
        return lambda x: x + amount

    assert fingerprint(add(1)) == fingerprint(add(1))
    assert fingerprint(add(1)) != fingerprint(add(2))
    code = "def f(x):\n    return x * SCALE\n"
    first, second = {"SCALE": 2, "__name__": "__main__"}, {"SCALE": 3, "__name__": "__main__"}
    exec(code, first)
    exec(code, second)
    assert fingerprint(first["f"]) != fingerprint(second["f"])


USED = [
    torch.relu,
    torch.tanh,
    torch.nn.ReLU(),
    torch.nn.Tanh(),
    torch.nn.ReLU,
    {"lr": 1},
    {"lr": 2},
    [1],
    [2],
    np.arange(2),
    np.arange(3),
    torch.zeros(2),
    torch.ones(2),
    np.float32(1),
    np.float32(2),
    functools.partial(max, 1),
    functools.partial(max, 2),
    range(2),
    range(3),
    frozenset({1}),
    frozenset({2}),
    math,
    functools,
]


def test_keys_see_whatever_code_uses():
    def user(value):
        names = {"USED": value, "__name__": "__main__"}
        exec("def f(x):\n    return USED(x)\n", names)
        return names["f"]

    assert len({fingerprint(user(value)) for value in USED}) == len(USED)
    assert [fingerprint(user(value)) for value in USED] == [fingerprint(user(v)) for v in USED]


def test_keys_see_what_classes_hold():
    def classes(value):
        return type("Net", (), {"used": value, "__module__": "__main__"})

    assert len({fingerprint(classes(value)) for value in USED}) == len(USED)

    def cached(amount):
        class Net:
            @functools.cached_property
            def first(self):
                return amount

            @functools.lru_cache  # noqa: B019
            def second(self):
                return amount

            @property
            def third(self):
                return amount

        return Net

    assert fingerprint(cached(1)) == fingerprint(cached(1))
    assert fingerprint(cached(1)) != fingerprint(cached(2))


def test_attributes_are_no_globals():
    def build(scale):
        names = {"scale": scale, "__name__": "__main__"}
        exec("def f(self, x):\n    return self.scale * x\n", names)
        return names["f"]

    assert fingerprint(build(1)) == fingerprint(build(2))


def test_keys_see_through_modules_of_the_user(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    keys = set()
    for factor in (2, 3):
        (tmp_path / "own_helper.py").write_text(f"def scale(x):\n    return {factor} * x\n")
        monkeypatch.delitem(sys.modules, "own_helper", raising=False)
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        own_helper = importlib.import_module("own_helper")
        names = {"own_helper": own_helper, "__name__": "__main__"}
        exec("def f(x):\n    return own_helper.scale(x)\n", names)
        keys.add(fingerprint(names["f"]))
    monkeypatch.delitem(sys.modules, "own_helper")
    assert len(keys) == 2


def test_a_function_may_refer_to_itself():
    def build(step):
        def countdown(n):
            return 0 if n <= 0 else countdown(n - step)

        return countdown

    assert fingerprint(build(1)) == fingerprint(build(1))
    assert fingerprint(build(1)) != fingerprint(build(2))


@pytest.mark.parametrize("nested", [lambda file: {"a": {"b": file}}, lambda file: [{"a": [file]}]])
def test_what_cannot_be_pickled_has_no_key_at_any_depth(nested):
    with open(__file__) as file, pytest.raises(ValueError, match="cannot pickle"):
        fingerprint(nested(file))


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_keys_of_code_that_waits_for_a_lock(kind):
    def build(lock, value):
        def guarded():
            with lock:
                return value

        return guarded

    assert fingerprint(build(kind(), 1)) == fingerprint(build(kind(), 1))
    assert fingerprint(build(kind(), 1)) != fingerprint(build(kind(), 2))


def test_keys_of_a_dict_need_no_order():
    assert fingerprint({"b": 1, 2: [3]}) == fingerprint({2: [3], "b": 1})
    assert fingerprint({"b": 1, 2: [3]}) != fingerprint({"b": [3], 2: 1})
