"""Conversion of histogram-based gradient boosting."""

from __future__ import annotations

from typing import Any


def convert_boosting(scope: Any, operator: Any, container: Any) -> None:
    """Convert histogram-based gradient boosting as skl2onnx does, but with valid integers.

    skl2onnx 1.20 gives truth values where onnx 1.23 takes integers only. The arguments are those of
    a converter of skl2onnx.
    """
    from skl2onnx.common._registration import get_converter

    add_node = container.add_node

    def with_integers(*args: Any, nodes_missing_value_tracks_true: Any, **kwargs: Any) -> None:
        integers = [int(each) for each in nodes_missing_value_tracks_true]
        add_node(*args, nodes_missing_value_tracks_true=integers, **kwargs)

    container.add_node = with_integers
    try:
        get_converter(operator.type)(scope, operator, container)
    finally:
        del container.add_node
