"""What workers predict for parts of files and for batches, and what is refused, without workers."""

import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow.parquet import ParquetWriter, read_table, write_table
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skearlyexit import Budget, CascadeClassifier, EarlyExitRegressor, MLPBackbone
from skearlyexit.bulk import _files, predict_dataset, predict_files
from skearlyexit.bulk._model import Request
from skearlyexit.bulk._ray import most_workers
from skearlyexit.bulk._sources import source_of
from skearlyexit.runtime import OnnxCascade
from tests._data import blobs, quick, same

ray = pytest.importorskip("ray")

X, y, X_TEST, _ = blobs()
X_TEST = X_TEST.astype(np.float32)
NAMES = [f"f{i}" for i in range(X.shape[1])]
TABLE = pa.table({**dict(zip(NAMES, X_TEST.T, strict=True)), "id": np.arange(len(X_TEST))})


@pytest.fixture(scope="module")
def clf():
    return quick(threshold=0.5).fit(X, y)


def asked(model, **arguments):
    defaults = {
        "threshold": None,
        "budget": None,
        "columns": None,
        "keep": (),
        "return_proba": False,
        "num_cpus": 1,
        "caller": "predict_dataset",
    }
    return Request.made(model, **{**defaults, **arguments})


def predicted(request, path, *, part_rows, batch_size):
    """Predictions for a file, as workers give them."""
    source = source_of(path)
    source.check(request)
    parts = source.parts(part_rows)
    return pa.concat_tables(
        table for part in parts for table in part.predictions(request, batch_size)
    )


def saved(folder):
    """The same samples in an array, in one file of type Parquet and in several."""
    np.save(folder / "X.npy", X_TEST)
    write_table(TABLE, folder / "rows.parquet", row_group_size=90)
    (folder / "several").mkdir()
    # Of unequal length, and written in another order than that of their names.
    bounds = [0, 7, 8, 250, len(X_TEST)]
    for i, (start, stop) in reversed([*enumerate(pairwise(bounds))]):
        write_table(TABLE[start:stop], folder / "several" / f"{i}.parquet", row_group_size=60)


@pytest.mark.parametrize(("part_rows", "batch_size"), [(1000, 1000), (100, 33), (64, 7), (1, 100)])
def test_predictions_are_those_of_the_whole_array(clf, tmp_path, part_rows, batch_size):
    saved(tmp_path)
    labels = clf.predict(X_TEST)
    probabilities, exits = clf.predict_proba(X_TEST, return_exits=True)
    assert len(np.unique(exits)) > 1
    for name in ("X.npy", "rows.parquet", "several"):
        columns = None if name == "X.npy" else NAMES
        request = asked(clf, columns=columns, return_proba=True)
        table = predicted(request, tmp_path / name, part_rows=part_rows, batch_size=batch_size)
        assert same(table["prediction"].to_numpy(), labels)
        assert same(table["exit"].to_numpy(), exits)
        found = [table[f"probability_{label}"].to_numpy() for label in clf.classes_]
        assert same(np.column_stack(found), probabilities)


@pytest.mark.parametrize("asked_for", [{"budget": 0.8}, {"threshold": [0.4, np.inf]}])
def test_other_thresholds(clf, asked_for):
    labels, exits = clf.predict(X_TEST, return_exits=True, **asked_for)
    assert len(np.unique(exits)) > 1
    assert not same(exits, clf.predict(X_TEST, return_exits=True)[1])
    table = asked(clf, **asked_for).of_samples(X_TEST)
    assert same(table["exit"].to_numpy(), exits)
    assert same(table["prediction"].to_numpy(), labels)


def test_an_exported_file(tmp_path):
    path = tmp_path / "model.onnx"
    estimators = [("few", LogisticRegression(C=1e-3)), ("many", LogisticRegression())]
    model = CascadeClassifier(estimators, cost=[0.1, 1.0], calibration=0.3, random_state=0)
    model.fit(X, y).to_onnx(path)
    labels, exits = OnnxCascade(path).predict(X_TEST, budget=0.6, return_exits=True)
    assert len(np.unique(exits)) > 1
    table = asked(path, budget=0.6).of_samples(X_TEST)
    assert same(table["exit"].to_numpy(), exits)
    assert same(table["prediction"].to_numpy(), labels)
    model.to_onnx(tmp_path / "single.onnx", budget=0.6, single_sample=True)
    assert asked(tmp_path / "single.onnx").of_samples(X_TEST).equals(table)
    with pytest.raises(ValueError, match="single_sample=True, and its thresholds are fixed"):
        asked(tmp_path / "single.onnx", budget=0.7)
    # All columns, since there are as many as features.
    found = asked(path, budget=0.6).of_table(TABLE.drop_columns(["id"]))
    assert found.equals(table)


def test_strings_as_labels_and_columns_to_keep(clf):
    named = quick(max_epochs=1).fit(X, np.array(["no", "yes"])[y % 2])
    table = asked(named, columns=NAMES, keep=["id", "f1"], return_proba=True).of_table(TABLE)
    assert table.column_names == [
        *["id", "f1", "prediction", "exit", "probability_no", "probability_yes"]
    ]
    assert table["f1"].equals(TABLE["f1"])
    assert table["prediction"].to_pylist() == named.predict(X_TEST).tolist()
    everything = asked(named, columns=NAMES, keep="all").of_table(TABLE)
    assert everything.column_names == [*NAMES, "id", "prediction", "exit"]


def test_a_pipeline_gets_the_data_frame_that_it_was_fitted_on():
    frame = pd.DataFrame(X[:, :4], columns=NAMES[:4]).assign(kind=np.where(X[:, 5] > 0, "a", "b"))
    encode = make_column_transformer(
        (StandardScaler(), NAMES[:4]), (OneHotEncoder(sparse_output=False), ["kind"])
    )
    model = make_pipeline(encode, quick(max_epochs=2)).fit(frame, y)
    # Further columns, and another order.
    table = pa.table({"more": X[:, 0], "kind": frame["kind"], **frame.drop(columns="kind")})
    labels, exits = model.predict(frame, return_exits=True)
    found = asked(model, keep=["more"]).of_table(table)
    assert same(found["prediction"].to_numpy(), labels)
    assert same(found["exit"].to_numpy(), exits)


def test_values_of_several_targets():
    targets = np.column_stack([X[:, 0], X[:, 1] * X[:, 2]])
    model = EarlyExitRegressor(
        MLPBackbone(2, width=16, hidden=16), exits=2, max_epochs=2, calibration=0.3, random_state=0
    ).fit(X, targets)
    table = asked(model).of_samples(X_TEST)
    assert table.column_names == ["prediction_0", "prediction_1", "exit"]
    found = np.column_stack([table["prediction_0"], table["prediction_1"]])
    assert same(found, model.predict(X_TEST))
    with pytest.raises(ValueError, match="'return_proba' must be False for a regressor"):
        asked(model, return_proba=True)


@pytest.mark.parametrize("kind", ["lists", "fixed lists"])
def test_a_column_may_hold_whole_samples(clf, kind):
    column_type = pa.list_(pa.float32(), -1 if kind == "lists" else X_TEST.shape[1])
    table = pa.table({"embedding": pa.array(list(X_TEST), column_type)})
    expected = clf.predict(X_TEST)
    assert same(asked(clf).of_table(table)["prediction"].to_numpy(), expected)
    table = table.append_column("id", TABLE["id"])
    found = asked(clf, columns="embedding").of_table(table)["prediction"]
    assert same(found.to_numpy(), expected)


def test_samples_of_several_shapes_are_refused(clf):
    table = pa.table({"embedding": [[1.0] * 13, [1.0] * 12]})
    with pytest.raises(
        ValueError, match=r"'embedding' must have one shape. Got \[\(12,\), \(13,\)"
    ):
        asked(clf).of_table(table)


def test_columns_of_lists_are_no_features(clf):
    table = pa.table({"a": [[1.0] * 13], "b": [0.0]})
    with pytest.raises(ValueError, match=r"\['a'\] hold arrays or lists"):
        asked(clf, columns=["a", "b"]).of_table(table)


def test_texts():
    texts = ["good", "very good", "bad", "very bad"] * 30
    model = CascadeClassifier(
        [(name, make_pipeline(CountVectorizer(), LogisticRegression())) for name in ("a", "b")],
        cost=[0.5, 1.0],
        calibration=None,
        threshold=0.9,
        random_state=0,
    ).fit(texts, [text.endswith("good") for text in texts])
    found = asked(model, columns="text").of_table(pa.table({"text": texts, "id": range(120)}))
    assert found["prediction"].to_pylist() == model.predict(texts).tolist()


def test_strict_budgets_are_refused(clf):
    with pytest.raises(ValueError, match="strict budget is kept on the samples of one call"):
        asked(clf, budget=Budget(0.6, strict=True))
    own = quick(budget=Budget(0.6, strict=True), max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="strict budget is kept on the samples of one call"):
        asked(own)


def test_a_network_on_another_device_is_refused(clf, monkeypatch):
    monkeypatch.setitem(vars(clf.cascade_.network), "device", "cuda")
    with pytest.raises(ValueError, match=r"computes on the device 'cuda'.*to_onnx"):
        asked(clf)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "14 columns.*fitted on 13 features without names. Give 'columns'"),
        ({"columns": []}, r"'columns' must be None or name columns; got \[\]"),
        ({"columns": ["f1", "f99"]}, r"\['f99'\] are missing, of which the samples consist"),
        ({"columns": NAMES, "keep": ["key"]}, r"\['key'\], which 'keep' names, are missing"),
    ],
)
def test_columns_that_are_not_there(clf, tmp_path, arguments, message):
    saved(tmp_path)
    request = asked(clf, **arguments)
    with pytest.raises(ValueError, match=message):
        request.of_table(TABLE)
    with pytest.raises(ValueError, match=message) as caught:  # before any worker is begun
        source_of(tmp_path / "several").check(request)
    assert "0.parquet" in caught.value.__notes__[0]


@pytest.mark.parametrize("name", ["prediction", "exit", "probability_1"])
def test_names_that_predictions_have_cannot_be_kept(clf, tmp_path, name):
    table = TABLE.append_column(name, TABLE["id"])
    write_table(table, tmp_path / "rows.parquet")
    request = asked(clf, columns=NAMES, keep="all", return_proba=True)
    with pytest.raises(ValueError, match=rf"\['{name}'\] have names.*'keep' without them"):
        source_of(tmp_path / "rows.parquet").check(request)


def test_names_that_only_other_predictions_have_can_be_kept(clf):
    keep = ["prediction_0", "probability_1"]
    table = TABLE.rename_columns([*NAMES[:-1], *keep])
    found = asked(clf, columns=NAMES[:1] * len(NAMES), keep=keep).of_table(table)
    assert found.column_names == [*keep, "prediction", "exit"]


def test_columns_to_keep_must_have_one_type_in_all_files(clf, tmp_path):
    saved(tmp_path)
    path = tmp_path / "several" / "2.parquet"
    write_table(TABLE.set_column(13, "id", TABLE["id"].cast(pa.int32())), path)
    source = source_of(tmp_path / "several")
    source.check(asked(clf, columns=NAMES, keep=["f0"]))
    for keep in (["f0", "id"], "all"):
        with pytest.raises(
            ValueError, match=r"<id: int32> instead of .*<id: int64>.*0\.parquet"
        ) as caught:
            source.check(asked(clf, columns=NAMES, keep=keep))
        assert "2.parquet" in caught.value.__notes__[0]


def test_files_must_have_the_same_columns_if_all_are_kept(clf, tmp_path):
    saved(tmp_path)
    more = TABLE.append_column("more", TABLE["id"])
    write_table(more, tmp_path / "several" / "2.parquet")
    source = source_of(tmp_path / "several")
    with pytest.raises(ValueError, match=r"<more: int64> instead of nothing"):
        source.check(asked(clf, columns=NAMES, keep="all"))


def test_files_and_row_groups_without_rows(clf, tmp_path):
    saved(tmp_path)
    write_table(pa.table({"id": pa.array([], pa.null())}), tmp_path / "several" / "2.parquet")
    with ParquetWriter(tmp_path / "several" / "0.parquet", TABLE.schema) as writer:
        writer.write_table(TABLE[:0])
        writer.write_table(TABLE[:7])
    request = asked(clf, columns=NAMES, keep="all")
    found = predicted(request, tmp_path / "several", part_rows=10, batch_size=5)
    assert found["id"].to_pylist() == [*range(8), *range(250, len(TABLE))]
    assert source_of(tmp_path / "several").row_bytes(request) == 8 * 14


def test_size_of_rows_in_memory_is_that_after_decoding(clf, tmp_path):
    embedding = np.zeros((500, 1000), np.float32)  # A few bytes in the file.
    table = pa.table({"id": np.arange(500), "embedding": list(embedding)})
    write_table(table, tmp_path / "rows.parquet")
    source = source_of(tmp_path / "rows.parquet")
    # A bit for each number says whether it is there.
    assert 4000 <= source.row_bytes(asked(clf, columns="embedding")) < 4200
    assert source.row_bytes(asked(clf, columns="id")) in (8, 9)


def test_columns_other_than_those_of_the_fit(tmp_path):
    model = quick(max_epochs=1).fit(pd.DataFrame(X, columns=NAMES), y)
    assert asked(model).of_columns(TABLE.column_names) == (NAMES, [])
    with pytest.raises(ValueError, match="'columns' must be None or the features of the fit"):
        asked(model, columns=NAMES[::-1]).of_columns(TABLE.column_names)


def test_an_error_says_which_rows_are_read(clf, tmp_path):
    bad = X_TEST.copy()
    bad[130, 2] = np.nan
    np.save(tmp_path / "X.npy", bad)
    table = TABLE.set_column(2, "f2", [bad[:, 2]])
    write_table(table, tmp_path / "rows.parquet", row_group_size=50)
    for name, columns, first in [("X.npy", None, 120), ("rows.parquet", NAMES, 120)]:
        request = asked(clf, columns=columns)
        with pytest.raises(ValueError, match="NaN") as caught:
            predicted(request, tmp_path / name, part_rows=100, batch_size=20)
        assert f"Row 0 of X is row {first} of the file" in caught.value.__notes__[0]


def test_what_has_no_exits_is_refused():
    with pytest.raises(TypeError, match="'estimator' must be an estimator with exits"):
        asked(LogisticRegression())


class TestPredictFiles:
    @pytest.fixture
    def folder(self, tmp_path):
        saved(tmp_path)
        return tmp_path

    def test_nothing_is_left_of_a_file_after_an_error(self, tmp_path):
        def tables():
            yield TABLE
            raise KeyboardInterrupt

        (tmp_path / "target.parquet").write_text("before")
        with pytest.raises(KeyboardInterrupt):
            _files._write(tables(), tmp_path / "target.parquet")
        assert [path.name for path in tmp_path.iterdir()] == ["target.parquet"]
        assert (tmp_path / "target.parquet").read_text() == "before"
        _files._write([TABLE, TABLE], tmp_path / "target.parquet")
        assert read_table(tmp_path / "target.parquet").equals(pa.concat_tables([TABLE, TABLE]))

    @pytest.mark.parametrize(
        ("source", "target", "error", "message"),
        [
            ("X.npy", "several/0.parquet", FileExistsError, "exists: .*overwrite=True"),
            ("X.npy", "new.csv", ValueError, "'target' must be a file of type .parquet"),
            ("X.npy", "none/new.parquet", FileNotFoundError, "There is no folder"),
            ("rows.parquet", "rows.parquet", ValueError, "must not be among the files of 'source'"),
            ("several", "several/new.parquet", ValueError, "must not be among the files"),
            ("none.npy", "new.parquet", FileNotFoundError, "There is no file or folder"),
            ("empty.npy", "new.parquet", ValueError, "There are no samples in"),
            ("empty", "new.parquet", FileNotFoundError, r"no files \*.parquet in the folder"),
            ("rows.csv", "new.parquet", ValueError, "'source' must be a file of type .parquet or"),
        ],
    )
    def test_files_that_cannot_be_read_or_written(
        self, clf, folder, source, target, error, message
    ):
        np.save(folder / "empty.npy", X_TEST[:0])
        (folder / "empty").mkdir()
        (folder / "rows.csv").touch()
        with pytest.raises(error, match=message):
            predict_files(clf, folder / source, folder / target)

    @pytest.mark.parametrize("arguments", [{"columns": NAMES}, {"keep": "all"}])
    def test_an_array_has_no_columns(self, clf, folder, arguments):
        with pytest.raises(ValueError, match=r"A file of type .npy has no columns"):
            predict_files(clf, folder / "X.npy", folder / "new.parquet", **arguments)

    @pytest.mark.parametrize(
        "arguments", [{"batch_size": 0}, {"concurrency": 0}, {"num_cpus": 0}, {"keep": "id"}]
    )
    def test_options_that_are_not_valid(self, clf, folder, arguments):
        (name,) = arguments
        with pytest.raises(ValueError, match=f"'{name}'.* must be"):
            predict_files(clf, folder / "rows.parquet", folder / "new.parquet", **arguments)


@pytest.fixture
def machines(monkeypatch):
    """Ray that does not run yet, on machines with 4 and 3 processors."""
    started = []
    nodes = [(4.0, True), (3.0, True), (64.0, False)]

    def found():
        assert started
        return [{"Resources": {"CPU": cpus}, "Alive": alive} for cpus, alive in nodes]

    monkeypatch.setattr(ray, "is_initialized", lambda: bool(started))
    monkeypatch.setattr(ray, "init", lambda: started.append(True))
    monkeypatch.setattr(ray, "nodes", found)
    return started


def test_ray_is_started_once(machines):
    assert [most_workers(num_cpus) for num_cpus in (0.5, 1, 2, 4)] == [14, 7, 3, 1]
    assert len(machines) == 1


def test_more_processors_than_any_machine_has(clf, machines, tmp_path):
    saved(tmp_path)
    message = r"'num_cpus' must be at most .*Got 5, and the most that a machine has are 4"
    with pytest.raises(ValueError, match=message):
        predict_files(clf, tmp_path / "X.npy", tmp_path / "new.parquet", num_cpus=5)
    with pytest.raises(ValueError, match=message):
        predict_files(clf, tmp_path / "X.npy", tmp_path / "new.parquet", concurrency=1, num_cpus=5)


def test_what_is_no_dataset_is_refused(clf):
    with pytest.raises(TypeError, match=r"must be a Dataset of Ray.*Got ndarray"):
        predict_dataset(clf, X_TEST)


def test_the_message_without_ray_says_how_to_install_it(clf, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'skearlyexit\[ray\]'"):
        predict_dataset(clf, X_TEST)
