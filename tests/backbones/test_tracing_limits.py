"""What tracing can and cannot follow, named in its errors."""

import operator
import pickle
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from skearlyexit import EarlyExitClassifier
from skearlyexit.backbones import UntraceableError
from skearlyexit.backbones._tracing._proxy import IN_PLACE
from tests import _architectures as nets
from tests._architectures import N_CLASSES
from tests._data import make
from tests._traced import VECTORS, network_of, odd, run


def by_numpy(rows):
    return torch.tensor(np.abs(rows.numpy()))


def steps(self):
    """Twelve positions, by a recurrent layer that does not look at the rows."""
    states, _ = self.lstm(self.unused.weight.repeat(6, 1))
    return states.argsort(dim=0)[:, 0]


def views(x, module=None):
    left = x[:, :6]
    left = left if module is None else module.same(left)
    left.mul_(2)
    return x


class TestLeaf:
    def test_the_error_names_what_is_in_the_way_and_what_helps(self):
        with pytest.raises(UntraceableError) as caught:
            network_of(odd(lambda self, x: self.second(self.looks(self.first(x)))), VECTORS)
        for part in ("'looks' (Looks)", "x.max() > 9", "_architectures.py", "leaf=['looks']"):
            assert part in str(caught.value)

    @pytest.mark.parametrize("leaf", ["looks", nets.Looks])
    def test_modules(self, leaf):
        module = odd(lambda self, x: self.second(self.looks(self.first(x) * 9)))
        network = network_of(module, VECTORS, leaf=[leaf])
        assert network.names == ["first", "mul", "looks"]
        rows = torch.tensor(VECTORS)
        embedding = network.cut([0, 2])[1](network.cut([0, 2])[0](rows)[0])[1]
        assert torch.equal(embedding, (module.first(rows) * 9).clamp(max=9))
        with pytest.raises(ValueError, match=r"names \['look'\], which the module does not have"):
            network_of(module, VECTORS, leaf=["look"])

    def test_functions(self):
        module = odd(lambda self, x: self.second(self.first(by_numpy(x))))
        with pytest.raises(UntraceableError, match=r"its own forward \(Odd\)"):
            network_of(module, VECTORS)
        network = network_of(module, VECTORS, leaf=[by_numpy])
        assert network.names == ["by_numpy", "first"]
        stage = pickle.loads(pickle.dumps(network.cut([0, 1])[0]))
        np.testing.assert_array_equal(stage(torch.tensor(VECTORS))[0], np.abs(VECTORS))

    def test_functions_are_found_although_an_import_is_blocked(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "blocked", None)
        module = odd(lambda self, x: self.second(self.first(by_numpy(x))))
        assert network_of(module, VECTORS, leaf=[by_numpy]).names == ["by_numpy", "first"]

    def test_an_earlier_end(self):
        module = odd(lambda self, x: {"logits": self.second(self.first(x).relu())})
        network = network_of(module, VECTORS, end="first")
        assert network.names == ["first"]
        assert network.head is None
        assert "after the end" in network.obstacles["second"]
        assert network_of(module, VECTORS, end="second").head is not None
        with pytest.raises(ValueError, match="Got 'third' instead; there are"):
            network_of(module, VECTORS, end="third")

    def test_auxiliary_outputs_of_training_are_left_out(self):
        def forward(self, x):
            returned = self.second(self.first(x)), self.unused(x[:, :2])
            return returned if self.training else returned[0]

        assert network_of(odd(forward), VECTORS).names == ["first"]

    def test_sizes_and_constants_are_known(self):
        class Sized(nets.Odd):
            def forward(self, x, mask=None, *others, scale=1.0, **more):
                n, *sides = x.shape
                assert (mask, others, more) == (None, (), {})
                table = torch.arange(sides[0], dtype=x.dtype)
                for i in range(max(x.shape[1], 3) - 10):
                    x = x + i * int(table[2]) * torch.ones(len(x), 1, device=x.device) * scale
                if isinstance(x, torch.Tensor) and x.dim() == 2 and table.max() > 3:
                    x = x + table.expand(n, -1) / torch.tensor([2.0])
                return self.second(self.first(x.view(-1, sides[0])))

        module = make(lambda: Sized(None)).double()
        network = network_of(module, VECTORS)
        rows = torch.tensor(VECTORS[:7])
        stages = network.cut(range(len(network.names)))
        assert torch.equal(run(stages, network.head, rows), module(rows))

    def test_gradients_that_a_function_brings(self):
        module = odd(lambda self, x: self.second(nets.StraightThrough.apply(self.first(x), 3)))
        network = network_of(module, VECTORS)
        assert network.names == ["first", "straight_through"]
        rows = torch.tensor(VECTORS)
        stages = pickle.loads(pickle.dumps(nn.ModuleList(network.cut([0, 1]))))
        expected = torch.autograd.grad(module(rows).sum(), module.first.weight)
        output = run(stages, network.head, rows)
        found = torch.autograd.grad(output.sum(), stages[0].first.weight)
        assert torch.equal(*expected, *found)
        assert expected[0].any()


class TestErrors:
    @pytest.mark.parametrize(
        ("forward", "message"),
        [
            (lambda self, x: self.second(self.first(x).view(2, -1, 12)[0]), "fails on samples"),
            (lambda self, x: self.second(self.first(x).view(3, 12)), "constant in it; write x.sh"),
            (lambda self, x: self.second(self.first(x) - x.mean()), "mixes samples"),
            (lambda self, x: self.second(self.first(x - x.mean(0))), "mixes samples"),
            (lambda self, x: self.second(self.first(x).softmax(0)), "mixes samples"),
            (lambda self, x: {"logits": self.second(self.first(x))}, "it returns a dict"),
            (lambda self, x: (self.first(x), x), r"it returns a tuple.*end="),
            (lambda self, x: self.first(x).sum(1), r"returns a tensor of shape \(2,\)"),
            (lambda self, x: self.first(x).T, r"it returns a tensor of shape \(12, 2\)"),
            (lambda self, x: self.second(x), r"fails on samples of shape \(13,\)"),
            (lambda self, x: self.first(x) if x.sum() > 0 else x, r"its own forward \(Odd\)"),
            (lambda self, x: self.first(x) if len(x) != 2 else x[:, :12], "its own forward"),
            (lambda self, x: self.first(x) * (2 if len(x) > 1 else 1), "operations for a single"),
            (lambda self, x: F.dropout(self.first(x)), "does not compute the same as the"),
            (lambda self, x: self.first(x * 2 if self.training else x), "other operations in tr"),
        ],
    )
    def test_what_is_in_the_way(self, forward, message):
        with pytest.raises(ValueError, match=message):
            make(lambda: network_of(odd(forward), VECTORS))

    def test_a_module_of_two_arguments(self):
        with pytest.raises(ValueError, match="missing 1 required positional argument"):
            network_of(make(lambda: nn.Bilinear(13, 13, 2)), VECTORS)

    @pytest.mark.parametrize(
        ("forward", "name", "reason"),
        [
            (lambda self, x: self.second(self.first(x)), "unused", "is not called"),
            (lambda self, x: self.second(self.several(self.first(x))[0]["a"]), "several", None),
            (lambda self, x: self.second(self.first(x)[:, steps(self)]), "lstm", "a tensor of s"),
            (lambda self, x: self.second(self.noisy(self.first(x))), "noisy.0", "is not traced"),
            (lambda self, x: self.second(views(self.first(x))), "first", None),
            (lambda self, x: self.second(views(self.first(x), self)), "same", "two views"),
            (lambda self, x: self.second(self.first(x) * self.same(x.sum(1))[:, None]), "same", 1),
        ],
    )
    def test_why_no_exit_can_stand_there(self, forward, name, reason):
        noisy = make(lambda: nets.OnlyInTraining(nn.Linear(12, 12)))
        module = odd(forward, several=nets.Several(), noisy=noisy, same=nn.Identity())
        network = network_of(module, VECTORS)
        if reason is None:
            assert name in {*network.names, *network.aliases}
            return
        reason = "which cannot be input of a head" if reason == 1 else reason
        assert reason in network.obstacles[name]
        clf = EarlyExitClassifier(module, exits=[name], calibration=None, random_state=0)
        with pytest.raises(
            ValueError, match=f"names '{name}', after which no exit can be placed: .*"
        ):
            clf.fit(VECTORS, np.arange(20) % 3)


@pytest.mark.parametrize("name", [each.name for each in IN_PLACE[:-1]])
def test_operators_that_change_what_another_name_has_too(name):
    def forward(self, x):
        first = self.first(x)
        kept = changed = first
        if name in ("iand", "ior", "ixor"):
            kept = changed = first > 0
            changed = getattr(operator, name)(changed, first.sin() > 0.3)
        elif "shift" in name:
            kept = changed = (first * 4).long()
            changed = getattr(operator, name)(changed, 1)
        else:
            changed = getattr(operator, name)(changed, 2.0)
        return self.last(torch.cat([changed, kept], dim=1).to(first.dtype))

    layers = make(lambda: {"first": nn.Linear(13, 4), "last": nn.Linear(8, N_CLASSES)})
    module = odd(forward, **layers).double()
    network = network_of(module, VECTORS)
    rows = torch.tensor(VECTORS)
    logits = run(network.cut([len(network.names) - 1]), network.head, rows)
    torch.testing.assert_close(logits, module(rows))
    stored = pickle.loads(pickle.dumps(network.cut([len(network.names) - 1])))
    torch.testing.assert_close(run(stored, network.head, rows), logits)
