"""One thread for each worker, and no test that leaves a process-wide state behind."""

import os
import random

# Workers that each used every core would mostly wait for one another. BLAS keeps two threads, to
# show that they change nothing.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")

import numpy as np
import pytest
import torch
from joblib.externals.loky import reusable_executor
from threadpoolctl import ThreadpoolController

from skearlyexit.training import Trainer

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def libraries():
    """Those of BLAS and OpenMP that are loaded before a module of tests."""
    return ThreadpoolController()


def _states(libraries):
    return {
        "torch random state": torch.random.get_rng_state().numpy().tobytes(),
        "numpy random state": str(np.random.get_state()),
        "python random state": random.getstate(),
        "torch threads": torch.get_num_threads(),
        "torch default dtype": torch.get_default_dtype(),
        "torch gradients": torch.is_grad_enabled(),
        "BLAS threads": {pool["filepath"]: pool["num_threads"] for pool in libraries.info()},
    }


@pytest.fixture(autouse=True)
def leaves_no_trace(request, libraries):
    """Fail a test during which the package changed the state of the process."""
    marker = request.node.get_closest_marker("changes")
    allowed = marker.args if marker else ()
    before = _states(libraries)
    yield
    after = _states(libraries)
    changed = [name for name in before if before[name] != after[name] and name not in allowed]
    assert not changed, f"the test left another {', '.join(changed)} behind"


@pytest.fixture(autouse=True, scope="module")
def no_idle_processes():
    """End joblib's processes after each module of tests.

    Left alone for five minutes they end by themselves, and a call at that moment may wait for ever.
    """
    yield
    if reusable_executor._executor is not None:
        reusable_executor._executor.shutdown(wait=True)


@pytest.fixture
def untrained(monkeypatch):
    """No training is begun."""

    def begun(*args, **kwargs):
        raise AssertionError("a training was begun")

    monkeypatch.setattr(Trainer, "fit", begun)
