"""Conversion of the parameter `head` of the estimators to one head object per exit."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone, is_classifier, is_regressor

from skearlyexit.heads._base import Head
from skearlyexit.heads._estimator import EstimatorHead
from skearlyexit.heads._linear import LinearHead
from skearlyexit.heads._mlp import MLPHead
from skearlyexit.heads._own import OwnHead

#: What scikit-learn estimators of each type are recognized by.
ESTIMATOR_TYPES = {"classifier": is_classifier, "regressor": is_regressor}

_NAMES: dict[str, type[Head]] = {"linear": LinearHead, "mlp": MLPHead, "own": OwnHead}


def resolve_heads(
    head: Any, n_exits: int, *, has_own: bool = False, estimator_type: str = "classifier"
) -> list[Head]:
    """Head objects of all exits for a value of the parameter `head`.

    Parameters
    ----------
    head : None, {"linear", "mlp", "own"}, Head, scikit-learn estimator, or sequence of them
        One for all exits, or a sequence with one for each. ``"own"``, at the last exit only, is the
        network's own classifier. None is a linear head, except at the last exit of a network that
        has its own classifier.
    n_exits : int
    has_own : bool, default=False
        Whether the network has its own classifier.
    estimator_type : {"classifier", "regressor"}, default="classifier"
        Type of the scikit-learn estimators that are valid.

    Returns
    -------
    heads : list of Head

    Raises
    ------
    TypeError, ValueError
        If it is none of these, a sequence of another length, or ``"own"`` where the network has no
        classifier.
    """
    if head is None and has_own:
        head = [None] * (n_exits - 1) + ["own"]
    if not isinstance(head, list | tuple):
        head = [head] * n_exits
    if len(head) != n_exits:
        raise ValueError(
            f"The 'head' parameter holds {len(head)} heads for {n_exits} exits; give one head for "
            "all or one for each, the last exit included."
        )
    heads = [resolve_head(each, estimator_type) for each in head]
    misplaced = [i for i, each in enumerate(heads[:-1]) if each.is_own]
    if misplaced:
        raise ValueError(
            "The network's own classifier predicts at the last exit only. Got 'own' in the 'head' "
            f"parameter at exit {misplaced[0]} of {n_exits}; give a sequence that ends in 'own'."
        )
    if heads[-1].is_own and not has_own:
        raise ValueError(
            "The 'head' parameter asks for the network's own classifier, but the backbone has "
            "none: it does not end in a layer with one output per class. Got 'own'; give another "
            "head for the last exit, such as 'linear'."
        )
    return heads


def resolve_head(head: Any, estimator_type: str = "classifier") -> Head:
    """Head object for one exit."""
    if head is None:
        return LinearHead()
    if isinstance(head, str):
        if head not in _NAMES:
            raise ValueError(
                f"The 'head' parameter must be one of {sorted(_NAMES)}, a head object or a "
                f"scikit-learn {estimator_type}. Got {head!r} instead."
            )
        return _NAMES[head]()
    if isinstance(head, Head):
        head = clone(head)
        head._validate_params()
        if isinstance(head, EstimatorHead):
            _check_estimator(head.estimator, estimator_type)
        return head
    _check_estimator(head, estimator_type)
    return EstimatorHead(head)


def _check_estimator(head: Any, estimator_type: str) -> None:
    is_valid = ESTIMATOR_TYPES[estimator_type]
    if isinstance(head, type) or not hasattr(head, "fit") or not is_valid(head):
        raise TypeError(
            f"A head must be None, a name, a head object or a scikit-learn {estimator_type} with "
            f"its parentheses. Got {head!r} instead, which is no {estimator_type}."
        )
