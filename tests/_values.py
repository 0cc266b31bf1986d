"""Comparison of a regressor that ONNX Runtime executes with the same in double precision."""

import numpy as np

#: Largest difference of two scores, and of two values in standard deviations, by rounding.
ROUNDING = 1e-5


def check_values(reg, predict, X):
    """Compare values, and exits but those that rounding decides, at several thresholds.

    `predict` is the method of what ONNX Runtime executes.
    """
    scores = reg.exit_table(X).scores[:, :-1]
    # Many samples have the same score, that of a leaf of a tree.
    asked = [np.quantile(scores, share, axis=0) + 1e-4 for share in (0.2, 0.5, 0.8)]
    # No head is computed where none can exit, unless a later score depends on it.
    asked += [np.where(np.arange(len(asked[0])) == i, np.inf, asked[1]) for i in range(2)]
    for thresholds in asked:
        expected, exits = reg.predict(X, threshold=thresholds, return_exits=True)
        found, found_exits = predict(X, threshold=thresholds, return_exits=True)
        clear = np.abs(scores - thresholds).min(axis=1) > ROUNDING
        assert clear.mean() > 0.95
        assert np.isinf(thresholds).any() or 0 < exits.mean() < reg.n_exits_ - 1
        np.testing.assert_array_equal(found_exits[clear], exits[clear])
        assert found.shape == expected.shape
        difference = np.abs(found - expected) / expected.std(axis=0)
        assert difference[clear].max() < ROUNDING
