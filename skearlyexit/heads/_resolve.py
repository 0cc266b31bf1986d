"""From what a user may pass as `head` to one head object per exit."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone, is_classifier

from skearlyexit.heads._base import Head
from skearlyexit.heads._estimator import EstimatorHead
from skearlyexit.heads._linear import LinearHead
from skearlyexit.heads._mlp import MLPHead

_NAMES: dict[str, type[Head]] = {"linear": LinearHead, "mlp": MLPHead}


def resolve_heads(head: Any, n_exits: int) -> list[Head]:
    """One head for each exit.

    Parameters
    ----------
    head : None, {"linear", "mlp"}, Head, scikit-learn classifier, or sequence of them
        One for all exits, or a sequence with one for each. None is linear.
    n_exits : int

    Raises
    ------
    TypeError, ValueError
        If it is no head or no classifier, or a sequence of another length.
    """
    if not isinstance(head, list | tuple):
        head = [head] * n_exits
    if len(head) != n_exits:
        raise ValueError(
            f"The 'head' parameter holds {len(head)} heads for {n_exits} exits; give one head for "
            "all or one for each, the last exit included."
        )
    return [resolve_head(each) for each in head]


def resolve_head(head: Any) -> Head:
    """Head object for one exit."""
    if head is None:
        return LinearHead()
    if isinstance(head, str):
        if head not in _NAMES:
            raise ValueError(
                f"The 'head' parameter must be one of {sorted(_NAMES)}, a head object or a "
                f"scikit-learn classifier. Got {head!r} instead."
            )
        return _NAMES[head]()
    if isinstance(head, Head):
        head = clone(head)
        head._validate_params()
        return head
    if isinstance(head, type) or not hasattr(head, "fit") or not is_classifier(head):
        raise TypeError(
            "A head must be None, a name, a head object or a scikit-learn classifier with its "
            f"parentheses. Got {head!r} instead, which is no classifier."
        )
    return EstimatorHead(head)
