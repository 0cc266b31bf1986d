"""Predictions and searches by workers of Ray, each of which takes seconds to begin."""

import time

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skearlyexit.bulk import predict_dataset, predict_files
from skearlyexit.bulk._ray import BatchWorker
from tests._data import blobs, quick, same
from tests._trainings import searched

X, y, X_TEST, _ = blobs()
NAMES = [f"f{i}" for i in range(X.shape[1])]
FRAME = pd.DataFrame(X_TEST.astype(np.float32), columns=NAMES)


def slow_for_the_first(frame):
    """The later samples are predicted before the first ones, wherever both are."""
    if frame[NAMES[0]].iloc[0] == FRAME[NAMES[0]].iloc[0]:
        time.sleep(2)
    return frame


@pytest.fixture(scope="module")
def model():
    fitted = make_pipeline(FunctionTransformer(slow_for_the_first), quick(threshold=0.5))
    return fitted.fit(pd.DataFrame(X, columns=NAMES), y)


@pytest.fixture(scope="module")
def expected(model):
    labels, exits = model.predict(FRAME, return_exits=True)
    assert len(np.unique(exits)) > 1
    return labels, exits, model.predict_proba(FRAME)


def check(found, expected, model):
    labels, exits, probabilities = expected
    assert same(found["prediction"].to_numpy(), labels)
    assert same(found["exit"].to_numpy(), exits)
    columns = [f"probability_{label}" for label in model.classes_]
    assert same(found[columns].to_numpy(), probabilities)


def test_files_of_several_parts(ray_cluster, model, expected, tmp_path):
    FRAME.assign(id=FRAME.index).to_parquet(tmp_path / "rows.parquet", row_group_size=40)
    target = tmp_path / "predictions.parquet"
    target.write_text("before")
    predict_files(
        model,
        tmp_path / "rows.parquet",
        target,
        keep=["id"],
        return_proba=True,
        batch_size=25,
        concurrency=2,
        overwrite=True,
    )
    found = pd.read_parquet(target)
    assert found["id"].tolist() == [*range(len(FRAME))]
    check(found, expected, model)


def test_a_dataset_of_unequal_blocks(ray_cluster, model, expected):
    blocks = [FRAME[:30], FRAME[:0], FRAME[30:33], FRAME[33:]]
    dataset = ray_cluster.data.from_pandas([block.assign(more=1.0) for block in blocks])
    with pytest.raises(ValueError, match=r"\['f12'\] are missing"):  # before it is computed
        predict_dataset(model, dataset.drop_columns(["f12"]).materialize())
    with pytest.raises(ValueError, match=r"'num_cpus' must be at most .*Got 9, .* has are 8"):
        predict_dataset(model, dataset, num_cpus=9)
    predictions = predict_dataset(
        model, dataset, keep="all", return_proba=True, batch_size=20, concurrency=1
    )
    found = predictions.to_pandas()
    assert found.columns[:15].tolist() == [*NAMES, "more", "prediction"]
    assert same(found[NAMES].to_numpy(), FRAME.to_numpy())
    check(found, expected, model)
    assert not dataset.context.execution_options.preserve_order


@pytest.mark.changes("torch threads")
def test_workers_use_as_many_threads_as_they_are_granted(ray_cluster):
    before = torch.get_num_threads()
    stored = [ray_cluster.put(ray_cluster.cloudpickle.dumps(("request",)))]
    for num_cpus, n_threads in [(0.5, 1), (3, 3)]:
        assert BatchWorker(stored, num_cpus).request == "request"
        assert torch.get_num_threads() == n_threads
    torch.set_num_threads(before)


def test_a_search(ray_cluster):
    from ray.util.joblib import register_ray

    register_ray()
    assert same(searched("ray"), searched("sequential"))
