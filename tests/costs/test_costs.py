import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    AdaBoostClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, NuSVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from skearlyexit.costs import UncountedError, estimator_macs, exit_costs
from skearlyexit.costs._estimators import CALL, SCALAR
from skearlyexit.costs._modules import module_macs
from tests._data import make

X, Y = load_iris(return_X_y=True)
N, D, C = 150, 4, 3


def macs(n_exits):
    return arrays(np.float64, n_exits, elements=st.integers(1, 10**6).map(float))


stages_and_heads = st.integers(1, 6).flatmap(lambda n: st.tuples(macs(n), macs(n)))


class TestExitCosts:
    def test_by_hand(self):
        # The plain network is 10 + 20 + 30 of stages and 40 of the last head: 100.
        assert exit_costs([10, 20, 30], [5, 10, 40], decisions=3) == pytest.approx(
            [(10 + 5 + 3) / 100, (30 + 15 + 6) / 100, (60 + 55 + 6) / 100]
        )

    def test_one_exit_is_the_plain_network(self):
        assert exit_costs([70.0], [30.0], decisions=10.0).tolist() == [1.0]

    @settings(deadline=None)
    @given(stages_and_heads, st.integers(0, 100))
    def test_increasing_and_the_end_pays_for_the_other_exits(self, both, policy):
        stages, heads = both
        costs = exit_costs(stages, heads, policy)
        assert np.all(np.diff(costs) > 0)
        extra = heads[:-1].sum() + policy * (len(heads) - 1)
        assert costs[-1] == pytest.approx(1 + extra / (stages.sum() + heads[-1]), rel=1e-12)

    @settings(deadline=None)
    @given(stages_and_heads)
    def test_units_do_not_matter(self, both):
        stages, heads = both
        assert exit_costs(7 * stages, 7 * heads) == pytest.approx(exit_costs(stages, heads))

    def test_network_without_a_cost(self):
        assert exit_costs([0.0, 0.0], [0.0, 0.0]).tolist() == [0.0, 0.0]


def zeros(*shape):
    return torch.zeros(shape)


def count(module, inputs):
    with torch.random.fork_rng():
        return module_macs(module().eval(), inputs, len(inputs))[0]


class Attention(nn.Module):
    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x, x, x)


class TestModuleMacs:
    @pytest.mark.parametrize("n_rows", [1, 2, 7])
    def test_linear(self, n_rows):
        assert count(lambda: nn.Linear(8, 3), zeros(n_rows, 8)) == 8 * 3

    @pytest.mark.parametrize(
        "options", [{}, {"stride": 2}, {"padding": 1}, {"groups": 2}, {"bias": False}]
    )
    def test_convolution(self, options):
        stride, padding = options.get("stride", 1), options.get("padding", 0)
        height, width = ((size + 2 * padding - 3) // stride + 1 for size in (9, 11))
        expected = height * width * 8 * (4 // options.get("groups", 1)) * 3 * 3
        assert count(lambda: nn.Conv2d(4, 8, 3, **options), zeros(2, 4, 9, 11)) == expected

    def test_network_adds_up_and_the_rest_is_free(self):
        def build():
            return nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
            )

        assert count(build, zeros(3, 1, 8, 8)) == 36 * 4 * 9 + 144 * 5

    def test_outputs_are_those_of_the_pass_and_carry_no_gradient(self):
        with torch.random.fork_rng():
            module = nn.Linear(4, 2)
        x = torch.linspace(0, 1, 12).reshape(3, 4)
        _, outputs = module_macs(module, x, 3)
        assert torch.equal(outputs, module(x))
        assert not outputs.requires_grad

    def test_attention(self):
        # Two products of 10 x 8 with 8 x 10 in each of 4 heads.
        assert count(Attention, zeros(2, 4, 10, 8)) == 2 * 4 * 10 * 10 * 8

    def test_transformer_layer(self):
        def build():
            return nn.TransformerEncoderLayer(32, 4, dim_feedforward=64, batch_first=True)

        projections, products = 10 * 32 * 4 * 32, 2 * 10 * 10 * 32
        forward = 2 * 10 * 32 * 64
        assert count(build, zeros(2, 10, 32)) == projections + products + forward

    @pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
    def test_recurrent_network_that_looks_at_numbers(self, kind):
        class Looks(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = kind(32, 16, batch_first=True)

            def forward(self, x):
                return self.layer(x if float(x.sum()) >= 0 else -x)[0]

        n_gates = 4 if kind is nn.LSTM else 3
        assert count(Looks, zeros(4, 10, 32)) == 10 * n_gates * 16 * (32 + 16)

    def test_attention_that_looks_at_numbers(self):
        class Looks(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)

            def forward(self, x):
                return self.layer(x if float(x.sum()) >= 0 else -x)

        expected = 10 * 32 * 4 * 32 + 2 * 10 * 10 * 32 + 2 * 10 * 32 * 64
        assert count(Looks, zeros(2, 10, 32)) == expected

    @pytest.mark.parametrize(("kind", "n_gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
    def test_recurrent_network(self, kind, n_gates):
        expected = 10 * n_gates * 16 * (32 + 16)
        assert count(lambda: kind(32, 16, batch_first=True), zeros(4, 10, 32)) == expected


def comparisons(tree, rows):
    """Nodes on the way of each row, the leaf not counted."""
    return np.asarray(tree.decision_path(rows).sum(axis=1)).ravel() - 1


def boosted_path(nodes, row):
    """Comparisons of one row in a tree of histogram boosting, walked node by node."""
    at, n_steps = 0, 0
    while not nodes[at]["is_leaf"]:
        left = row[nodes[at]["feature_idx"]] <= nodes[at]["num_threshold"]
        at = nodes[at]["left"] if left else nodes[at]["right"]
        n_steps += 1
    return n_steps


class TestEstimatorMacs:
    def test_linear_model_uses_coefficients_and_intercepts(self):
        assert estimator_macs(LogisticRegression(max_iter=1000).fit(X, Y)) == D * C + C
        binary = LogisticRegression(max_iter=1000).fit(X, Y == 1)
        assert estimator_macs(binary) == D + 1

    def test_perceptron_uses_every_weight(self):
        model = MLPClassifier((6, 5), solver="lbfgs", max_iter=500, random_state=0, tol=1e-2)
        assert estimator_macs(model.fit(X, Y)) == (4 * 6 + 6) + (6 * 5 + 5) + (5 * 3 + 3)

    @pytest.mark.parametrize("depth", [1, 3, None])
    def test_tree_is_its_mean_path(self, depth):
        tree = DecisionTreeClassifier(max_depth=depth, random_state=0).fit(X, Y)
        assert estimator_macs(tree) == pytest.approx(SCALAR * comparisons(tree, X).mean())

    def test_tree_weighs_its_rows(self):
        weight = np.where(Y == 0, 10.0, 1.0)
        tree = DecisionTreeClassifier(random_state=0).fit(X, Y, weight)
        expected = np.average(comparisons(tree, X), weights=weight)
        assert estimator_macs(tree) == pytest.approx(SCALAR * expected)

    def test_gradient_boosting_is_its_trees(self):
        boosting = GradientBoostingClassifier(n_estimators=3, random_state=0).fit(X, Y)
        paths = [SCALAR * comparisons(tree, X).mean() + 1 for tree in boosting.estimators_.ravel()]
        assert len(paths) == 3 * C
        assert estimator_macs(boosting) == pytest.approx(sum(paths))

    @pytest.mark.parametrize("kind", [RandomForestClassifier, AdaBoostClassifier])
    def test_ensemble_calls_its_members(self, kind):
        model = kind(n_estimators=4, random_state=0).fit(X, Y)
        members = [estimator_macs(member) for member in model.estimators_]
        assert len(members) == 4
        assert estimator_macs(model) == pytest.approx(sum(members) + 4 * (CALL + C))

    def test_one_model_a_class(self):
        model = OneVsRestClassifier(LogisticRegression()).fit(X, Y)
        assert estimator_macs(model) == C * (D + 1 + CALL + C)

    def test_calibration_calls_for_every_class(self):
        tree = DecisionTreeClassifier(random_state=0)
        model = CalibratedClassifierCV(tree, cv=2, ensemble=False).fit(X, Y)
        expected = estimator_macs(tree.fit(X, Y)) + C * (CALL + SCALAR)
        assert estimator_macs(model) == pytest.approx(expected)

    def test_histogram_boosting_is_its_trees(self):
        boosting = HistGradientBoostingClassifier(max_iter=4, max_leaf_nodes=6, random_state=0).fit(
            X, Y
        )
        trees = [tree.nodes for iteration in boosting._predictors for tree in iteration]
        paths = [SCALAR * np.mean([boosted_path(nodes, row) for row in X]) + 1 for nodes in trees]
        assert len(paths) == 4 * C
        assert estimator_macs(boosting) == pytest.approx(sum(paths))
        assert 4 * C * SCALAR < estimator_macs(boosting) <= 4 * C * (5 * SCALAR + 1)

    @pytest.mark.parametrize("kind", [SVC, NuSVC])
    @pytest.mark.parametrize(
        ("kernel", "per_feature", "per_vector"),
        [("linear", 1, 0), ("poly", 1, 0), ("rbf", 2, SCALAR), ("sigmoid", 1, SCALAR)],
    )
    def test_support_vectors_are_all_evaluated(self, kind, kernel, per_feature, per_vector):
        model = kind(kernel=kernel, random_state=0).fit(X, Y)
        n_vectors = len(model.support_)
        assert n_vectors > C  # more than the coefficients of a linear model would take
        # Each vector is used by the pairs of classes that its own is in.
        expected = n_vectors * (per_feature * D + per_vector + C - 1)
        assert estimator_macs(model) == expected

    def test_fewer_support_vectors_cost_less(self):
        few, many = (SVC(kernel="linear", C=c, random_state=0).fit(X, Y) for c in (100.0, 0.01))
        assert len(few.support_) < len(many.support_)
        assert estimator_macs(few) < estimator_macs(many)

    def test_neighbors_searched_by_brute_force(self):
        model = KNeighborsClassifier(3, algorithm="brute").fit(X, Y)
        assert estimator_macs(model) == N * D

    @pytest.mark.parametrize(
        "model",
        [
            SVC(kernel=lambda a, b: a @ b.T, random_state=0),
            KNeighborsClassifier(algorithm="kd_tree"),
            GaussianNB(),
            BernoulliNB(),
            NearestCentroid(),
        ],
        ids=lambda model: type(model).__name__,
    )
    def test_what_a_count_would_miss_has_none(self, model):
        with pytest.raises(UncountedError, match=type(model).__name__):
            estimator_macs(model.fit(X, Y))

    def test_pipeline_is_its_steps(self):
        model = make_pipeline(StandardScaler(), "passthrough", LogisticRegression()).fit(X, Y)
        assert estimator_macs(model) == 2 * D + D * C + C

    def test_pipeline_with_a_step_left_out(self):
        steps = [("scale", None), ("model", LogisticRegression(max_iter=1000))]
        assert estimator_macs(Pipeline(steps).fit(X, Y)) == D * C + C

    def test_other_kinds_may_be_registered(self):
        class Lookup(LogisticRegression):
            pass

        estimator_macs.register(Lookup, lambda estimator: 5.0)
        model = make_pipeline(StandardScaler(), Lookup()).fit(X, Y)
        assert estimator_macs(model) == 2 * D + 5


class Quiet(nn.Module):
    """A linear layer and a convolution, of which torch keeps no history."""

    def __init__(self):
        super().__init__()
        self.layer, self.convolution = nn.Linear(8, 6), nn.Conv1d(1, 2, 3)

    def forward(self, x):
        with torch.inference_mode():
            return self.convolution(self.layer(x)[:, None])


class Either(nn.Module):
    """One of two layers, by an operator that calls functions."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        return torch.cond(x.sum() > 0, self.first, self.second, (x,))


def test_operations_in_inference_mode_are_counted():
    module = make(Quiet).eval()
    expected = 8 * 6 + 2 * 3 * 4
    assert module_macs(module, torch.ones(2, 8), 2)[0] == expected
    with torch.inference_mode():
        assert module_macs(module, torch.ones(2, 8), 2)[0] == expected


def test_operators_that_call_functions_are_counted():
    assert module_macs(make(Either).eval(), torch.ones(2, 8), 2)[0] == 8 * 4
