"""The candidate that would make a budget possible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from skearlyexit.calibration._frontier import ROUNDING, UnmetBudgetError
from skearlyexit.costs import CostTable
from skearlyexit.placement._base import Candidates


def cheapest_exit(candidates: Candidates, table: CostTable) -> tuple[str, float]:
    """Name of the cheapest candidate, and the estimated cost of exiting there.

    Head and decision are assumed to cost as much as those of the first exit.

    Parameters
    ----------
    candidates : Candidates
        Candidates of the backbone.
    table : CostTable
        Costs of the model.

    Returns
    -------
    name : str
        Name of the block.
    cost : float
        Cost of an exit after it, in units of the cost of the plain network.
    """
    place = candidates.places[0]
    share = candidates.cumulative[place] / max(candidates.cumulative[-1], 1e-300)
    cost = share * table.stage_costs.sum() + table.head_costs[0] + table.decision_costs[0]
    return candidates.names[place], float(cost / table.plain)


@contextmanager
def naming_candidates(
    candidates: Candidates | None, table: Callable[[], CostTable]
) -> Iterator[None]:
    """Name the cheapest candidate in the error of a budget that cannot be met.

    Parameters
    ----------
    candidates : Candidates or None
        Candidates of the backbone. None if there are none, and the error is raised as it is.
    table : callable
        Function without arguments that returns the costs of the model. It is called after an error
        only.

    Raises
    ------
    ValueError
        In place of an `UnmetBudgetError` that is raised in the context.
    """
    try:
        yield
    except UnmetBudgetError as error:
        if candidates is None:
            raise
        name, cost = cheapest_exit(candidates, table())
        if cost <= error.budget:
            advice = f"An exit after {name!r} allows it, at a cost of about {cost:.4g}: add it."
        elif cost * ROUNDING < error.least:
            advice = (
                "No candidate of the backbone allows it: the cheapest, an exit after "
                f"{name!r}, would cost about {cost:.4g}."
            )
        else:
            advice = "No candidate of the backbone is cheaper."
        raise ValueError(f"{error} {advice}") from None
