"""Weights of rows and classes reach the loss of every training."""

import numpy as np
import pytest

from skearlyexit import (
    CombinedTraining,
    DistillationTraining,
    GatedTraining,
    JointTraining,
    LayerwiseTraining,
    LocalErrorTraining,
)
from skearlyexit.experimental import BottleneckTraining, ReinforcedTraining, TargetTraining
from skearlyexit.training._registry import STRATEGIES
from tests._data import blobs, quick

X, y, X_test, y_test = blobs()

TRAININGS = [
    *STRATEGIES,
    JointTraining("adaptive"),
    JointTraining("reach"),
    JointTraining(equilibrium=True),
    CombinedTraining("max"),
    DistillationTraining("later", alpha=2.0),
    GatedTraining(head_weight=0.0),
    LayerwiseTraining(local="reconstruction"),
    LayerwiseTraining(local="similarity", local_share=1),
    LocalErrorTraining("feedback"),
    LocalErrorTraining("similarity"),
    BottleneckTraining(),
    BottleneckTraining(information="discriminators"),
    ReinforcedTraining(),
    TargetTraining(),
]


def fitted(training, max_epochs=10, **params):
    return quick(training=training, calibration=None, max_epochs=max_epochs, lr=0.01, **params)


@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_a_class_that_weighs_more_is_answered_more_often_at_every_exit(training):
    heavy = fitted(training, class_weight={2: 100.0}).fit(X, y)
    # Without weights at most 0.39 of the samples, whatever the training and the exit.
    assert ((heavy.exit_table(X_test).labels == 2).mean(axis=0) > 0.42).all()


@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_weights_of_classes_are_weights_of_their_rows(training):
    by_class = fitted(training, 2, class_weight={0: 0.3, 3: 4.0}).fit(X, y)
    weight = np.choose(y, [0.3, 1.0, 1.0, 4.0])
    by_row = fitted(training, 2).fit(X, y, sample_weight=weight)
    assert np.array_equal(by_class.predict_proba(X_test), by_row.predict_proba(X_test))
