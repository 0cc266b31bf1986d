import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from skearlyexit._utils._resolve import resolve
from skearlyexit.training import JointTraining
from skearlyexit.training._joint import exit_weights
from skearlyexit.training._loss import ExitLoss
from skearlyexit.training._registry import STRATEGIES
from skearlyexit.training._rows import to_rows

N, K, C = 7, 3, 4
rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(K, N, C)) * 3
Y = rng.integers(C, size=N)
SAMPLE_WEIGHT = rng.uniform(0.1, 5.0, size=N)
WEIGHTS = [0.3, 0.0, 1.0]
COSTS = np.array([0.2, 0.5, 0.9, 1.2])


def tensors(requires_grad=False):
    return tuple(torch.tensor(each, requires_grad=requires_grad) for each in LOGITS)


def target(weighted):
    return (torch.tensor(Y), torch.tensor(SAMPLE_WEIGHT))[: 2 if weighted else 1]


def by_hand(weights, sample_weight):
    total = 0.0
    for exit_ in range(K):
        losses = np.array([-log_softmax(LOGITS[exit_, row])[Y[row]] for row in range(N)])
        total += weights[exit_] * np.mean(losses * (1 if sample_weight is None else sample_weight))
    return total


@pytest.mark.parametrize("weighted", [False, True])
class TestExitLoss:
    def test_is_the_weighted_sum_of_mean_cross_entropies(self, weighted):
        loss = ExitLoss(WEIGHTS)(tensors(), target(weighted))
        expected = by_hand(WEIGHTS, SAMPLE_WEIGHT if weighted else None)
        assert loss.dtype == torch.float64
        assert loss.item() == pytest.approx(expected, rel=1e-12)

    def test_gradient(self, weighted):
        def loss(*logits):
            return ExitLoss(WEIGHTS)(logits, target(weighted))

        assert torch.autograd.gradcheck(loss, tensors(requires_grad=True))

    def test_schedule_is_followed(self, weighted):
        loss = ExitLoss(lambda progress: [progress, 1 - progress, 1.0])
        for progress in (0.0, 0.25, 1.0):
            loss.progress = progress
            expected = by_hand([progress, 1 - progress, 1.0], SAMPLE_WEIGHT if weighted else None)
            assert loss(tensors(), target(weighted)).item() == pytest.approx(expected, rel=1e-12)

    def test_sure_and_wrong_stays_finite(self, weighted):
        logits = [torch.full((N, C), -1e4, dtype=torch.float64) for _ in range(K)]
        for each in logits:
            each[:, 0] = 1e4
        wrong = (torch.ones(N, dtype=torch.int64), *target(weighted)[1:])
        assert ExitLoss([1.0] * K)(logits, wrong).item() == pytest.approx(
            K * 2e4 * (SAMPLE_WEIGHT.mean() if weighted else 1)
        )


def test_integer_weights_are_repeated_rows():
    times = rng.integers(1, 4, size=N)
    loss = ExitLoss(WEIGHTS)
    rows = to_rows(np.zeros((N, 1)), Y, times.astype(np.float64))
    assert rows.weight.mean().item() == pytest.approx(1.0)
    weighted = loss(tensors(), (rows.y, rows.weight))
    repeated = [each.repeat_interleave(torch.tensor(times), dim=0) for each in tensors()]
    again = loss(repeated, (torch.tensor(Y).repeat_interleave(torch.tensor(times)),))
    assert weighted.item() == pytest.approx(again.item(), rel=1e-12)


def test_batch_without_weight_teaches_nothing():
    logits = tensors(requires_grad=True)
    loss = ExitLoss(WEIGHTS)(logits, (torch.tensor(Y), torch.zeros(N, dtype=torch.float64)))
    loss.backward()
    assert loss.item() == 0
    assert all(torch.equal(each.grad, torch.zeros(N, C, dtype=torch.float64)) for each in logits)


class TestExitWeights:
    @pytest.mark.parametrize("weight", [1.0, 0.3, 0, np.float64(0.5)])
    def test_number_is_for_all_but_the_last(self, weight):
        assert list(exit_weights(weight, COSTS)) == [weight, weight, weight, 1.0]

    @pytest.mark.parametrize("kind", [list, tuple, np.array])
    def test_sequence(self, kind):
        assert list(exit_weights(kind([0.1, 0.0, 2.0]), COSTS)) == [0.1, 0.0, 2.0, 1.0]

    def test_depth_grows_and_adds_up_to_one(self):
        assert exit_weights("depth", COSTS) == pytest.approx([0.1, 0.2, 0.3, 0.4])

    @pytest.mark.parametrize(
        ("progress", "expected"),
        [
            (0.0, [0.01, 0.01, 0.01, 1.0]),
            (0.5, [0.11, 0.26, 0.46, 1.0]),
            (0.97, [0.2, 0.495, 0.883, 1.0]),
            (1.0, [0.2, 0.5, 0.9, 1.0]),
        ],
    )
    def test_ramp_grows_to_the_share_of_the_cost(self, progress, expected):
        assert exit_weights("ramp", COSTS)(progress) == pytest.approx(expected)

    @pytest.mark.parametrize("weights", [1.0, "depth", []])
    def test_one_exit_has_weight_one(self, weights):
        assert list(exit_weights(weights, np.array([1.0]))) == [1.0]

    def test_ramp_of_one_exit(self):
        assert exit_weights("ramp", np.array([1.0]))(0.5) == [1.0]

    @pytest.mark.parametrize("weights", ["width", -1.0, float("nan"), None])
    def test_neither_number_nor_name(self, weights):
        with pytest.raises(ValueError, match=f"of JointTraining must be .* Got {weights!r} inst"):
            resolve(JointTraining(weights), STRATEGIES, "distillation")

    @pytest.mark.parametrize(
        "weights",
        [[0.1, 0.2], [1, 1, 1, 1], [0.1, -0.2, 0.3], [0.1, 0.2, np.nan]],
    )
    def test_wrong_numbers(self, weights):
        with pytest.raises(ValueError, match="must be 3 non-negative numbers, one for each exit"):
            exit_weights(weights, COSTS)
