"""Which exit runs on which machine, and what follows for each exit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skearlyexit._utils._names import block_index
from skearlyexit.costs import Link
from skearlyexit.tiers._compression import check_compression
from skearlyexit.tiers._judged import judged
from skearlyexit.tiers._parts import ModelParts
from skearlyexit.tiers._report import TierReport
from skearlyexit.tiers._simulation import Faults, TierSimulation, drawn_requests, simulated
from skearlyexit.tiers._tier import Tier


@dataclass(frozen=True, eq=False)
class ByExit:
    """What it takes to exit at each exit.

    Attributes
    ----------
    compute : ndarray of shape (n_exits, n_tiers)
        Seconds that each tier computes for a sample that exits there.
    computed : ndarray of shape (n_exits, n_tiers), bool
        Whether each tier computes something for such a sample.
    sent : ndarray of shape (n_exits, n_links)
        Bytes that such a sample sends over each link.
    crossed : ndarray of shape (n_exits, n_links), bool
        Whether such a sample crosses each link.
    latency, energy, price, n_bytes : ndarray of shape (n_exits,)
        Totals of such a sample: seconds, energy, price and bytes over all links.
    """

    compute: np.ndarray
    computed: np.ndarray
    sent: np.ndarray
    crossed: np.ndarray
    latency: np.ndarray
    energy: np.ndarray
    price: np.ndarray

    @property
    def n_bytes(self) -> np.ndarray:
        return np.asarray(self.sent.sum(axis=1))


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

    Attributes
    ----------
    tier_names : list of str
        Names of the tiers.
    tier_of_exit : ndarray of shape (n_exits,)
        Index of the tier of each exit.
    cuts : tuple of int
        Exits before whose stages embeddings are sent.

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
    threshold is above 1. The latency ends where the answer is computed. If it is needed at the
    first tier, add the time of the way back to the latency of the links.

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

    def __post_init__(self) -> None:
        check_machines(self.tiers, self.links)
        check_compression(self.compression)
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

    @cached_property
    def _crossed_before(self) -> np.ndarray:
        """Whether a link is crossed right before the stage of an exit, (n_exits, n_links)."""
        links = np.arange(len(self.links))
        before = np.append(0, self.tier_of_exit[:-1])
        return (before[:, None] <= links) & (links < self.tier_of_exit[:, None])

    @property
    def cuts(self) -> tuple[int, ...]:
        """Exits before whose stages embeddings are sent, rather than the samples themselves."""
        return tuple(int(i) for i in np.flatnonzero(self._crossed_before.any(axis=1)) if i)

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
            is used; and the totals ``latency``, ``energy``, ``price`` and ``n_bytes``.

        Raises
        ------
        ValueError
            If the model does not have as many exits as `assignment`.
        """
        if parts.n_exits != len(self.assignment):
            raise ValueError(
                f"The 'assignment' is for {len(self.assignment)} exits, and the model has "
                f"{parts.n_exits}: {parts.names}. Give the tier of each of these."
            )
        runs_on = self.tier_of_exit[:, None] == np.arange(len(self.tiers))
        rates, overheads = _each(self.tiers, "rate"), _each(self.tiers, "overhead")
        reached = np.logical_or.accumulate(runs_on)
        compute = np.cumsum(runs_on * parts.work[:, None], axis=0) / rates + reached * overheads
        crossing = self._crossed_before
        sent = np.cumsum(crossing * parts.n_bytes[:, None], axis=0)
        times = [[link.seconds(n) for link in self.links] for n in parts.n_bytes]
        transfer = np.cumsum(crossing * np.reshape(times, crossing.shape), axis=0)
        return ByExit(
            compute,
            reached,
            sent,
            np.logical_or.accumulate(crossing),
            latency=compute.sum(axis=1) + transfer.sum(axis=1),
            energy=compute @ _each(self.tiers, "power") + sent @ _each(self.links, "energy"),
            price=compute @ _each(self.tiers, "price") + sent @ _each(self.links, "price"),
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
            self.tier_names,
            self.tier_of_exit,
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
            Probability that a transmission is lost, for all links or for each.
        n_retries : int, default=0
            Number of times that a lost transmission is repeated. The link notices a loss after
            twice its latency, in which it sends nothing else. If the last transmission is lost,
            too, the sample is answered by the last exit before the link.
        outages : mapping of str to sequence of (float, float), default=None
            Intervals in which a tier is gone, from a time to another, by the name of the tier.
            Samples that are in its queue or in work when one begins, or get there during it, are
            answered by the last exit of the tiers before at this time.
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
            self.tier_names,
            self.tier_of_exit,
            parts.names,
            by_exit,
            exits,
            np.ones(len(exits)),
            accuracy=accuracy,
            last_accuracy=last_accuracy,
        )


def check_machines(tiers: Sequence[Tier], links: Sequence[Link]) -> None:
    """Raise an error unless there are tiers with different names, and a link between any two."""
    for what, values, kind in (("tiers", tiers, Tier), ("links", links, Link)):
        for each in values:
            if not isinstance(each, kind):
                raise TypeError(
                    f"The '{what}' must be {kind.__name__} objects. Got {each!r} instead."
                )
    names = [tier.name for tier in tiers]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"There must be at least one tier, and each must have its own name. Got {names}."
        )
    if len(links) != len(tiers) - 1:
        raise ValueError(
            f"The 'links' must connect each tier to the next one: {len(tiers) - 1} for "
            f"{len(tiers)} tiers. Got {len(links)}."
        )
    for link in links:
        if link.after is not None:
            raise ValueError(
                "The assignment determines what runs before a link, and its 'after' must be None. "
                f"Got {link!r}."
            )


def _each(machines: Sequence[Tier] | Sequence[Link], what: str) -> np.ndarray:
    return np.array([getattr(machine, what) for machine in machines], dtype=np.float64)
