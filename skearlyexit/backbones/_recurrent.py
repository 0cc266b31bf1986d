"""A recurrent network for time series, with exits along time or along its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit._determinism._layers import GROUP, round_up
from skearlyexit.backbones._base import Backbone, Network
from skearlyexit.backbones._chain import Chain
from skearlyexit.backbones._series import SeriesInput, check_series, last_observed, mask_check
from skearlyexit.backbones._stage import Block

Cell = type[torch.nn.LSTM | torch.nn.GRU]
State = tuple[torch.Tensor, ...]

_CELLS: dict[str, Cell] = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}

#: Largest number of values that torch processes on one thread. More values are shared among the
#: threads, and the sigmoids of the last values of each share are computed in another way, which
#: changes their last bits.
SERIAL = 2**15


class _Reader(torch.nn.Module):
    """The recurrent layers, which all stages share; samples are on the first axis of the states."""

    def __init__(self, cell: Cell, entry: SeriesInput, width: int, n_layers: int, p: float) -> None:
        super().__init__()
        self.entry = entry
        self.layers = _layers(cell, entry.n_channels, width, n_layers, p)
        self.dropout = torch.nn.Dropout(p)

    def forward(self, points: torch.Tensor, state: State) -> tuple[State, torch.Tensor]:
        values, mask = self.entry(points)
        points = _points_first(values, self.layers.input_size)
        before = tuple(part.transpose(0, 1).contiguous() for part in state)
        outputs, (h, *rest) = _run(self.layers, points, before)
        # States also change over padding, but no observed point follows it. The state of the top
        # layer can therefore be replaced by that at the last observed point, which the next stage
        # keeps.
        previous = None if mask is None or not before else before[0][-1]
        top = last_observed(outputs.transpose(0, 1), mask, previous)
        h = torch.cat([h[:-1], top[None]])
        state = tuple(part.transpose(0, 1).contiguous() for part in (h, *rest))
        return state, self.dropout(top)


class _Read(Block):
    """Runs the recurrent layers over the next time points of each series.

    Parameters
    ----------
    reader : _Reader
        Shared by all stages.
    n_points : int
        Number of time points.

    Notes
    -----
    **Shape**: the series (n, n_channels, length), or after the first stage the rest of them and the
    states (n, n_layers, width), to the rest of the series and the states. The embedding is the
    state of the top layer (n, width).
    """

    def __init__(self, reader: _Reader, n_points: int) -> None:
        super().__init__()
        self.reader = reader
        self.n_points = n_points

    def forward(self, carry: Any) -> tuple[Any, torch.Tensor]:
        series, *state = carry if isinstance(carry, tuple) else (carry,)
        new, embedding = self.reader(series[:, :, : self.n_points], tuple(state))
        return (series[:, :, self.n_points :], *new), embedding


class _Layer(Block):
    """One recurrent layer over the whole series.

    Notes
    -----
    **Shape**: the series (n, n_channels, length), or after the first layer the outputs of the
    previous layer (n, length, width), to outputs (n, length, width), together with the mask if
    there is one. The embedding is the output at the last observed point (n, width).
    """

    def __init__(self, layer: torch.nn.RNNBase, entry: SeriesInput | None, p: float) -> None:
        super().__init__()
        self.entry = entry
        self.layer = layer
        self.dropout = torch.nn.Dropout(p)

    def forward(self, carry: Any) -> tuple[Any, torch.Tensor]:
        if self.entry is not None:
            values, mask = self.entry(carry)
            inputs = _points_first(values, self.layer.input_size)
        else:
            sequence, mask = carry if isinstance(carry, tuple) else (carry, None)
            inputs = self.dropout(sequence.transpose(0, 1).contiguous())
        outputs = _run(self.layer, inputs)[0].transpose(0, 1)
        embedding = self.dropout(last_observed(outputs, mask))
        return (outputs if mask is None else (outputs, mask)), embedding


def _layers(cell: Cell, n_inputs: int, width: int, n_layers: int, p: float) -> torch.nn.RNNBase:
    """Recurrent layers whose widths are multiples of 16."""
    # torch warns about dropout between layers if there is only one layer.
    layers = cell(round_up(n_inputs), width, n_layers, dropout=p if n_layers > 1 else 0.0)
    if isinstance(layers, torch.nn.LSTM):
        with torch.no_grad():
            for name, bias in layers.named_parameters():
                if name.startswith("bias_ih"):
                    # The gates are in the order input, forget, cell, output.
                    bias[width : 2 * width] += 1
    return layers


def _points_first(values: torch.Tensor, width: int) -> torch.Tensor:
    """Series (n, channels, length) as (length, n, width), where the added channels are zeros."""
    values = values.permute(2, 0, 1)
    return F.pad(values, (0, width - values.shape[2])).contiguous()


def _run(
    layers: torch.nn.RNNBase, points: torch.Tensor, state: State = ()
) -> tuple[torch.Tensor, State]:
    """Run recurrent layers such that the results do not depend on the number of threads.

    Parameters
    ----------
    layers : torch.nn.LSTM or torch.nn.GRU
    points : Tensor of shape (length, n, n_inputs)
    state : tuple of Tensor of shape (n_layers, n, width), default=()
        State before the first of these points; empty at the start of the series.

    Returns
    -------
    outputs : Tensor of shape (length, n, width)
    state : tuple of Tensor of shape (n_layers, n, width)
        State after the last point.
    """
    n_rows = points.shape[1]
    size = max(GROUP, SERIAL // layers.hidden_size // GROUP * GROUP)
    at_once = torch.compiler.is_compiling() or layers.training or points.device.type != "cpu"
    if at_once or n_rows <= size:
        start = (state if isinstance(layers, torch.nn.LSTM) else state[0]) if state else None
        outputs, after = layers(points, start)
        return outputs, after if isinstance(after, tuple) else (after,)
    slices = [slice(i, i + size) for i in range(0, n_rows, size)]
    pieces = [
        _run(layers, points[:, rows].contiguous(), tuple(p[:, rows].contiguous() for p in state))
        for rows in slices
    ]
    outputs = torch.cat([each for each, _ in pieces], dim=1)
    states = zip(*(each for _, each in pieces), strict=True)
    return outputs, tuple(torch.cat(parts, dim=1) for parts in states)


@dataclass
class _ReadingNetwork(Network):
    """A recurrent network that is cut along time.

    Attributes
    ----------
    reader : _Reader
    n_read : list of int
        Number of time points up to the end of each block.
    """

    reader: _Reader
    n_read: list[int]

    def cut(self, ends: Sequence[int]) -> list[Block]:
        stops = [self.n_read[end] for end in ends]
        starts = [0, *stops[:-1]]
        return [_Read(self.reader, stop - start) for start, stop in zip(starts, stops, strict=True)]

    def to(self, dtype: torch.dtype) -> None:
        self.reader.to(dtype)


class RecurrentBackbone(Backbone):
    """LSTM or GRU network for time series, with exits along time or along its layers.

    With exits along time, a prediction can be made before the whole series is processed. A block
    processes the next `step` time points with all layers, and is named by the number of time points
    up to its end: ``"step5"``, ``"step10"``, and so on, for ``step=5``. With exits along the
    layers, a block is a layer that processes the whole series: ``"layer1"``, ``"layer2"``, and so
    on.

    The embedding is the hidden state of the top layer (with exits along time) or of the last layer
    that was run (with exits along the layers), at the last time point processed.

    The input is standardized channel by channel, with the mean and standard deviation of the
    training samples.

    Parameters
    ----------
    cell : {"lstm", "gru"}, default="lstm"
        Type of the recurrent layers.
    width : int, default=64
        Size of the hidden states, rounded up to a multiple of 16.
    n_layers : int, default=1
        Number of recurrent layers.
    exits_along : {"time", "layers"}, default="time"
        Whether exits can be placed along time or along the layers.
    step : int, default=1
        Number of time points in each block, with exits along time. The last block may have fewer.
    dropout : float, default=0.0
        Dropout rate of the hidden states that are passed to the next layer and to the heads.
    masked : bool, default=False
        Whether the last channel of X is a mask, as returned by `pad_series`. The prediction for a
        sample then does not depend on its padding: after the end of a series, the embedding is the
        state at its last observed time point.

    Notes
    -----
    **Shape**: samples (n_channels, n_timepoints), embeddings (width,).

    With exits along time, all stages share the same weights. The bias of the forget gate of an LSTM
    is initialized 1 larger than torch does, as Jozefowicz et al. recommend.

    With exits along time, the cost of every block is measured before training. A larger `step`
    shortens this for long series.

    References
    ----------
    Hochreiter, Schmidhuber, "Long short-term memory", Neural Computation 1997. Cho et al.,
    "Learning phrase representations using RNN encoder-decoder for statistical machine
    translation", EMNLP 2014. Bias of the forget gate: Jozefowicz, Zaremba, Sutskever, "An empirical
    exploration of recurrent network architectures", ICML 2015. Exits along time: Dennis et al.,
    "Multiple instance learning for efficient sequential data classification on
    resource-constrained devices", NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.zeros((4, 2, 12), dtype=np.float32)
    >>> RecurrentBackbone(step=5).build(X, n_classes=2).names
    ['step5', 'step10', 'step12']
    >>> RecurrentBackbone(n_layers=2, exits_along="layers").build(X, n_classes=2).names
    ['layer1', 'layer2']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "cell": [StrOptions(set(_CELLS))],
        "width": [Interval(Integral, 1, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "exits_along": [StrOptions({"time", "layers"})],
        "step": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "masked": ["boolean"],
    }

    def __init__(
        self,
        cell: str = "lstm",
        *,
        width: int = 64,
        n_layers: int = 1,
        exits_along: str = "time",
        step: int = 1,
        dropout: float = 0.0,
        masked: bool = False,
    ) -> None:
        self.cell = cell
        self.width = width
        self.n_layers = n_layers
        self.exits_along = exits_along
        self.step = step
        self.dropout = dropout
        self.masked = masked

    def build(self, X: np.ndarray, n_classes: int) -> Network:
        check_series(X, masked=self.masked, name="RecurrentBackbone")
        cell, width = _CELLS[self.cell], round_up(self.width)
        entry = SeriesInput(X, self.masked)
        facts: dict[str, Any] = {
            "standardize": entry.standardize,
            "check": mask_check(self.masked, "RecurrentBackbone"),
            "batch_invariant": True,
        }
        if self.exits_along == "time":
            n_read = [*range(self.step, X.shape[2], self.step), X.shape[2]]
            reader = _Reader(cell, entry, width, self.n_layers, self.dropout)
            names = [f"step{n}" for n in n_read]
            return _ReadingNetwork(reader, n_read, names=names, **facts)
        blocks: list[torch.nn.Module] = [
            _Layer(
                _layers(cell, width if i else entry.n_channels, width, 1, self.dropout),
                None if i else entry,
                self.dropout,
            )
            for i in range(self.n_layers)
        ]
        names = [f"layer{i + 1}" for i in range(self.n_layers)]
        return Chain(blocks, names=names, **facts)
