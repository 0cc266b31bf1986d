"""A network for samples of several views, such as images from several cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.utils._param_validation import Interval, StrOptions

from skearlyexit._data._streamed import RowCheck
from skearlyexit._determinism._layers import PaddedLinear, Standardize
from skearlyexit._utils._names import block_index
from skearlyexit.backbones._base import Backbone, Network, stages_of
from skearlyexit.backbones._measure import evaluating, run_blocks, trial_rows
from skearlyexit.backbones._merging import MERGES, Merge, MergeCarry
from skearlyexit.backbones._resolve import resolve_backbone
from skearlyexit.backbones._stage import Block, Stage
from skearlyexit.backbones._views import Views, means_of, rows_of_networks

#: What happens, and what to do, if no exit before the merge trains the maps to the outputs.
LEARNED_WITH_EXIT = (
    "the maps to the outputs of the devices would stay random. Set output_size=None of "
    "MultiViewBackbone, so that there are no such maps"
)


class OnDevices(Block):
    """Stage that runs on each view by itself, and what each view sends to an exit behind it.

    Parameters
    ----------
    stages : list of Block
        Stage of each view, or one for all of them.
    views : Views
    outputs : list of torch.nn.Module or None
        Maps the embedding of each view to its outputs, or one does so for all of them. None if the
        embeddings themselves are merged.
    n_outputs : int
        Number of values that each view sends to the exit.
    merge : Merge
        Merges these.
    fill : Tensor of shape (n_views, ...) or None
        Input instead of a missing view. None if none is missing.

    Notes
    -----
    **Shape**: samples to a tuple of what each view passes on, followed by which views are present,
    (n, n_views), if some may be missing; the embedding is merged.
    """

    keeps_input: ClassVar[bool] = True
    fill: torch.Tensor | None

    def __init__(
        self,
        stages: Sequence[Block],
        views: Views,
        outputs: Sequence[torch.nn.Module] | None,
        n_outputs: int,
        merge: Merge,
        fill: torch.Tensor | None,
    ) -> None:
        super().__init__()
        self.stages = torch.nn.ModuleList(stages)
        self.outputs = None if outputs is None else torch.nn.ModuleList(outputs)
        self.views, self.n_outputs, self.merge = views, n_outputs, merge
        self.n_views = views.n_views
        self.register_buffer("fill", fill)

    @property
    def output_bytes(self) -> int:  # type: ignore[override]
        weight = next(self.parameters(), torch.empty(0))
        return self.n_outputs * weight.element_size()

    def forward(self, rows: torch.Tensor) -> tuple[Any, torch.Tensor]:
        split, present = self.views.split(rows), None
        if self.fill is not None:
            present = self.views.present(rows)
            there = present.reshape(*present.shape, *[1] * len(self.views.shape))
            split = torch.where(there, split, self.fill)
        carries, embeddings = self._run([split[:, i].contiguous() for i in range(self.n_views)])
        merged = self.merge(embeddings, present)
        return (*carries, *([] if present is None else [present])), merged

    def _run(self, parts: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """What each view passes on, and what it sends to the exit."""
        if len(self.stages) == 1:
            # In one call, so that batch normalization has the same statistics in training and in
            # evaluation mode.
            carry, sent = self._run_stage(0, torch.cat(parts))
            shape = self.n_views, -1
            return list(carry.unflatten(0, shape)), list(sent.unflatten(0, shape))
        pairs = [self._run_stage(i, part) for i, part in enumerate(parts)]
        return [carry for carry, _ in pairs], [sent for _, sent in pairs]

    def _run_stage(self, i: int, part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        carry, embedding = self.stages[i](part)
        return carry, embedding if self.outputs is None else self.outputs[i](embedding)


class Outputs(torch.nn.Module):
    """Outputs of one device: a linear map of its embedding, of maps that of their quarters.

    Notes
    -----
    **Shape**: (n, channels, ...) to (n, n_outputs).
    """

    def __init__(self, embedding: torch.Tensor, n_outputs: int) -> None:
        super().__init__()
        self.map = PaddedLinear(self._pooled(embedding).shape[1], n_outputs)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        mapped: torch.Tensor = self.map(self._pooled(embedding))
        return mapped

    def _pooled(self, embedding: torch.Tensor) -> torch.Tensor:
        if embedding.ndim == 4 and min(embedding.shape[2:]) > 1:
            return F.adaptive_avg_pool2d(embedding, 2).flatten(1)
        return embedding if embedding.ndim == 2 else embedding.flatten(2).mean(dim=2)


@dataclass(kw_only=True)
class MultiViewNetwork(Network):
    """Network of which the first block runs on each view.

    `Network` describes the other parameters.

    Parameters
    ----------
    networks : list of Network
        Network of each view, or one for all. The blocks of the first one are used behind the merge.
    end : int
        Index of their last block before the merge.
    devices : OnDevices
        The blocks up to there, of all views.
    merge : MergeCarry
        Merges what they pass on.
    """

    networks: list[Network]
    end: int
    devices: OnDevices
    merge: MergeCarry

    def cut(self, ends: Sequence[int]) -> list[Block]:
        _, first, *rest = stages_of(
            self.networks[0], [self.end, *(self.end + i for i in ends if i)]
        )
        merged = Stage([self.merge, first])
        if ends[0] == 0:
            return [self.devices, merged, *rest]
        return [Stage([self.devices, merged]), *rest]

    def to(self, dtype: torch.dtype) -> None:
        for network in self.networks:
            network.to(dtype)
        self.devices.to(dtype)
        self.merge.to(dtype)


class MultiViewBackbone(Backbone):
    """Network for samples of several views, each of which a device of its own sees.

    The first blocks of a backbone run on each view by itself. What they pass on is merged, and the
    other blocks run on the merged embedding. The name of the block before the merge is that of the
    first candidate for exits. An exit there, which the paper calls the local exit, merges small
    outputs of all devices, so that devices need to send their embeddings for the other samples
    only. `skearlyexit.tiers` computes the bytes and the latency.

    Parameters
    ----------
    backbone : object, default=None
        Network of one view: any valid value of the parameter `backbone` of the estimators.
    n_views : int, default=None
        Number of views. If None, it is the length of the first axis of a sample. It has to be given
        for samples that are vectors of all views, one after the other.
    merge : {"max", "mean", "concat"}, default="concat"
        How the embeddings that the views pass on are merged: their largest value or their mean,
        value by value; or all of them, which a linear map over the channels maps to the size of
        one.
    local_merge : {"max", "mean", "concat"} or None, default=None
        How the outputs of the devices are merged for the exit before the merge. The head of the
        exit maps the merged outputs to predictions. None is the same as `merge`.
    merge_after : int or str, default=0
        Index or name of the last block of `backbone` that runs on each view. It must pass on a
        single tensor.
    shared : bool, default=False
        Whether the blocks before the merge have the same weights for all views. If False, each view
        has its own; those of a module that is given start from the same weights.
    output_size : int, "auto" or None, default="auto"
        Number of outputs that each device sends to the exit before the merge. They are a linear map
        of its embedding, of maps that of the means of their quarters, and computed whether there is
        such an exit or not. ``"auto"`` is the number of classes, in regression of targets. If None,
        there is no such map, and the embeddings themselves are merged.
    missing_values : float, default=None
        A view is missing if all its values are equal to this number, such as that of a camera that
        failed, or that does not see the object. Maximum and mean are then those of the views that
        are present, and a concatenation has zeros for the others. NaN is not accepted, since
        samples must be finite: use a number that no feature has. None takes all views as they are.

    See Also
    --------
    skearlyexit.tiers.TierPlan : Latency, bytes, energy and price of several devices.

    Notes
    -----
    **Shape**: samples (n_views, ...) or vectors of all views.

    The map to the outputs is trained with the exit. With ``training="separate"``, in which early
    exits do not train the stages, it would stay random: `fit` refuses an exit before the merge,
    unless ``output_size=None``. So do placements that train heads separately to compare candidates.

    A missing view is replaced by the mean of this view in the training samples before the first
    block, since a number out of range could disturb the statistics of normalizations.

    In the paper, ``"max"`` for the exit before the merge and ``"concat"`` behind it were the most
    accurate.

    References
    ----------
    Teerapittayanon, McDanel, Kung, "Distributed deep neural networks over the cloud, the edge and
    end devices", ICDCS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone, MultiViewBackbone
    >>> X, y = load_digits(return_X_y=True)
    >>> views = X.reshape(-1, 2, 32)  # the upper and the lower half
    >>> clf = EarlyExitClassifier(
    ...     MultiViewBackbone(MLPBackbone(2, width=32, hidden=32), merge_after="block1"),
    ...     exits=["block1"], calibration=None, max_epochs=5, random_state=0)
    >>> clf.fit(views[:1000], y[:1000]).exit_names_
    ['block1', 'block2']
    >>> round(clf.score(views[1000:], y[1000:], threshold=0.9), 1)
    0.9
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_views": [Interval(Integral, 1, None, closed="left"), None],
        "merge": [StrOptions(set(MERGES))],
        "local_merge": [StrOptions(set(MERGES)), None],
        "merge_after": [Integral, str],
        "shared": ["boolean"],
        "output_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None],
        "missing_values": [Interval(Real, None, None, closed="neither"), None],
    }

    def __init__(
        self,
        backbone: Any = None,
        *,
        n_views: int | None = None,
        merge: str = "concat",
        local_merge: str | None = None,
        merge_after: int | str = 0,
        shared: bool = False,
        output_size: int | str | None = "auto",
        missing_values: float | None = None,
    ) -> None:
        self.backbone = backbone
        self.n_views = n_views
        self.merge = merge
        self.local_merge = local_merge
        self.merge_after = merge_after
        self.shared = shared
        self.output_size = output_size
        self.missing_values = missing_values

    def build(self, X: np.ndarray, n_classes: int) -> Network:
        views = Views.of(X.shape[1:], self.n_views, self.missing_values)
        by_network = rows_of_networks(X, views, shared=self.shared)
        networks = [_built(self.backbone, rows, n_classes) for rows in by_network]
        first, sample = networks[0], trial_rows(by_network[0])[:2]
        end = self._end(first)
        ends = [end, len(first.names) - 1]
        stages = [stages_of(network, ends)[0] for network in networks]
        carry, embedding = _tried(stages[0], first.names[end], sample)
        outputs, n_outputs = None, embedding[0].numel()
        if self.output_size is not None:
            n_outputs = n_classes if isinstance(self.output_size, str) else self.output_size
            outputs = [Outputs(embedding, n_outputs) for _ in stages]
        has_mask = views.missing is not None
        devices = OnDevices(
            stages,
            views,
            outputs,
            n_outputs,
            Merge(self.local_merge or self.merge),
            means_of(by_network, views) if has_mask else None,
        )
        merge = MergeCarry(self.merge, views.n_views, carry.shape[1], has_mask=has_mask)
        return MultiViewNetwork(
            networks=networks,
            end=end,
            devices=devices,
            merge=merge,
            names=first.names[end:],
            head=first.head,
            # Further weights have to be trained.
            given=first.given and outputs is None and merge.map is None,
            aliases={name: i - end for name, i in first.aliases.items() if i >= end},
            natural=first.natural and [True, *first.natural[end + 1 :]],
            obstacles=first.obstacles | _obstacles(first, end),
            learned_with_exits=first.learned_with_exits
            | ({} if outputs is None else {first.names[end]: LEARNED_WITH_EXIT}),
            standardize=_coarsest(networks),
            check=_check_of(views, first.check),
            notice=first.notice,
            batch_invariant=first.batch_invariant,
        )

    def _end(self, network: Network) -> int:
        """Index of the last block before the merge."""
        end = block_index(self.merge_after, network.names, network.aliases)
        if end is None or end >= len(network.names) - 1:
            raise ValueError(
                "The 'merge_after' parameter of MultiViewBackbone must be a block of its backbone "
                f"other than the last one: one of {network.names[:-1][:40]}, or an index. Got "
                f"{self.merge_after!r} instead."
            )
        return end


def _built(backbone: Any, rows: Any, n_classes: int) -> Network:
    """New network of one view, in the precision of the samples."""
    network = resolve_backbone(backbone, rows, n_classes).build(rows, n_classes)
    network.to(trial_rows(rows).dtype)
    return network


def _tried(stage: Block, name: str, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a stage passes on, and its embedding."""
    with torch.no_grad(), evaluating([stage]):
        ((carry, embedding),) = run_blocks([stage], [name], sample)
    if isinstance(carry, tuple) or carry.ndim < 2 or not carry.is_floating_point():
        raise ValueError(
            f"What the backbone passes on after {name!r} cannot be merged: one tensor of "
            "floating-point numbers with at least two axes is needed, without states or a mask. "
            "Set the parameter merge_after of MultiViewBackbone to another block."
        )
    return carry, embedding


def _obstacles(network: Network, end: int) -> dict[str, str]:
    """Reasons why no exit can be placed before the last block that runs on each view."""
    reason = (
        f"it runs on each view, and views are merged after {network.names[end]!r}. Place an exit "
        "there, or set the parameter merge_after of MultiViewBackbone."
    )
    others = [name for name, i in network.aliases.items() if i < end]
    return dict.fromkeys([*network.names[:end], *others], reason)


def _coarsest(networks: Sequence[Network]) -> Standardize | None:
    """Standardization of the view that needs double precision most, if views are standardized."""
    found = [network.standardize for network in networks if network.standardize is not None]
    return max(found, key=lambda each: (each.is_coarse, each.may_be_coarse), default=None)


def _check_of(views: Views, of_view: RowCheck | None) -> RowCheck | None:
    """Check of samples, given that of a view; see `Network.check`."""
    if views.missing is None and of_view is None:
        return None
    return partial(_check, views, of_view)


def _check(
    views: Views,
    of_view: RowCheck | None,
    rows: np.ndarray,
    positions: np.ndarray | range,
    name: str,
) -> None:
    """Raise an error if samples have no view, or a view is not valid."""
    present = np.ones((len(rows), views.n_views), dtype=bool)
    if views.missing is not None:
        views.check(rows, positions, name)
        present = views.present(rows)
    if of_view is not None:
        for i, there in enumerate(present.T):
            of_view(views.split(rows)[there, i], np.asarray(positions)[there], name)
