"""Networks that exits are added to: ready-made ones, and any torch module."""

from skearlyexit._determinism._layers import PaddedLinear
from skearlyexit.backbones._base import Backbone, Network
from skearlyexit.backbones._chain import Chain
from skearlyexit.backbones._cnn import CNNBackbone
from skearlyexit.backbones._conv1d import Conv1DBackbone
from skearlyexit.backbones._graph_conv import GraphConvBackbone
from skearlyexit.backbones._listing import ExitList, list_exits
from skearlyexit.backbones._mlp import MLPBackbone
from skearlyexit.backbones._multi_view import MultiViewBackbone
from skearlyexit.backbones._recurrent import RecurrentBackbone
from skearlyexit.backbones._sequential import SequentialBackbone
from skearlyexit.backbones._series import pad_series
from skearlyexit.backbones._stage import Block
from skearlyexit.backbones._traced import TracedBackbone
from skearlyexit.backbones._tracing._untraceable import UntraceableError
from skearlyexit.backbones._transformer import TransformerBackbone

__all__ = [
    "Backbone",
    "Block",
    "CNNBackbone",
    "Chain",
    "Conv1DBackbone",
    "ExitList",
    "GraphConvBackbone",
    "MLPBackbone",
    "MultiViewBackbone",
    "Network",
    "PaddedLinear",
    "RecurrentBackbone",
    "SequentialBackbone",
    "TracedBackbone",
    "TransformerBackbone",
    "UntraceableError",
    "list_exits",
    "pad_series",
]
