from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, KFold, RepeatedStratifiedKFold, ShuffleSplit

from skearlyexit._data._splits import calibration_splits, hold_out


def rng(seed=0):
    return np.random.RandomState(seed)


def labels(counts, seed=0):
    return rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


def assert_partition(parts, n):
    assert np.sort(np.concatenate(parts)).tolist() == list(range(n))


def assert_cross_fitted(splits, n):
    """Every row is held out once, and never learned from by the model that is asked about it."""
    assert_partition([held for _, held in splits], n)
    for split in splits:
        assert_partition(split, n)


counts_of_classes = st.lists(st.integers(1, 60), min_size=1, max_size=8)


class TestHoldOut:
    @settings(deadline=None, max_examples=200)
    @given(counts_of_classes, st.integers(1, 99), st.integers(0, 100))
    def test_size_and_stratification(self, counts, percent, seed):
        y = labels(counts, seed)
        train, held = hold_out(y, percent / 100, None, rng(seed))
        assert_partition((train, held), len(y))
        assert train.tolist() == sorted(train)
        assert held.tolist() == sorted(held)
        n_held = np.bincount(y[held], minlength=len(counts))
        spared = 0
        for n, count in zip(n_held, counts, strict=True):
            exact = Fraction(percent * count, 100)
            most = count - 1  # a row to learn from
            assert min(floor(exact), most) <= n <= min(ceil(exact), most)
            spared += n == most
        wanted = ceil(Fraction(percent * len(y), 100))
        assert len(held) <= wanted
        if not spared:
            assert len(held) == wanted

    def test_left_over_rows_go_where_rounding_cost_most(self):
        y = labels([19, 16, 15])  # a tenth is 1.9, 1.6 and 1.5, together 5
        _, held = hold_out(y, 0.1, None, rng())
        assert np.bincount(y[held]).tolist() == [2, 2, 1]

    def test_rows_are_drawn(self):
        y = labels([50, 50])
        first, again, other = (hold_out(y, 0.2, None, rng(s))[1].tolist() for s in (0, 0, 1))
        assert first == again != other
        drawn = np.concatenate([hold_out(y, 0.2, None, rng(s))[1] for s in range(200)])
        # Each row is held out in a fifth of the draws, give or take five standard deviations.
        often = np.bincount(drawn, minlength=100)
        assert np.abs(often - 40).max() < 5 * np.sqrt(200 * 0.2 * 0.8)

    @settings(deadline=None)
    @given(st.integers(2, 12), st.integers(20, 50), st.integers(0, 100))
    def test_groups_are_never_split(self, n_groups, percent, seed):
        groups = np.concatenate([np.arange(n_groups), rng(seed).randint(n_groups, size=50)])
        y = rng(seed).randint(3, size=len(groups))
        train, held = hold_out(y, percent / 100, groups, rng(seed))
        assert_partition((train, held), len(y))
        assert not set(groups[train]) & set(groups[held])
        assert len(set(groups[held])) == ceil(Fraction(percent * n_groups, 100))


class TestCalibrationSplits:
    y = labels([60, 40, 20])
    groups = rng().randint(15, size=120)

    def test_none_holds_nothing_out(self):
        assert calibration_splits(None, self.y, None, rng()) == ([], True)

    def test_share_is_held_out_once(self):
        [(train, held)], refit = calibration_splits(0.25, self.y, None, rng())
        assert not refit
        assert_partition((train, held), 120)
        assert np.bincount(self.y[held]).tolist() == [15, 10, 5]

    def test_share_of_groups(self):
        [(train, held)], refit = calibration_splits(0.2, self.y, self.groups, rng())
        assert not refit
        assert not set(self.groups[train]) & set(self.groups[held])

    def test_share_that_leaves_nothing_to_train_on(self):
        with pytest.raises(
            ValueError, match=r"calibration=0\.9 leaves none of 5 samples to train on\. Give"
        ):
            calibration_splits(0.9, np.arange(5), None, rng())

    @pytest.mark.parametrize("calibration", ["auto", 0.3])
    def test_samples_of_rare_classes_are_held_out_as_often_as_others(self, calibration):
        """A guarantee for new samples is one for samples of rare classes, too."""
        n_frequent, n_draws = (16_000, 20) if calibration == "auto" else (100, 200)
        y = np.concatenate([np.arange(60), np.arange(60, 90).repeat(2), np.full(n_frequent, 90)])
        often = np.zeros(len(y))
        for seed in range(n_draws):
            [(train, held)], _ = calibration_splits(calibration, y, None, rng(seed))
            assert_partition((train, held), len(y))
            often[held] += 1
        share = len(held) / len(y)
        for rows in (np.arange(60), np.arange(60, 120)):
            deviation = np.sqrt(share * (1 - share) / (n_draws * len(rows)))
            assert abs(often[rows].mean() / n_draws - share) < 5 * deviation
        assert np.abs(often / n_draws - share).max() < 6 * np.sqrt(share * (1 - share) / n_draws)

    @settings(deadline=None)
    @given(counts_of_classes, st.integers(1, 99), st.integers(0, 100))
    def test_shares_are_stratified(self, counts, percent, seed):
        y = labels(counts, seed)
        train, held = hold_out(y, percent / 100, None, rng(seed), representative=True)
        assert_partition((train, held), len(y))
        assert len(held) == ceil(Fraction(percent * len(y), 100))
        share = Fraction(len(held), len(y))
        for n, count in zip(np.bincount(y[held], minlength=len(counts)), counts, strict=True):
            assert floor(share * count) <= n <= ceil(share * count)

    @pytest.mark.parametrize(
        ("n", "n_groups", "n_splits", "n_held", "refits"),
        [
            (2400, 2400, 1, 800, True),
            (1200, 600, 3, 600, True),
            (6000, 2000, 1, 667, True),
            (20_000, 1000, 2, 667, True),
            (20_000, 5000, 1, 1000, False),
            (20_000, 40, 1, 8, False),
        ],
    )
    def test_auto_counts_groups(self, n, n_groups, n_splits, n_held, refits):
        groups = np.arange(n) % n_groups
        splits, refit = calibration_splits("auto", np.zeros(n, dtype=int), groups, rng())
        assert refit is refits
        assert len(splits) == n_splits
        found = {*groups[np.concatenate([held for _, held in splits])]}
        assert abs(len(found) - n_held) <= 1
        other, _ = calibration_splits("auto", np.zeros(n, dtype=int), groups, rng(1))
        assert {*groups[other[0][1]]} != {*groups[splits[0][1]]}

    @pytest.mark.filterwarnings("ignore:The groups parameter is ignored")
    def test_a_splitter_must_not_divide_groups(self):
        with pytest.raises(ValueError, match="divides 15 groups between training and calibration"):
            calibration_splits(KFold(3), self.y, self.groups, rng())
        splits, _ = calibration_splits(GroupKFold(3), self.y, self.groups, rng())
        assert_cross_fitted(splits, 120)

    @pytest.mark.parametrize("n_folds", [2, 5, np.int64(4)])
    def test_number_of_folds(self, n_folds):
        splits, refit = calibration_splits(n_folds, self.y, None, rng())
        assert refit
        assert len(splits) == n_folds
        assert_cross_fitted(splits, 120)
        for _, held in splits:
            shares = np.bincount(self.y[held]) - np.array([60, 40, 20]) / n_folds
            assert np.abs(shares).max() < 1
        other, _ = calibration_splits(n_folds, self.y, None, rng(1))
        assert other[0][1].tolist() != splits[0][1].tolist()

    def test_folds_of_groups(self):
        splits, refit = calibration_splits(3, self.y, self.groups, rng())
        assert refit
        assert_cross_fitted(splits, 120)
        assert all(not set(self.groups[train]) & set(self.groups[held]) for train, held in splits)

    def test_auto_cross_fits_few_rows(self):
        splits, refit = calibration_splits("auto", self.y, None, rng())
        assert refit
        assert len(splits) == 3
        assert_cross_fitted(splits, 120)
        assert [np.bincount(self.y[held]).tolist()[0] for _, held in splits] == [20] * 3

    @pytest.mark.parametrize(
        ("n", "n_held", "refits"),
        [(2499, 833, True), (2500, 500, True), (14_999, 3000, True), (15_000, 3000, False)],
    )
    def test_auto_holds_samples_of_many_out_once(self, n, n_held, refits):
        splits, refit = calibration_splits("auto", np.arange(n) % 2, None, rng())
        assert [len(held) for _, held in splits] == [n_held]
        assert refit is refits

    @pytest.mark.parametrize(
        ("n", "n_splits", "n_held"),
        [(600, 3, 600), (900, 2, 600), (960, 2, 640), (1797, 2, 1198), (1800, 1, 600)],
    )
    def test_auto_leaves_out_folds_that_are_not_needed(self, n, n_splits, n_held):
        splits, refit = calibration_splits("auto", np.arange(n) % 2, None, rng())
        assert refit
        assert len(splits) == n_splits
        assert sum(len(held) for _, held in splits) == n_held
        assert all(len(train) + len(held) == n for train, held in splits)

    def test_auto_holds_out_a_number_of_very_many(self):
        splits, refit = calibration_splits("auto", np.arange(40_000) % 2, None, rng())
        assert not refit
        assert len(splits[0][1]) == 3000

    @pytest.mark.parametrize("counts", [[1, 1, 1], [5, 1], [2, 2], [1, 2, 30]])
    def test_auto_with_rare_classes(self, counts):
        y = labels(counts)
        splits, _ = calibration_splits("auto", y, None, rng())
        assert_cross_fitted(splits, len(y))

    def test_auto_with_two_rows_holds_nothing_out(self):
        assert calibration_splits("auto", np.array([0, 1]), None, rng()) == ([], True)

    @pytest.mark.parametrize(("n_groups", "n_splits"), [(1, 0), (2, 2), (3, 3), (9, 3)])
    def test_auto_with_groups(self, n_groups, n_splits):
        groups = np.arange(120) % n_groups
        splits, refit = calibration_splits("auto", self.y, groups, rng())
        assert refit
        assert len(splits) == n_splits
        if splits:
            assert_cross_fitted(splits, 120)
        assert all(not set(groups[train]) & set(groups[held]) for train, held in splits)

    def test_splitters(self):
        for splitter, groups in [
            (KFold(4), None),
            (GroupKFold(3), self.groups),
            (ShuffleSplit(1, test_size=0.3, random_state=0), None),
        ]:
            splits, refit = calibration_splits(splitter, self.y, groups, rng())
            assert refit
            expected = list(splitter.split(self.y, self.y, groups))
            for (train, held), (train_, held_) in zip(splits, expected, strict=True):
                assert train.tolist() == train_.tolist()
                assert held.tolist() == held_.tolist()


def test_rows_held_out_twice_are_one_piece_of_evidence():
    y = np.arange(60) % 3
    repeated = RepeatedStratifiedKFold(n_splits=3, n_repeats=4, random_state=0)
    splits, _ = calibration_splits(repeated, y, None, np.random.RandomState(0))
    held = np.concatenate([held for _, held in splits])
    assert sorted(held) == list(range(60))
    overlapping = ShuffleSplit(5, test_size=0.3, random_state=0)
    splits, _ = calibration_splits(overlapping, y, None, np.random.RandomState(0))
    held = np.concatenate([held for _, held in splits])
    assert len(np.unique(held)) == len(held) > 18
    assert all(np.intersect1d(train, held).size == 0 for train, held in splits)


class Parts:
    """A splitter that gives one split."""

    def __init__(self, train, held):
        self.parts = np.asarray(train), np.asarray(held)

    def split(self, X, y=None, groups=None):
        yield self.parts

    def get_n_splits(self, X=None, y=None, groups=None):
        return 1


def test_rows_that_are_learned_from_calibrate_nothing():
    with pytest.raises(ValueError, match="holds out 5 samples that it also trains on"):
        calibration_splits(Parts(range(20), range(15, 30)), labels([15, 15]), None, rng())


def test_a_row_counts_once_within_a_split_too():
    splitter = Parts(range(20), np.repeat(range(20, 30), 7))
    ((_, held),), _ = calibration_splits(splitter, labels([15, 15]), None, rng())
    assert held.tolist() == list(range(20, 30))
