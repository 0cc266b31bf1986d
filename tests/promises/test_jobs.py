"""The same model whatever runs its jobs. Here alone are processes begun, which takes seconds."""

import pytest
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import MLPBackbone
from tests._data import blobs, quick, same
from tests._trainings import counting

X, y, X_TEST, _ = blobs()
X, y = X[:200], y[:200]
HEADS = ["linear", DecisionTreeClassifier(max_depth=3), KNeighborsClassifier(5)]


@pytest.mark.parametrize("head", ["linear", make_pipeline(StandardScaler(), SVC())])
def test_any_number_of_jobs(head):
    one, two = (quick(head=head, n_jobs=n, max_epochs=2).fit(X, y) for n in (1, 2))
    assert same(one.predict_proba(X_TEST), two.predict_proba(X_TEST))


def test_any_joblib_backend():
    grid = [
        {"head": ["linear"], "training": ["joint"]},
        {"head": [DecisionTreeClassifier(max_depth=3)], "training": ["separate"]},
    ]
    estimator = quick(
        backbone=MLPBackbone(2, width=16, hidden=16, dropout=0.3),
        exits=2,
        max_epochs=2,
        calibration=None,
        threshold=0.5,
    )
    scores = []
    for backend in ("sequential", "threading", "loky"):
        with parallel_config(backend=backend, n_jobs=2):
            search = GridSearchCV(estimator, grid, cv=2, refit=False).fit(X, y)
        scores.append(search.cv_results_["mean_test_score"])
    assert same(scores[0], scores[1])
    assert same(scores[0], scores[2])


@pytest.fixture(scope="module")
def without_memory(tmp_path_factory):
    """Scores of a search over heads in which each trains its network."""
    clf, count = counting(tmp_path_factory.mktemp("forgetful"), memory=None)
    search = GridSearchCV(clf, {"head": HEADS}, cv=2, refit=False).fit(X, y)
    assert count() == 2 * len(HEADS)
    return search.cv_results_["mean_test_score"]


@pytest.mark.parametrize(
    ("backend", "n_jobs"), [("loky", 1), ("loky", 2), ("threading", 2)], ids=str
)
def test_a_search_over_heads_trains_the_network_once_per_fold(
    tmp_path, without_memory, backend, n_jobs
):
    clf, count = counting(tmp_path)
    search = GridSearchCV(clf, {"head": HEADS}, cv=2, n_jobs=n_jobs, refit=False)
    with parallel_config(backend=backend):
        scores = search.fit(X, y).cv_results_["mean_test_score"]
    assert count() == 2
    assert same(scores, without_memory)
