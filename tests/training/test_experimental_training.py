"""Experimental training strategies, against formulas by hand."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import nn

from skearlyexit._utils._resolve import resolve
from skearlyexit.experimental import BottleneckTraining, TargetTraining
from skearlyexit.experimental._bottleneck_training import (
    BottleneckLoss,
    BottleneckView,
    NoisyChannel,
    about_labels,
    about_rows,
)
from skearlyexit.experimental._target_training import TargetLoss, TargetView, make_decoder
from skearlyexit.training import _registry
from tests._data import blobs, make, quick
from tests._tiny import COSTS, equal, rows_of, tiny, trainer
from tests._trainings import check_images_and_memory

N, K, C = 9, 3, 4
rng = np.random.default_rng(0)
Y = np.append(np.arange(C), rng.integers(C, size=N - C))
WEIGHT = rng.uniform(0.1, 5.0, size=N)
ONES = np.ones(N)
X_BLOBS, Y_BLOBS, X_TEST, Y_TEST = blobs()
STRATEGIES = [
    BottleneckTraining(),
    BottleneckTraining(learn_noise=True),
    BottleneckTraining(information="discriminators"),
    TargetTraining(),
]


def state(module):
    return {name: each.detach().clone() for name, each in module.state_dict().items()}


def target(weighted):
    return (torch.tensor(Y), torch.tensor(WEIGHT))[: 2 if weighted else 1]


class TestInformation:
    @pytest.mark.parametrize("weight", [ONES, WEIGHT], ids=["plain", "weighted"])
    def test_about_rows_is_the_mean_divergence_from_the_best_gaussian(self, weight):
        vectors, scale = rng.normal(2, 3, size=(N, 6)), rng.uniform(0.2, 2, size=6)
        shares = weight / weight.sum()
        mean = shares @ vectors
        variance = shares @ (vectors - mean) ** 2 + scale**2
        # KL(N(f, s^2) || N(m, v)) of each row, in nats.
        divergences = 0.5 * (
            (scale**2 + (vectors - mean) ** 2) / variance - 1 + np.log(variance / scale**2)
        ).sum(axis=1)
        found = about_rows(*map(torch.tensor, (vectors, np.log(scale), weight))).item()
        assert found == pytest.approx(np.mean(weight * divergences), rel=1e-12)
        # Any other mean and variance bound it less well.
        for m, v in [(mean + 0.3, variance), (mean, variance * 1.2), (mean, variance * 0.8)]:
            other = (scale**2 + (vectors - m) ** 2) / v - 1 + np.log(v / scale**2)
            assert np.mean(weight * 0.5 * other.sum(axis=1)) > found

    def test_about_rows_is_exact_for_a_gaussian(self):
        """Of X ~ N(0, 1) and F = X + noise, I(X; F) is log(1 + 1 / s^2) / 2."""
        vectors = torch.tensor(np.random.default_rng(0).normal(size=(200_000, 1)))
        found = about_rows(vectors, torch.tensor([np.log(0.5)]), torch.ones(len(vectors)).double())
        assert found.item() == pytest.approx(0.5 * np.log(5), abs=0.01)

    @pytest.mark.parametrize("weight", [ONES, WEIGHT], ids=["plain", "weighted"])
    def test_about_labels_by_hand(self, weight):
        said = rng.normal(size=(N, C)) * 3
        expected = 0.0
        for c in range(C):
            members = np.flatnonzero(c == Y)
            share = weight[members].sum() / weight.sum()
            own = np.average(said[members, c], weights=weight[members])
            expected += share * (own - np.log(np.average(np.exp(said[:, c]), weights=weight)))
        found = about_labels(*map(torch.tensor, (said, Y, weight))).item()
        assert found == pytest.approx(weight.mean() * expected, rel=1e-12)

    def test_about_labels_is_at_most_their_entropy(self):
        """Which discriminators reach that know the class; what says nothing tells nothing."""
        shares = np.bincount(Y) / N
        entropy = -(shares * np.log(shares)).sum()
        sure = torch.tensor(np.eye(C)[Y] * 200)
        y, weight = torch.tensor(Y), torch.tensor(ONES)
        assert about_labels(sure, y, weight).item() == pytest.approx(entropy)
        assert about_labels(sure * 1e4, y, weight).item() == pytest.approx(entropy)
        nothing = torch.full((N, C), 7.0).double()
        assert about_labels(nothing, y, weight).item() == pytest.approx(0, abs=1e-12)

    def test_integer_weights_are_repeated_rows(self):
        times = torch.tensor([1, 3, 2, 1, 4, 2, 1, 1, 2])
        weight = times / times.double().mean()
        said, vectors = torch.tensor(rng.normal(size=(N, C))), torch.tensor(rng.normal(size=(N, 6)))
        scale, y = torch.zeros(6).double(), torch.tensor(Y)
        said_again, vectors_again, y_again = (
            each.repeat_interleave(times, dim=0) for each in (said, vectors, y)
        )
        ones = torch.ones(len(y_again)).double()
        torch.testing.assert_close(
            about_labels(said, y, weight), about_labels(said_again, y_again, ones)
        )
        torch.testing.assert_close(
            about_rows(vectors, scale, weight), about_rows(vectors_again, scale, ones)
        )

    def test_a_batch_of_no_weight_teaches_nothing(self):
        said = torch.tensor(rng.normal(size=(N, C)), requires_grad=True)
        vectors = torch.tensor(rng.normal(size=(N, 6)), requires_grad=True)
        zeros = torch.zeros(N).double()
        found = about_labels(said, torch.tensor(Y), zeros)
        found = found + about_rows(vectors, torch.zeros(6).double(), zeros)
        found.backward()
        assert found.item() == 0
        assert not said.grad.any()
        assert not vectors.grad.any()


class TestBottleneck:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("discriminated", [False, True])
    def test_the_loss_by_hand(self, weighted, discriminated):
        logits, said = rng.normal(size=(2, N, C))
        vectors, log_scale = rng.normal(size=(N, 6)), rng.normal(size=6)
        weight = WEIGHT if weighted else ONES
        crossed = -log_softmax(logits, axis=1)[np.arange(N), Y]
        tensors = [torch.tensor(each) for each in (logits, vectors, log_scale)]
        w = torch.tensor(weight)
        expected = np.mean(weight * crossed) + 0.3 * about_rows(*tensors[1:], w).item()
        if discriminated:
            tensors.append(torch.tensor(said))
            expected -= about_labels(tensors[-1], torch.tensor(Y), w).item()
        found = BottleneckLoss(0.3, discriminated=discriminated)(tensors, target(weighted))
        assert found.item() == pytest.approx(expected, rel=1e-12)

    def test_noise_is_for_training(self):
        vectors = torch.tensor(np.random.default_rng(0).normal(1, 4, size=(5000, 3)))
        channel = NoisyChannel(vectors, 0.5, learned=False)
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            noise = channel(vectors) - vectors
        assert noise.std(dim=0).numpy() == pytest.approx(2.0, rel=0.05)  # half of 4
        assert torch.equal(channel.eval()(vectors), vectors)

    def test_embeddings_that_never_change_have_noise_of_that_scale(self):
        channel = NoisyChannel(torch.ones(4, 3), 0.5, learned=False)
        assert channel.log_scale.exp().numpy() == pytest.approx(0.5)

    @pytest.mark.parametrize("discriminated", [False, True])
    def test_the_head_teaches_the_stage_unless_discriminators_do(self, discriminated):
        network, rows = tiny(), rows_of()
        channel = NoisyChannel(torch.zeros(2, 5).double(), 0.5, learned=False)
        others = make(lambda: nn.Linear(5, C).double()) if discriminated else None
        view = BottleneckView(
            [], network.stages[0], network.heads[0], channel, others, exit_=0
        ).eval()
        logits, *_ = view(rows.X)
        assert torch.equal(logits, network.heads[0](network.stages[0](rows.X)[1]))
        nn.functional.cross_entropy(logits, rows.y).backward()
        assert (network.stages[0].layer.weight.grad is None) == discriminated
        assert network.heads[0].body.weight.grad.any()

    def test_a_higher_price_keeps_less_of_the_rows(self):
        kept = []
        for beta in (0, 0.01, 0.1):
            network = tiny()
            learner = trainer(
                rows_of(200), max_epochs=40, batch_size=100, optimizer="adam", lr=0.03
            )
            BottleneckTraining(beta).train(network, COSTS, learner)
            with torch.no_grad():
                _, embedding = network.stages[0](rows_of(200).X)
            before = tiny().stages[0](rows_of(200).X)[1].std().item()
            scale = torch.full((5,), np.log(0.5 * before)).double()
            kept.append(about_rows(embedding, scale, torch.ones(200).double()).item())
        assert kept[0] > kept[1] > kept[2]

    def test_learned_noise_grows_with_its_price(self):
        scales = []
        for beta in (1e-4, 0.1):
            network = tiny()
            learner = trainer(
                rows_of(200), max_epochs=40, batch_size=100, optimizer="adam", lr=0.03
            )
            stage, head = network.stages[0], network.heads[0]
            with torch.no_grad():
                vectors = stage(rows_of(200).X)[1]
            channel = NoisyChannel(vectors, 0.5, learned=True)
            view = BottleneckView([], stage, head, channel, None, exit_=0)
            learner.fit(view, BottleneckLoss(beta, discriminated=False))
            scales.append(channel.log_scale.mean().item())
        assert scales[1] > scales[0]


class TestTargets:
    def outputs(self, activation=torch.tanh, two_paths=False):
        network = tiny(two_paths, activation)
        embeddings = torch.zeros(2, 5).double()
        decoders = make(lambda: [make_decoder(embeddings, embeddings) for _ in range(K - 1)])
        return network, TargetView(network, decoders), TargetLoss(decoders, 0.2)

    def test_targets_of_a_linear_network_by_hand(self):
        network, _, _ = self.outputs(lambda x: x)
        # Decoders that are linear, so that differences pass through their matrices.
        linear = make(lambda: [nn.Linear(5, 5).double() for _ in range(K - 1)])
        view, loss = TargetView(network, linear), TargetLoss(linear, 0.2)
        rows, y = rows_of(N).X, torch.tensor(Y)
        outputs = view(rows)
        found = loss.targets(outputs[K - 1], outputs[K : 2 * K], y)
        embeddings, carry = [], rows.numpy()
        for stage in network.stages:
            weight, bias = (each.detach().numpy() for each in stage.layer.parameters())
            carry = carry @ weight.T + bias
            embeddings.append(carry)
        head, bias = (each.detach().numpy() for each in network.heads[-1].body.parameters())
        error = np.exp(log_softmax(carry @ head.T + bias, axis=1)) - np.eye(C)[Y]
        difference = -0.2 * error @ head
        expected = [embeddings[-1] + difference]
        for decoder, embedding in zip(linear[::-1], embeddings[-2::-1], strict=True):
            difference = difference @ decoder.weight.detach().numpy().T
            expected.insert(0, embedding + difference)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-10)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_the_loss_by_hand(self, weighted):
        _, view, loss = self.outputs()
        outputs = view(rows_of(N).X)
        weight = WEIGHT if weighted else ONES
        targets = loss.targets(outputs[K - 1], outputs[K : 2 * K], torch.tensor(Y))
        numbers = [each.detach().numpy() for each in outputs]
        expected = 0.0
        for i in range(K):
            crossed = -log_softmax(numbers[i], axis=1)[np.arange(N), Y]
            distance = ((numbers[2 * K + i] - targets[i].numpy()) ** 2).sum(axis=1)
            expected += np.mean(weight * (crossed + distance / 0.4))
        for i in range(K - 1):
            errors = (numbers[3 * K + i] - numbers[2 * K + i]) ** 2
            expected += np.mean(weight * errors.mean(axis=1))
        assert loss(outputs, target(weighted)).item() == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_the_last_stage_follows_the_gradient_of_its_exit(self, weighted):
        network, view, loss = self.outputs()
        loss(view(rows_of(N).X), target(weighted)).backward()
        found = network.stages[-1].layer.weight.grad.clone()
        network.zero_grad()
        with torch.no_grad():
            carry, _ = network.stages[0](rows_of(N).X)
            carry, _ = network.stages[1](carry)
        logits = network.heads[-1](network.stages[-1](carry)[1])
        losses = nn.functional.cross_entropy(logits, torch.tensor(Y), reduction="none")
        (losses * torch.tensor(WEIGHT if weighted else ONES)).mean().backward()
        torch.testing.assert_close(found, network.stages[-1].layer.weight.grad)

    @pytest.mark.parametrize("two_paths", [False, True])
    def test_no_gradient_crosses_a_stage(self, two_paths):
        network, view, _ = self.outputs(two_paths=two_paths)
        outputs = view(rows_of(N).X)
        for i in range(K):
            view.zero_grad()
            outputs[2 * K + i].square().sum().backward(retain_graph=True)
            reached = [
                stage.layer.weight.grad is not None and bool(stage.layer.weight.grad.any())
                for stage in network.stages
            ]
            assert reached == [j == i for j in range(K)]
        for each in [*outputs[:K], *outputs[3 * K :]]:  # heads and decoders
            view.zero_grad()
            each.square().sum().backward(retain_graph=True)
            assert not any(
                stage.layer.weight.grad is not None and stage.layer.weight.grad.any()
                for stage in network.stages
            )

    def test_validation_is_the_cross_entropy(self):
        _, view, loss = self.outputs()
        with torch.no_grad():
            outputs = view.eval()(rows_of(N).X)
            found = loss.eval()(outputs, target(False)).item()
        by_hand = sum(
            -log_softmax(each.numpy(), axis=1)[np.arange(N), Y].mean() for each in outputs[:K]
        )
        assert found == pytest.approx(by_hand)

    def test_decoders_learn_to_invert(self):
        _, view, loss = self.outputs()
        rows = rows_of(200)

        def errors():
            with torch.no_grad():
                outputs = view(rows.X)
            pairs = zip(outputs[3 * K :], outputs[2 * K :], strict=False)
            return [((a - b).square().mean() / b.var()).item() for a, b in pairs]

        before = errors()
        trainer(rows, max_epochs=150, batch_size=100, optimizer="adam", lr=0.03).fit(view, loss)
        assert all(after < 0.2 < start for after, start in zip(errors(), before, strict=True))

    def test_maps_of_other_sizes(self):
        later, earlier = torch.zeros(2, 6, 2, 2), torch.zeros(2, 3, 4, 4)
        assert make(lambda: make_decoder(later, earlier))(later).shape == (2, 48)


@pytest.mark.parametrize("training", STRATEGIES, ids=str)
class TestBoth:
    @pytest.mark.parametrize("options", [{}, {"early_stopping": True}], ids=str)
    def test_learns_at_every_exit(self, training, options):
        clf = quick(training=training, max_epochs=20, lr=0.01, **options).fit(X_BLOBS, Y_BLOBS)
        table = clf.exit_table(X_TEST)
        accuracy = (clf.classes_[table.labels] == Y_TEST[:, None]).mean(axis=0)
        assert (accuracy > 0.5).all()  # of four classes
        assert all(np.isfinite(epoch["train_loss"]) for epoch in clf.history_)

    def test_images_and_memory(self, training, tmp_path):
        check_images_and_memory(training, tmp_path)

    @pytest.mark.parametrize("two_paths", [False, True])
    def test_weights_matter_and_frozen_stages_stay(self, training, two_paths):
        networks = []
        for weighted in (False, True):
            network = tiny(two_paths)
            network.stages[1].requires_grad_(False)
            resolve(training, _registry.STRATEGIES, "distillation").train(
                network, COSTS, trainer(rows_of(weighted=weighted))
            )
            assert equal(state(network.stages[1]), state(tiny(two_paths).stages[1]))
            assert not equal(state(network.stages[0]), state(tiny(two_paths).stages[0]))
            networks.append(network)
        for ours, theirs in zip(networks[0].heads, networks[1].heads, strict=True):
            assert not torch.equal(ours.body.weight, theirs.body.weight)

    def test_rows_without_weight_teach_nothing(self, training):
        weight = np.ones(len(X_BLOBS))
        weight[::3] = 0
        few = weight > 0
        wrong = np.where(few, Y_BLOBS, (Y_BLOBS + 1) % 4)
        with_them = quick(training=training).fit(X_BLOBS, wrong, weight)
        without = quick(training=training).fit(X_BLOBS[few], Y_BLOBS[few], weight[few])
        tables = [model.exit_table(X_TEST).scores for model in (with_them, without)]
        assert np.array_equal(*tables)

    def test_nothing_but_the_network_is_left(self, training):
        network = tiny()
        names = set(network.state_dict())
        resolve(training, _registry.STRATEGIES, "distillation").train(network, COSTS, trainer())
        assert set(network.state_dict()) == names

    def test_one_exit_is_trained_jointly(self, training):
        clf = quick(training=training, exits=1).fit(X_BLOBS, Y_BLOBS)
        joint = quick(training="joint", exits=1).fit(X_BLOBS, Y_BLOBS)
        assert clf.score(X_TEST, Y_TEST) == joint.score(X_TEST, Y_TEST)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (BottleneckTraining(-1), "'beta' parameter of BottleneckTraining"),
        (BottleneckTraining(noise=0), "'noise' parameter of BottleneckTraining"),
        (BottleneckTraining(information="labels"), "'information' parameter of Bottleneck"),
        (BottleneckTraining(hidden=0), "'hidden' parameter of BottleneckTraining"),
        (BottleneckTraining(learn_noise=2), "'learn_noise' parameter of BottleneckTraining"),
        (TargetTraining(0), "'step' parameter of TargetTraining"),
    ],
)
def test_what_is_no_setting(strategy, message):
    with pytest.raises(ValueError, match=message):
        resolve(strategy, _registry.STRATEGIES, "distillation")
