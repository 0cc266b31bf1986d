"""Heads on trial made of random numbers, and the placements written once more, row by row."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np

from skearlyexit._cascade._exit_rule import ExitRule
from skearlyexit._data._samples import Samples
from skearlyexit._exit_table import ExitTable, Outputs
from skearlyexit.combination import OwnCombination
from skearlyexit.placement import Candidates, Probed
from skearlyexit.policies import ConfidencePolicy, Policy


class MeanConfidence(Policy):
    """Largest mean probability of the exits seen so far: scores depend on which there are."""

    has_memory = True

    def step(self, state, probabilities, exit_=0):
        seen = np.zeros((len(probabilities), 1)) if state is None else state[:, :1]
        total = probabilities + (0 if state is None else state[:, 1:])
        return (total / (seen + 1)).max(axis=1), np.hstack([seen + 1, total])


def simulated(seed, n_rows=60, n_places=4, *, policy=None, weighted=False, decimals=None):
    """Heads on trial that grow better with depth, on rows of different difficulty."""
    policy = policy or ConfidencePolicy()
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n_rows)
    skill = np.sort(rng.uniform(0.2, 3.0, size=n_places))[:, None]
    ease = rng.uniform(-0.5, 2.0, size=(n_rows, 1, 1))
    logits = skill * ease * np.eye(3)[y][:, None] + 0.7 * rng.normal(size=(n_rows, n_places, 3))
    probabilities = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=2, keepdims=True)
    if decimals is not None:
        probabilities = probabilities.round(decimals)
    return Probed(
        places=np.arange(n_places),
        samples=Samples(
            Outputs(probabilities),
            y,
            calibration_weight=rng.uniform(0.1, 3.0, size=n_rows) if weighted else np.ones(n_rows),
        ),
        table=ExitTable(probabilities, policy.score(probabilities)),
        stages=rng.uniform(50, 150, size=n_places),
        heads=rng.uniform(0, 20, size=n_places),
        decisions=np.append(np.full(n_places - 1, rng.uniform(0, 3)), 0.0),
        exit_rule=ExitRule(None, OwnCombination(), policy),
    )


def of_rows(probed, rows):
    p = probed.table.probabilities[rows]
    table = ExitTable(p, probed.table.scores[rows])
    return replace(probed, samples=probed.samples.take(rows), table=table)


def reweighted(probed, weight):
    return replace(probed, samples=replace(probed.samples, calibration_weight=weight))


def placed(placement, probed):
    """Place on trial heads made beforehand; the places asked for are those probed."""
    blocks = Candidates([f"b{i}" for i in range(len(probed.places))], probed.stages)
    calls = []

    def probe(places):
        calls.append(list(places))
        return probed

    result = placement.place(blocks, probe)
    assert calls == [list(probed.places)]
    return result


def small(right=(True, True, False, False), *, heads=(10.0, 10.0)):
    """Two places; four rows to choose by and four to judge by, with these scores at the first."""
    first = np.array([0.9, 0.95, 0.8, 0.85, 0.7, 0.55, 0.6, 0.55])
    is_right = np.repeat(right, 2)
    p = np.where(is_right, first, 1 - first)
    end = np.full(8, 0.99)
    probabilities = np.stack([np.stack([q, 1 - q], axis=1) for q in (p, end)], axis=1)
    return Probed(
        places=np.arange(2),
        samples=Samples(
            Outputs(probabilities), np.zeros(8, dtype=int), calibration_weight=np.ones(8)
        ),
        table=ExitTable(probabilities, np.stack([first, end], axis=1)),
        stages=np.array([40.0, 50.0]),
        heads=np.array(heads),
        decisions=np.zeros(2),
        exit_rule=ExitRule(None, OwnCombination(), ConfidencePolicy()),
    )


def naive_costs(probed, chosen):
    paid, costs = 0.0, []
    for place in range(len(probed.places)):
        paid += probed.stages[place]
        if place in chosen:
            paid += probed.heads[place]
            paid += probed.decisions[place]
            costs.append(paid / (sum(probed.stages) + probed.heads[-1]))
    return costs


def naive_threshold(scores, right, right_at_end, weight, max_drop):
    for threshold in [0.0, *sorted(set(scores))]:
        lost = sum(
            w * (int(e) - int(r))
            for s, r, e, w in zip(scores, right, right_at_end, weight, strict=True)
            if s >= threshold
        )
        if lost / sum(weight) <= max_drop + 1e-12:
            return threshold
    return np.inf


def naive_exit(scores, thresholds):
    for exit_, threshold in enumerate(thresholds):
        if scores[exit_] >= threshold:
            return exit_
    return len(thresholds)


def naive_reach(probed, chosen, max_drop):
    """Thresholds from the even rows, and the shares of the odd ones that get to each exit."""
    scores = probed.exit_rule.policy.score(probed.table.probabilities[:, chosen])
    right = probed.correct[:, chosen]
    thresholds = [
        naive_threshold(
            scores[::2, k],
            right[::2, k],
            right[::2, -1],
            probed.samples.calibration_weight[::2],
            max_drop,
        )
        for k in range(len(chosen) - 1)
    ]
    reached = [0.0] * len(chosen)
    for row in range(1, len(scores), 2):
        for k in range(naive_exit(scores[row], thresholds) + 1):
            reached[k] += probed.samples.calibration_weight[row]
    return thresholds, [value / reached[0] for value in reached]


def naive_test(probed, exits, form, max_drop):
    """Both sides of (4) at each exit, and the mean cost."""
    chosen = [*exits, len(probed.places) - 1]
    costs = naive_costs(probed, chosen)
    _, share = naive_reach(probed, chosen, max_drop)
    unit = sum(probed.stages) + probed.heads[-1]
    sides = []
    for k, place in enumerate(exits):
        head = (probed.heads[place] + probed.decisions[place]) / unit
        way = costs[k + 1] - costs[k]
        charged = head * share[k] if form == "corrected" else costs[k] * share[k + 1]
        sides.append((way * (share[k] - share[k + 1]), charged))
    left = [here - onward for here, onward in zip(share, [*share[1:], 0.0], strict=True)]
    return sides, sum(cost * w for cost, w in zip(costs, left, strict=True))


def naive_efficiency(probed, form, max_drop):
    found = []
    for size in range(len(probed.places)):
        for exits in combinations(range(len(probed.places) - 1), size):
            sides, cost = naive_test(probed, exits, form, max_drop)
            if all(saved > paid + 1e-12 for saved, paid in sides):
                found.append((round(cost, 10), len(exits), exits))
    return list(min(found)[2])


def naive_dropping(probed, form, max_drop):
    exits = list(range(len(probed.places) - 1))
    while exits:
        sides, _ = naive_test(probed, exits, form, max_drop)
        margin = [saved - paid for saved, paid in sides]
        if min(margin) > 1e-12:
            break
        del exits[margin.index(min(margin))]
    return exits


def naive_greedy(probed, max_share, form, max_drop):
    """(5) as printed is written as printed."""
    end = len(probed.places) - 1
    kept, f = [], 0.0
    for i in range(end):
        _, share = naive_reach(probed, [*kept, i, end], max_drop)
        cm = share[-1] / share[-2] if share[-2] else 1.0
        f += probed.stages[i]
        c = probed.heads[i] + probed.decisions[i]
        g = sum(probed.stages[i + 1 :]) + probed.heads[end]
        if form == "printed":
            pays = (max_share - cm) * g - (1 - cm) * c - (1 - max_share) * f >= 0
        else:
            pays = (f + c + cm * g) / (f + g) <= max_share
        if pays and cm < 1:
            kept.append(i)
            f = 0.0
    return kept


def brute_force(probed, n_exits, budget):
    """Highest accuracy of each subset under the budget, and the least cost that gives it."""
    best = {}
    end = len(probed.places) - 1
    for exits in combinations(range(end), n_exits - 1):
        chosen = [*exits, end]
        scores = probed.exit_rule.policy.score(probed.table.probabilities[:, chosen])
        right, costs = probed.correct[:, chosen], naive_costs(probed, chosen)
        for thresholds in product(*([0.0, *set(column), 2.0] for column in scores[:, :-1].T)):
            leave = np.full(len(scores), n_exits - 1)
            for k in reversed(range(n_exits - 1)):
                leave[scores[:, k] >= thresholds[k]] = k
            cost = np.average(np.array(costs)[leave], weights=probed.samples.calibration_weight)
            if cost <= budget * (1 + 1e-12):
                accuracy = np.average(
                    right[range(len(right)), leave], weights=probed.samples.calibration_weight
                )
                best[exits] = max(best.get(exits, (0.0, 0.0)), (round(accuracy, 12), -cost))
    return {exits: (accuracy, -cost) for exits, (accuracy, cost) in best.items()}
