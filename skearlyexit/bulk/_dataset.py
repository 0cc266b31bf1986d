"""Predictions for the samples of a Dataset of Ray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skearlyexit.bulk._model import Request
from skearlyexit.bulk._ray import BatchWorker, mapped, most_workers, ray_data
from skearlyexit.calibration import Budget


def predict_dataset(
    estimator: Any,
    dataset: Any,
    *,
    columns: str | Sequence[str] | None = None,
    keep: str | Sequence[str] = (),
    threshold: float | Sequence[float] | None = None,
    budget: float | Budget | None = None,
    return_proba: bool = False,
    batch_size: int | None = None,
    concurrency: int | None = None,
    num_cpus: float = 1,
) -> Any:
    """Predict for all samples of a Dataset of Ray.

    Nothing is computed until the result is used. Predictions are those of
    ``estimator.predict(X, return_exits=True)`` for all samples in one array, in the same order.

    Parameters
    ----------
    estimator : EarlyExitClassifier, EarlyExitRegressor, CascadeClassifier, CascadeRegressor, \
            Pipeline, OnnxCascade, str or path-like
        Fitted estimator, fitted pipeline whose last step is one, or a file that `to_onnx` has
        written, which each worker opens at this path. Each worker loads the model once.
    dataset : ray.data.Dataset
        Samples in rows. It is not changed.
    columns : str or sequence of str, default=None
        Names of the features in the order of the fit, or the name of the column whose values are
        whole samples, such as arrays or texts. None means the features seen in `fit` if they have
        names, and otherwise all columns.
    keep : sequence of str or "all", default=()
        Columns of `dataset` that are columns of the result, too.
    threshold : float or sequence of float, default=None
        One threshold for all exits, or one for each exit but the last, as in `predict`.
    budget : float or Budget, default=None
        Maximum mean cost per sample, as in `predict`. It must not be strict.
    return_proba : bool, default=False
        Whether to return class probabilities as well.
    batch_size : int, default=None
        Largest number of samples in a batch. None means the blocks in which Ray holds the
        samples, by default of at most 128 MiB.
    concurrency : int, default=None
        Largest number of workers. Ray starts them as there are samples and processors for them.
    num_cpus : float, default=1
        Number of processors of each worker, on which torch uses as many threads.

    Returns
    -------
    predictions : ray.data.Dataset
        The columns of `keep`; ``"prediction"``, the predicted labels or values, or
        ``"prediction_0"`` and so on if values have a second axis; ``"exit"``; and, if
        `return_proba` is True, ``"probability_<class>"`` for each class. The order of the rows is
        that of `dataset`.

    Raises
    ------
    ImportError
        If Ray is not installed.
    TypeError
        If `estimator` has no exits, or `dataset` is not a Dataset of Ray.
    ValueError
        If an argument is invalid, columns are missing, no machine has `num_cpus` processors, a
        budget is strict or cannot be met, or the network is not on the CPU.

    See Also
    --------
    predict_files : The same from files to a file.

    Notes
    -----
    Ray reads samples outside the workers, and needs a processor for it. With a single processor, a
    Dataset that is not in memory yet is never read; Ray then logs a warning.

    Examples
    --------
    >>> import ray  # doctest: +SKIP
    >>> from skearlyexit.bulk import predict_dataset
    >>> rows = ray.data.read_parquet("s3://bucket/rows")  # doctest: +SKIP
    >>> predictions = predict_dataset(clf, rows, keep=["id"], budget=0.4)  # doctest: +SKIP
    >>> predictions.write_parquet("s3://bucket/predictions")  # doctest: +SKIP
    """
    request = Request.made(
        estimator,
        threshold=threshold,
        budget=budget,
        columns=columns,
        keep=keep,
        return_proba=return_proba,
        num_cpus=num_cpus,
        batch_size=batch_size,
        concurrency=concurrency,
        caller="predict_dataset",
    )
    ray = ray_data()
    if not isinstance(dataset, ray.data.Dataset):
        raise TypeError(
            "'dataset' must be a Dataset of Ray, such as ray.data.read_parquet(path) or "
            f"ray.data.from_numpy(X). Got {type(dataset).__name__}."
        )
    # Where the schema is unknown before the samples are computed, the workers check the columns.
    schema = dataset.schema(fetch_if_missing=False)
    if schema is not None:
        request.of_columns(schema.names)
    most_workers(num_cpus)  # An error if no machine has as many processors.
    return mapped(
        dataset,
        BatchWorker,
        (request,),
        num_cpus,
        batch_size=batch_size,
        # A pool of fixed size may take all processors, and Ray then waits for ever for one to read
        # samples.
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=concurrency),
    )
