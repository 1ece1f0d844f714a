"""Metrics on weighted rows, many weightings at once: what a bootstrap needs.

Each metric takes the truth, the model's answer and `weights` of shape (resamples, rows) and gives
one figure for each resample; a resample is how often each row was drawn (Efron 1979). So a thousand
resamples of ten metrics cost a few matrix products instead of ten thousand calls. The figures equal
those of sklearn.metrics with `sample_weight` (tests/unit/test_metrics.py).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.params import Value

Floats = NDArray[np.float64]
Metric = Callable[[Floats], Floats]  # weights (resamples, rows) -> figures (resamples,)
CALIBRATION_BINS = 10
CELLS = 1_000_000  # of one block of weights: 8 MB, whatever the number of rows; it stays in the processor's cache
TINY = np.finfo(np.float64).eps


def for_task(
    task: str, target: Floats, answer: Floats, threshold: float | None, value: Value | None
) -> dict[str, Metric]:
    """The metrics of a task.

    Args:
        target: (rows,) class positions or numbers.
        answer: (rows, classes) probabilities, or (rows,) numbers for a regression.
        threshold: probability from which the positive class is predicted (binary).
    """
    if task == "binary":
        assert threshold is not None
        return binary(target == 1, answer[:, 1], threshold, value)
    return multiclass(target.astype(int), answer) if task == "multiclass" else regression(target, answer)


def binary(
    positive: NDArray[np.bool_], probability: Floats, threshold: float, value: Value | None
) -> dict[str, Metric]:
    predicted = probability >= threshold
    hit, alarm = positive & predicted, ~positive & predicted
    miss, quiet = positive & ~predicted, ~positive & ~predicted
    metrics: dict[str, Metric] = {
        "roc_auc": lambda w: roc_auc(positive, probability, w),
        "average_precision": lambda w: average_precision(positive, probability, w),
        "log_loss": lambda w: mean(_log_loss(np.where(positive, probability, 1 - probability)), w),
        "brier": lambda w: mean((probability - positive) ** 2, w),
        "calibration_error": lambda w: calibration_error(positive, probability, w),
        "accuracy": lambda w: mean(hit | quiet, w),
        "precision": lambda w: _ratio(w @ hit, w @ predicted),
        "recall": lambda w: _ratio(w @ hit, w @ positive),
        "f1": lambda w: _ratio(2 * (w @ hit), w @ predicted + w @ positive),
    }
    if value:
        worth = (
            hit * value.true_positive
            + alarm * value.false_positive
            + miss * value.false_negative
            + quiet * value.true_negative
        )
        metrics["value_per_1000"] = lambda w: 1000 * mean(worth, w)
    return metrics


def multiclass(target: NDArray[np.int64], probability: Floats) -> dict[str, Metric]:
    predicted, classes = probability.argmax(axis=1), range(probability.shape[1])

    def f1(w: Floats) -> Floats:
        hits = [(predicted == c) & (target == c) for c in classes]
        drawn = [w @ (predicted == c) + w @ (target == c) for c in classes]
        return np.asarray(
            np.mean([_ratio(2 * (w @ hit), whole) for hit, whole in zip(hits, drawn, strict=True)], axis=0)
        )

    def auc(w: Floats) -> Floats:
        return np.asarray(np.mean([roc_auc(target == c, probability[:, c], w) for c in classes], axis=0))

    return {
        "accuracy": lambda w: mean(predicted == target, w),
        "f1_macro": f1,
        "roc_auc_macro": auc,
        "log_loss": lambda w: mean(_log_loss(probability[np.arange(len(target)), target]), w),
    }


def regression(target: Floats, answer: Floats) -> dict[str, Metric]:
    error, centred = answer - target, target - target.mean()  # centred, or squares of large numbers drown the spread
    some = 1e-12 * (centred**2).mean()

    def r2(w: Floats) -> Floats:
        spread = mean(centred**2, w) - mean(centred, w) ** 2
        return np.where(spread > some, 1 - mean(error**2, w) / np.maximum(spread, some or 1.0), 0.0)

    return {"mae": lambda w: mean(np.abs(error), w), "rmse": lambda w: np.sqrt(mean(error**2, w)), "r2": r2}


def mean(values: NDArray[Any], weights: Floats) -> Floats:
    return np.asarray(weights @ values / weights.sum(axis=1))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole, 0 where nothing was drawn (as sklearn's zero_division=0)."""
    return np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole > 0)


def _log_loss(probability_of_truth: Floats) -> Floats:
    return -np.log(np.clip(probability_of_truth, TINY, 1))


def _by_score(positive: NDArray[np.bool_], score: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weight of true and false positives at each distinct score, from the highest on; (resamples, scores)."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    drawn, truth = weights[:, order], positive[order]
    return (drawn * truth).cumsum(axis=1)[:, last], (drawn * ~truth).cumsum(axis=1)[:, last]


def roc_auc(positive: NDArray[np.bool_], score: Floats, weights: Floats) -> Floats:
    """Area under the ROC curve by trapezoids, ties counted half; 0.5 when a class was not drawn."""
    true, false = _by_score(positive, score, weights)
    before = np.concatenate([np.zeros((len(true), 1)), true[:, :-1]], axis=1)
    area = (np.diff(false, axis=1, prepend=0) * (true + before) / 2).sum(axis=1)
    pairs = true[:, -1] * false[:, -1]
    return np.asarray(np.divide(area, pairs, out=np.full(len(area), 0.5), where=pairs > 0))


def average_precision(positive: NDArray[np.bool_], score: Floats, weights: Floats) -> Floats:
    """Sum over scores of (gain in recall) x precision, without interpolation."""
    true, false = _by_score(positive, score, weights)
    precision = _ratio(true, true + false)
    return _ratio((np.diff(true, axis=1, prepend=0) * precision).sum(axis=1), true[:, -1])


def calibration_error(positive: NDArray[np.bool_], probability: Floats, weights: Floats) -> Floats:
    """Expected calibration error (Naeini et al. 2015) over ten bins of equal width."""
    bins = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gap = np.where(positive, 1.0, 0.0) - probability
    totals = [np.abs(weights @ np.where(bins == b, gap, 0.0)) for b in range(CALIBRATION_BINS)]
    return np.asarray(np.sum(totals, axis=0) / weights.sum(axis=1))


def resamples(rows: int, count: int, seed: int) -> Iterator[Floats]:
    """Blocks of bootstrap weights, (resamples of the block, rows); the same for the same seed."""
    rng = np.random.default_rng(seed)
    block = max(1, CELLS // max(rows, 1))
    for start in range(0, count, block):
        draws = [np.bincount(rng.integers(0, rows, rows), minlength=rows) for _ in range(min(block, count - start))]
        yield np.array(draws, np.float64)


def measure(metrics: dict[str, Metric], rows: int, count: int, seed: int) -> dict[str, dict[str, float]]:
    """Each metric with its 95 % percentile bootstrap interval."""
    whole = np.ones((1, rows))
    draws: dict[str, list[Floats]] = {name: [] for name in metrics}
    for weights in resamples(rows, count, seed):
        for name, metric in metrics.items():
            draws[name].append(metric(weights))
    ends = {name: np.quantile(np.concatenate(parts), [0.025, 0.975]) for name, parts in draws.items()}
    return {
        name: {"value": float(metric(whole)[0]), "low": float(ends[name][0]), "high": float(ends[name][1])}
        for name, metric in metrics.items()
    }
