"""Bodies that are no requests, against the status and message of the reply."""

import io
import json
import re
import struct
from datetime import date

import numpy as np
import pytest

from skearlyexit.serve._codec import write_json
from tests.serve._served import X_TEST, Local, instances


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def header(text):
    """An array with any header, and no data."""
    content = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(content)) + content


GOOD = X_TEST[:3]
NPY = {"content_type": "application/x-npy"}
MALFORMED = [
    (b"", {}, 400, "not valid JSON"),
    (b"[1, 2", {}, 400, "not valid JSON"),
    (b"\xff\xfe\x00", {}, 400, "not valid JSON"),
    (b"[" * 100_000, {}, 400, "not valid JSON"),
    (b'{"instances": [[NaN]]}', {}, 400, "NaN is not a number in JSON"),
    (b'{"instances": [[-Infinity]]}', {}, 400, "not a number in JSON"),
    (b'{"instances": [[1%s]]}' % (b"0" * 5000), {}, 400, "not valid JSON"),
    (b"[[1, 2]]", {}, 400, "must be an object in JSON. Got list"),
    (b"{}", {}, 400, "with at least one sample"),
    (b'{"instances": []}', {}, 400, "without samples"),
    (b'{"instances": {"a": 1}}', {}, 400, "'instances': dict"),
    (b'{"instances": [[1]], "threshold": 0}', {}, 400, "'threshold': int"),
    (b'{"instances": [[1, 2], [3]]}', {}, 422, "different shapes"),
    (b'{"instances": [[1, null]]}', {}, 422, "must be numbers"),
    (b'{"instances": [["a", "b"]]}', {}, 422, "must be numbers"),
    (b'{"instances": [{"a": 1}]}', {}, 422, "must be numbers"),
    (b'{"instances": [[1, 2], [3, "four"]]}', {}, 422, r"instances\[1\]\[1\] is str 'four'"),
    (b'{"instances": [[1, [2]]]}', {}, 422, r"different shapes, in instances\[0\]"),
    (b'{"instances": %s1%s}' % (b"[" * 40, b"]" * 40), {}, 422, "more than 32 axes"),
    # As an array of texts, all of the same length, these would be 100 GB.
    (
        b'{"instances": ["%s", %s]}' % (b"x" * 500_000, b",".join([b"1"] * 50_000)),
        {"rows": 10**5},
        422,
        r"instances\[0\] is str 'xxx",
    ),
    (b'{"instances": [[1' + b"0" * 400 + b"]]}", {}, 422, "must be numbers"),
    (b'{"instances": [1, 2]}', {}, 422, r"must be of shape \(n_samples, 13\)"),
    (instances(GOOD[:, :5]), {}, 422, r"Got an array of shape \(3, 5\)"),
    (instances(GOOD * 1e300), {}, 422, "infinity in precision float32 in 3 samples"),
    (instances(np.zeros((1001, 1))), {}, 413, "at most 1000 samples. Got 1001"),
    (b" " * (2**20 + 1), {}, 413, "at most 1048576 are accepted"),
    (b"x", {"content_length": str(10**9)}, 413, "1000000000 bytes"),
    (b"a,b", {"content_type": "text/csv"}, 415, "Got 'text/csv'"),
    (b"", NPY, 400, "not an array in NumPy's format"),
    (b"PK\x03\x04", NPY, 400, "not an array in NumPy's format"),
    (npy(GOOD)[:-1], NPY, 400, "Got 311 bytes"),
    (npy(GOOD) + b"0", NPY, 400, "Got 313 bytes"),
    (npy(np.array([["a", None]], dtype=object)), NPY, 400, "objects are never unpickled"),
    (npy(np.array([["a", "b"]])), NPY, 400, "must hold real numbers. Got dtype <U1"),
    (npy(GOOD.astype(complex)), NPY, 400, "must hold real numbers"),
    (npy(np.float64(3)), NPY, 400, r"must be of shape \(n_samples, ...\)"),
    (npy(np.zeros((0, 13))), NPY, 400, "at least one sample"),
    (npy(np.full((2, 13), np.nan)), NPY, 422, "NaN or infinity"),
    (npy(np.zeros((1001, 1))), NPY, 413, "at most 1000 samples. Got 1001"),
    (header("{'descr': '<f8', 'fortran_order': False, 'shape': (10**12, 13), }"), NPY, 400, ""),
    (
        header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**12}, 13)}}"),
        NPY,
        400,
        "13",
    ),
    (header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 13), }"), NPY, 400, "-1"),
    (header("__import__('os').system('true')"), NPY, 400, "not an array"),
    (header("(" * 3000), NPY, 400, "not an array"),
    (
        header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({'1, ' * 71})}}") + b"0" * 8,
        NPY,
        400,
        "There is no array of shape",
    ),
    (
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (True, 13)}") + b"0" * 104,
        NPY,
        400,
        "",
    ),
]


@pytest.mark.parametrize(("body", "headers", "status", "message"), MALFORMED)
def test_what_is_no_request_is_refused_with_the_reason(body, headers, status, message):
    headers = dict(headers)
    app = Local(max_rows=headers.pop("rows", 1000))
    reply = app.reply(body, **headers)
    assert (reply.status, reply.media_type) == (status, "application/json")
    (said,) = json.loads(reply.body).values()
    assert re.search(message, said), said
    assert app.front.n_queued == 0


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.array(["2020-01-01", "2021-05-06"], dtype="datetime64[ns]"), "2020-01-01T00"),
        (np.array([date(2020, 1, 1)], dtype=object), "2020-01-01"),
    ],
)
def test_labels_that_json_has_no_type_for_are_texts(labels, expected):
    assert json.loads(write_json({"labels": labels}))["labels"][0].startswith(expected)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i4", "u1", ">f8", "?"])
def test_arrays_of_any_numbers_are_samples(dtype, order):
    rows = np.asarray((X_TEST[:20] * 3).astype(dtype), order=order)
    app = Local()
    found = json.loads(app.reply(npy(rows), **NPY).body)
    alike = json.loads(app.reply(instances(rows)).body)
    assert found == alike


def test_answers_are_arrays_where_they_are_asked_for():
    app = Local()
    reply = app.reply(
        instances(X_TEST), accept="application/x-npy", query={"probabilities": "true"}
    )
    assert reply.media_type == "application/x-npy"
    found = np.load(io.BytesIO(reply.body), allow_pickle=False)
    alike = json.loads(app.reply(instances(X_TEST), query={"probabilities": "1"}).body)
    assert found["label"].tolist() == alike["labels"]
    assert found["exit"].tolist() == alike["exits"]
    assert found["probabilities"].tolist() == alike["probabilities"]
    assert not found["degraded"].any()


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ({"path": "/nothing"}, 404, "There are"),
        ({"method": "GET"}, 405, "supports POST only"),
        ({"query": {"budget": "0.5"}}, 400, "no parameter 'budget'"),
        ({"query": {"deadline": "-1"}}, 400, "seconds above 0, at most 30. Got '-1'"),
        ({"query": {"deadline": "nan"}}, 400, "at most 30"),
        ({"query": {"deadline": "soon"}}, 400, "Got 'soon'"),
        ({"query": {"deadline": "60"}}, 400, "at most 30"),
        ({"query": {"probabilities": "maybe"}}, 400, "must be true or false"),
    ],
)
def test_other_requests_are_refused_with_the_reason(request_, status, message):
    reply = Local().reply(instances(GOOD), **request_)
    assert reply.status == status
    assert message in json.loads(reply.body)["error"]
