import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from skearlyexit._utils._resolve import resolve
from skearlyexit.policies import (
    ConfidencePolicy,
    EntropyPolicy,
    MarginPolicy,
    PatiencePolicy,
    _registry,
)

POLICIES = [ConfidencePolicy(), EntropyPolicy(), MarginPolicy(), PatiencePolicy(2)]


@st.composite
def tables(draw):
    """Probabilities of shape (n_samples, n_exits, n_classes), with zeros and certainties."""
    shape = draw(st.integers(1, 12)), draw(st.integers(1, 6)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    raw = rng.gamma(draw(st.sampled_from([0.01, 0.3, 5.0])), size=shape) + 1e-300
    raw[rng.random(shape) < draw(st.sampled_from([0.0, 0.4]))] = 0.0
    raw[raw.sum(axis=2) == 0] = 1.0
    return raw / raw.sum(axis=2, keepdims=True)


def step(policy, probabilities):
    return policy.step(None, probabilities)[0]


@settings(deadline=None)
@given(tables())
def test_confidence_is_the_largest_probability(table):
    expected = [max(row) for row in table[:, 0].tolist()]
    assert step(ConfidencePolicy(), table[:, 0]).tolist() == expected


@settings(deadline=None)
@given(tables())
def test_entropy_is_normalised(table):
    expected = 1 - entropy(table[:, 0], axis=1) / np.log(table.shape[2])
    np.testing.assert_allclose(step(EntropyPolicy(), table[:, 0]), expected, atol=1e-12)


def test_entropy_at_its_ends():
    p = np.array([[0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0]])
    expected = [1.0, 0.0, 1 - np.log(2) / np.log(3)]
    np.testing.assert_allclose(step(EntropyPolicy(), p), expected, atol=1e-15)


@settings(deadline=None)
@given(tables())
def test_margin_is_the_lead_over_the_second(table):
    ranked = [sorted(row) for row in table[:, 0].tolist()]
    assert step(MarginPolicy(), table[:, 0]).tolist() == [row[-1] - row[-2] for row in ranked]


@settings(deadline=None)
@given(tables(), st.integers(1, 4))
def test_patience_counts_agreements_in_a_row(table, patience):
    scores = PatiencePolicy(patience).score(table)
    for row, score in zip(table.tolist(), scores.tolist(), strict=True):
        answers = [p.index(max(p)) for p in row]
        for exit_, found in enumerate(score):
            agreements = 0
            while agreements < exit_ and answers[exit_ - agreements - 1] == answers[exit_]:
                agreements += 1
            assert found == min(agreements / patience, 1.0)


def test_patience_starts_again_after_a_disagreement():
    answers = np.eye(2)[[[0, 0, 1, 1, 1, 1]]]
    assert PatiencePolicy(2).score(answers).tolist() == [[0.0, 0.5, 0.0, 0.5, 1.0, 1.0]]


@pytest.mark.parametrize("patience", [0, -1])
def test_patience_must_be_positive(patience):
    with pytest.raises(ValueError, match=f"parameter of PatiencePolicy .* Got {patience} instead"):
        resolve(PatiencePolicy(patience), _registry.POLICIES, "confidence")


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: type(p).__name__)
class TestEveryPolicy:
    @settings(deadline=None)
    @given(table=tables())
    def test_scores_lie_between_0_and_1(self, policy, table):
        scores = policy.score(table)
        assert scores.shape == table.shape[:2]
        # A sum of floats may leave the largest of one class an ulp over 1.
        assert scores.min() >= 0
        assert scores.max() <= 1 + 1e-12

    @settings(deadline=None)
    @given(table=tables(), seed=st.integers(0, 1000))
    def test_score_is_that_of_steps_from_which_rows_leave(self, policy, table, seed):
        rng = np.random.default_rng(seed)
        expected = policy.score(table)
        rows, state = np.arange(len(table)), None
        for exit_ in range(table.shape[1]):
            score, state = policy.step(state, table[rows, exit_], exit_)
            assert score.tolist() == expected[rows, exit_].tolist()
            stay = rng.permutation(np.flatnonzero(rng.random(len(rows)) < 0.7))
            rows, state = rows[stay], None if state is None else state[stay]

    @settings(deadline=None)
    @given(table=tables(), seed=st.integers(0, 1000))
    def test_names_of_classes_do_not_matter(self, policy, table, seed):
        shuffled = table[:, :, np.random.default_rng(seed).permutation(table.shape[2])]
        # Equal largest probabilities go to the first class, which patience sees.
        ranked = np.sort(table, axis=2)
        if policy.has_memory and (ranked[..., -1] == ranked[..., -2]).any():
            return
        np.testing.assert_allclose(policy.score(shuffled), policy.score(table), atol=1e-12)

    def test_costs_an_operation_per_class(self, policy):
        assert policy.macs(10) == 10.0


def test_resolve():
    assert isinstance(resolve(None, _registry.POLICIES, "confidence"), ConfidencePolicy)
    names = {"confidence": 0, "entropy": 1, "margin": 2, "patience": 3}
    for name, i in names.items():
        assert type(resolve(name, _registry.POLICIES, "confidence")) is type(POLICIES[i])
    copied = resolve(POLICIES[3], _registry.POLICIES, "confidence")
    assert copied is not POLICIES[3]
    assert copied.patience == 2
