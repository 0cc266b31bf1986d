"""Which exit runs on which machine, and what follows for each exit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skearlyexit._utils._names import block_index
from skearlyexit.costs import Link
from skearlyexit.tiers._by_exit import ByExit, crossed_before
from skearlyexit.tiers._compression import check_compression
from skearlyexit.tiers._judged import judged
from skearlyexit.tiers._machines import check_local_link, check_machines, check_way_back
from skearlyexit.tiers._parts import ModelParts
from skearlyexit.tiers._report import TierReport
from skearlyexit.tiers._simulation import Faults, TierSimulation, drawn_requests, simulated
from skearlyexit.tiers._tier import Tier


@dataclass(frozen=True, eq=False)
class TierPlan:
    """Which exits of a model run on which of several machines.

    A tier runs the stages, heads and decisions of the exits that are assigned to it. Samples come
    in at the first tier. One that does not exit there is passed on over the links to the tier of
    its next exit. Nothing is run on other machines: latency, bytes, energy and price are computed
    from the costs of a fitted model and from the exits of samples.

    Parameters
    ----------
    tiers : sequence of Tier
        Machines, in the order in which samples pass them.
    links : sequence of Link
        Link from each tier to the next one, one fewer than tiers. Their `after` is None.
    assignment : sequence of str or int
        Tier of each exit, by name or index, in the order of the tiers. A tier without an exit only
        passes on what it receives. If no exit is assigned to the first tier, the samples themselves
        are sent.
    compression : {"float16", "int8"} or None, default=None
        Format in which the embeddings of a network are sent: in half precision, or as 256 values
        between the lowest and the highest number of each tensor of a sample, which are sent, too.
        The later stages really run on what is received, so that the accuracy includes what the
        compression costs. Samples themselves, integers, and what a policy or a combination
        remembers are sent as they are. None compresses nothing.
    answer_bytes : float or None, default=None
        Size of the answer, which is sent back to the first tier from the one where a sample exits.
        None if the answer is not needed at the first tier, and not sent back. With 0, the way back
        takes the latency of the links only.
    links_back : sequence of Link or None, default=None
        Link from each next tier back to this one, in the order of `links`, by which answers are
        sent back. None if they are the same as `links`.
    local_link : Link or None, default=None
        Link by which the devices of the first tier, if there are several, send what is merged for
        their exit to the first of them. None takes no time and costs nothing, but the bytes are
        counted.

    Attributes
    ----------
    tier_names : list of str
        Names of the tiers.
    tier_of_exit : ndarray of shape (n_exits,)
        Index of the tier of each exit.
    cuts : tuple of int
        Exits before whose stages embeddings are sent.
    back : sequence of Link
        Links by which answers are sent back. Empty if they are not.
    link_names : list of str
        Names of what the links transfer: to the next tier, back, and among several devices.

    Raises
    ------
    TypeError
        If `tiers` or `links` contain other objects.
    ValueError
        If they do not fit together.

    See Also
    --------
    choose_plan : Choose the assignment and the thresholds.

    Notes
    -----
    As in ``costs_``, a sample is charged for every head up to its exit, also for those whose
    threshold is above 1. The latency ends where the answer is computed, or, if it is sent back,
    when it is at the first tier.

    **Several devices** (`Tier.n_devices`) see one view of each sample each, and the model has a
    `skearlyexit.MultiViewBackbone` with an exit before the views are merged. Each device runs the
    first stage on its view, all of them at the same time. The others send their outputs to the
    first device, which merges them and decides. For samples that do not exit there, each device
    sends its embedding to the next tier over its own link. The latency is that of the slowest
    device. Energy, price and bytes are sums over the devices. With C classes and embeddings of f
    bytes, each of the others thus sends 4 C bytes for every sample, and f bytes for each one that
    does not exit: formula (1) of Teerapittayanon et al. There, a gateway merges, to which the first
    device sends its outputs, too.

    References
    ----------
    Several devices: Teerapittayanon, McDanel, Kung, "Distributed deep neural networks over the
    cloud, the edge and end devices", ICDCS 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skearlyexit import EarlyExitClassifier, Link, MLPBackbone
    >>> from skearlyexit.tiers import Tier, TierPlan
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(4, width=64, hidden=64), exits=["stem", "block2"], calibration=0.3,
    ...     max_epochs=5, random_state=0).fit(X[:1200], y[:1200])
    >>> plan = TierPlan(
    ...     tiers=[Tier("device", rate=1e7), Tier("cloud", rate=1e10)],
    ...     links=[Link(bandwidth=1e5, latency=0.02)],
    ...     assignment=["device", "device", "cloud"])
    >>> report = plan.report(clf, X[1200:], y[1200:], threshold=0.8)
    >>> report.exit_tiers, report.exit_latency.round(4)
    (['device', 'device', 'cloud'], array([0.0005, 0.0022, 0.0247]))
    """

    tiers: Sequence[Tier]
    links: Sequence[Link]
    assignment: Sequence[str | int]
    compression: str | None = None
    answer_bytes: float | None = None
    links_back: Sequence[Link] | None = None
    local_link: Link | None = None

    def __post_init__(self) -> None:
        check_machines(self.tiers, self.links)
        check_compression(self.compression)
        check_way_back(self.links, self.answer_bytes, self.links_back)
        check_local_link(self.tiers, self.local_link)
        found = [block_index(each, self.tier_names, {}) for each in self.assignment]
        if not found or None in found or sorted(map(int, found)) != found:  # type: ignore[arg-type]
            raise ValueError(
                "The 'assignment' must hold the tier of each exit, in the order of the tiers, of "
                f"which there are {self.tier_names}. Got {list(self.assignment)}."
            )

    @property
    def tier_names(self) -> list[str]:
        """Names of the tiers."""
        return [tier.name for tier in self.tiers]

    @cached_property
    def tier_of_exit(self) -> np.ndarray:
        """Index of the tier of each exit, shape (n_exits,)."""
        return np.array([block_index(each, self.tier_names, {}) for each in self.assignment])

    @property
    def back(self) -> Sequence[Link]:
        """Links by which answers are sent back, in the order of `links`. Empty if they are not."""
        if self.answer_bytes is None:
            return ()
        return self.links if self.links_back is None else self.links_back

    @property
    def link_names(self) -> list[str]:
        """Names of what the links transfer: to the next tier, back, and among several devices."""
        pairs = list(pairwise(self.tier_names))
        back = pairs[: len(self.back)]
        among = [self.tier_names[0]] if self.tiers[0].n_devices > 1 else []
        return [
            *(f"{one} to {other}" for one, other in pairs),
            *(f"{other} to {one}" for one, other in back),
            *(f"within {name}" for name in among),
        ]

    @property
    def cuts(self) -> tuple[int, ...]:
        """Exits before whose stages embeddings are sent, rather than the samples themselves."""
        return tuple(int(i) for i in np.flatnonzero(crossed_before(self).any(axis=1)) if i)

    def by_exit(self, parts: ModelParts) -> ByExit:
        """Compute what it takes to exit at each exit.

        Parameters
        ----------
        parts : ModelParts
            Work and bytes of the exits of a model.

        Returns
        -------
        by_exit : ByExit
            Arrays with one row for each exit: ``compute`` and ``computed``, seconds on each tier
            and whether it is called; ``sent`` and ``crossed``, bytes over each link and whether it
            is used, in the order of `link_names`; and the totals ``latency``, ``energy``, ``price``
            and ``n_bytes``.

        Raises
        ------
        ValueError
            If the model does not have as many exits as `assignment`, or cannot be divided among
            several devices in this way.
        """
        if parts.n_exits != len(self.assignment):
            raise ValueError(
                f"The 'assignment' is for {len(self.assignment)} exits, and the model has "
                f"{parts.n_exits}: {parts.names}. Give the tier of each of these."
            )
        if self.tiers[0].n_devices > 1:
            self._check_devices(parts)
        return ByExit.of(self, parts)

    def _check_devices(self, parts: ModelParts) -> None:
        """Raise a ValueError unless each device can run the first stage on its view."""
        n_devices, name = self.tiers[0].n_devices, self.tier_names[0]
        if parts.views is None or parts.views.n_views != n_devices:
            found = (
                "has no such exit" if parts.views is None else f"has {parts.views.n_views} views"
            )
            raise ValueError(
                f"The {n_devices} devices of {name!r} need a model with a MultiViewBackbone of "
                f"{n_devices} views, and an exit before these are merged. The model, with the "
                f"exits {parts.names}, {found}. Fit such a model, or give n_devices=1, with which "
                "one machine runs the stages of all views."
            )
        if (self.tier_of_exit[1:] == 0).any():
            raise ValueError(
                f"Only the first exit, {parts.names[0]!r}, can be assigned to the {n_devices} "
                f"devices of {name!r}: the stages behind it need the views of all of them. Got "
                f"{list(self.assignment)}; assign the other exits to a later tier."
            )

    def report(
        self,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        threshold: float | Sequence[float] | None = None,
        budget: Any = None,
        sample_weight: Any = None,
        sample_bytes: float | None = None,
    ) -> TierReport:
        """Compute latency, bytes, energy, price and accuracy of a model on samples.

        All exits are computed for all samples on this machine, and the rest is arithmetic: no time
        is measured, and no sample waits for others.

        Parameters
        ----------
        estimator : EarlyExitClassifier, CascadeClassifier, a regressor of these or Pipeline
            Fitted estimator with exits, or fitted pipeline whose last step is one.
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Test samples, as in `predict` of the estimator.
        y : array-like of shape (n_samples, ...), default=None
            True labels or values. May be None only if X is a torch Dataset with labels.
        threshold : float or sequence of float, default=None
            One threshold for all exits, or one for each exit but the last, instead of
            `thresholds_`.
        budget : float or Budget, default=None
            Maximum mean cost per sample, as in `predict`.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights. Samples of weight 0 are ignored.
        sample_bytes : float, default=None
            Size of a sample as it is sent, as in `ModelParts.of`.

        Returns
        -------
        report : TierReport
            It prints as text.

        Raises
        ------
        TypeError
            If the estimator is not one with exits.
        ValueError
            If the estimator has another number of exits, or X, y or an argument is invalid.
        """
        known = judged(
            estimator,
            X,
            y,
            threshold,
            budget,
            sample_weight,
            sample_bytes,
            self.cuts,
            self.compression,
        )
        return TierReport.of(
            self,
            known.parts.names,
            self.by_exit(known.parts),
            known.exits,
            known.data.weight,
            accuracy=known.accuracy,
            last_accuracy=known.last_accuracy,
            error=known.data.error_of(known.accuracy),
            uncompressed_accuracy=known.uncompressed_accuracy,
        )

    def simulate(
        self,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        arrivals: Any,
        n_requests: int | None = None,
        threshold: float | Sequence[float] | None = None,
        budget: Any = None,
        sample_bytes: float | None = None,
        loss: float | Sequence[float] = 0.0,
        n_retries: int = 0,
        outages: Mapping[str, Sequence[tuple[float, float]]] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> TierSimulation:
        """Simulate the plan under load, and with faults.

        Requests wait in one queue before the workers of each tier, and in one before each link,
        which sends one after the other. They are served in the order in which they come in. All
        machines are idle at the beginning. Nothing is measured, and the time in the simulation is
        not that of a clock.

        Answers that are sent back wait in a queue of their own before each link back. Several
        devices work on the same sample, and begin the next one when their outputs are merged and
        the exit is decided.

        Parameters
        ----------
        estimator, X, y, threshold, budget, sample_bytes
            As in `report`.
        arrivals : float or array-like of shape (n_samples,)
            Mean number of requests per second of a Poisson process, each for a sample that is drawn
            at random; or the time at which each sample comes in, in ascending order.
        n_requests : int, default=None
            Number of requests of the Poisson process. None is the number of samples.
        loss : float or sequence of float, default=0.0
            Probability that a transmission is lost, for all links or for each. It is the same on
            the way back, and for the transmission of each of several devices; without that of one,
            nothing is merged behind the link. What is merged for their own exit is not lost.
        n_retries : int, default=0
            Number of times that a lost transmission is repeated. The link notices a loss after
            twice its latency, in which it sends nothing else. If the last transmission is lost,
            too, the sample is answered by the last exit before the link, also if it is the answer
            that is lost.
        outages : mapping of str to sequence of (float, float), default=None
            Intervals in which a tier is gone, from a time to another, by the name of the tier.
            Samples that are in its queue or in work when one begins, or get there during it, are
            answered by the last exit of the tiers before at this time. A tier passes answers back
            also when it is gone.
        random_state : int, RandomState instance or None, default=None
            Generator of arrivals, samples and losses.

        Returns
        -------
        simulation : TierSimulation
            Latency, exit and waiting times of each request. It prints as text.

        Raises
        ------
        TypeError
            If the estimator is not one with exits.
        ValueError
            If an argument is invalid.
        """
        faults = Faults.of(self, loss, n_retries, outages)
        known = judged(
            estimator,
            X,
            y,
            threshold,
            budget,
            None,
            sample_bytes,
            self.cuts,
            self.compression,
        )
        rng = check_random_state(random_state)
        samples, times = drawn_requests(len(known.exits), arrivals, n_requests, rng)
        return simulated(
            self,
            known.parts,
            known.exits[samples],
            samples,
            times,
            faults,
            known.data.gains,
            rng,
        )

    def report_of_exits(self, parts: ModelParts, exits: Any, *, correct: Any = None) -> TierReport:
        """Compute the report of samples whose exits are known, such as from an exit table.

        Parameters
        ----------
        parts : ModelParts
            Work and bytes of the exits of the model.
        exits : array-like of shape (n_samples,)
            Exit of each sample: ``table.exits(thresholds)`` of an `ExitTable`.
        correct : array-like of shape (n_samples, n_exits), bool, default=None
            Whether the prediction at each exit is correct: ``table.labels == y[:, None]`` for the
            indices of the true classes. If None, the accuracy is NaN.

        Returns
        -------
        report : TierReport
            It prints as text.

        Raises
        ------
        ValueError
            If the arrays do not fit to each other or to the plan.
        """
        by_exit = self.by_exit(parts)
        exits = np.asarray(exits)
        if exits.ndim != 1 or not len(exits) or not np.isin(exits, np.arange(parts.n_exits)).all():
            raise ValueError(
                f"'exits' must hold the exit of each sample, from 0 to {parts.n_exits - 1}. Got "
                f"an array of shape {exits.shape}."
            )
        accuracy = last_accuracy = np.nan
        if correct is not None:
            correct = np.asarray(correct)
            if correct.shape != (len(exits), parts.n_exits):
                raise ValueError(
                    f"'correct' must be of shape {(len(exits), parts.n_exits)}, samples by exits. "
                    f"Got {correct.shape}."
                )
            accuracy = float(correct[np.arange(len(exits)), exits].mean())
            last_accuracy = float(correct[:, -1].mean())
        return TierReport.of(
            self,
            parts.names,
            by_exit,
            exits,
            np.ones(len(exits)),
            accuracy=accuracy,
            last_accuracy=last_accuracy,
        )
