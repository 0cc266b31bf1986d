"""What a network learns beside its weights stays, whatever training goes on or stops early."""

import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from tests._data import blobs, make, quick

X, y, X_NEW, Y_NEW = blobs()


class Centering(nn.Module):
    """Keeps the mean of what it has seen, in one of four ways, and subtracts it."""

    def __init__(self, keeps):
        super().__init__()
        self.keeps = keeps
        if keeps in ("buffer", "non-persistent buffer"):
            self.register_buffer("center", torch.zeros(13), persistent=keeps == "buffer")
        else:
            self.center = torch.zeros(13) if keeps == "attribute" else None

    def forward(self, x):
        if self.training:
            mean = x.detach().mean(dim=0)
            if self.center is None:
                self.center = mean
            else:
                self.center.lerp_(mean, 0.1)
        return x if self.center is None else x - self.center

    def get_extra_state(self):
        return {"of": "no tensor"}

    def set_extra_state(self, state):
        assert state == {"of": "no tensor"}


KINDS = pytest.mark.parametrize(
    "keeps", ["buffer", "non-persistent buffer", "attribute", "made later"]
)


def classifier(keeps, **params):
    def build():
        return [Centering(keeps), nn.Linear(13, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU()]

    defaults = {"backbone": make(build), "exits": [2], "calibration": None, "training": "joint"}
    return quick(**{**defaults, **params})


def center(clf):
    return clf.stages_[0].get_submodule("blocks.0").center.clone()


@KINDS
@pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
def test_training_goes_on_from_it(keeps, how):
    far = X + 100  # that is where the mean goes
    clf = classifier(keeps, warm_start=True, batch_size=500, max_epochs=1).fit(far, y)
    before = center(clf)
    again = clf.partial_fit if how == "partial_fit" else clf.fit
    again(far, y)
    mean = torch.tensor(far.mean(axis=0), dtype=torch.float32)
    torch.testing.assert_close(center(clf), before.lerp(mean, 0.1), rtol=1e-4, atol=1e-3)


class Growing(nn.Module):
    """Keeps a buffer that grows, one of other numbers than at first, and one that is expanded."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.empty(0))
        self.total = torch.tensor(0)
        self.mask = torch.ones(1).expand(13)

    def forward(self, x):
        if self.training:
            self.seen = torch.cat([self.seen, x.detach()[:1, 0]])
            self.total = self.total + 0.5
        return x * self.mask


@pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
def test_training_goes_on_from_what_has_become_another_tensor(how):
    def build():
        return [Growing(), nn.Linear(13, 24), nn.ReLU()]

    params = {"training": "joint", "calibration": None, "batch_size": 500, "max_epochs": 1}
    clf = quick(backbone=make(build), exits=[1], warm_start=True, **params).fit(X, y)
    again = clf.partial_fit if how == "partial_fit" else clf.fit
    for n_epochs in (2, 3):
        again(X, y)
        kept = clf.stages_[0].get_submodule("blocks.0")
        assert (len(kept.seen), float(kept.total)) == (n_epochs, n_epochs / 2)


class Watching(Callback):
    """Notes the means after every epoch."""

    def __init__(self, seen):
        self.seen = seen

    def __deepcopy__(self, memo):
        return self

    def on_epoch_end(self, net, **kwargs):
        found = [m for m in net.module_.modules() if isinstance(m, Centering)]
        self.seen.append((net.history[-1, "valid_loss"], found[0].center.clone()))


@KINDS
def test_early_stopping_goes_back_to_it(keeps):
    seen = []
    params = {"early_stopping": True, "n_iter_no_change": 2, "lr": 0.3, "max_epochs": 20}
    clf = classifier(keeps, callbacks=[Watching(seen)], **params).fit(X, y)
    best = min(range(len(seen)), key=lambda i: seen[i][0])
    assert best < len(seen) - 1
    assert torch.equal(center(clf), seen[best][1])


@KINDS
def test_memory_gives_it_back(keeps, tmp_path, recwarn):
    clf = classifier(keeps, memory=str(tmp_path)).fit(X, y)
    again = classifier(keeps, memory=str(tmp_path)).fit(X, y)
    assert torch.equal(center(again), center(clf))
    assert not [each for each in recwarn if "memory" in str(each.message)]
