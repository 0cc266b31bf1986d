"""Serving from the command line: ``python -m skearlyexit.serve model.joblib --tiers 2,2``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from skearlyexit.serve._app import run

PROGRAM = "python -m skearlyexit.serve"


def arguments(given: Sequence[str] | None = None) -> dict[str, Any]:
    """Arguments of `run` from those of the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Serve a fitted model over HTTP, with one deployment for each tier of exits.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "model", help="file of joblib.dump, which is trusted, or of to_onnx (.onnx)"
    )
    parser.add_argument("--tiers", type=_counts, help="number of exits of each tier, such as 2,2")
    parser.add_argument("--host", help="default: that of Ray Serve if it runs, or 127.0.0.1")
    parser.add_argument("--port", type=int, help="default: that of Ray Serve if it runs, or 8000")
    parser.add_argument(
        "--address", help="cluster, such as auto or ray://head:10001; default: this machine"
    )
    point = parser.add_mutually_exclusive_group()
    point.add_argument("--threshold", type=_floats, help="one, or one for each exit but the last")
    point.add_argument("--budget", type=float, help="maximum mean cost, in units of the network")
    parser.add_argument("--deadline", type=float, help="seconds until the last answer is final")
    parser.add_argument("--replicas", type=_integers, help="of all tiers, or of each")
    parser.add_argument("--max-batch-size", type=_integers, help="of all tiers, or of each")
    parser.add_argument("--batch-wait", type=_floats, help="seconds, of all tiers, or of each")
    parser.add_argument("--max-queued", type=int, help="samples without an answer")
    parser.add_argument("--max-queued-bytes", type=int, help="of requests without an answer")
    parser.add_argument("--max-rows", type=int, help="samples of a request")
    parser.add_argument("--max-request-bytes", type=int)
    parser.add_argument("--drift-window", type=int, help="samples of the test of the exit rates")
    parser.add_argument("--drift-level", type=float, help="of the test of the exit rates")
    return vars(parser.parse_args(given))


def _counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _integers(text: str) -> int | list[int]:
    values = _counts(text)
    return values if len(values) > 1 else values[0]


def _floats(text: str) -> float | list[float]:
    values = [float(part) for part in text.split(",")]
    return values if len(values) > 1 else values[0]


def main() -> None:
    """Serve until the process is interrupted."""
    try:
        run(**arguments(), blocking=True)
    except (ImportError, OSError, TypeError, ValueError) as error:
        # Their messages say what to do, and a traceback would only hide them.
        sys.exit(f"{PROGRAM}: error: {error}")


if __name__ == "__main__":
    main()
