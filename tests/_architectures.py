"""Small networks of many kinds, none of them a chain, with the shape of a row for each."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

N_CLASSES = 3
IMAGE = (2, 8, 8)
SERIES = (6, 5)  # steps, channels


class Plain(nn.Module):
    """Convolutions as modules, everything else as functions."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.hidden, self.out = nn.Linear(72, 12), nn.Linear(12, N_CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.first(x)), 2, stride=1, padding=1)
        x = F.avg_pool2d(F.leaky_relu(self.norm(self.second(x)), 0.2), 2, ceil_mode=True)
        x = x[:, :, :3, :3].reshape(x.shape[0], -1)
        x = F.dropout(torch.tanh(self.hidden(x)), 0.4, training=self.training)
        return self.out(x)


class ResidualBlock(nn.Module):
    def __init__(self, n_in, n_out, stride=1, groups=1):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(n_out), nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, groups=groups, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = None
        if stride > 1 or n_in != n_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x):
        kept = x if self.shortcut is None else self.shortcut(x)
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += kept
        return self.relu(out)


class Residual(nn.Module):
    """In-place activations and sums, a shortcut with weights, groups of blocks."""

    def __init__(self, width=4, n_blocks=2, groups=1):
        super().__init__()
        self.stem = nn.Conv2d(2, width, 3, padding=1)
        self.layer1 = nn.Sequential(*self._blocks(width, width, 1, n_blocks, groups))
        self.layer2 = nn.Sequential(*self._blocks(width, 2 * width, 2, n_blocks, groups))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2 * width, N_CLASSES)

    def _blocks(self, n_in, n_out, stride, n_blocks, groups):
        yield ResidualBlock(n_in, n_out, stride, groups)
        for _ in range(n_blocks - 1):
            yield ResidualBlock(n_out, n_out, 1, groups)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x).relu_()))
        return self.fc(torch.flatten(self.pool(x), 1))


class Dense(nn.Module):
    """Each layer sees all that came before it."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(2 + 3 * i, 3, 3, padding=1) for i in range(4))
        self.norm = nn.GroupNorm(2, 14)
        self.fc = nn.Linear(14, N_CLASSES)

    def forward(self, x):
        features = [x]
        for layer in self.layers:
            features.append(F.relu(layer(torch.cat(features, 1))))
        return self.fc(self.norm(torch.cat(features, dim=1)).mean((2, 3)))


class Branches(nn.Module):
    """Convolutions of several widths side by side, twice."""

    def __init__(self):
        super().__init__()
        self.rooms = nn.ModuleList(
            nn.ModuleDict(
                {
                    "one": nn.Conv2d(width, 3, 1),
                    "three": nn.Sequential(nn.Conv2d(width, 2, 1), nn.Conv2d(2, 3, 3, padding=1)),
                    "pooled": nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(width, 2, 1)),
                }
            )
            for width in (2, 8)
        )
        self.fc = nn.Linear(8, N_CLASSES)

    def forward(self, x):
        for room in self.rooms:
            x = F.elu(torch.cat([room["one"](x), room["three"](x), room["pooled"](x)], 1))
        return self.fc(F.adaptive_avg_pool2d(x, (1, 1)).squeeze(-1).squeeze(-1))


class LongSkips(nn.Module):
    """Down and up again, with a bridge at each height."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(2, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)
        self.middle = nn.Conv2d(6, 6, 1)
        self.up2, self.up1 = nn.ConvTranspose2d(12, 4, 2, 2), nn.Conv2d(8, 4, 3, padding=1)
        self.fc = nn.Linear(6, N_CLASSES)

    def forward(self, x):
        high = F.silu(self.down1(x))
        low = F.silu(self.down2(high))
        out = self.up2(torch.cat((self.middle(low), low), 1))
        out = self.up1(torch.cat((out, high), 1))
        out = torch.cat((F.interpolate(out, scale_factor=2.0), x), 1)
        return self.fc(out.amax(dim=(2, 3)))


class SqueezeExcite(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.reduce, self.expand = nn.Linear(width, 2), nn.Linear(2, width)

    def forward(self, x):
        n, c, *_ = x.size()
        gate = self.expand(F.relu(self.reduce(x.mean((2, 3)))))
        return x * torch.sigmoid(gate).view(n, c, 1, 1)


class Gated(nn.Module):
    """Channels weighed by a look at the whole image."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 6, 3, 2), nn.BatchNorm2d(6), nn.Hardswish())
        self.gate1, self.gate2 = SqueezeExcite(6), SqueezeExcite(6)
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6, N_CLASSES)

    def forward(self, x):
        x = self.gate1(self.stem(x))
        x = x + self.gate2(self.conv(x))
        return self.fc(x.flatten(2).mean(-1))


class Separable(nn.Module):
    """Depthwise and pointwise convolutions; the middle is the wide part."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU6(inplace=True))
        for _ in range(2):
            self.features.append(
                nn.Sequential(
                    nn.Conv2d(4, 8, 1, bias=False),
                    nn.BatchNorm2d(8),
                    nn.ReLU6(inplace=True),
                    nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
                    nn.BatchNorm2d(8),
                    nn.Hardtanh(0.0, 6.0, inplace=True),
                    nn.Conv2d(8, 4, 1),
                )
            )
        self.classifier = nn.Sequential(nn.Dropout(0.3), nn.Linear(4, N_CLASSES))

    def forward(self, x):
        stem, act, *blocks = self.features
        x = act(stem(x))
        for block in blocks:
            x = x + block(x)
        return self.classifier(x.mean([2, 3]))


class Recurrent(nn.Module):
    """A recurrent layer, of whose tuple the last step and the state are looked at."""

    def __init__(self, kind=nn.LSTM):
        super().__init__()
        self.encode = nn.Linear(5, 6)
        self.recurrent = kind(6, 7, num_layers=2, batch_first=True, dropout=0.2)
        self.again = kind(7, 4, batch_first=True, bidirectional=True)
        self.hidden, self.out = nn.Linear(15, 9), nn.Linear(9, N_CLASSES)

    def forward(self, x):
        steps, state = self.recurrent(self.encode(x).tanh())
        state = state[0] if isinstance(self.recurrent, nn.LSTM) else state
        steps, _ = self.again(F.layer_norm(steps, (7,)))
        out = torch.cat([steps[:, -1], state[-1]], 1)
        return self.out(F.gelu(self.hidden(out)))


class Attention(nn.Module):
    def __init__(self, width, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.n_heads, c // self.n_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (c // self.n_heads) ** -0.5).softmax(dim=-1)
        weights = F.dropout(weights, 0.1, self.training)
        return self.project((weights @ v).transpose(1, 2).reshape(b, n, c))


class TransformerBlock(nn.Module):
    def __init__(self, width, attention):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = attention
        self.mlp = nn.Sequential(nn.Linear(width, 12), nn.GELU(), nn.Linear(12, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Patches(nn.Module):
    """Patches of an image, a token for the class and a table of positions."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(2, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.register_buffer("positions", torch.randn(1, 5, 8))
        self.blocks = nn.Sequential(*(TransformerBlock(8, Attention(8, 2)) for _ in range(2)))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, N_CLASSES)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.blocks(F.dropout(x + self.positions, 0.1, training=self.training))
        return self.head(self.norm(x)[:, 0])


class FlatHeads(nn.Module):
    """Attention whose heads lie on the axis of the rows."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(5, 8) for _ in range(3))
        self.out = nn.Linear(8, N_CLASSES)

    def _split(self, x, n_rows, n_steps):
        return x.view(n_rows, n_steps, 2, 4).transpose(1, 2).reshape(n_rows * 2, n_steps, 4)

    def forward(self, x):
        n_rows, n_steps, _ = x.shape
        q, k, v = (self._split(part(x), n_rows, n_steps) for part in (self.q, self.k, self.v))
        weights = torch.softmax(torch.bmm(q, k.transpose(1, 2)) / k.shape[-1] ** 0.5, -1)
        mixed = torch.bmm(weights, v).view(n_rows, 2, n_steps, 4).transpose(1, 2)
        return self.out(mixed.reshape(n_rows, n_steps, 8).mean(dim=1))


class Torch(nn.Module):
    """Torch's own attention, with what it returns besides."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(5, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.out = nn.Linear(8, N_CLASSES)

    def forward(self, x):
        x = self.encode(x)
        mixed, weights = self.attention(x, x, x)
        x = self.layer(x + mixed * weights.mean((1, 2), keepdim=True))
        return self.out(x.mean(1))


class Mixer(nn.Module):
    """Perceptrons along one axis and then along the other."""

    def __init__(self):
        super().__init__()
        self.steps = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.channels = nn.ModuleList(nn.Linear(5, 5) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(5) for _ in range(2))
        self.out = nn.Linear(5, N_CLASSES)

    def forward(self, x):
        for norm, steps, channels in zip(self.norms, self.steps, self.channels, strict=True):
            x = x + steps(norm(x).transpose(1, 2)).mT
            x = x + F.softplus(channels(x.contiguous()))
        return self.out(x.permute(0, 2, 1).mean(dim=2))


class Tied(nn.Module):
    """One block called three times, and one weight in two layers."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(13, 10)
        self.block = nn.Sequential(nn.Linear(10, 10), nn.BatchNorm1d(10), nn.ReLU())
        self.there, self.back = nn.Linear(10, 10), nn.Linear(10, 10, bias=False)
        self.back.weight = self.there.weight
        self.out = nn.Linear(10, N_CLASSES)

    def forward(self, x):
        x = self.encode(x)
        for _ in range(3):
            x = x + self.block(x)
        return self.out(self.back(torch.sin(self.there(x))))


class Loose(nn.Module):
    """Parameters and buffers used by hand, one never stored, and a step without gradient."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(13, 10)), nn.Parameter(torch.zeros(10))
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(10)), nn.Parameter(torch.ones(1))])
        self.register_buffer("mean", torch.randn(13))
        self.register_buffer("mask", torch.arange(10) % 3 > 0, persistent=False)
        self.register_buffer("n_seen", torch.zeros((), dtype=torch.long))
        self.constant = torch.tensor([0.5, 2.0] * 5)
        self.out = nn.Linear(10, N_CLASSES)

    def forward(self, x):
        x = torch.addmm(self.bias, x - self.mean, self.weight)
        with torch.no_grad():
            shift = torch.tanh(x * self.scales[0])
        x = x + shift
        x = x.masked_fill(self.mask, 0.5) * self.scales[0] + self.constant
        x = x * torch.tensor([1.0, -1.0]).repeat(5) + self.n_seen
        return self.out(torch.where(x > 0, x, self.scales[1] * x))


class DropPath(nn.Module):
    def forward(self, x):
        if not self.training:
            return x
        return x * torch.empty(len(x), 1).bernoulli_(0.7) / 0.7


class Depth(nn.Module):
    """Branches left out at random in training only."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(13, 10)
        self.first, self.second = nn.Linear(10, 10), nn.Linear(10, 10)
        self.drop = DropPath()
        self.out = nn.Linear(10, N_CLASSES)

    def forward(self, x):
        x = self.encode(x)
        x = x + self.drop(self.first(x).relu())
        x = x + self.drop(F.alpha_dropout(self.second(x), 0.2, self.training))
        return self.out(x)


class Auxiliary(nn.Module):
    """A part that does another thing in training."""

    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.aside = nn.Linear(10, 10), nn.Linear(10, 10)

        def forward(self, x):
            if self.training:
                return self.main(x) + 0.1 * self.aside(torch.tanh(x))
            return self.main(x)

    def __init__(self):
        super().__init__()
        self.encode, self.noisy = nn.Linear(13, 10), self.Noisy()
        self.out = nn.Linear(10, N_CLASSES)

    def forward(self, x):
        return self.out(self.noisy(self.encode(x)).square())


class Highway(nn.Module):
    """Halves of a layer's output as value and gate, by row a number, and named arguments."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(weight_norm(nn.Linear(13, 26)) for _ in range(3))
        self.out = nn.Linear(in_features=13, out_features=N_CLASSES)

    def forward(self, x):
        size = x.norm(dim=1)
        for layer in self.layers:
            value, gate = layer(x).chunk(2, dim=1)
            gate = torch.sigmoid(gate)
            x = torch.lerp(input=x, end=value, weight=gate)
        left, right = x.split([6, 7], dim=-1)
        return self.out(torch.hstack([right, left]) / (1 + size).unsqueeze(1))


class Changed(nn.Module):
    """Values changed in place, through views of them as well."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(13, 10), nn.Linear(10, 10)
        self.out = nn.Linear(10, N_CLASSES)

    def forward(self, x):
        x.clamp_(-2, 2)
        x = self.first(x)
        y = x.view(-1, 2, 5)
        y.mul_(1.5)
        z = self.second(x)
        z[:, :3].neg_()
        left = z.narrow(1, 0, 5)
        left += 1
        z = z + x.relu()
        z.sub_(y.sum((1, 2)).unsqueeze(1))
        F.relu(z, inplace=True)
        return self.out(z)


class Looks(nn.Module):
    """Looks at the numbers in the rows."""

    def forward(self, x):
        return x.clamp(max=9) if x.max() > 9 else x


class Several(nn.Module):
    def forward(self, x):
        return {"a": x}, x


class Odd(nn.Module):
    """Its forward is given by a test."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.first, self.second = nn.Linear(13, 12), nn.Linear(12, 3)
        self.unused, self.looks, self.lstm = nn.Linear(2, 2), Looks(), nn.LSTM(2, 2)
        for name, module in modules.items():
            setattr(self, name, module)
        self._forward = forward

    def forward(self, x, *args, flag=None, **kwargs):
        return self._forward(self, x, *args, **kwargs)


class OnlyInTraining(nn.Sequential):
    def forward(self, x):
        return super().forward(x).relu() if self.training else super().forward(x)


class Counted(nn.Module):
    """Small enough to count by hand."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(13, 8), nn.ReLU())
        self.inner = nn.Linear(8, 8)
        self.act = nn.Tanh()
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = self.body(x)
        return self.fc(self.act(x + self.inner(x)))


class StraightThrough(torch.autograd.Function):
    """A gradient where there is none."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x)
        return x.sign() * scale

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() < 1), None


@dataclass(frozen=True)
class Architecture:
    """How to build a network, the shape of its rows, and whether it draws numbers in training."""

    build: object
    shape: tuple
    is_random: bool = False
    is_pickled: bool = True


ARCHITECTURES = {
    "plain": Architecture(Plain, IMAGE, is_random=True),
    "residual": Architecture(Residual, IMAGE),
    "grouped": Architecture(lambda: Residual(4, 1, groups=4), IMAGE),
    "dense": Architecture(Dense, IMAGE),
    "branches": Architecture(Branches, IMAGE),
    "long skips": Architecture(LongSkips, IMAGE),
    "gated": Architecture(Gated, IMAGE),
    "separable": Architecture(Separable, IMAGE, is_random=True),
    "LSTM": Architecture(Recurrent, SERIES, is_random=True),
    "GRU": Architecture(lambda: Recurrent(nn.GRU), SERIES, is_random=True),
    "patches": Architecture(Patches, IMAGE, is_random=True),
    "flat heads": Architecture(FlatHeads, SERIES),
    "torch": Architecture(Torch, SERIES, is_random=True),
    "mixer": Architecture(Mixer, SERIES),
    "tied": Architecture(Tied, (13,)),
    "loose": Architecture(Loose, (13,)),
    "depth": Architecture(Depth, (13,), is_random=True),
    "auxiliary": Architecture(Auxiliary, (13,)),
    # Torch stores no modules with parametrizations.
    "highway": Architecture(Highway, (13,), is_pickled=False),
    "changed": Architecture(Changed, (13,)),
}
