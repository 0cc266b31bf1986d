"""Whether samples still exit where those of the calibration did."""

from __future__ import annotations

from collections import deque

import numpy as np
from scipy.stats import chi2

#: Fewest expected samples of a cell of the test.
FEWEST = 5


class Drift:
    """Test of the exits of the most recent samples against those of the calibration samples.

    Pearson's chi-squared test of homogeneity compares the exit rates in a window with those on the
    calibration samples. It is made whenever the window is full and a tenth of it is new. Exits with
    fewer than five expected samples count together with the next ones.

    A sample whose answer is degraded would have exited later. It counts for each later exit by the
    exit rate there, so that missing tiers alone raise no alarm.

    Parameters
    ----------
    window : int
        Number of most recent samples.
    level : float
        Probability of an alarm in a test if nothing has changed.

    Attributes
    ----------
    p_value : float
        Of the last test. NaN if there was none.
    is_alarm : bool
        Whether it was below the level.
    """

    def __init__(self, window: int, level: float) -> None:
        self.window, self.level = window, level
        self.start(None, 0)

    def start(self, rates: np.ndarray | None, n_reference: int) -> None:
        """Forget all samples, and compare with other exit rates.

        Parameters
        ----------
        rates : ndarray of shape (n_exits,) or None
            Exit rates on the calibration samples. None if they are not known: nothing is tested.
        n_reference : int
            Number of these samples.
        """
        self.rates, self.n_reference = rates, n_reference
        self._recent: deque[tuple[int, bool]] = deque(maxlen=self.window)
        self._n_new = 0
        self.p_value, self.is_alarm = float("nan"), False

    def add(self, exits: np.ndarray, degraded: np.ndarray) -> bool:
        """Add samples, and test if it is time to.

        Parameters
        ----------
        exits : ndarray of shape (n_samples,)
            Exit of each sample.
        degraded : ndarray of shape (n_samples,), bool
            Whether the sample would have exited later.

        Returns
        -------
        changed : bool
            Whether an alarm began or ended.
        """
        self._recent.extend(zip(exits.tolist(), degraded.tolist(), strict=True))
        self._n_new += len(exits)
        is_due = len(self._recent) == self.window and self._n_new >= max(1, self.window // 10)
        if self.rates is None or not is_due:
            return False
        self._n_new = 0
        self.p_value = p_value(self.counts(), self.rates, self.n_reference)
        was_alarm, self.is_alarm = self.is_alarm, self.p_value < self.level
        return self.is_alarm != was_alarm

    def counts(self) -> np.ndarray:
        """Number of samples of the window at each exit, shape (n_exits,)."""
        assert self.rates is not None
        n_exits = len(self.rates)
        exits, is_cut = self._columns()
        found = np.bincount(exits[~is_cut], minlength=n_exits).astype(float)
        for exit_, n_cut in enumerate(np.bincount(exits[is_cut], minlength=n_exits)):
            later = np.where(np.arange(n_exits) > exit_, self.rates, 0.0)
            # Where no calibration sample went on, all of them count for the last exit.
            share = later / later.sum() if later.sum() else np.arange(n_exits) == n_exits - 1
            found += n_cut * share
        return found

    def rates_now(self, n_exits: int) -> np.ndarray:
        """Share of the window that was answered at each exit. NaN without samples."""
        exits, _ = self._columns()
        if not len(exits):
            return np.full(n_exits, np.nan)
        return np.bincount(exits, minlength=n_exits) / len(exits)

    def _columns(self) -> tuple[np.ndarray, np.ndarray]:
        pairs = np.array(self._recent, dtype=int).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1] == 1


def p_value(counts: np.ndarray, rates: np.ndarray, n_reference: int) -> float:
    """Probability of exit rates that differ at least as much, if nothing has changed.

    Parameters
    ----------
    counts : ndarray of shape (n_exits,)
        Number of samples at each exit.
    rates : ndarray of shape (n_exits,)
        Exit rates of the reference.
    n_reference : int
        Number of samples of the reference.
    """
    table = np.array([counts, rates * n_reference])
    sizes = table.sum(axis=1)
    expected = np.outer(sizes, table.sum(axis=0) / sizes.sum())
    table, expected = (
        np.add.reduceat(each, _cells(expected[0]), axis=1) for each in (table, expected)
    )
    statistic = float(((table - expected) ** 2 / expected).sum())
    return float(chi2.sf(statistic, table.shape[1] - 1)) if table.shape[1] > 1 else 1.0


def _cells(expected: np.ndarray) -> list[int]:
    """First exit of each group of exits with enough expected samples."""
    firsts, total = [0], 0.0
    for exit_, n_samples in enumerate(expected.tolist()):
        if total >= FEWEST:
            firsts.append(exit_)
            total = 0.0
        total += n_samples
    return firsts[:-1] if total < FEWEST and len(firsts) > 1 else firsts
