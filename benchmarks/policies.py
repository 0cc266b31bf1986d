"""Which policy and which combination rule are the most accurate at the same budgets.

All of them get the outputs of the same cascades, one for each data set and seed, trained without
regard to any. A rule that learns is cross-fitted on the held-out samples, as in a fit: all of them
serve to learn and to choose thresholds, and the final rule has learned from all. "halves" learns on
one half and chooses thresholds on the other. Thresholds are the best found for the budget on these
samples; the last table compares two simpler ways. Accuracy and realized cost are those of test
samples; costs count the exit rule.

Policies are compared with the outputs of the exit's own head, combination rules under confidence;
"+ T" is with a temperature for each head. Ranks are over blocks of one set and one budget, each a
mean over seeds; a budget at which confidence gives the same as at the one below it is no block of
its own. Blocks of one set share their networks, which the tests take for independent data.

    python benchmarks/policies.py
    python benchmarks/policies.py --sets letter --seeds 2
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass, field

import _harness  # noqa: F401 - before everything that starts threads
import numpy as np
from _harness.cascades import Cascade, accuracies, load
from _harness.command import DEFAULT_SETS, available, make_parser, numbers, write_table
from _harness.data import SETS
from _harness.report import rank_header, ranked, spread, table
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.tree import DecisionTreeClassifier

from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._data._splits import hold_out
from skearlyexit._exit_table import ExitTable, Outputs
from skearlyexit._fitting._cross_fit import cross_fit
from skearlyexit.calibration import Budget, CalibrationData, Frontier, compute_frontier
from skearlyexit.calibration._frontier import check_budget
from skearlyexit.calibration._over_family import FAMILY
from skearlyexit.combination import (
    Combination,
    CostWeightedCombination,
    GeometricCombination,
    MeanCombination,
    MostConfidentCombination,
    OwnCombination,
    ProductCombination,
    TemperatureScaling,
)
from skearlyexit.experimental import ReinforcedPolicy
from skearlyexit.policies import (
    ConfidencePolicy,
    CostSensitivePolicy,
    EntropyPolicy,
    LearnedConfidencePolicy,
    MarginPolicy,
    PatiencePolicy,
    Policy,
    ScheduledPolicy,
)


@dataclass(frozen=True)
class Method:
    """What is compared.

    Attributes
    ----------
    policy : Policy
    rule : Combination
    tempered : bool
        Whether each head has a temperature.
    halved : bool
        Whether thresholds are chosen on one half of the samples, and the rule learns on the other.
    way : {"search", "geometric", "common"}
        How thresholds are found: by search, in the geometric family, or one for all exits.
    """

    policy: Policy = field(default_factory=ConfidencePolicy)
    rule: Combination = field(default_factory=OwnCombination)
    tempered: bool = False
    halved: bool = False
    way: str = "search"

    def decision(self, budget: float) -> ExitRule:
        """As in a fit; the scheduled policy gets the budget."""
        policy = self.policy
        if isinstance(policy, ScheduledPolicy):
            policy = ScheduledPolicy(budget)
        return ExitRule(TemperatureScaling() if self.tempered else None, self.rule, policy)

    def thresholds(self, data: CalibrationData, frontier: Frontier, budget: float) -> np.ndarray:
        """For a budget; raises a ValueError if it cannot be kept."""
        if self.way != "common":
            return Budget(budget, method=self.way).thresholds(data, frontier)
        check_budget(budget, data.costs[0])
        spread_out = (np.full(data.n_exits - 1, value) for value in FAMILY)
        return next(each for each in spread_out if data.evaluate(each)[0] <= budget)


TREE = DecisionTreeClassifier(max_depth=5, min_samples_leaf=20)
BOOSTING = HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=8, early_stopping=False)

#: Policies by name; the others are compared with the first. Temperatures do not change labels, nor
#: patience.
POLICIES = {
    "confidence": Method(),
    "confidence + T": Method(tempered=True),
    "confidence + T, halves": Method(tempered=True, halved=True),
    "entropy": Method(EntropyPolicy()),
    "entropy + T": Method(EntropyPolicy(), tempered=True),
    "margin": Method(MarginPolicy()),
    "margin + T": Method(MarginPolicy(), tempered=True),
    "patience 1": Method(PatiencePolicy(1)),
    "patience 2": Method(PatiencePolicy(2)),
    "learned": Method(LearnedConfidencePolicy()),
    "learned, halves": Method(LearnedConfidencePolicy(), halved=True),
    "learned, all probabilities": Method(LearnedConfidencePolicy(features="probabilities")),
    "learned, tree": Method(LearnedConfidencePolicy(TREE)),
    "learned, boosting": Method(LearnedConfidencePolicy(BOOSTING)),
    "cost-sensitive": Method(CostSensitivePolicy()),
    "cost-sensitive, halves": Method(CostSensitivePolicy(), halved=True),
    "scheduled": Method(ScheduledPolicy()),
    "scheduled, halves": Method(ScheduledPolicy(), halved=True),
    "reinforced": Method(ReinforcedPolicy()),
}

#: Rules by name. Geometric weights take the place of temperatures, and a product of logits does not
#: depend on them.
RULES = {
    "own": Method(),
    "own + T": Method(tempered=True),
    "most_confident": Method(rule=MostConfidentCombination()),
    "most_confident + T": Method(rule=MostConfidentCombination(), tempered=True),
    "mean": Method(rule=MeanCombination()),
    "mean + T": Method(rule=MeanCombination(), tempered=True),
    "cost-weighted": Method(rule=CostWeightedCombination()),
    "cost-weighted + T": Method(rule=CostWeightedCombination(), tempered=True),
    "geometric": Method(rule=GeometricCombination()),
    "geometric, halves": Method(rule=GeometricCombination(), halved=True),
    "product": Method(rule=ProductCombination()),
}
WAYS = {
    "best found": Method(),
    "geometric": Method(way="geometric"),
    "one for all exits": Method(way="common"),
}
GROUPS = {"policies": POLICIES, "combination rules": RULES, "thresholds": WAYS}

#: Accuracy and realized cost of each seed, by group, method, set and budget.
Found = dict[tuple[str, str, str, float], list[tuple[float, float]]]


def study(
    saved: Cascade, method: Method, budgets: list[float], seed: int
) -> dict[float, tuple[float, float]]:
    """Accuracy and realized cost on test samples by budget; nan where it cannot be kept."""
    rng = np.random.RandomState(seed)
    held_out = Samples(Outputs(saved.pool), saved.y_pool)
    decision = method.decision(budgets[0])
    if method.halved:
        judged, learned = hold_out(held_out.y, 0.5, None, rng)
        fitted = decision.fitted(held_out.take(learned), saved.bare_costs, rng)
        known = held_out.take(judged, fitted.tabulate(held_out.X[judged]))
    else:
        folds = [len(held_out)]
        fitted, known = cross_fit(decision, held_out, folds, lambda: saved.bare_costs, rng)
    costs = saved.costs(fitted)
    data = CalibrationData.from_table(known.X, known.y, costs)
    frontier = compute_frontier(data)
    test = fitted.tabulate(Outputs(saved.test))
    found = {}
    for budget in budgets:
        try:
            thresholds = method.thresholds(data, frontier, budget)
        except ValueError:  # its first exit alone costs more
            found[budget] = (np.nan, np.nan)
        else:
            found[budget] = result(test, saved.y_test, costs, thresholds)
    return found


def result(
    test: ExitTable, y: np.ndarray, costs: np.ndarray, thresholds: np.ndarray
) -> tuple[float, float]:
    """Accuracy and mean cost of test samples."""
    exits = test.exits(thresholds)
    right = test.labels[np.arange(len(y)), exits] == y
    return float(right.mean()), float(costs[exits].mean())


def run(name: str, args: argparse.Namespace, found: Found) -> float:
    """Study all methods on one set; the accuracy of its last exit."""
    ends = []
    for seed in range(args.seeds):
        saved = load(name, seed, args.cache)
        ends.append(accuracies(saved.test, saved.y_test)[-1])
        for group, methods in GROUPS.items():
            for label, method in methods.items():
                fitted_for_one = isinstance(method.policy, ScheduledPolicy)
                for some in [[b] for b in args.budgets] if fitted_for_one else [args.budgets]:
                    for budget, pair in study(saved, method, some, seed).items():
                        found[group, label, name, budget].append(pair)
        print(f"  {name}, seed {seed}", flush=True)
    return float(np.mean(ends))


def report(
    group: str, names: list[str], budgets: list[float], ends: dict[str, float], found: Found
) -> str:
    """Markdown of one comparison; the first method is the one that others are compared with."""
    blocks = [(name, budget) for name in names for budget in budgets]
    methods = list(GROUPS[group])
    scores = 100 * np.array(
        [[np.mean([a for a, _ in found[group, m, *block]]) for m in methods] for block in blocks]
    )
    # A method that cannot keep a budget is the worst there.
    scores = np.where(np.isnan(scores), -np.inf, scores)
    # Simpler ways use the rest of a budget where the search has nothing to gain.
    judged = scores if group == "thresholds" else scores[:, :1]
    new = np.array(
        [
            i == 0 or blocks[i][0] != blocks[i - 1][0] or np.any(judged[i] != judged[i - 1])
            for i in range(len(blocks))
        ]
    )
    rows = [
        [label]
        + [
            spread(100 * np.array([a for a, _ in found[group, label, *block]]))
            if np.isfinite(scores[i, j])
            else "not possible"
            for i, block in enumerate(blocks)
        ]
        for j, label in enumerate(methods)
    ]
    rows.append(["no early exits", *(f"{100 * ends[name]:.2f}" for name, _ in blocks)])
    cells, tests = ranked(methods, scores[new], methods[0])
    summary = []
    for label, ranks in cells.items():
        costs = [cost for block in blocks for _, cost in found[group, label, *block]]
        excess = [cost - b for n, b in blocks for _, cost in found[group, label, n, b]]
        summary.append([label, *ranks, f"{np.nanmean(costs):.3f}", f"{np.nanmax(excess):+.4f}"])
    header = [group, *rank_header(methods[0]), "mean cost", "largest excess"]
    return (
        f"### {group.capitalize()}\n\nTest accuracy in %, mean ± spread over seeds, by set and "
        f"budget.\n\n"
        + table(rows, [group, *(f"{SETS[name].title} {budget}" for name, budget in blocks)])
        + f"\n{new.sum()} blocks, {tests}"
        + table(summary, header)
    )


def main() -> None:
    parser = make_parser(__doc__, sets=DEFAULT_SETS, seeds=5, cache=True, output=True)
    parser.add_argument("--budgets", type=numbers, default="0.2,0.3,0.5,0.7")
    args = parser.parse_args()
    found: Found = defaultdict(list)
    names = available(args.sets)
    ends = {name: run(name, args, found) for name in names}
    text = f"## Policies and combination rules, {args.seeds} seeds\n\n"
    text += "\n".join(report(group, names, args.budgets, ends, found) for group in GROUPS)
    print("\n" + text)
    write_table(args.output, "policies", text)


if __name__ == "__main__":
    main()
