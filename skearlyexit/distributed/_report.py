"""What a training by several workers took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class TrainingReport:
    """Bytes, seconds and restarts of each worker in the training of a model.

    Attributes
    ----------
    n_epochs : ndarray of shape (n_workers,), int
        Number of epochs, over all phases.
    seconds : ndarray of shape (n_workers,)
        Time of these epochs. Workers may have trained at the same time.
    bytes_received, bytes_sent : ndarray of shape (n_workers,), int
        Size of the tensors that the worker received from the previous one, or from the process that
        called `fit`, and of those that it sent, without checkpoints.
    checkpoint_bytes : ndarray of shape (n_workers,), int
        Size of all checkpoints.
    restarts : ndarray of shape (n_workers,), int
        Number of times that the worker was replaced.
    losses : list of float
        Training loss of the last epoch of each worker.

    Examples
    --------
    >>> import numpy as np
    >>> from skearlyexit.distributed import TrainingReport
    >>> count = np.array([100])
    >>> print(TrainingReport(count, np.array([2.5]), count, count, count, count, [0.123]))
    worker  epochs  seconds    received        sent  checkpoints  restarts    loss
         0     100     2.50         100         100          100       100   0.123
    """

    n_epochs: np.ndarray
    seconds: np.ndarray
    bytes_received: np.ndarray
    bytes_sent: np.ndarray
    checkpoint_bytes: np.ndarray
    restarts: np.ndarray
    losses: list[float]

    def __str__(self) -> str:
        lines = ["worker  epochs  seconds    received        sent  checkpoints  restarts    loss"]
        rows = zip(
            self.n_epochs,
            self.seconds,
            self.bytes_received,
            self.bytes_sent,
            self.checkpoint_bytes,
            self.restarts,
            self.losses,
            strict=True,
        )
        for k, (epochs, seconds, received, sent, stored, restarts, loss) in enumerate(rows):
            lines.append(
                f"{k:6d}  {epochs:6d}  {seconds:7.2f}  {received:10,d}  {sent:10,d}  "
                f"{stored:11,d}  {restarts:8d}  {loss:6.3f}"
            )
        return "\n".join(lines)


def training_report(estimator: Any) -> TrainingReport:
    """Report what the training of a fitted model by several workers took.

    Parameters
    ----------
    estimator : EarlyExitClassifier or EarlyExitRegressor
        Fitted estimator whose `training` is one of this module.

    Returns
    -------
    report : TrainingReport
        Sums over the entries of ``history_``: the training of the final network, without those of
        calibration folds.

    Raises
    ------
    ValueError
        If the estimator was not trained by several workers.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skearlyexit import EarlyExitClassifier, MLPBackbone
    >>> from skearlyexit.distributed import TieredTraining, training_report
    >>> X, y = make_classification(200, random_state=0)
    >>> clf = EarlyExitClassifier(
    ...     MLPBackbone(2, width=16, hidden=16), exits=["stem"], early_stopping=False,
    ...     training=TieredTraining("local_error", backend="sequential", compression="float16"),
    ...     calibration=None, max_epochs=2, random_state=0)
    >>> report = training_report(clf.fit(X, y))
    >>> report.bytes_received, report.restarts  # 16 values and a label for each sample and epoch
    (array([17600, 16000]), array([0, 0]))
    """
    entries = [entry for entry in estimator.history_ if "worker" in entry]
    if not entries:
        raise ValueError(
            "A report needs a model that was trained by several workers. Got one with training="
            f"{estimator.training!r}; give a training of skearlyexit.distributed."
        )
    workers = sorted({entry["worker"] for entry in entries})
    by_worker = [[entry for entry in entries if entry["worker"] == k] for k in workers]

    def total(key: str) -> np.ndarray:
        return np.array([sum(entry[key] for entry in of_one) for of_one in by_worker])

    return TrainingReport(
        n_epochs=np.array(list(map(len, by_worker))),
        seconds=total("dur"),
        bytes_received=total("bytes_received"),
        bytes_sent=total("bytes_sent"),
        checkpoint_bytes=total("checkpoint_bytes"),
        restarts=total("restarts"),
        losses=[of_one[-1]["train_loss"] for of_one in by_worker],
    )
