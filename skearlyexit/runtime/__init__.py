"""How a cascade is executed."""

from skearlyexit.runtime._torch import Answers, embed, label_table, outputs, run, tabulate

__all__ = ["Answers", "embed", "label_table", "outputs", "run", "tabulate"]
