"""Networks of any form: traced, cut anywhere, and still the same."""

import copy
import pickle
import threading
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from torch import nn

from skearlyexit import EarlyExitClassifier, TracedBackbone, list_exits
from skearlyexit.backbones._measure import measure_blocks
from tests import _architectures as nets
from tests._architectures import ARCHITECTURES, N_CLASSES
from tests._data import make, same
from tests._traced import VECTORS, module_of, network_of, odd, rows_for, run

EVERY = pytest.mark.parametrize("name", ARCHITECTURES)


def test_other_threads_go_on_while_one_traces():
    module, other = module_of("residual"), make(lambda: nn.Linear(4, 2))
    rows = rows_for("residual", 4)
    names = network_of(module, rows).names
    done, failures = threading.Event(), []

    def call():
        try:
            while not done.is_set():
                other(torch.ones(3, 4))
                module(torch.tensor(rows))
        except Exception as error:
            failures.append(error)

    def build():
        try:
            failures.extend(each for each in network_of(module, rows).names if each not in names)
        except Exception as error:
            failures.append(error)

    caller = threading.Thread(target=call)
    builders = [threading.Thread(target=build) for _ in range(4)]
    for thread in (caller, *builders):
        thread.start()
    for thread in builders:
        thread.join()
    done.set()
    caller.join()
    assert not failures


@cache
def traced(name):
    module = module_of(name)
    return module, network_of(module, rows_for(name))


def at_random(network, data):
    """Stages between random places."""
    end = len(network.names) - 1
    return network.cut(sorted(data.draw(st.sets(st.integers(0, end), max_size=4)) | {end}))


def parts_of(network, stages):
    return nn.ModuleList([*stages, *([] if network.head is None else [network.head])])


@EVERY
class TestTheSame:
    @settings(max_examples=8, deadline=None)
    @given(data=st.data(), n_rows=st.sampled_from([1, 5, 17]))
    def test_in_evaluation(self, name, data, n_rows):
        """Outputs and gradients, for other numbers of rows than it was traced with."""
        module, network = traced(name)
        stages = at_random(network, data)
        parts_of(network, stages).eval()
        rows = torch.tensor(rows_for(name, n_rows))
        outputs, gradients = [], []
        for call, owner in (
            (module, module),
            (lambda rows: run(stages, network.head, rows), network.root),
        ):
            outputs.append(call(rows.clone()))
            loss = (outputs[-1] * torch.arange(1.0, N_CLASSES + 1)).sum()
            names, weights = zip(*owner.named_parameters(), strict=True)
            found = torch.autograd.grad(loss, weights, allow_unused=True)
            gradients.append(dict(zip(names, found, strict=True)))
        torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-12, atol=1e-12)
        for key, gradient in gradients[0].items():
            torch.testing.assert_close(gradients[1][key], gradient, rtol=1e-9, atol=1e-12)
        stay = data.draw(st.lists(st.integers(0, n_rows - 1), min_size=1, unique=True))
        with torch.no_grad():
            output = run(stages, network.head, rows.clone(), stay)
        torch.testing.assert_close(output, outputs[0][stay], rtol=1e-9, atol=1e-9)

    @settings(max_examples=3, deadline=None)
    @given(data=st.data())
    def test_in_training(self, name, data):
        """The same random numbers are drawn, and the same statistics left behind."""
        whole = copy.deepcopy(traced(name)[0]).train()
        network = network_of(whole, rows_for(name))
        parts = parts_of(network, stages := at_random(network, data)).train()
        rows = torch.tensor(rows_for(name, 6))
        outputs = [
            make(lambda call=call: call(rows.clone())).detach()
            for call in (whole, lambda rows: run(stages, network.head, rows))
        ]
        torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-12, atol=1e-12)
        expected = dict(whole.named_buffers())
        for part in parts:
            for key, buffer in part.named_buffers():
                torch.testing.assert_close(buffer, expected[key], rtol=1e-12, atol=1e-12)
        if ARCHITECTURES[name].is_random:
            assert not torch.equal(outputs[0], make(lambda: whole(rows.clone()), seed=1))

    def test_weights_are_all_there(self, name):
        module, network = traced(name)
        parts = parts_of(network, network.cut(range(len(network.names))))
        found = {key: value for part in parts for key, value in part.state_dict().items()}
        expected = module.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], value) for key, value in expected.items())

    def test_copies(self, name):
        _, network = traced(name)
        stages = network.cut([len(network.names) // 2, len(network.names) - 1])
        parts = parts_of(network, stages).eval()
        rows = torch.tensor(rows_for(name, 5))
        copies = [copy.deepcopy(parts)]
        if ARCHITECTURES[name].is_pickled:
            copies += [pickle.loads(pickle.dumps(each)) for each in [parts, *copies]]
        with torch.no_grad():
            expected = run(parts[:2], parts[2], rows.clone())
            for each in copies:
                assert torch.equal(run(each[:2], each[2], rows.clone()), expected)
                assert all(module.training for module in each.train().modules())
        assert not any(module.training for module in parts.modules())

    def test_the_module_stays_as_it_was(self, name):
        module = module_of(name).train()
        next(module.children()).eval()
        before = copy.deepcopy(module)
        X = rows_for(name)
        network = network_of(module, X)
        make(lambda: run(network.cut([0, len(network.names) - 1]), None, torch.tensor(X)))
        measure_blocks(network, torch.tensor(X[:2]))
        assert same(X, rows_for(name))
        state = module.state_dict()
        assert all(torch.equal(value, state[k]) for k, value in before.state_dict().items())
        for one, other in zip(module.modules(), before.modules(), strict=True):
            assert one.training == other.training
            assert vars(one).keys() == vars(other).keys()
        assert all(p.requires_grad and p.grad is None for p in module.parameters())


def states(cell, x):
    """Last state of a recurrent cell that reads one column after the other."""
    h, c = x.new_zeros(x.shape[0], 4), x.new_zeros(x.shape[0], 4)
    for i in range(x.shape[1]):
        h, c = cell(x[:, i : i + 1], (h, c))
    return h


class TestNames:
    def test_submodules_aliases_and_operations(self):
        network = network_of(make(nets.Counted).double(), VECTORS)
        assert network.names == ["body.0", "body", "inner", "add", "act"]
        assert network.aliases == {"body.1": 1}
        assert network.natural == [True, True, False, True, True]
        assert network.head is not None
        assert network_of(make(nets.Counted).double(), VECTORS, n_classes=4).names[-1] == "fc"

    def test_blocks_that_run_again(self):
        names = network_of(module_of("tied"), VECTORS).names
        blocks = [name for name in names if name.startswith("block") and "." not in name]
        assert blocks == ["block", "block:2", "block:3"]

    def test_a_module_and_an_operation_of_one_name(self):
        module = odd(lambda self, x: self.add(x) + x, add=nn.Identity())
        assert network_of(module, VECTORS).names == ["add", "add_1"]

    def test_residual_branches_are_no_natural_places(self):
        network = network_of(module_of("residual"), rows_for("residual"))
        natural = [name for name, ok in zip(network.names, network.natural, strict=True) if ok]
        assert {"stem", "layer1.0", "layer1", "layer2.0", "layer2", "pool"} <= {*natural}
        assert not {"layer1.0.conv1", "layer2.0.shortcut", "layer2.1.norm2"} & {*natural}

    def test_parts_of_the_input_are_no_natural_places(self):
        """Where all operations pass on more than one value, as in a loop over time."""
        module = odd(
            lambda self, x: self.out(states(self.cell, x)),
            cell=make(lambda: nn.LSTMCell(1, 4)),
            out=make(lambda: nn.Linear(4, 2)),
        )
        network = network_of(module, VECTORS[:, :6], n_classes=2)
        natural = [name for name, ok in zip(network.names, network.natural, strict=True) if ok]
        assert {"new_zeros", "getitem_5", "cell:2"} <= {*network.names}
        assert natural == ["cell", "cell:2", "cell:3", "cell:4", "cell:5", "cell:6"]

    def test_a_table_by_hand(self):
        places = list_exits(make(nets.Counted), VECTORS[:3], n_classes=3)
        macs = np.array([13 * 8, 13 * 8, 13 * 8 + 64, 13 * 8 + 64, 13 * 8 + 64])
        assert list(places.costs) == list(macs)
        np.testing.assert_allclose(places.shares, macs / macs[-1])
        assert places.shapes == [(8,)] * 5
        assert list(places.n_carried) == [1, 1, 2, 1, 1]
        assert list(places.carry_bytes) == [32, 32, 64, 32, 32]
        assert list(places.natural) == [True, True, False, True, True]
        assert places.aliases[1] == ["body.1"]
        assert len(places) == 5
        assert places.has_head
        text = str(places).splitlines()
        assert text[2].split() == ["body", "8", "104", "61.9%", "1", "32", "yes", "body.1"]
        assert text[-1] == "the network's own classifier follows the last"
        frame = places.to_frame()
        assert list(frame["exit"]) == places.names
        assert list(frame["macs"]) == list(macs)


class TestHead:
    @pytest.mark.parametrize(
        "end",
        [
            lambda self, x: torch.softmax(x, 1),
            lambda self, x: x.softmax(dim=1),
            lambda self, x: self.softmax(x),
            lambda self, x: F.log_softmax(F.dropout(x, training=self.training), dim=1),
            lambda self, x: F.softmax(input=x, dim=1),
            lambda self, x: x,
        ],
    )
    def test_a_closing_softmax_is_left_out(self, end):
        softmax = nn.LogSoftmax(dim=-1)
        module = odd(lambda self, x: end(self, self.second(self.first(x).relu())), softmax=softmax)
        network = network_of(module.eval(), VECTORS)
        assert network.names == ["first", "relu"]
        rows = torch.tensor(VECTORS)
        logits = run(network.cut([1]), network.head.eval(), rows)
        assert torch.equal(logits, module.second(module.first(rows).relu()))

    def test_a_classifier_that_is_traced_into(self):
        class Own(nn.Linear):
            def forward(self, x):
                return F.linear(x, self.weight, self.bias)

        body, fc = make(lambda: (Own(13, 8), Own(8, 3)))
        module = odd(lambda self, x: self.fc(F.relu(self.body(x))).softmax(1), body=body, fc=fc)
        network = network_of(module, VECTORS)
        assert network.names == ["body", "relu"]
        rows = torch.tensor(VECTORS)
        logits = run(network.cut([1]), network.head, rows)
        torch.testing.assert_close(logits.softmax(1), module(rows))

    def test_a_classifier_that_gives_probabilities(self):
        module = make(lambda: nn.ModuleList([nn.Linear(13, 8), nn.Linear(8, 3)])).double()
        module[1].register_forward_hook(lambda module, inputs, output: output.softmax(1))
        net = odd(lambda self, x: self.parts[1](self.parts[0](x)), parts=module)
        network = network_of(net, VECTORS)
        assert network.names == ["parts.0"]
        assert "own classifier" in network.obstacles["parts.1"]
        rows = torch.tensor(VECTORS)
        logits = run(network.cut([0]), network.head, rows)
        torch.testing.assert_close(logits.softmax(1), net(rows))
        assert logits.min() < 0

    def test_no_classifier(self):
        module = odd(lambda self, x: (self.first(x) + self.first(x.sin())).softmax(1))
        network = network_of(module, VECTORS, n_classes=12)
        assert network.head is None
        assert network.names == ["first", "sin", "first:2", "add"]  # without the softmax


@pytest.mark.parametrize("name", ["changed", "residual"])
def test_neither_heads_nor_rows_see_later_changes(name):
    network = network_of(module_of(name), X := rows_for(name))
    carry, seen = torch.tensor(X), []
    with torch.inference_mode():
        for stage in network.cut(range(len(network.names))):
            carry, embedding = stage.eval()(carry)
            seen.append((embedding, embedding.clone()))
    assert all(torch.equal(*pair) for pair in seen)
    rows = torch.tensor(X)
    network.cut([len(network.names) - 1])[0](rows)
    assert same(rows.numpy(), X)


def test_tied_weights_stay_tied():
    network = network_of(make(nets.Tied).double(), VECTORS)
    stages = nn.ModuleList(network.cut(range(len(network.names))))
    for modules in (stages, copy.deepcopy(stages), pickle.loads(pickle.dumps(stages))):
        # Encoder, block and its norm, the shared weight and a bias; the classifier is apart.
        assert len(list(modules.parameters())) == 2 + 4 + 2
        optimizer = torch.optim.SGD(modules.parameters(), lr=0.1)
        run(modules, None, torch.tensor(VECTORS)).sum().backward()
        optimizer.step()
        named = modules.named_parameters(remove_duplicate=False)
        one, other = (p for key, p in named if key.endswith((".there.weight", "back.weight")))
        assert one is other


def labeled(n=120):
    X = np.random.RandomState(2).randn(n, *ARCHITECTURES["residual"].shape).astype(np.float32)
    y = np.digitize(X[:, 0].mean((1, 2)), [-0.05, 0.05])
    return X, np.array(["a", "b", "c"])[y]


class TestClassifier:
    @pytest.mark.parametrize("exits", [["layer1.0", "layer2.0.conv1"], 3])
    def test_given_weights_are_kept(self, exits, tmp_path):
        X, y = labeled()
        module = make(nets.Residual).train()
        module(torch.tensor(X))  # running statistics
        before = {key: value.clone() for key, value in module.state_dict().items()}
        clf = EarlyExitClassifier(
            TracedBackbone(module),
            exits=exits,
            training="separate",
            calibration=0.3,
            max_epochs=2,
            random_state=0,
            memory=tmp_path,
        )
        fitted = clone(clf).fit(X, y)
        assert len(fitted.exit_names_) == 3
        assert exits == 3 or fitted.exit_names_ == [*exits, "flatten"]
        found = {k: v for stage in fitted.stages_ for k, v in stage.state_dict().items()}
        assert found.keys() == {key for key in before if not key.startswith("fc.")}
        assert all(torch.equal(value, before[key]) for key, value in found.items())
        assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
        whole = module.eval()(torch.tensor(X)).softmax(1).detach().numpy()
        np.testing.assert_allclose([*fitted.staged_predict_proba(X)][-1], whole, rtol=1e-4)
        table = fitted.exit_table(X)
        for threshold in (0.0, 0.4, 2.0):
            labels, left = fitted.predict(X, threshold=threshold, return_exits=True)
            assert same(left, table.exits(np.full(2, threshold)))
            assert same(labels, fitted.classes_[table.labels[np.arange(len(X)), left]])
        again = clf.fit(X, y)
        assert len([*tmp_path.rglob("output.pkl")]) == 1
        for other in (again, pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
            assert same(other.predict_proba(X), fitted.predict_proba(X))

    def test_training_goes_on_from_given_weights(self):
        X, y = labeled(60)
        module = make(lambda: nets.Recurrent(nn.GRU))
        X = X.reshape(60, -1)[:, :30].reshape(60, 6, 5)
        params = {"calibration": None, "max_epochs": 1, "lr": 1e-6, "random_state": 0}
        clf = EarlyExitClassifier(module, exits=2, **params)
        stages = nn.ModuleList(clf.fit(X, y).stages_)
        for stage in stages:
            for key, value in stage.state_dict().items():
                torch.testing.assert_close(value, module.state_dict()[key], rtol=0, atol=1e-4)
