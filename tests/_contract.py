"""How scikit-learn's checks are run for a configuration."""

from functools import partial

from sklearn.utils.estimator_checks import parametrize_with_checks

from skearlyexit import EarlyExitClassifier, MLPBackbone

# All checks are run for each configuration, some of them on dozens of fits: as small a network as
# learns enough for them, and one training for each fit, where cross-fitting takes several.
SMALL = {
    "backbone": MLPBackbone(2, width=16, hidden=16),
    "exits": 2,
    "max_epochs": 5,
    "lr": 0.03,
    "calibration": 0.3,
}
NEVER_EXACT = dict.fromkeys(
    (
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weight_equivalence_on_sparse_data",
    ),
    "sample_weight is not equivalent to removing/repeating samples.",
)


def small(**params):
    return EarlyExitClassifier(**{**SMALL, **params})


checked = partial(parametrize_with_checks, expected_failed_checks=lambda _: NEVER_EXACT)
