"""Means over the quarters of feature maps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skearlyexit import CNNBackbone, EarlyExitClassifier, LinearHead
from skearlyexit.heads import GlobalAveragePooling, QuarterPooling


class TestQuarters:
    @settings(deadline=None)
    @given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 1000))
    def test_by_hand(self, height, width, seed):
        maps = np.random.default_rng(seed).normal(size=(3, 2, height, width)).astype(np.float32)
        top, left = (slice(-(-side // 2)) for side in (height, width))
        bottom, right = (slice(side // 2, None) for side in (height, width))
        expected = np.stack(
            [
                maps[:, :, rows, columns].mean(axis=(2, 3), dtype=np.float64)
                for rows, columns in ((top, left), (top, right), (bottom, left), (bottom, right))
            ],
            axis=2,
        )
        found = QuarterPooling()(torch.tensor(maps)).numpy()
        np.testing.assert_allclose(found, expected.reshape(3, -1), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("shape", [(5,), (5, 7), (5, 1, 4), (5, 4, 1), (5, 2, 3, 4)])
    def test_what_has_no_quarters_is_averaged(self, shape):
        embedding = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
        assert torch.equal(QuarterPooling()(embedding), GlobalAveragePooling()(embedding))

    def test_early_exits_see_where_something_is(self):
        """A bright spot on the left or on the right has the same mean everywhere."""
        rng = np.random.default_rng(0)
        y = rng.integers(0, 2, size=300)
        images = rng.normal(scale=0.1, size=(300, 8, 8)).astype(np.float32)
        images[np.arange(300), rng.integers(1, 7, size=300), 1 + 5 * y] += 3
        scores = []
        for pooling in ("quarters", "average"):
            clf = EarlyExitClassifier(
                CNNBackbone((16,), n_blocks=1),
                exits=["stem"],
                head=LinearHead(pooling=pooling),
                training="joint",
                calibration=None,
                early_stopping=False,
                max_epochs=8,
                batch_size=50,
                random_state=0,
            ).fit(images[:200], y[:200])
            scores.append(clf.score(images[200:], y[200:], threshold=0))
        assert scores[0] > 0.95
        assert scores[1] < 0.8
