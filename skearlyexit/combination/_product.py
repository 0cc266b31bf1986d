"""The product of what all heads so far leave possible."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from skearlyexit.combination._base import LEAST, Combination, State, softmax


class ProductCombination(Combination):
    """Product of the clipped logits of all heads so far.

    A class whose logit is negative at some exit is out from there on, so that the answer can only
    narrow down: the probability of a class that stays in rarely falls again. Logits are taken
    relative to their mean over the classes. A head that would leave no class in counts for nothing.

    References
    ----------
    Jazbec, Allingham, Zhang, Nalisnick, "Towards anytime classification in early-exit architectures
    by enforcing conditional monotonicity", NeurIPS 2023.

    Examples
    --------
    >>> import numpy as np
    >>> ProductCombination().answers(np.array([[[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]]])).round(2)
    array([[[1., 0., 0.],
            [1., 0., 0.]]])
    """

    needs_probabilities: ClassVar[bool] = True

    def check(self, n_classes: int, n_exits: int) -> None:
        """Refuse two classes, of which every head rules one out; see `Combination.check`."""
        if n_classes < 3:
            raise ValueError(
                "combine='product' rules out the classes below a head's mean, so that of two "
                "classes the first head decides for good. It needs at least 3; got "
                f"{n_classes}. Give another rule, such as 'geometric'."
            )

    def step(
        self, state: State, probabilities: np.ndarray, exit_: int = 0
    ) -> tuple[np.ndarray, State]:
        """Answer at one exit; the state is the logarithm of the product so far."""
        logits = np.log(np.maximum(probabilities, LEAST))
        logits -= logits.mean(axis=1, keepdims=True)
        # A rounding error away from the mean is none; a head that knows nothing rules nothing out.
        factor = np.full(logits.shape, -np.inf)
        np.log(logits, out=factor, where=logits > 1e-9)
        before = np.zeros(logits.shape) if state is None else state
        product = before + factor
        empty = ~np.isfinite(product).any(axis=1)
        product[empty] = before[empty]
        return softmax(product), product
