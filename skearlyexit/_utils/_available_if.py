"""Methods that are available only under a condition, with the reason otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.utils._available_if import _AvailableIfDescriptor


class _AvailableIf(_AvailableIfDescriptor):
    """Method that is available if a check passes; otherwise its error gives the reason."""

    def _check(self, obj: Any, owner: Any) -> None:
        try:
            self.check(obj)
        except Exception as error:
            raise AttributeError(
                f"This {owner.__name__!r} has no attribute {self.attribute_name!r}. {error}"
            ) from error


def available_if(check: Callable[[Any], None]) -> Callable[[Callable[..., Any]], Any]:
    """Like `sklearn.utils.metaestimators.available_if`, with the error of the check as reason."""
    return lambda method: _AvailableIf(method, check, attribute_name=method.__name__)
