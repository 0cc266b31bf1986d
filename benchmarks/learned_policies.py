"""Whether budgets and guarantees hold for policies that learn from the calibration samples.

Outputs of heads are drawn from a known distribution; nothing is trained but the policy. In each run
a policy and its thresholds come from the same held-out samples, by cross-fitting, as in
`EarlyExitClassifier.fit`; the cost under the budget and the risk under the guarantee are then
measured on many new samples. A guarantee may be broken in a share of the runs of at most
1 - confidence, a budget only within sampling error.

"Translated" is what must not be done: the cross-fitted scores are translated, by rank, into scores
that the final policy gives to the samples from which it has learned. "As they are" is what the
package does.

    python benchmarks/learned_policies.py
    python benchmarks/learned_policies.py --runs 20
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.command import make_parser, write_table
from _harness.report import table
from joblib import Parallel, delayed
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)

from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._exit_table import ExitTable, Outputs
from skearlyexit._fitting._cross_fit import cross_fit
from skearlyexit.calibration import Budget, CalibrationData, NotCertifiedError, RiskControl
from skearlyexit.calibration import compute_frontier as frontier_of
from skearlyexit.combination import GeometricCombination, OwnCombination, TemperatureScaling
from skearlyexit.costs._compose import RoutedCosts
from skearlyexit.experimental import ReinforcedPolicy
from skearlyexit.policies import (
    ConfidencePolicy,
    CostSensitivePolicy,
    LearnedConfidencePolicy,
    Policy,
    ScheduledPolicy,
)

N_CLASSES, N_NEW = 10, 10_000
COSTS = np.array([0.3, 0.6, 1.0])
LEVEL, CONFIDENCE, BUDGET = 0.16, 0.9, 0.6
#: Scores as calibration sees them.
KINDS = ("translated", "as they are")


def decisions() -> dict[str, ExitRule]:
    """What is compared, by name; those that learn nothing or little show the sampling error."""
    own = OwnCombination()

    def by(policy: Policy) -> ExitRule:
        return ExitRule(None, own, policy)

    n_trees = {"n_estimators": 20}
    return {
        "confidence, nothing learned": by(ConfidencePolicy()),
        "logistic regression": by(LearnedConfidencePolicy()),
        "random forest": by(LearnedConfidencePolicy(RandomForestClassifier(**n_trees))),
        "extra trees": by(LearnedConfidencePolicy(ExtraTreesClassifier(**n_trees))),
        "boosting": by(LearnedConfidencePolicy(HistGradientBoostingClassifier(max_iter=20))),
        "all probabilities, random forest": by(
            LearnedConfidencePolicy(RandomForestClassifier(**n_trees), features="probabilities")
        ),
        "cost-sensitive": by(CostSensitivePolicy()),
        "cost-sensitive, random forest": by(CostSensitivePolicy(RandomForestClassifier(**n_trees))),
        "scheduled": by(ScheduledPolicy()),
        "scheduled, all probabilities": by(ScheduledPolicy(features="probabilities")),
        "reinforced": by(ReinforcedPolicy()),
        "temperatures": ExitRule(TemperatureScaling(), own, ConfidencePolicy()),
        "geometric combination": ExitRule(None, GeometricCombination(), ConfidencePolicy()),
    }


def draw(n_samples: int, rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Outputs of heads that get better from exit to exit, and true classes."""
    y = rng.randint(N_CLASSES, size=n_samples)
    ease = rng.uniform(-0.2, 2.5, size=(n_samples, 1, 1))
    skill = np.linspace(0.8, 2.4, len(COSTS))[:, None]
    logits = skill * ease * np.eye(N_CLASSES)[y][:, None]
    logits = 2 * (logits + 0.7 * rng.normal(size=logits.shape))
    outputs = np.exp(logits - logits.max(axis=2, keepdims=True))
    return outputs / outputs.sum(axis=2, keepdims=True), y


def translated(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Scores replaced, by rank and exit by exit, by values among others."""
    columns = []
    for column, other in zip(scores.T, others.T, strict=True):
        ranked = np.sort(column)
        below, upto = (np.searchsorted(ranked, column, side=side) for side in ("left", "right"))
        columns.append(np.quantile(other, (below + upto) / 2 / len(column), method="nearest"))
    return np.stack(columns, axis=1)


def one_run(name: str, n_samples: int, seed: int) -> dict[str, tuple[float, float]]:
    """Risk under the guarantee and cost under the budget on new samples, by kind of scores."""
    rng = np.random.RandomState(seed)
    outputs, y = draw(n_samples, rng)
    held_out = Samples(Outputs(outputs), y)
    costs = RoutedCosts(COSTS, np.zeros(len(COSTS)))
    final, scored = cross_fit(
        decisions()[name], held_out, [n_samples], lambda: costs, np.random.RandomState(seed)
    )
    new, y_new = draw(N_NEW, rng)
    judged = final.tabulate(Outputs(new))
    right = judged.labels == y_new[:, None]
    found = {}
    for kind in KINDS:
        seen = scored.X
        if kind == "translated" and final.n_learned:
            units = final.tabulate(held_out.X[scored.positions]).scores
            seen = replace(seen, scores=translated(seen.scores, units))
        found[kind] = _measured(seen, scored.y, judged, right)
    return found


def _measured(
    seen: ExitTable, y: np.ndarray, judged: ExitTable, right: np.ndarray
) -> tuple[float, float]:
    data = CalibrationData.from_table(seen, y, COSTS)
    frontier = frontier_of(data)
    exits = judged.exits(Budget(BUDGET).thresholds(data, frontier))
    cost = float(COSTS[exits].mean())
    try:
        control = RiskControl(LEVEL, confidence_level=CONFIDENCE, family="common")
        exits = judged.exits(control.thresholds(data, frontier))
    except NotCertifiedError:
        exits = np.full(len(right), len(COSTS) - 1)
    lost = right[:, -1] & ~right[np.arange(len(right)), exits]
    return float(lost.mean()), cost


def main() -> None:
    parser = make_parser(__doc__, output=True)
    parser.add_argument("--runs", type=int, default=150)
    parser.add_argument("--samples", type=int, default=600, help="held out in each run")
    parser.add_argument("--rules", nargs="+", default=list(decisions()), help="names of the rules")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    rows = []
    for name in args.rules:
        runs = Parallel(n_jobs=args.jobs)(
            delayed(one_run)(name, args.samples, seed) for seed in range(args.runs)
        )
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for run in runs:
            for kind, values in run.items():
                found[kind].append(values)
        row = [name]
        for kind in KINDS:
            risks, costs = np.array(found[kind]).T
            row += [f"{np.mean(risks > LEVEL):.0%}", f"{costs.mean():.3f}"]
        rows.append(row)
        print(row, flush=True)
    header = ["rule"]
    for kind in KINDS:
        header += [f"broken, {kind}", f"cost, {kind}"]
    text = (
        f"{args.runs} runs, {args.samples} held-out samples, {N_NEW} new ones, {len(COSTS)} exits. "
        f"RiskControl({LEVEL}) may be broken in {1 - CONFIDENCE:.0%} of the runs; mean cost of "
        f"Budget({BUDGET}) on new samples.\n\n{table(rows, header)}"
    )
    print(f"\n{text}")
    write_table(args.output, "learned_policies", text)


if __name__ == "__main__":
    main()
