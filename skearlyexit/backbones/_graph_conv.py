"""Graph convolution for signals on the nodes of one graph."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from scipy import sparse
from sklearn.utils._param_validation import Interval

from skearlyexit._determinism._layers import GROUP, CumulativeBatchNorm, Standardize, round_up
from skearlyexit.backbones._base import Backbone, Network
from skearlyexit.backbones._chain import Chain


class _Stem(torch.nn.Module):
    """Standardizes signals, and maps the channels of each node to `width`.

    Notes
    -----
    **Shape**: (n, n_nodes) or (n, n_channels, n_nodes) to (n, width, n_nodes).
    """

    def __init__(self, X: np.ndarray, width: int) -> None:
        super().__init__()
        n_channels = 1 if X.ndim == 2 else X.shape[1]
        self.standardize = Standardize(X, lambda rows: rows.reshape(len(rows), n_channels, -1))
        self.map = torch.nn.Conv1d(n_channels, width, 1, bias=False)
        self.normalization = CumulativeBatchNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        signals = x[:, None] if x.ndim == 2 else x
        return torch.relu(self.normalization(self.map(self.standardize(signals))))


class _Hop(torch.nn.Module):
    """x + relu(norm(W x A)): every node hears from its neighbors.

    Notes
    -----
    **Shape**: (n, width, n_nodes) to the same.
    """

    propagation: torch.Tensor

    def __init__(self, propagation: torch.Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("propagation", propagation)
        self.map = torch.nn.Conv1d(width, width, 1, bias=False)
        self.normalization = CumulativeBatchNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n_nodes = x.shape[2]
        filled = F.pad(x, (0, len(self.propagation) - n_nodes))
        heard = F.linear(filled, self.propagation)[:, :, :n_nodes]
        return x + torch.relu(self.normalization(self.map(heard)))


class GraphConvBackbone(Backbone):
    """Graph convolution for rows that are signals on the nodes of one graph.

    A stem maps the channels of every node to `width`. Each block after it is one hop: a node hears
    from its neighbors, so that after k hops it knows of nodes k edges away. Blocks are named
    ``"stem"``, ``"hop1"``, ``"hop2"``, ...

    The input is standardized with the statistics of the training rows, channel by channel.

    Parameters
    ----------
    adjacency : array-like or sparse matrix of shape (n_nodes, n_nodes)
        Weights of the edges, not negative, the same in both directions; 0 where there is no edge.
        What stands on the diagonal is ignored: every node has a loop of weight 1.
    n_hops : int, default=4
        Number of blocks after the stem.
    width : int, default=32
        Channels of a node, rounded up to a multiple of 16.

    Notes
    -----
    **Shape**: rows (n_nodes,) or (n_channels, n_nodes), embeddings (width, n_nodes). Heads average
    over the nodes unless told to flatten.

    A hop adds ``relu(norm(W x P))`` to x, with ``P = D^-1/2 (A + I) D^-1/2`` and D the row sums of
    ``A + I``. P is kept as a dense matrix, which suits graphs of up to a few thousand nodes.

    References
    ----------
    Kipf, Welling, "Semi-supervised classification with graph convolutional networks", ICLR 2017.

    Examples
    --------
    >>> import numpy as np
    >>> ring = np.roll(np.eye(6), 1, axis=0) + np.roll(np.eye(6), -1, axis=0)
    >>> X = np.zeros((4, 6), dtype=np.float32)
    >>> GraphConvBackbone(ring, n_hops=2).build(X, n_classes=2).names
    ['stem', 'hop1', 'hop2']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "adjacency": ["array-like", "sparse matrix"],
        "n_hops": [Interval(Integral, 0, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, adjacency: Any, *, n_hops: int = 4, width: int = 32) -> None:
        self.adjacency = adjacency
        self.n_hops = n_hops
        self.width = width

    def build(self, X: np.ndarray, n_classes: int) -> Network:
        """Build a new network; see `Backbone.build`."""
        adjacency = _checked(self.adjacency)
        if X.ndim not in (2, 3) or X.shape[-1] != len(adjacency):
            raise ValueError(
                f"GraphConvBackbone has a graph of {len(adjacency)} nodes, and needs rows of shape "
                f"({len(adjacency)},) or (n_channels, {len(adjacency)}). Got rows of shape "
                f"{X.shape[1:]} instead."
            )
        width = round_up(self.width)
        # One tensor for all hops. Filled up with nodes without edges, as products of other sizes
        # than multiples of 16 are not the same on every number of threads.
        filled = np.pad(propagation(adjacency), (0, -len(adjacency) % GROUP))
        matrix = torch.from_numpy(filled.astype(X.dtype))
        stem = _Stem(X, width)
        blocks = [stem, *(_Hop(matrix, width) for _ in range(self.n_hops))]
        names = ["stem", *(f"hop{i + 1}" for i in range(self.n_hops))]
        return Chain(blocks, names=names, standardize=stem.standardize)


def propagation(adjacency: np.ndarray) -> np.ndarray:
    """D^-1/2 (A + I) D^-1/2 of Kipf and Welling, the diagonal of A being ignored."""
    looped = adjacency.copy()
    np.fill_diagonal(looped, 1)
    scale = 1 / np.sqrt(looped.sum(axis=1))
    return scale[:, None] * looped * scale


def _checked(adjacency: Any) -> np.ndarray:
    """Adjacency as an array of floats, or a ValueError."""
    dense = adjacency.toarray() if sparse.issparse(adjacency) else np.asarray(adjacency)
    dense = dense.astype(np.float64)
    wrong = None
    if dense.ndim != 2 or dense.shape[0] != dense.shape[1] or not len(dense):
        wrong = f"an array of shape {dense.shape}"
    elif not np.isfinite(dense).all():
        wrong = f"{int((~np.isfinite(dense)).sum())} weights that are NaN or infinite"
    elif (dense < 0).any():
        wrong = f"{int((dense < 0).sum())} negative weights, down to {dense.min():g}"
    elif not np.allclose(dense, dense.T):
        i, j = np.argwhere(~np.isclose(dense, dense.T))[0]
        wrong = (
            f"the weight {dense[i, j]:g} from node {i} to node {j} and {dense[j, i]:g} back; "
            "(A + A.T) / 2 would be symmetric"
        )
    if wrong is not None:
        raise ValueError(
            "The 'adjacency' parameter of GraphConvBackbone must be a symmetric matrix of shape "
            f"(n_nodes, n_nodes) whose weights are finite and not negative. Got {wrong}."
        )
    return dense
