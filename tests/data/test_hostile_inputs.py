"""Every argument meets values that it cannot take: each is refused in words, and nothing changes.

Left out are values that are legal in a place, and errors that a user's own callable raises.
"""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from skearlyexit import (
    AccuracyDrop,
    Budget,
    ConformalRiskControl,
    RiskControl,
    TargetAccuracy,
    Threshold,
)
from tests._data import blobs, quick, same

X, y, X_NEW, Y_NEW = (part[:60] for part in blobs())

#: What Python, numpy and torch say where no argument has been checked.
OBSCURE = re.compile(
    r"NoneType' object|has no attribute|unsupported operand|mat1 and mat2|index out of|"
    r"out of bounds|object of type|iterable|truth value|not supported between|unhashable|"
    r"subscriptable|must be real number|positional argument|not callable|inhomogeneous|len\(\)|"
    r"cannot unpack|broadcast|expected Tensor|invalid literal"
)


def spoiled(array, value):
    """A copy with one entry replaced."""
    kind = np.result_type(array, value) if isinstance(value, float) else object
    found = array.astype(kind)
    found.flat[len(found) // 2] = value
    return found


ANYTHING = {
    "text": "abc",
    "empty list": [],
    "zero dimensions": np.array(1.0),
    "ragged": [[1.0, 2.0], [3.0]],
    "class": np.ndarray,
    "function": len,
    "dictionary": {},
    "set": {1.0, 2.0},
}

ROWS = {
    **ANYTHING,
    "None": None,
    "number": 3,
    "one dimension": X_NEW[:, 0],
    "three dimensions": np.stack([X_NEW, X_NEW], axis=2),
    "NaN": spoiled(X_NEW, np.nan),
    "infinity": spoiled(X_NEW, np.inf),
    "too large": spoiled(X_NEW, 1e39),
    "complex": X_NEW + 1j,
    "strings": (X_NEW.astype(str).astype(object) + "x"),
    "None inside": spoiled(X_NEW, None),
    "dictionary inside": spoiled(X_NEW, {}),
    "dates": np.full(X_NEW.shape, "2020-01-01", "datetime64[D]"),
    "no rows": X_NEW[:0],
    "no columns": X_NEW[:, :0],
    "a column less": X_NEW[:, :-1],
    "twice the columns": np.hstack([X_NEW, X_NEW]),
}

LABELS = {
    **ANYTHING,
    "None": None,
    "number": 3,
    "short": Y_NEW[:-1],
    "long": np.tile(Y_NEW, 2),
    "two columns": np.column_stack([Y_NEW, Y_NEW]),
    "three dimensions": Y_NEW[:, None, None],
    "NaN": spoiled(Y_NEW, np.nan),
    "infinity": spoiled(Y_NEW, np.inf),
    "fractions": Y_NEW + 0.5,
    "mixed": spoiled(Y_NEW, "b"),
    "None inside": spoiled(Y_NEW, None),
    "dictionary inside": spoiled(Y_NEW, {}),
}

ONES = np.ones(60)
WEIGHTS = {
    **ANYTHING,
    "short": ONES[:-1],
    "long": np.ones(120),
    "two columns": np.ones((60, 2)),
    "one negative": spoiled(ONES, -1.0),
    "all negative": -ONES,
    "all zero": 0 * ONES,
    "NaN": spoiled(ONES, np.nan),
    "infinity": spoiled(ONES, np.inf),
    "complex": ONES + 1j,
    "strings": np.full(60, "x", object),
    "None inside": spoiled(ONES, None),
    "too far apart": spoiled(ONES * 1e-300, 1e300),
}

GROUPS = {
    **{name: value for name, value in WEIGHTS.items() if name in ANYTHING},
    **{name: WEIGHTS[name] for name in ("short", "long", "two columns", "NaN", "None inside")},
    "one group": ONES,
    "mixed": spoiled(ONES, "b"),
    "dictionary inside": spoiled(ONES, {}),
}

#: No number that any argument takes, nor a legal value of a parameter that is none.
NUMBERS = {
    **{name: value for name, value in ANYTHING.items() if name not in ("empty list", "dictionary")},
    "NaN": np.nan,
    "minus infinity": -np.inf,
    "negative": -1.5,
    "complex": 1j,
    "object": object(),
    "None inside": [None, 0.5],
    "NaN inside": [0.5, np.nan],
    "seven entries": [0.5] * 7,
    "strings": ["a", "b"],
    "two dimensions": [[0.5, 0.5]],
    "bytes": b"1",
}

PARAMETERS = [
    "backbone", "exits", "head", "training", "policy", "combine", "temperature_scaling",
    "threshold", "budget", "operating_point", "cost", "calibration", "max_epochs", "lr",
    "lr_schedule", "batch_size", "optimizer", "early_stopping", "validation_fraction",
    "n_iter_no_change", "warm_start", "mixed_precision", "compile", "class_weight", "device",
    "dtype", "memory", "n_jobs", "callbacks", "random_state", "verbose",
]  # fmt: skip

#: A path, an own callable: legal, or the error is the callable's own.
LEGAL_PARAMETERS = {
    ("memory", "text"), ("backbone", "function"), ("optimizer", "function"),
    ("optimizer", "class"), ("verbose", "negative"),
}  # fmt: skip


def _call(method, *given, **named):
    return lambda case, value: getattr(case.fitted, method)(
        *(value if part is ... else part for part in given),
        **{name: value if part is ... else part for name, part in named.items()},
    )


def _fit(*given, **named):
    return lambda case, value: case.fresh().fit(
        *(value if part is ... else part for part in given),
        **{name: value if part is ... else part for name, part in named.items()},
    )


def _point(kind):
    return lambda case, value: case.fitted.calibrate(X_NEW, Y_NEW, kind(value))


def _parameter(name):
    return lambda case, value: case.fresh(**{name: value}).fit(X, y)


def _staged(case, value):
    return list(case.fitted.staged_predict_proba(value))


def _first_part(case, value):
    return case.fresh().partial_fit(X, y, classes=value)


def _named_budget(case, value):
    return case.fitted.predict(X_NEW, budget=Budget(value))


def _strict(case, value):
    return case.fitted.predict(X_NEW, budget=Budget(0.7, strict=value))


# What takes the value, the values, and those of them that are legal there.
TABLE = {
    **{
        f"{method}: X": (_call(method, ...), ROWS, ())
        for method in ("predict", "predict_proba", "exit_table", "embed", "partial_calibrate")
    },
    "staged_predict_proba: X": (_staged, ROWS, ()),
    **{
        f"{method}: {name}": (_call(method, *given, **named), values, ())
        for method in ("score", "exit_report", "calibrate", "partial_fit")
        for name, given, named, values in [
            ("X", (..., Y_NEW), {}, ROWS),
            ("y", (X_NEW, ...), {}, LABELS),
            ("sample_weight", (X_NEW, Y_NEW), {"sample_weight": ...}, WEIGHTS),
        ]
    },
    "partial_fit: classes": (_first_part, LABELS, ("short", "long")),
    "partial_fit: later classes": (_call("partial_fit", X_NEW, Y_NEW, ...), LABELS,
                                   ("None", "short", "long")),
    "fit: X": (_fit(..., y), ROWS, ("three dimensions", "a column less", "twice the columns")),
    "fit: y": (_fit(X, ...), LABELS, ()),
    "fit: sample_weight": (_fit(X, y, sample_weight=...), WEIGHTS, ()),
    "fit: groups": (_fit(X, y, groups=...), GROUPS, ()),
    "fit: X_val": (_fit(X, y, X_val=..., y_val=Y_NEW), ROWS, ()),
    "fit: y_val": (_fit(X, y, X_val=X_NEW, y_val=...), LABELS, ()),
    **{
        f"{method}: {name}": (_call(method, *given, **{name: ...}), NUMBERS,
                              ("zero dimensions",))
        for method, given in [
            ("predict", (X_NEW,)), ("predict_proba", (X_NEW,)),
            ("score", (X_NEW, Y_NEW)), ("exit_report", (X_NEW, Y_NEW)),
        ]
        for name in ("threshold", "budget")
    },
    "exit_report: confidence_level": (_call("exit_report", X_NEW, Y_NEW, confidence_level=...),
                                      NUMBERS, ()),
    "partial_calibrate: window": (_call("partial_calibrate", X_NEW, window=...), NUMBERS, ()),
    "embed: exit": (_call("embed", X_NEW, ...), NUMBERS, ()),
    "calibrate: operating_point": (_call("calibrate", X_NEW, Y_NEW, ...), NUMBERS, ()),
    "Budget": (_named_budget, NUMBERS, ("zero dimensions",)),
    "Budget: strict": (_strict, NUMBERS, ()),
    **{
        kind.__name__: (_point(kind), NUMBERS, ())
        for kind in (RiskControl, AccuracyDrop, Threshold, ConformalRiskControl)
    },
    "TargetAccuracy": (_point(TargetAccuracy), NUMBERS, ("negative",)),
    **{
        name: (_parameter(name), NUMBERS,
               [value for parameter, value in LEGAL_PARAMETERS if parameter == name])
        for name in PARAMETERS
    },
}  # fmt: skip

HOSTILE = {
    place: (call, {name: value for name, value in values.items() if name not in legal})
    for place, (call, values, legal) in TABLE.items()
}


@pytest.fixture(scope="module")
def case():
    fitted = quick(max_epochs=2).fit(X, y)
    return SimpleNamespace(
        fitted=fitted,
        before=fitted.predict_proba(X_NEW),
        params=repr(fitted.get_params()),
        fresh=lambda **params: quick(**{"max_epochs": 1, **params}),
    )


def _fault(call, case, value):
    """What is wrong with how a value is taken; empty where it is refused in words."""
    try:
        call(case, value)
    except (ValueError, TypeError) as error:
        # What follows in brackets is the cause, as numpy words it.
        said = re.sub(r"\(.*\)$", "", str(error), flags=re.DOTALL)
        return said if len(said) < 20 or OBSCURE.search(said) else ""
    except Exception as error:
        return repr(error)
    return "not refused"


def test_the_table_is_large():
    assert sum(len(values) for _, values in HOSTILE.values()) >= 300


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", HOSTILE)
def test_what_cannot_be_taken_is_refused_in_words_and_changes_nothing(place, case):
    call, values = HOSTILE[place]
    faults = {name: _fault(call, case, value) for name, value in values.items()}
    assert not {name: fault for name, fault in faults.items() if fault}
    assert same(case.fitted.predict_proba(X_NEW), case.before)
    assert repr(case.fitted.get_params()) == case.params
