"""Product of the clipped logits of the heads up to an exit."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skearlyexit._onnx._graph import Graph
from skearlyexit.combination._base import LEAST, Combination, State, add_logs, softmax

#: Largest logit that is excluded. A logit that exceeds the mean by a rounding error only counts as
#: the mean: a head with equal probabilities excludes no class.
EXCLUDED = 1e-9


class ProductCombination(Combination):
    """Product of the clipped logits of the heads, normalized to the sum 1 over the classes.

    The logits of each head are shifted to a mean of 0 over the classes, and negative logits are
    replaced by 0. The probability of a class is thus 0 from the first exit on at which its logit is
    below the mean, and the set of possible classes can only become smaller. A head that would
    exclude all remaining classes is ignored. At least three classes are required, since with two
    classes the first head would exclude one of them.

    References
    ----------
    Jazbec, Allingham, Zhang, Nalisnick, "Towards anytime classification in early-exit architectures
    by enforcing conditional monotonicity", NeurIPS 2023.

    Examples
    --------
    >>> import numpy as np
    >>> outputs = np.array([[[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]]])  # 1 sample, 2 heads
    >>> ProductCombination().answers(outputs).round(2)
    array([[[1., 0., 0.],
            [1., 0., 0.]]])
    """

    needs_probabilities: ClassVar[bool] = True

    def check(self, n_classes: int, n_exits: int) -> None:
        """Check that there are at least three classes.

        Parameters
        ----------
        n_classes : int
            Number of classes.
        n_exits : int
            Ignored.

        Raises
        ------
        ValueError
            If there are two classes.
        """
        if n_classes < 3:
            raise ValueError(
                "combine='product' excludes the classes whose logit is below the mean, so with two "
                "classes the first head alone determines the prediction. It needs at least 3 "
                f"classes. Got {n_classes} instead. Give another combination, such as 'geometric'."
            )

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        # The state is the logarithm of the product.
        logits = np.log(np.maximum(probabilities, LEAST))
        logits -= logits.mean(axis=1, keepdims=True)
        factor = np.full(logits.shape, -np.inf)
        np.log(logits, out=factor, where=logits > EXCLUDED)
        before = np.zeros(logits.shape) if state is None else state
        product = before + factor
        empty = ~np.isfinite(product).any(axis=1)
        product[empty] = before[empty]
        return softmax(product), product

    def onnx(
        self,
        graph: Graph,
        state: str | None,
        probabilities: str,
        exit_: int,
        gates: str | None = None,
    ) -> tuple[str, str | None]:
        axis, least = graph.constant([1]), graph.constant(-np.inf)
        logs = add_logs(graph, probabilities)
        logits = graph.op("Sub", logs, graph.op("ReduceMean", logs, axis, keepdims=1))
        bound = graph.constant(EXCLUDED)
        factor = graph.op("Log", graph.op("Max", logits, bound))
        factor = graph.op("Where", graph.op("Greater", logits, bound), factor, least)
        before = graph.op("Sub", logits, logits) if state is None else state
        product = graph.op("Add", before, factor)
        largest = graph.op("ReduceMax", product, axis, keepdims=1)
        product = graph.op("Where", graph.op("Equal", largest, least), before, product)
        return graph.op("Softmax", product, axis=1), product
