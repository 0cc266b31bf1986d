"""Networks to put exits into: ready-made ones, and any that the user brings."""

from skearlyexit._determinism._layers import PaddedLinear, Standardize
from skearlyexit.backbones._base import Backbone, Network
from skearlyexit.backbones._chain import Chain
from skearlyexit.backbones._cnn import CNNBackbone
from skearlyexit.backbones._conv1d import Conv1DBackbone
from skearlyexit.backbones._graph_conv import GraphConvBackbone
from skearlyexit.backbones._listing import ExitList, list_exits
from skearlyexit.backbones._measure import BlockFacts, measure_blocks
from skearlyexit.backbones._mlp import MLPBackbone
from skearlyexit.backbones._recurrent import RecurrentBackbone
from skearlyexit.backbones._resolve import resolve_backbone
from skearlyexit.backbones._sequential import SequentialBackbone
from skearlyexit.backbones._series import pad_series
from skearlyexit.backbones._stage import Block, Stage
from skearlyexit.backbones._traced import TracedBackbone
from skearlyexit.backbones._tracing._untraceable import UntraceableError
from skearlyexit.backbones._transformer import TransformerBackbone

__all__ = [
    "Backbone",
    "Block",
    "BlockFacts",
    "CNNBackbone",
    "Chain",
    "Conv1DBackbone",
    "ExitList",
    "GraphConvBackbone",
    "MLPBackbone",
    "Network",
    "PaddedLinear",
    "RecurrentBackbone",
    "SequentialBackbone",
    "Stage",
    "Standardize",
    "TracedBackbone",
    "TransformerBackbone",
    "UntraceableError",
    "list_exits",
    "measure_blocks",
    "pad_series",
    "resolve_backbone",
]
