"""A graph convolutional network for signals on the nodes of one graph."""

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
    """Standardization, and a linear map of the channels of each node.

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
    """A residual graph convolution, ``x + relu(norm(W x P))``.

    Notes
    -----
    **Shape**: (n, width, n_nodes) to the same shape.
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
    """Graph convolutional network for signals on the nodes of one graph.

    The first block, the stem, is a linear map of the channels of each node. Each of the following
    blocks is a graph convolution, in which every node receives information from its neighbors;
    after k of them an embedding depends on nodes that are up to k edges away. Blocks are named
    ``"stem"``, ``"hop1"``, ``"hop2"``, and so on.

    The input is standardized channel by channel, with the mean and standard deviation of the
    training samples.

    Parameters
    ----------
    adjacency : array-like or sparse matrix of shape (n_nodes, n_nodes)
        Adjacency matrix of the graph: symmetric, with non-negative weights of the edges and 0 where
        there is no edge. The diagonal is ignored, since a loop of weight 1 is added to every node.
    n_hops : int, default=4
        Number of graph convolutions.
    width : int, default=32
        Number of channels of each node after the stem, rounded up to a multiple of 16.

    Notes
    -----
    **Shape**: samples (n_nodes,) or (n_channels, n_nodes), embeddings (width, n_nodes). The default
    average pooling of heads takes the mean over the nodes.

    A graph convolution adds ``relu(norm(W x P))`` to its input x. W is a matrix of weights, norm is
    batch normalization, and ``P = D^-1/2 (A + I) D^-1/2``, where A is the adjacency matrix without
    its diagonal and D the diagonal matrix of the row sums of ``A + I``. P is stored as a dense
    matrix, which is suitable for graphs of up to a few thousand nodes.

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
        adjacency = _checked(self.adjacency)
        if X.ndim not in (2, 3) or X.shape[-1] != len(adjacency):
            raise ValueError(
                f"GraphConvBackbone has a graph of {len(adjacency)} nodes, and needs samples of "
                f"shape ({len(adjacency)},) or (n_channels, {len(adjacency)}). Got samples of "
                f"shape {X.shape[1:]} instead."
            )
        width = round_up(self.width)
        # One tensor for all hops. Nodes without edges are added up to a multiple of 16, since
        # products of other sizes are not the same for every number of threads.
        filled = np.pad(propagation(adjacency), (0, -len(adjacency) % GROUP))
        matrix = torch.from_numpy(filled.astype(X.dtype))
        stem = _Stem(X, width)
        blocks = [stem, *(_Hop(matrix, width) for _ in range(self.n_hops))]
        names = ["stem", *(f"hop{i + 1}" for i in range(self.n_hops))]
        return Chain(blocks, names=names, standardize=stem.standardize, batch_invariant=True)


def propagation(adjacency: np.ndarray) -> np.ndarray:
    """D^-1/2 (A + I) D^-1/2 of Kipf and Welling; the diagonal of A is ignored."""
    looped = adjacency.copy()
    np.fill_diagonal(looped, 1)
    scale = 1 / np.sqrt(looped.sum(axis=1))
    return scale[:, None] * looped * scale


def _checked(adjacency: Any) -> np.ndarray:
    """Check the adjacency matrix, and return it as a dense array of floats."""
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
