from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from skearlyexit import CNNBackbone, EarlyExitClassifier
from skearlyexit._determinism._layers import PaddedLinear
from skearlyexit.costs import MACsCost
from skearlyexit.heads import EstimatorHead, GlobalAveragePooling, LinearHead, MLPHead
from skearlyexit.heads._base import PooledModule
from skearlyexit.heads._neural import NeuralHead
from skearlyexit.heads._pooling import resolve_pooling
from skearlyexit.heads._resolve import resolve_heads
from tests._data import blobs, digits, make, quick, same

X, Y = load_iris(return_X_y=True)
rng = np.random.default_rng(0)
WEIGHT = rng.uniform(0.1, 4.0, size=len(Y))


def fitted(
    estimator, X=X, y=Y, weight=None, *, n_classes=3, needs_probabilities=True, seed=0, **params
):
    module = PooledModule(GlobalAveragePooling(), nn.Identity())
    return EstimatorHead(estimator, **params).fit(
        module,
        X,
        y,
        weight,
        classes=np.arange(n_classes),
        needs_probabilities=needs_probabilities,
        seed=seed,
    )


def answers(head, X=X):
    return head.predict_proba(head.pool(torch.from_numpy(X)))


def build(head, *shape, n_classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return head.build(torch.zeros(shape), n_classes)


class TestWeights:
    @pytest.mark.parametrize("weight", [None, WEIGHT])
    def test_tree_is_that_of_scikit_learn(self, weight):
        tree = DecisionTreeClassifier(max_depth=2, random_state=0)
        found = answers(fitted(tree, weight=weight))
        assert np.array_equal(found, tree.fit(X, Y, weight).predict_proba(X))
        assert found.dtype == np.float64

    def test_pipeline_hands_them_to_its_last_step(self):
        model = make_pipeline(StandardScaler(), make_pipeline(LogisticRegression(C=0.1)))
        found = answers(fitted(model, weight=WEIGHT))
        scaled = StandardScaler().fit_transform(X)
        expected = LogisticRegression(C=0.1).fit(scaled, Y, WEIGHT).predict_proba(scaled)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert np.abs(found - answers(fitted(model))).max() > 0.01

    def test_rows_are_drawn_where_fit_takes_none(self):
        n = 4000
        y = rng.integers(2, size=n)
        weight = np.where(y == 1, 3.0, 1.0)
        # Every row is a neighbor of every other: the answer is the share of what was drawn.
        model = KNeighborsClassifier(n)
        found = answers(fitted(model, np.zeros((n, 1)), y, weight, n_classes=2), np.zeros((16, 1)))
        expected = weight[y == 1].sum() / weight.sum()
        assert found[0, 1] == pytest.approx(expected, abs=4 * np.sqrt(0.25 / n))

    def test_rows_without_weight_are_not_drawn(self):
        weight = np.where(Y == 2, 0.0, 1.0)
        found = answers(fitted(KNeighborsClassifier(5), weight=weight))
        assert found[:, 2].max() == 0
        assert np.array_equal(found[Y < 2].argmax(axis=1), Y[Y < 2])

    def test_same_seed_draws_the_same_rows(self):
        first, again, other = (
            answers(fitted(KNeighborsClassifier(5), weight=WEIGHT, seed=seed)) for seed in (0, 0, 1)
        )
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


class TestClasses:
    @pytest.mark.parametrize(
        ("estimator", "probabilities"),
        [(LogisticRegression(max_iter=1000), True), (SVC(), True), (SVC(), False)],
    )
    def test_one_that_is_missing_gets_a_column_of_zeros(self, estimator, probabilities):
        rows = Y != 1
        head = fitted(estimator, X[rows], Y[rows], n_classes=4, needs_probabilities=probabilities)
        found = answers(head)
        assert found.shape == (150, 4)
        assert np.all(found[:, [1, 3]] == 0)
        np.testing.assert_allclose(found.sum(axis=1), 1)
        assert np.array_equal(found[rows].argmax(axis=1), Y[rows])

    @pytest.mark.parametrize("estimator", [LogisticRegression(), SVC()])
    @pytest.mark.parametrize("weight", [None, WEIGHT[:50]])
    def test_only_one_is_always_the_answer(self, estimator, weight):
        found = answers(fitted(estimator, X[:50], np.full(50, 1), weight))
        assert np.array_equal(found, np.tile([0.0, 1.0, 0.0], (150, 1)))


class TestWithoutProbabilities:
    def test_calibrated_where_they_are_needed(self):
        expected = CalibratedClassifierCV(SVC(random_state=0), cv=5, ensemble=False).fit(X, Y)
        found = answers(fitted(SVC()))
        np.testing.assert_allclose(found, expected.predict_proba(X), atol=1e-12)

    def test_labels_where_they_are_not(self):
        found = answers(fitted(SVC(), needs_probabilities=False))
        assert np.array_equal(found, np.eye(3)[SVC(random_state=0).fit(X, Y).predict(X)])

    def test_calibrated_with_weights(self):
        expected = CalibratedClassifierCV(SVC(random_state=0), cv=5, ensemble=False)
        expected.fit(X, Y, sample_weight=WEIGHT)
        found = answers(fitted(SVC(), weight=WEIGHT))
        np.testing.assert_allclose(found, expected.predict_proba(X), atol=1e-12)

    @pytest.mark.parametrize("weight", [None, WEIGHT])
    def test_pipeline_is_calibrated_at_its_last_step(self, weight):
        head = fitted(make_pipeline(StandardScaler(), SVC()), weight=weight)
        scaled = StandardScaler().fit_transform(X)
        expected = CalibratedClassifierCV(SVC(random_state=0), cv=5, ensemble=False)
        expected.fit(scaled, Y, sample_weight=weight)
        np.testing.assert_allclose(answers(head), expected.predict_proba(scaled), atol=1e-12)

    def test_folds_are_as_many_as_the_rarest_class_allows(self):
        rows = np.concatenate([np.arange(100), [100, 110, 120]])
        expected = CalibratedClassifierCV(SVC(random_state=0), cv=3, ensemble=False)
        expected.fit(X[rows], Y[rows])
        found = answers(fitted(SVC(), X[rows], Y[rows]))
        np.testing.assert_allclose(found, expected.predict_proba(X), atol=1e-12)

    @pytest.mark.parametrize("weight", [None, WEIGHT[:101]])
    def test_class_of_a_single_row_is_left_out(self, weight):
        with pytest.warns(UserWarning, match="SVC has no predict_proba, and 1 of 3 classes have"):
            head = fitted(SVC(), X[:101], Y[:101], weight)
        found = answers(head)
        assert np.all(found[:, 2] == 0)
        expected = fitted(SVC(), X[:100], Y[:100], weight if weight is None else weight[:100])
        assert np.array_equal(found, answers(expected))

    def test_classes_of_a_single_row_each(self):
        rows = [0, 50, 100]
        model = make_pipeline(StandardScaler(), LinearSVC())
        with pytest.raises(
            ValueError, match=r"LinearSVC .* every class has a single sample\. Give"
        ):
            fitted(model, X[rows], Y[rows])
        labels = answers(fitted(model, X[rows], Y[rows], needs_probabilities=False), X[rows])
        assert np.array_equal(labels, np.eye(3))


def every_n_jobs(model):
    """`n_jobs` of a fitted model and of all fitted models inside it."""
    found, todo, seen = [], [model], set()
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, list | tuple):
            todo += each
        elif hasattr(each, "__dict__") and type(each).__module__.startswith("sklearn."):
            found += [vars(each)["n_jobs"]] if "n_jobs" in vars(each) else []
            todo += [
                value
                for name, value in vars(each).items()
                if name.endswith("_") or name in ("estimator", "steps")
            ]
    return found


class TestParameters:
    @pytest.mark.parametrize(
        "make",
        [
            lambda forest: forest,
            lambda forest: make_pipeline(StandardScaler(), forest),
            lambda forest: CalibratedClassifierCV(forest, cv=2),
            lambda forest: VotingClassifier([("forest", forest)], voting="soft", n_jobs=2),
            lambda forest: BaggingClassifier(forest, 2),
        ],
        ids=["alone", "pipeline", "calibrated", "voting", "bagging"],
    )
    def test_predictions_run_in_one_job(self, make):
        model = fitted(make(RandomForestClassifier(3, n_jobs=2))).model
        found = every_n_jobs(model)
        assert found
        assert set(found) <= {1, None}

    def test_users_estimator_is_untouched(self):
        forest = RandomForestClassifier(3, n_jobs=2)
        model = make_pipeline(StandardScaler(), forest)
        before = model.get_params()
        head = fitted(model)
        assert model.get_params() == before
        assert forest.n_jobs == 2
        assert forest.random_state is None
        assert not hasattr(forest, "estimators_")
        assert head.model is not model

    def test_random_state_is_set_where_there_is_none(self):
        model = make_pipeline(RandomForestClassifier(2, random_state=7), memory=None)
        assert fitted(model).model[-1].random_state == 7
        states = [
            fitted(
                VotingClassifier(
                    [("a", DecisionTreeClassifier()), ("b", DecisionTreeClassifier(random_state=3))]
                ),
                needs_probabilities=False,
                seed=seed,
            ).model.get_params()
            for seed in (0, 0, 1)
        ]
        first, again, other = (state["a__random_state"] for state in states)
        assert isinstance(first, int)
        assert first == again != other
        assert {state["b__random_state"] for state in states} == {3}

    def test_same_seed_same_forest(self):
        first, again, other = (
            answers(fitted(RandomForestClassifier(3), seed=seed)) for seed in (0, 0, 1)
        )
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


class TestResolveHeads:
    def test_one_for_all_is_copied(self):
        mine = MLPHead((5,))
        heads = resolve_heads(mine, 3)
        assert [head.hidden for head in heads] == [(5,)] * 3
        assert len({id(head) for head in [mine, *heads]}) == 4

    def test_one_for_each(self):
        tree = DecisionTreeClassifier()
        heads = resolve_heads(["linear", "mlp", tree, None], 4)
        assert [type(head) for head in heads] == [LinearHead, MLPHead, EstimatorHead, LinearHead]
        assert [head.is_neural for head in heads] == [True, True, False, True]
        assert isinstance(heads[2].estimator, DecisionTreeClassifier)

    @pytest.mark.parametrize("head", [["linear"], ("linear",) * 3, []])
    def test_wrong_number(self, head):
        with pytest.raises(ValueError, match=f"holds {len(head)} heads for 2 exits; give one"):
            resolve_heads(head, 2)

    def test_unknown_name(self):
        with pytest.raises(ValueError, match=r"'mlp', 'own'\].*Got 'tree' instead"):
            resolve_heads("tree", 2)

    @pytest.mark.parametrize(
        "head", [LinearRegression(), DecisionTreeClassifier, StandardScaler(), 3, LinearHead]
    )
    def test_no_classifier(self, head):
        with pytest.raises(
            TypeError, match=r"with its parentheses\. Got .*, which is no classifier"
        ):
            resolve_heads([None, head], 2)


class TestPooling:
    images = rng.normal(size=(5, 3, 4, 6))

    def test_average(self):
        found = resolve_pooling("average")(torch.tensor(self.images)).numpy()
        np.testing.assert_allclose(found, self.images.mean(axis=(2, 3)), atol=1e-14)
        series = resolve_pooling("average")(torch.tensor(self.images[:, :, 0])).numpy()
        np.testing.assert_allclose(series, self.images[:, :, 0].mean(axis=2), atol=1e-14)
        assert np.array_equal(resolve_pooling("average")(torch.tensor(X)).numpy(), X)

    def test_flatten(self):
        found = resolve_pooling("flatten")(torch.tensor(self.images)).numpy()
        assert np.array_equal(found, self.images.reshape(5, -1))

    def test_module_is_copied(self):
        mine = nn.AdaptiveMaxPool2d(1)
        found = resolve_pooling(mine)
        assert found is not mine
        pooled = found(torch.tensor(self.images)).numpy()
        assert np.array_equal(pooled, self.images.max(axis=(2, 3)))

    @pytest.mark.parametrize("pooling", ["max", None, 3])
    def test_unknown(self, pooling):
        with pytest.raises(
            ValueError, match=r"one of \['average', 'flatten', 'quarters'\] or a torch module"
        ):
            resolve_pooling(pooling)

    @pytest.mark.parametrize(("pooling", "n_features"), [("average", 3), ("flatten", 72)])
    @pytest.mark.parametrize("kind", [LinearHead, MLPHead, EstimatorHead])
    def test_heads_pool_before_they_predict(self, kind, pooling, n_features):
        args = [LogisticRegression()] if kind is EstimatorHead else []
        module = build(kind(*args, pooling=pooling), 2, 3, 4, 6)
        x = torch.tensor(self.images, dtype=torch.float32)
        assert module.pooling(x).shape == (5, n_features)
        assert module(x).shape == (5, 3)
        assert torch.equal(module(x), module.body(module.pooling(x)))

    def test_estimator_sees_pooled_embeddings(self):
        head = fitted(DecisionTreeClassifier(random_state=0))
        images = np.repeat(X[:, :, None], 4, axis=2).reshape(150, 4, 2, 2)
        assert np.array_equal(answers(head, images), answers(head))


class TestNeuralHeads:
    @pytest.mark.parametrize("hidden", [(64,), (7,), (20, 5), ()])
    def test_widths(self, hidden):
        module = build(MLPHead(hidden), 2, 10)
        linear = [layer for layer in module.body if not isinstance(layer, nn.ReLU)]
        widths = [(layer.in_features, layer.out_features) for layer in linear]
        ends = [10, *hidden, 3]
        assert widths == list(pairwise(ends))

    def test_perceptron_by_hand(self):
        module = build(MLPHead((7,), normalize=False), 2, 10)
        first, _, second = module.body
        x = rng.normal(size=(6, 10)).astype(np.float32)
        w1, b1, w2, b2 = (
            p.detach().numpy() for p in (first.weight, first.bias, second.weight, second.bias)
        )
        expected = np.maximum(x @ w1[:, :10].T + b1, 0) @ w2[:, :7].T + b2
        np.testing.assert_allclose(module(torch.tensor(x)).detach(), expected, atol=1e-5)

    def test_answers_are_the_softmax_of_the_logits(self):
        head = LinearHead()
        module = build(head, 2, 4).eval()
        fitted_head = head.fit(
            module, None, Y, None, classes=np.arange(3), needs_probabilities=True, seed=0
        )
        x = torch.tensor(X[:16], dtype=torch.float32)
        with torch.no_grad():
            found = fitted_head.predict_proba(fitted_head.pool(x))
            logits = module(x).numpy().astype(np.float64)
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert found.dtype == np.float64


class WritingHead(NeuralHead):
    """A layer of it writes into its input."""

    def body(self, n_features, n_classes):
        layers = PaddedLinear(n_features, 8), nn.ReLU(inplace=True), PaddedLinear(8, n_classes)
        return nn.Sequential(*layers)


@pytest.mark.parametrize(
    "head",
    [LinearHead(normalize=True), MLPHead((12,), normalize=True), WritingHead(normalize=True)],
    ids=str,
)
def test_normalisation_is_folded_once_trained(head):
    embedding = torch.randn(64, 21, generator=torch.Generator().manual_seed(0)) * 30 + 7
    module = make(lambda: head.build(embedding, 3))
    module(embedding)  # in training mode, which moves the running statistics
    with torch.no_grad():
        module.body.normalization.weight.uniform_(0.5, 2.0, generator=torch.Generator())
        module.body.normalization.bias.uniform_(-1.0, 1.0, generator=torch.Generator())
    module.eval()
    fitted = head.fit(module)
    assert not any(isinstance(part, nn.BatchNorm1d) for part in fitted.model.modules())
    torch.testing.assert_close(fitted.model(embedding), module(embedding), rtol=1e-4, atol=1e-4)
    plain = clone(head).set_params(normalize=False)
    module = make(lambda: plain.build(embedding, 3))
    both = [each.cost_input(embedding) for each in (fitted, plain.fit(module))]
    assert len({reading.value for reading in MACsCost().read(both)}) == 1


def test_embeddings_on_a_small_scale_are_learned_from_all_the_same():
    X, y, X_new, y_new = digits()
    images = X.reshape(-1, 1, 8, 8)[:600], y[:600]

    def accuracies(normalize):
        clf = EarlyExitClassifier(
            CNNBackbone((16, 16), n_blocks=1),
            exits=["stem", "group1.block1"],
            head=LinearHead(normalize=normalize),
            training="joint",
            calibration=None,
            max_epochs=8,
            batch_size=128,
            early_stopping=False,
            random_state=0,
        ).fit(*images)
        return [np.mean(p == y_new) for p in clf.staged_predict(X_new.reshape(-1, 1, 8, 8))]

    with_it, without = accuracies(True), accuracies(False)
    assert with_it[0] > without[0] + 0.05
    assert with_it[1] > without[1] + 0.05


@pytest.mark.parametrize("head", [LinearHead, MLPHead])
def test_a_pooling_may_keep_axes_of_length_one(head):
    embedding = torch.zeros(16, 5, 4, 4)
    module = make(lambda: head(pooling=nn.AdaptiveAvgPool2d(1)).build(embedding, 3))
    assert module(embedding).shape == (16, 3)
    assert module.pooling(embedding).shape == (16, 5)


def test_what_is_pooled_is_standardised_and_vectors_are_not():
    vectors, maps = torch.zeros(16, 5), torch.zeros(16, 5, 4, 4)

    def standardizes(head, embedding):
        module = make(lambda: head.build(embedding, 3))
        return any(isinstance(part, nn.BatchNorm1d) for part in module.modules())

    assert [standardizes(LinearHead(), e) for e in (vectors, maps)] == [False, True]
    for chosen in (False, True):
        head = MLPHead(normalize=chosen)
        assert [standardizes(head, e) for e in (vectors, maps)] == [chosen, chosen]


def test_statistics_are_right_after_one_step():
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)) * 30 + 7
    module = make(lambda: LinearHead(normalize=True).build(x, 3))
    module(x)
    normalization = module.body.normalization
    torch.testing.assert_close(normalization.running_mean, x.mean(dim=0))
    torch.testing.assert_close(normalization.running_var, x.var(dim=0))
    module(x + 4)
    torch.testing.assert_close(normalization.running_mean, x.mean(dim=0) + 2)


class TestOwnClassifier:
    """What the network brings, at the last exit next to other heads."""

    module = make(
        lambda: nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 8), nn.Linear(8, 4))
    )

    def fit(self, head, **params):
        params = {"exits": ["1"], "training": "separate", "calibration": None, **params}
        return quick(backbone=self.module, head=head, **params).fit(*blobs()[:2])

    def test_it_stays_as_it_is(self):
        X = blobs()[2]
        clf = self.fit([LogisticRegression(), "own"])
        with torch.no_grad():
            expected = torch.softmax(self.module(torch.tensor(X, dtype=torch.float32)), dim=1)
        table = clf.exit_table(X)
        np.testing.assert_allclose(table.probabilities[:, 1], expected.numpy(), atol=1e-6)
        assert isinstance(clf.heads_[0], LogisticRegression)
        assert clf.costs_[1] > 1  # the plain network with its own classifier, and a head before
        assert clf.cost_table_.plain == 13 * 16 + 16 * 8 + 8 * 4

    def test_it_learns_with_the_network_in_other_trainings(self):
        X = blobs()[2]
        tables = [
            self.fit(head, training="joint").exit_table(X).probabilities
            for head in (None, [None, "own"])
        ]
        assert same(*tables)

    def test_alone(self):
        clf = self.fit("own", exits=1)
        assert torch.equal(clf.heads_[0].body[0].weight, self.module[3].weight)

    @pytest.mark.parametrize("head", ["own", ["own", "linear"], ["own", "own"]])
    def test_only_at_the_last_exit(self, head):
        with pytest.raises(ValueError, match=r"last exit only\. Got 'own' .* at exit 0 of 2"):
            self.fit(head)

    def test_network_without_one(self):
        with pytest.raises(ValueError, match="the backbone has none"):
            quick(head=[None, None, "own"]).fit(*blobs()[:2])
