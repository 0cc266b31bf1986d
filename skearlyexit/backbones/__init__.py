"""Networks to put exits into: ready-made ones, and any that the user brings."""

from skearlyexit._layers import PaddedLinear, Standardize
from skearlyexit.backbones._base import Backbone, Block, Network
from skearlyexit.backbones._cnn import CNNBackbone
from skearlyexit.backbones._measure import BlockFacts, measure_blocks
from skearlyexit.backbones._mlp import MLPBackbone
from skearlyexit.backbones._resolve import resolve_backbone
from skearlyexit.backbones._sequential import SequentialBackbone
from skearlyexit.backbones._stage import Stage, build_stages

__all__ = [
    "Backbone",
    "Block",
    "BlockFacts",
    "CNNBackbone",
    "MLPBackbone",
    "Network",
    "PaddedLinear",
    "SequentialBackbone",
    "Stage",
    "Standardize",
    "build_stages",
    "measure_blocks",
    "resolve_backbone",
]
