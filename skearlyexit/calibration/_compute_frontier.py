"""The frontier of calibration samples, from which budgets are looked up."""

from __future__ import annotations

from skearlyexit.calibration._calibration_data import CalibrationData
from skearlyexit.calibration._equal_risk import equal_risk_frontier
from skearlyexit.calibration._frontier import Frontier
from skearlyexit.calibration._search import search_frontier

METHODS = ("auto", "risk", "search")


def compute_frontier(data: CalibrationData, *, method: str = "auto") -> Frontier:
    """Compute the Pareto-optimal thresholds, by mean cost and accuracy.

    Parameters
    ----------
    data : CalibrationData
        Scores and correctness of the exits on the calibration samples.
    method : {"auto", "risk", "search"}, default="auto"
        How candidates are found:

        - ``"risk"``: thresholds at which the estimated risk of exiting is the same at all exits.
          The risk is the probability that a sample is misclassified at the exit and not at the
          last one, or in regression the mean distance of the predicted value from that of the last
          one. It is estimated by logistic regression on the log-odds of the score.
        - ``"search"``: with at most four exits, all combinations of thresholds on a grid; with more
          exits, a coordinate search from several starting points. The grid of an exit consists of
          quantiles of its scores, 0 and infinity. Other candidates are thresholds under which the
          exit rates decrease or increase by a constant factor from exit to exit.
        - ``"auto"``: ``"search"`` with a router, or in regression without `labels`, and ``"risk"``
          otherwise.

    Returns
    -------
    frontier : Frontier
        Pareto-optimal points among the candidates. With ``method="risk"``, the accuracies are
        estimates.

    Raises
    ------
    ValueError
        If `method` is not valid, or is ``"risk"`` with a router, or in regression without `labels`.

    Notes
    -----
    The best of many thresholds on some samples are in part the best by chance, and lose accuracy
    on new samples; ``benchmarks/frontier_choice.py`` measures it. The thresholds of ``"risk"`` have
    a single parameter. Since the highest accuracy along it is one by chance, too, the accuracies
    are made to increase with the cost: they are halfway between the highest increasing sequence
    below those on the samples and the lowest above.

    If all calibration samples have exited by an exit, its threshold is set to 0, so all new samples
    exit by this exit, too.

    With more than 10,000 samples and more than four exits, the coordinate search uses 10,000 of the
    samples, drawn with a fixed seed. The mean costs and accuracies of the frontier are computed on
    all samples, so a budget is kept on all of them; only accuracy at the same cost may be lost. The
    standard error of the accuracy of a point on the drawn samples is at most 0.5 / sqrt(10,000), or
    half a percentage point, and that of the difference of two points with similar predictions is
    much smaller. On 100,000 simulated samples, the accuracy found by a search over all samples was
    higher by at most 0.06 percentage points with eight exits, and by 0.11 with sixteen
    (``benchmarks/frontier.py``). With unequal weights, the effective number of drawn samples
    replaces 10,000.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.calibration import CalibrationData, compute_frontier
    >>> scores = np.array([[0.9, 1.0], [0.8, 1.0], [0.7, 1.0], [0.6, 1.0]])
    >>> correct = np.array([[True, True], [True, True], [False, True], [True, True]])
    >>> data = CalibrationData(scores, correct, costs=np.array([0.5, 1.0]), weight=np.ones(4))
    >>> frontier = compute_frontier(data)
    >>> frontier.costs, frontier.accuracies
    (array([0.5 , 0.75]), array([0.75, 1.  ]))
    """
    if method not in METHODS:
        raise ValueError(f"'method' must be one of {METHODS}; got {method!r}.")
    can_estimate = data.routing is None and (data.losses is None or data.labels is not None)
    if method == "risk" and not can_estimate:
        raise ValueError(
            "'method' must be 'search' or 'auto' with a router, and in regression without "
            "'labels'; got 'risk'."
        )
    if can_estimate and method != "search":
        return equal_risk_frontier(data)
    return search_frontier(data)


def frontier_by(method: str, data: CalibrationData, frontier: Frontier) -> Frontier:
    """Given frontier, or that of a search if the method of an operating point is ``"search"``."""
    return compute_frontier(data, method="search") if method == "search" else frontier
