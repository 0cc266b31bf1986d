"""Samples that are for networks only."""

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier
from torch.utils.data import DataLoader

from skearlyexit import CascadeClassifier
from tests._data import Items, blobs

X, y, X_TEST, Y_TEST = blobs()


@pytest.mark.parametrize("make", [Items, lambda X, y: DataLoader(Items(X, y))])
def test_datasets_of_torch_are_refused(make):
    estimators = [("bayes", GaussianNB()), ("tree", DecisionTreeClassifier())]
    clf = CascadeClassifier(estimators, cost=[1, 2], threshold=0.7, random_state=0)
    message = r"X is a torch (Items|DataLoader).*Give an array, a data frame, a sparse matrix"
    for labels in (y, None):
        with pytest.raises(TypeError, match=message):
            clf.fit(make(X, y), labels)
    clf.fit(X, y)
    for call in (clf.predict, clf.exit_table, clf.partial_calibrate):
        with pytest.raises(TypeError, match=message):
            call(make(X, y))
    for call in (clf.score, clf.calibrate, clf.exit_report):
        with pytest.raises(TypeError, match=message):
            call(make(X, y), y)
    assert clf.predict(X).shape == np.shape(y)
