"""Networks of several views, against merging the networks of single views by hand."""

import pickle
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from skearlyexit import (
    CNNBackbone,
    Conv1DBackbone,
    EarlyExitRegressor,
    GreedyPlacement,
    MLPBackbone,
    MultiViewBackbone,
    RecurrentBackbone,
    Threshold,
    list_exits,
)
from skearlyexit.backbones._views import Views
from skearlyexit.runtime import OnnxCascade
from tests._data import digits, make, quick, same
from tests._stages import check_rows_are_kept_apart, in_sixteens, run

RNG = np.random.RandomState(0)
N_VIEWS, MISSING = 3, -7.0
VECTORS = (RNG.randn(160, N_VIEWS, 13) * [[1.0], [2.0], [0.3]] + [[0.0], [5.0], [-2.0]]).astype(
    np.float32
)
IMAGES = RNG.randn(160, N_VIEWS, 2, 6, 6).astype(np.float32)
#: Which views are there; the first sample has all.
PRESENT = RNG.rand(160, N_VIEWS) < 0.6
PRESENT[:, 1] |= ~PRESENT.any(axis=1)
PRESENT[0] = True
MLP = MLPBackbone(3, width=20, hidden=16)
CNN = CNNBackbone((16, 32), n_blocks=1)
each_merge = pytest.mark.parametrize("merge", ["max", "mean", "concat"])


def some_missing(rows):
    rows = rows.copy()
    rows[~PRESENT] = MISSING
    return rows


def build(backbone, rows, n_classes=4, **params):
    network = make(lambda: MultiViewBackbone(backbone, **params).build(rows, n_classes))
    for module in [network.devices, network.merge]:
        module.eval()
    return network


def merged_by_hand(parts, merge, present):
    """Merged arrays, of which the views are on the second axis."""
    there = np.broadcast_to(present.reshape(*present.shape, *[1] * (parts.ndim - 2)), parts.shape)
    if merge == "concat":
        return np.concatenate(np.moveaxis(np.where(there, parts, 0.0), 1, 0), axis=1)
    return np.array(getattr(np.ma.array(parts, mask=~there), merge)(axis=1))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("missing", [False, True])
@each_merge
def test_what_devices_pass_on_is_merged(merge, missing, shared):
    rows = some_missing(VECTORS) if missing else VECTORS
    params = {"missing_values": MISSING} if missing else {}
    network = build(
        MLP,
        rows,
        merge=merge,
        merge_after="block1",
        shared=shared,
        output_size=5,
        **params,
    )
    stages = network.cut([0, 2])
    with torch.no_grad():
        local, last = run([each.eval() for each in stages], rows)
        alone = [each.cut([1, 3]) for each in network.networks]
        alone = [[stage.eval() for stage in each] for each in alone]
        passed, outputs = [], []
        for i in range(N_VIEWS):
            of_view = alone[0 if shared else i]
            carry, embedding = of_view[0](torch.tensor(rows[:, i]))
            passed.append(carry.numpy())
            outputs.append(network.devices.outputs[0 if shared else i](embedding).numpy())
        present = PRESENT if missing else np.ones_like(PRESENT)
        expected = merged_by_hand(np.stack(outputs, axis=1), merge, present)
        np.testing.assert_allclose(local, expected, rtol=1e-4, atol=1e-5)
        merged = merged_by_hand(np.stack(passed, axis=1), merge, present)
        if merge == "concat":  # which the linear map starts as the mean of all
            merged = merged.reshape(len(rows), N_VIEWS, -1).mean(axis=1)
        _, expected = alone[0][1](torch.tensor(merged, dtype=torch.float32))
        np.testing.assert_allclose(last, expected, rtol=1e-4, atol=1e-4)
    assert [each.names for each in network.networks] == [MLP_NAMES] * (1 if shared else N_VIEWS)
    assert network.names == ["block1", "block2", "block3"]


MLP_NAMES = ["stem", "block1", "block2", "block3"]


@each_merge
@pytest.mark.parametrize("kind", ["vectors", "images", "shared", "missing"])
def test_rows_are_kept_apart(kind, merge):
    rows = IMAGES if kind == "images" else VECTORS
    rows = some_missing(rows) if kind == "missing" else rows
    network = build(
        CNN if kind == "images" else MLP,
        rows,
        merge=merge,
        shared=kind == "shared",
        missing_values=MISSING if kind == "missing" else None,
    )
    last = len(network.names) - 1
    stages = [stage.eval() for stage in network.cut([0, last])]
    tensor = torch.tensor(rows)
    reference = in_sixteens(stages, tensor)
    for n_groups, n_threads in ((1, 1), (3, 2), (10, 1)):
        check_rows_are_kept_apart(stages, tensor, reference, n_groups, n_threads)


@each_merge
def test_cut_and_whole_are_the_same(merge):
    network = build(MLP, VECTORS, merge=merge)
    network.to(torch.float64)
    rows = torch.tensor(VECTORS[:20], dtype=torch.float64)
    for ends in ([3], [0, 3], [1, 3], [0, 1, 2, 3]):
        (*_, last) = run([stage.eval() for stage in network.cut(ends)], rows)
        if ends == [3]:
            whole = last
        torch.testing.assert_close(last, whole)


def test_each_view_has_its_own_statistics_without_those_that_are_missing():
    network = build(MLP, some_missing(VECTORS), missing_values=MISSING)
    for i, each in enumerate(network.networks):
        rows = VECTORS[PRESENT[:, i], i]
        np.testing.assert_allclose(each.standardize.mean[0], rows.mean(axis=0), rtol=1e-4)
    together = build(MLP, some_missing(VECTORS), missing_values=MISSING, shared=True)
    (only,) = together.networks
    np.testing.assert_allclose(only.standardize.mean[0], VECTORS[PRESENT].mean(axis=0), rtol=1e-4)


def test_embeddings_themselves_are_merged_without_outputs():
    network = build(CNN, IMAGES, output_size=None, local_merge="mean")
    local, _ = run([stage.eval() for stage in network.cut([0, 2])], IMAGES)
    assert local.shape == (160, 16, 6, 6)
    assert network.devices.outputs is None
    assert network.devices.output_bytes == 4 * 16 * 6 * 6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [float, np.float32, np.float64])
def test_missing_values_are_compared_in_the_precision_of_the_samples(kind, dtype):
    rows = VECTORS.astype(dtype)
    rows[5, 1] = dtype(kind(0.1))
    views = Views.of(rows.shape[1:], None, kind(0.1))
    expected = np.ones((len(rows), N_VIEWS), dtype=bool)
    expected[5, 1] = False
    assert same(views.present(rows), expected)
    assert same(views.present(torch.tensor(rows)).numpy(), expected)


def test_candidates_and_what_is_sent():
    found = list_exits(MultiViewBackbone(CNN, merge="mean", output_size=7), IMAGES, n_classes=4)
    assert found.names == ["stem", "group1.block1", "group2.block1"]
    assert found.shapes[0] == (7,)
    assert found.carry_bytes[0] == N_VIEWS * 4 * 16 * 6 * 6
    # Convolutions of 3 x 3, and outputs from the quarters of the maps.
    assert found.costs[0] == N_VIEWS * (36 * 9 * 2 * 16 + 4 * 16 * 7)
    merge = list_exits(MultiViewBackbone(CNN, merge="max"), IMAGES).costs
    one = list_exits(CNN, IMAGES[:, 0]).costs
    np.testing.assert_allclose(np.diff(merge), np.diff(one))


class TestGivenModules:
    def layers(self):
        return make(lambda: nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 4)))

    def test_each_view_starts_from_the_given_weights(self):
        layers = self.layers()
        network = build(layers, VECTORS, merge="max", output_size=None)
        weights = [each.blocks[0].weight for each in network.networks]
        assert all(torch.equal(each, layers[0].weight) for each in weights)
        assert len({each.data_ptr() for each in [*weights, layers[0].weight]}) == 1 + N_VIEWS
        assert network.given
        assert network.head is not None

    def test_further_weights_have_to_be_trained(self):
        assert not build(self.layers(), VECTORS, merge="max").given
        assert not build(self.layers(), VECTORS, merge="concat", output_size=None).given


X, y, X_TEST, Y_TEST = digits()
#: The four quarters of an image, some of them covered; no sample without any.
QUARTERS, QUARTERS_TEST = (
    each.reshape(-1, 2, 4, 2, 4).swapaxes(2, 3).reshape(-1, 4, 16).astype(np.float32)
    for each in (X, X_TEST)
)


def covered(rows, seed):
    rows, rng = rows.copy(), np.random.RandomState(seed)
    rows[np.arange(len(rows)), rng.randint(6, size=len(rows)) % 4] = MISSING
    return rows


def of_quarters(**params):
    options = {"exits": ["stem"], "operating_point": Threshold(0.5), "max_epochs": 30, **params}
    return quick(
        backbone=MultiViewBackbone(MLPBackbone(2, width=32, hidden=32), missing_values=MISSING),
        **options,
    )


@cache
def fitted():
    return of_quarters().fit(covered(QUARTERS, 0), y)


class TestEstimator:
    rows = covered(QUARTERS_TEST, 1)

    def test_answers_are_those_of_a_sample_alone(self):
        expected = fitted().predict_proba(self.rows)
        labels, exits = fitted().predict(self.rows, return_exits=True)
        table = fitted().exit_table(self.rows)
        assert same(exits, table.exits(fitted().thresholds_))
        assert same(labels, fitted().classes_[table.labels[np.arange(len(exits)), exits]])
        assert 0 < exits.mean() < 1
        for chosen in (slice(0, 1), slice(5, 12), slice(40, 240), slice(None, None, -1)):
            assert same(fitted().predict_proba(self.rows[chosen]), expected[chosen])
        assert fitted().score(self.rows, Y_TEST) > 0.8

    def test_with_fewer_views_it_is_less_accurate_not_lost(self):
        scores = []
        for n_missing in range(3):
            rows = QUARTERS_TEST.copy()
            rows[:, :n_missing] = MISSING
            scores.append(fitted().score(rows, Y_TEST, threshold=np.inf))
        assert scores[0] > scores[1] > scores[2] > 0.2

    def test_the_networks_of_which_only_the_first_blocks_are_used_are_not_kept(self):
        assert len(pickle.dumps(fitted().cascade_.network.check)) < 1000

    def test_vectors_of_all_views(self):
        flat = clone(fitted()).set_params(backbone__n_views=4)
        flat.fit(covered(QUARTERS, 0).reshape(-1, 64), y)
        found = flat.predict_proba(self.rows.reshape(-1, 64))
        assert same(found, fitted().predict_proba(self.rows))

    def test_samples_in_a_file(self, tmp_path):
        np.save(tmp_path / "rows.npy", covered(QUARTERS, 0))
        mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
        found = clone(fitted()).fit(mapped, y).predict_proba(self.rows)
        assert same(found, fitted().predict_proba(self.rows))

    def test_search(self):
        search = GridSearchCV(
            of_quarters(max_epochs=1, calibration=None, operating_point=None, threshold=0.9),
            {"backbone__merge": ["max", "concat"], "backbone__backbone__n_blocks": [1]},
            cv=2,
        ).fit(covered(QUARTERS, 0)[:200], y[:200])
        assert search.best_estimator_.exit_names_ == ["stem", "block1"]

    def test_onnx(self, tmp_path):
        path = tmp_path / "views.onnx"
        fitted().to_onnx(path)
        found = OnnxCascade(path).predict_proba(self.rows)
        np.testing.assert_allclose(found, fitted().predict_proba(self.rows), atol=1e-5)

    def test_regression(self):
        reg = EarlyExitRegressor(
            MultiViewBackbone(MLP, merge="mean"),
            exits=["stem"],
            max_epochs=2,
            calibration=None,
            random_state=0,
        ).fit(VECTORS, VECTORS[:, 1, 0])
        assert reg.exit_names_ == ["stem", "block3"]
        assert reg.embed(VECTORS[:5], exit=0).shape == (5, 1)

    def test_views_far_from_zero_are_read_in_double_precision(self):
        rows = VECTORS.astype(np.float64)
        rows[:, 1] += 1e7
        clf = quick(backbone=MultiViewBackbone(MLP), max_epochs=1).fit(rows, np.arange(160) % 2)
        assert clf.cascade_.network.dtype == torch.float64


def refuse_negative(rows, positions, name):
    wrong = (rows < 0).any(axis=1)
    if wrong.any():
        raise ValueError(f"negative in row {positions[int(wrong.argmax())]} of {name}")


class TestErrors:
    def refuse(self, match, rows=VECTORS, backbone=MLP, **params):
        with pytest.raises(ValueError, match=match):
            build(backbone, rows, **params)

    def test_samples_without_views(self):
        self.refuse(r"needs samples of shape \(n_views, ...\)", rows=VECTORS[:, 0])
        self.refuse(r"shape \(13,\) and n_views=3", rows=VECTORS[:, 0], n_views=3)
        self.refuse(r"shape \(3, 13\) and n_views=4", n_views=4)

    @pytest.mark.parametrize("end", ["block3", 3, "nothing"])
    def test_merge_after_no_block_or_the_last(self, end):
        self.refuse(r"one of \['stem', 'block1', 'block2'\], or an index", merge_after=end)

    @pytest.mark.parametrize(
        "backbone", [RecurrentBackbone(width=16), Conv1DBackbone((16,), masked=True)], ids=str
    )
    def test_states_and_masks_cannot_be_merged(self, backbone):
        rows = np.ones((8, 2, 3, 6), dtype=np.float32)
        self.refuse("cannot be merged: one tensor", rows=rows, backbone=backbone)

    def test_exits_before_the_merge(self):
        clf = quick(backbone=MultiViewBackbone(MLP, merge_after="block1"), exits=["stem"])
        with pytest.raises(ValueError, match="views are merged after 'block1'"):
            clf.fit(VECTORS, np.arange(160) % 2)

    def test_outputs_that_no_exit_would_train(self):
        rows, labels = VECTORS, np.arange(160) % 2
        clf = quick(backbone=MultiViewBackbone(MLP), exits=["stem"], max_epochs=1)
        clf.set_params(training="separate")
        with pytest.raises(ValueError, match=r"SeparateTraining trains no .*output_size=None"):
            clf.fit(rows, labels)
        compared = clone(clf).set_params(exits=GreedyPlacement(), training="joint")
        with pytest.raises(ValueError, match=r"GreedyPlacement compares .*output_size=None"):
            compared.fit(rows, labels)
        # Without an exit there or without the maps, nothing stays random.
        assert clf.set_params(exits=["block1"]).fit(rows, labels).exit_names_[0] == "block1"
        clf.set_params(exits=["stem"], backbone__output_size=None)
        assert clf.fit(rows, labels).exit_names_[0] == "stem"

    def test_weights_behind_the_merge_that_no_exit_would_train(self):
        class Learned(MLPBackbone):
            def build(self, X, n_outputs):
                network = super().build(X, n_outputs)
                network.learned_with_exits = {"block2": "its map would stay random. Leave it out"}
                return network

        clf = quick(
            backbone=MultiViewBackbone(Learned(3, width=16, hidden=16)),
            exits=["block2"],
            training="separate",
        )
        with pytest.raises(ValueError, match="an exit after 'block2', its map would stay random"):
            clf.fit(VECTORS, np.arange(160) % 2)

    def test_a_sample_without_any_view(self):
        rows = covered(QUARTERS, 0)
        rows[[17, 30]] = MISSING
        with pytest.raises(ValueError, match=r"views of 2 samples of X are missing.*X\[17\]"):
            clone(fitted()).fit(rows, y)
        with pytest.raises(ValueError, match=r"views of 1 samples of X are missing.*X\[2\]"):
            fitted().predict(rows[15:20])

    def test_a_view_is_checked_as_a_sample_of_its_backbone(self):
        class Positive(MLPBackbone):
            def build(self, X, n_classes):
                network = super().build(X, n_classes)
                network.check = refuse_negative
                return network

        network = build(Positive(1, width=16), np.abs(VECTORS), missing_values=MISSING)
        network.check(some_missing(np.abs(VECTORS)), range(160), "X")
        wrong = np.abs(VECTORS)
        wrong[12, 2, 0] = -1.0
        with pytest.raises(ValueError, match="negative in row 32 of Z"):
            network.check(wrong, range(20, 180), "Z")

    def test_a_view_without_any_sample(self):
        rows = VECTORS.copy()
        rows[:, 2] = MISSING
        self.refuse("View 2 is missing in all training samples", rows=rows, missing_values=MISSING)
