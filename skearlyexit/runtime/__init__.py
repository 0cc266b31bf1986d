"""How a cascade is executed."""

from skearlyexit.runtime._torch import Answers, embed, run, tabulate

__all__ = ["Answers", "embed", "run", "tabulate"]
