"""Conversion of the parameter `backbone` of the estimators to a backbone object."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import skorch
import torch
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from skearlyexit.backbones._base import Backbone, Network
from skearlyexit.backbones._cnn import CNNBackbone
from skearlyexit.backbones._conv1d import Conv1DBackbone
from skearlyexit.backbones._copies import check_copyable, uncompiled
from skearlyexit.backbones._mlp import MLPBackbone
from skearlyexit.backbones._recurrent import RecurrentBackbone
from skearlyexit.backbones._sequential import SequentialBackbone
from skearlyexit.backbones._traced import TracedBackbone
from skearlyexit.backbones._transformer import TransformerBackbone

_NAMES: dict[str, type[Backbone]] = {
    "cnn": CNNBackbone,
    "conv1d": Conv1DBackbone,
    "mlp": MLPBackbone,
    "recurrent": RecurrentBackbone,
    "transformer": TransformerBackbone,
}

#: Runs the modules of a chain one after another, unless a subclass overrides it.
_RUN = torch.nn.Sequential.forward


def resolve_backbone(backbone: Any, X: np.ndarray, n_classes: int) -> Backbone:
    """Backbone object for a value of the parameter `backbone`.

    Parameters
    ----------
    backbone : None, str, Backbone, module, sequence of modules, skorch net, class or callable
        None chooses by the shape of X: a convolutional network for images, a perceptron for
        vectors. An ``nn.Sequential`` or a list is a chain of modules; any other module is traced. A
        fitted skorch net is replaced by its module. A callable is called as
        ``backbone(sample_shape, n_classes)`` for each training run, and returns any of the others;
        its weights are an initialization only. A class is called without arguments, unless it
        requires these two.
    X : ndarray of shape (n_samples, ...)
    n_classes : int

    Returns
    -------
    backbone : Backbone

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or a skorch net that is not fitted.
    """
    backbone = uncompiled(backbone)
    if backbone is None:
        return CNNBackbone() if X.ndim > 2 else MLPBackbone()
    if isinstance(backbone, str):
        if backbone not in _NAMES:
            raise ValueError(
                f"The 'backbone' parameter must be one of {sorted(_NAMES)}, an object or a module. "
                f"Got {backbone!r} instead."
            )
        return _NAMES[backbone]()
    if isinstance(backbone, Backbone):
        for value in backbone.get_params(deep=False).values():
            check_copyable(value)
        backbone = clone(backbone)
        backbone._validate_params()
        return backbone
    if isinstance(backbone, skorch.NeuralNet):
        check_is_fitted(
            backbone, "module_", msg="The skorch net given as 'backbone' is not fitted."
        )
        return resolve_backbone(backbone.module_, X, n_classes)
    if isinstance(backbone, torch.nn.Sequential) and type(backbone).forward is not _RUN:
        return TracedBackbone(backbone)
    if isinstance(backbone, torch.nn.Sequential | torch.nn.ModuleList | list | tuple):
        return SequentialBackbone(backbone)
    if isinstance(backbone, torch.nn.Module):
        return TracedBackbone(backbone)
    signature = _signature(backbone)
    if signature is not None:
        row_shape = X.shape[1:]
        needs_both = _takes(signature, row_shape, n_classes) and not _takes(signature, row_shape)
        if isinstance(backbone, type) and not needs_both:
            _check_bare(backbone, signature)
            return CallableBackbone(lambda row_shape, n_classes: backbone())
        return CallableBackbone(backbone)
    raise TypeError(
        "The 'backbone' parameter must be None, a name, a backbone object, a torch module, a list "
        f"of modules, a fitted skorch net or a callable. Got {backbone!r} instead."
    )


def _signature(value: Any) -> inspect.Signature | None:
    """Signature of a function or class, or None if it has none."""
    try:
        return inspect.signature(value)
    except (TypeError, ValueError):
        return None  # not callable, or a type of Python's own


def _takes(signature: inspect.Signature, *args: Any) -> bool:
    """Whether a call with these arguments is possible."""
    try:
        signature.bind(*args)
    except TypeError:
        return False
    return True


def _check_bare(kind: type, signature: inspect.Signature) -> None:
    """Raise an error if a class cannot be called without arguments."""
    try:
        signature.bind()
    except TypeError as error:
        raise TypeError(
            f"The 'backbone' parameter got the class {kind.__name__}, which is called without "
            f"arguments, and that fails: {error}. Give an instance, such as "
            f"{kind.__name__}(...), or a function of (sample_shape, n_classes) that returns one."
        ) from error


class CallableBackbone(Backbone):
    """Backbone that calls a function given by the user for each network.

    Parameters
    ----------
    function : callable
        Called as ``function(sample_shape, n_classes)``, with seeded random generators.
    """

    def __init__(self, function: Callable[[tuple[int, ...], int], Any]) -> None:
        self.function = function

    def build(self, X: np.ndarray, n_classes: int) -> Network:
        made = self.function(X.shape[1:], n_classes)
        network = resolve_backbone(made, X, n_classes).build(X, n_classes)
        network.given = False
        return network
