"""How a cascade is executed."""

from skearlyexit.runtime._torch import Answers, embed, outputs, run, tabulate

__all__ = ["Answers", "embed", "outputs", "run", "tabulate"]
