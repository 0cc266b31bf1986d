"""Report of a placement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skearlyexit._utils._frames import aligned, import_pandas, preformatted


@dataclass(frozen=True)
class PlacementReport:
    """Report of a placement: the candidates for exits, and why each was chosen or not.

    It prints as a table with one line per candidate.

    Parameters
    ----------
    method : str
        Representation of the placement.
    names : list of str
        Names of the blocks after which the candidates are.
    shares : ndarray of shape (n_candidates,)
        Cost of the backbone up to each candidate, as a share of the whole.
    chosen : ndarray of shape (n_candidates,), bool
        Whether each candidate was chosen as an exit.
    reasons : list of str
        Reason for or against each candidate.
    figures : dict of str to ndarray of shape (n_candidates,), default={}
        Numbers on which the decision is based, by the title of their column; NaN if there is none.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.placement import Candidates, CostShare
    >>> report = CostShare(2).place(Candidates(["stem", "a", "b", "c"], np.ones(4))).report
    >>> print(report)
    CostShare(n_exits=2)
    block    cost  exit  why
    stem    25.0%     -  no share is nearest to it
    a       50.0%   yes  nearest to 50.0%
    b       75.0%     -  no share is nearest to it
    c      100.0%   yes  the end
    """

    method: str
    names: list[str]
    shares: np.ndarray
    chosen: np.ndarray
    reasons: list[str]
    figures: dict[str, np.ndarray] = field(default_factory=dict)

    def to_frame(self) -> Any:
        """Return the table as a pandas DataFrame.

        Returns
        -------
        frame : pandas.DataFrame
            One row for each candidate.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return import_pandas("PlacementReport.to_frame").DataFrame(
            {
                "block": self.names,
                "share of cost": self.shares,
                **self.figures,
                "exit": self.chosen,
                "reason": self.reasons,
            }
        )

    def __str__(self) -> str:
        columns = {
            "block": self.names,
            "cost": [f"{share:.1%}" for share in self.shares],
            **{
                title: ["" if np.isnan(value) else f"{value:.4g}" for value in values]
                for title, values in self.figures.items()
            },
            "exit": ["yes" if chosen else "-" for chosen in self.chosen],
            "why": self.reasons,
        }
        return "\n".join([self.method, *aligned(columns)])

    def _repr_html_(self) -> str:
        return preformatted(str(self))
