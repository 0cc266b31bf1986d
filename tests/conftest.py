"""One thread for each worker, and no test that leaves a process-wide state behind."""

import gc
import os
import random
import sys
from functools import lru_cache
from pathlib import Path

# Workers that each used every core would mostly wait for one another. BLAS keeps two threads, to
# show that they change nothing.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")
# Ray reports each start to its makers unless told otherwise.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Threads that wait for work sleep: where there are more of them than cores, most of the time went
# into waiting.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

import pytest

# The process that hands the tests to the workers reads this file too, and starts sooner without
# torch: what takes time to import is imported where it is used.


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect the tests without a search for garbage, and leave them out of later ones.

    They are thousands of objects that stay to the end. To look through them took a third of the
    time of the collection, and some in every test.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@lru_cache(maxsize=1)
def _libraries(n_imported):
    """Those of BLAS and OpenMP that are loaded, which only imports change."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _states():
    import numpy as np
    import torch

    libraries = _libraries(len(sys.modules)).lib_controllers
    kind, keys, *rest = np.random.get_state()
    return {
        "torch random state": torch.random.get_rng_state().numpy().tobytes(),
        "numpy random state": (kind, keys.tobytes(), *rest),
        "python random state": random.getstate(),
        "torch threads": torch.get_num_threads(),
        "torch default dtype": torch.get_default_dtype(),
        "torch gradients": torch.is_grad_enabled(),
        "BLAS threads": {each.filepath: each.get_num_threads() for each in libraries},
    }


@pytest.fixture(autouse=True)
def leaves_no_trace(request):
    """Fail a test during which the package changed the state of the process."""
    marker = request.node.get_closest_marker("changes")
    allowed = marker.args if marker else ()
    before = _states()
    yield
    after = _states()
    changed = [
        name
        for name in before
        if before[name] != after[name]
        and name not in allowed
        and not (name == "BLAS threads" and _only_new(before, after))
    ]
    assert not changed, f"the test left another {', '.join(changed)} behind"


def _only_new(before, after):
    """Whether libraries were loaded, and none that was there changed."""
    old, new = before["BLAS threads"], after["BLAS threads"]
    return all(new.get(path) == n_threads for path, n_threads in old.items())


@pytest.fixture(autouse=True, scope="module")
def no_idle_processes():
    """End joblib's processes after each module of tests.

    Left alone for five minutes they end by themselves, and a call at that moment may wait for ever.
    """
    from joblib.externals.loky import reusable_executor

    yield
    if reusable_executor._executor is not None:
        reusable_executor._executor.shutdown(wait=True)


@pytest.fixture(autouse=True, scope="session")
def installed():
    """Keys of trainings take the package as its users have it, and do not read its code."""
    import torch

    import skearlyexit
    from skearlyexit.training import _fingerprint

    torch.set_num_threads(1)
    folder = Path(skearlyexit.__file__).parent
    _fingerprint._FOLDERS.append(folder)
    yield
    _fingerprint._FOLDERS.remove(folder)


@pytest.fixture(scope="session")
def ray_cluster():
    """Ray on this machine, started once for all tests of a worker that need it."""
    ray = pytest.importorskip("ray")
    # Several workers may start one each; without an address of its own, a second one would join.
    ray.init(
        address="local",
        num_cpus=8,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
    )
    yield ray
    ray.shutdown()


@pytest.fixture
def untrained(monkeypatch):
    """No training is begun."""
    from skearlyexit.training import Trainer

    def begun(*args, **kwargs):
        raise AssertionError("a training was begun")

    monkeypatch.setattr(Trainer, "fit", begun)
