"""How often a guarantee is broken if samples have different weights.

Samples are drawn whose weight and loss are known. The score at the one early exit is independent of
both, so that the weighted risk of a threshold t is (1 - t) times that of letting all samples exit,
which is set to three times the level. Compared are

- ``effective number``: the binomial test with the weighted mean, for as many samples as would
  make a mean of that variance, (sum w)^2 / sum w^2. At equal weights this is the test of
  `RiskControl` without `max_weight`, which refuses all others;
- ``largest seen``: betting on weights as shares of the largest weight among the samples;
- ``max_weight``: what `RiskControl` does, betting on shares of the largest weight there can be;
- the conformal procedures, which guarantee the mean, with the effective number and as
  `ConformalRiskControl` does.

A guarantee may be broken in a share of the draws of at most 1 - confidence, and three standard
errors for the number of draws, and a mean may exceed the level by three of its own; what is beyond
is in bold. Beside it is the share of the samples that exits early.

    python benchmarks/weighted_guarantees.py
    python benchmarks/weighted_guarantees.py --draws 200
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.command import make_parser, write_table
from _harness.report import table

from skearlyexit.calibration import (
    CalibrationData,
    ConformalRiskControl,
    NotCertifiedError,
    RiskControl,
)
from skearlyexit.calibration._p_values import binomial_p_value
from skearlyexit.calibration._risks import FamilyLosses, exit_losses
from skearlyexit.metrics._intervals import effective_rows

LEVEL, CONFIDENCE, LARGEST_RISK = 0.05, 0.9, 0.15
#: The first whose risk is above the level is above it by a twentieth.
FAMILY = np.linspace(1.0, 0.0, 41)


@dataclass(frozen=True)
class Kind:
    """Kinds of samples, with their shares, weights and probabilities of a loss.

    Attributes
    ----------
    share, weight, probability : tuple of float
    balanced : bool, default=False
        Whether weights are computed from the samples that are drawn, so that both kinds weigh the
        same in sum.
    """

    share: tuple[float, ...]
    weight: tuple[float, ...]
    probability: tuple[float, ...]
    balanced: bool = False

    @property
    def bound(self) -> float:
        """Largest weight that can occur, with room for weights computed from the samples."""
        return max(self.weight) * (2.0 if self.balanced else 1.0)

    def draw(self, n_samples: int, rng: np.random.RandomState) -> CalibrationData:
        kind = rng.choice(len(self.share), p=self.share, size=n_samples)
        loses = rng.uniform(size=n_samples) < np.array(self.probability)[kind]
        weight = np.array(self.weight)[kind]
        if self.balanced:
            weight = n_samples / 2 / np.maximum(np.bincount(kind, minlength=2), 1)[kind]
            weight = np.minimum(weight, self.bound)
        scores = np.stack([rng.uniform(size=n_samples), np.ones(n_samples)], axis=1)
        correct = np.stack([~loses, np.ones(n_samples, dtype=bool)], axis=1)
        return CalibrationData(scores, correct, np.array([0.5, 1.0]), weight)


def going_with(
    share: float, weight: float, ratio: float = np.inf, *, balanced: bool = False
) -> Kind:
    """Some samples that weigh more and lose `ratio` times as often as the others.

    The weighted risk of letting all samples exit is `LARGEST_RISK`.
    """
    shares, weights = np.array([share, 1 - share]), np.array([weight, 1.0])
    odds = np.array([1.0, 0.0 if np.isinf(ratio) else 1 / ratio])
    probability = odds * LARGEST_RISK * (shares @ weights) / (shares @ (weights * odds))
    if probability.max() > 1:
        raise ValueError(f"No probability of a loss gives a risk of {LARGEST_RISK}: {probability}.")
    return Kind(tuple(shares), tuple(weights), tuple(probability), balanced)


def of_losers(weight: float) -> Kind:
    """Samples with a loss weigh more than all others."""
    share = LARGEST_RISK / (LARGEST_RISK + weight * (1 - LARGEST_RISK))
    return Kind((share, 1 - share), (weight, 1.0), (1.0, 0.0))


def balanced_weight(rare: float) -> float:
    """Weight of a rare class for a common one of weight 1."""
    return (1 - rare) / rare


KINDS = {
    "equal weights": Kind((1.0,), (1.0,), (LARGEST_RISK,)),
    "weights 1 and 3 that have nothing to do with losses": going_with(0.5, 3, 1.0),
    "2 % weigh 20 and have all losses": going_with(0.02, 20),
    "0.2 % weigh 100 and have all losses": going_with(0.002, 100),
    **{
        f"balanced, {rare:.0%} rare, {ratio} times as often with a loss": going_with(
            rare, balanced_weight(rare), ratio
        )
        for rare in (0.05, 0.1, 0.2)
        for ratio in (5, 10)
    },
    "the same, 10 %, 10 times, weights from the samples": going_with(
        0.1, balanced_weight(0.1), 10, balanced=True
    ),
    **{f"samples with a loss weigh {k}": of_losers(k) for k in (3, 10, 20)},
}

Procedure = Callable[[CalibrationData, float], float]


def _last_passed(passed: np.ndarray) -> float:
    """The last threshold before the first that did not pass; infinite if none passed."""
    n_passed = len(passed) if passed.all() else int(np.argmin(passed))
    return float(FAMILY[n_passed - 1]) if n_passed else np.inf


def _means(data: CalibrationData) -> np.ndarray:
    losses = FamilyLosses(data.scores, exit_losses(data, "performance_gap"), FAMILY)
    return losses.means(data.weight)


def effective_number(data: CalibrationData, bound: float) -> float:
    n_rows = effective_rows(data.weight)
    return _last_passed(binomial_p_value(_means(data), n_rows, LEVEL) <= 1 - CONFIDENCE)


def conformal_effective_number(data: CalibrationData, bound: float) -> float:
    n_rows = effective_rows(data.weight)
    return _last_passed((n_rows * _means(data) + 1) / (n_rows + 1) <= LEVEL)


def _chosen(point: RiskControl | ConformalRiskControl, data: CalibrationData) -> float:
    try:
        return float(point.thresholds(data, None)[0])  # type: ignore[arg-type]
    except NotCertifiedError:
        return np.inf


def largest_seen(data: CalibrationData, bound: float) -> float:
    return with_max_weight(data, float(data.weight.max()))


def with_max_weight(data: CalibrationData, bound: float) -> float:
    point = RiskControl(LEVEL, confidence_level=CONFIDENCE, family=FAMILY, max_weight=bound)
    return _chosen(point, data)


def conformal(data: CalibrationData, bound: float) -> float:
    return _chosen(ConformalRiskControl(LEVEL, family=FAMILY, max_weight=bound), data)


TESTS: dict[str, Procedure] = {
    "effective number": effective_number,
    "largest seen": largest_seen,
    "max_weight": with_max_weight,
}
CONFORMAL: dict[str, Procedure] = {
    "effective number": conformal_effective_number,
    "max_weight": conformal,
}


def measure(kind: Kind, n_samples: int, n_draws: int) -> list[str]:
    """What each procedure breaks, and the share that exits early."""
    rng = np.random.RandomState(0)
    procedures = [*TESTS.values(), *CONFORMAL.values()]
    chosen = np.empty((len(procedures), n_draws))
    for i in range(n_draws):
        data = kind.draw(n_samples, rng)
        chosen[:, i] = [procedure(data, kind.bound) for procedure in procedures]
    early = 1.0 - np.minimum(chosen, 1.0)
    cells = []
    delta = 1 - CONFIDENCE
    allowed = delta + 3 * np.sqrt(delta * CONFIDENCE / n_draws)
    for exits in early[: len(TESTS)]:
        broken = float(np.mean(LARGEST_RISK * exits > LEVEL + 1e-12))
        cells.append(_cell(f"{100 * broken:.1f} %", exits, broken <= allowed))
    for exits in early[len(TESTS) :]:
        risk = LARGEST_RISK * exits
        kept = risk.mean() <= LEVEL + 3 * risk.std() / np.sqrt(n_draws)
        cells.append(_cell(f"{100 * risk.mean():.2f} %", exits, kept))
    return cells


def _cell(text: str, exits: np.ndarray, kept: bool) -> str:
    return f"{text if kept else f'**{text}**'} ({exits.mean():.2f})"


def main() -> None:
    parser = make_parser(__doc__, output=True)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--samples", type=int, nargs="+", default=[500, 2000])
    args = parser.parse_args()
    rows = []
    for title, kind in KINDS.items():
        for n_samples in args.samples:
            rows.append([title, str(n_samples), *measure(kind, n_samples, args.draws)])
            print(" | ".join(rows[-1]), flush=True)
    header = ["samples", "number", *(f"broken, {name}" for name in TESTS)]
    header += [f"mean risk, conformal, {name}" for name in CONFORMAL]
    text = (
        f"## Guarantees of risk with weights\n\n{args.draws} draws, a level of {LEVEL:.0%}, "
        f"{CONFIDENCE:.0%} confidence. In brackets the share of samples that exits early; at the "
        f"level itself {LEVEL / LARGEST_RISK:.2f} would.\n\n{table(rows, header)}"
    )
    print(text)
    write_table(args.output, "weighted_guarantees", text)


if __name__ == "__main__":
    main()
