"""The same model whatever runs its jobs. Here alone are processes begun, which takes seconds."""

import pytest
from joblib import parallel_config
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import CascadeClassifier
from tests._data import blobs, quick, same
from tests._trainings import counting, searched

X, y, X_TEST, _ = blobs()
X, y = X[:200], y[:200]
HEADS = ["linear", DecisionTreeClassifier(max_depth=3), KNeighborsClassifier(5)]


@pytest.mark.parametrize("head", ["linear", make_pipeline(StandardScaler(), SVC())])
def test_any_number_of_jobs(head):
    one, two = (quick(head=head, n_jobs=n, max_epochs=2).fit(X, y) for n in (1, 2))
    assert same(one.predict_proba(X_TEST), two.predict_proba(X_TEST))


@pytest.mark.parametrize("params", [{}, {"pass_probabilities": True, "train_share": 0.7}])
def test_estimators_in_a_row_in_any_number_of_jobs(params):
    estimators = [("small", RandomForestClassifier(3)), ("large", RandomForestClassifier(9))]
    clf = CascadeClassifier(estimators, cost=[1, 3], budget=0.9, random_state=0, **params)
    found = [
        clone(clf).set_params(n_jobs=n_jobs).fit(X, y).predict_proba(X_TEST) for n_jobs in (1, 1, 2)
    ]
    assert same(found[0], found[1])
    assert same(found[0], found[2])


@pytest.fixture(scope="module")
def in_turn():
    return searched("sequential")


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_any_joblib_backend(in_turn, backend):
    assert same(searched(backend), in_turn)


@pytest.mark.changes("python random state")  # by dask itself
def test_dask(in_turn):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        assert same(searched("dask"), in_turn)


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
