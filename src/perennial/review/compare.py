"""Champion and challenger on the same rows: differences with intervals, overall and by slice.

Both models meet the same resamples, so that luck which hits both cancels out (a paired bootstrap).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from perennial.contract import Contract
from perennial.params import METRICS, Params
from perennial.pipeline import metrics
from perennial.pipeline.evaluate import groups

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
CHANCE = 0.05  # of a false alarm of fairness or calibration; they err on other rows than …
FELL, SLICE_FELL = 0.035, 0.015  # … these two, which share 5 % (benchmarks/gate says what that costs)
RESAMPLES = 400  # behind the standard error of a slice
CALIBRATED = 200  # simulated outcomes of a calibrated model


@dataclass(frozen=True)
class Answers:
    """The hold-out as a model saw it: its answers to these targets, and the threshold that goes with them."""

    target: Floats  # (rows,) class positions or numbers
    answer: Floats  # (rows, classes) probabilities, or (rows,) numbers
    threshold: float | None

    def at(self, rows: NDArray[np.bool_]) -> "Answers":
        return Answers(self.target[rows], self.answer[rows], self.threshold)

    def metrics(self, params: Params) -> dict[str, metrics.Metric]:
        return metrics.for_task(params.data.task, self.target, self.answer, self.threshold, params.value)


def differences(champion: Answers, challenger: Answers, params: Params) -> dict[str, dict[str, float]]:
    """Each metric of both models, and the difference (challenger - champion) with the ends of its 93 % interval.

    Its upper end lies below zero in 3.5 of a hundred comparisons of equal models.
    """
    ours, theirs = challenger.metrics(params), champion.metrics(params)
    draws: dict[str, list[Floats]] = {name: [] for name in ours}
    rows = len(challenger.target)
    for weights in metrics.resamples(rows, params.evaluate.bootstrap, params.seed):
        for name, metric in ours.items():
            draws[name].append(metric(weights) - theirs[name](weights))
    whole, found = np.ones((1, rows)), {}
    for name, metric in ours.items():
        low, high = np.quantile(np.concatenate(draws[name]), [FELL, 1 - FELL])
        new, old = float(metric(whole)[0]), float(theirs[name](whole)[0])
        found[name] = {
            "champion": old,
            "challenger": new,
            "difference": new - old,
            "low": float(low),
            "high": float(high),
        }
    return found


def gain(row: dict[str, Any], task: str) -> tuple[float, float]:
    """How much better the challenger is at the leading metric, and the least loss that is sure, both as gains.

    In units of the metric; for an error, as a share of the champion's.
    """
    if next(iter(METRICS[task].values())):
        return row["difference"], row["high"]
    scale = row["champion"] or 1.0
    return -row["difference"] / scale, -row["low"] / scale


def slices(
    frame: "pd.DataFrame", champion: Answers | None, challenger: Answers, params: Params, least: int
) -> list[dict[str, Any]]:
    """The leading metric in every group of at least `least` rows.

    `low` and `high` are ends of intervals wide enough for all groups together (Bonferroni), from standard errors.
    """
    lead, rows = next(iter(METRICS[params.data.task])), []
    judged = [
        group for group in groups(frame, params.data) if group[2].sum() >= least and _varied(challenger, group[2])
    ]
    wide = float(norm.ppf(1 - SLICE_FELL / max(len(judged), 1)))
    for column, value, inside in judged:
        new = challenger.at(inside).metrics(params)[lead]
        old = champion.at(inside).metrics(params)[lead] if champion else None
        size = int(inside.sum())
        row: dict[str, Any] = {"column": column, "value": value, "rows": size}
        row |= {"sensitive": column in params.data.sensitive}
        row |= _spread(new, size, wide, params.seed, "challenger")
        if old:
            row |= {"champion": _whole(old, size)}
            row |= _spread(_minus(new, old), size, wide, params.seed, "difference")
        rows.append(row)
    return rows


def _varied(answers: Answers, inside: NDArray[np.bool_]) -> bool:
    return len(np.unique(answers.target[inside])) > 1


def _minus(new: metrics.Metric, old: metrics.Metric) -> metrics.Metric:
    return lambda weights: new(weights) - old(weights)


def _whole(metric: metrics.Metric, rows: int) -> float:
    return float(metric(np.ones((1, rows)))[0])


def _spread(metric: metrics.Metric, rows: int, wide: float, seed: int, name: str) -> dict[str, float]:
    figure = _whole(metric, rows)
    error = float(np.std(np.concatenate([metric(w) for w in metrics.resamples(rows, RESAMPLES, seed)])))
    return {name: figure, f"{name}_low": figure - wide * error, f"{name}_high": figure + wide * error}


def fairness(frame: "pd.DataFrame", answers: Answers, contract: Contract, least: int) -> list[dict[str, Any]]:
    """The largest gap between the groups of each sensitive column, in each rate.

    The rates are those of equalised odds (Hardt, Price, Srebro 2016) for two classes, the share of right answers for
    more, the mean absolute error in units of everyone's for a number. `sure` is the gap less what chance explains
    (two proportions or means, Bonferroni over all pairs compared).
    """
    compared = []
    for name, values, who in _rates(answers, contract):
        for column in contract.sensitive:
            inside = {v: rows & who for c, v, rows in groups(frame, contract) if c == column}
            cells = {v: values[rows] for v, rows in inside.items() if rows.sum() >= least}
            if len(cells) > 1:
                compared.append((column, name, cells))
    pairs = sum(len(cells) * (len(cells) - 1) // 2 for *_, cells in compared)
    wide = float(norm.ppf(1 - CHANCE / 2 / max(pairs, 1)))
    return [{"column": column, "rate": name, **_gap(cells, wide)} for column, name, cells in compared]


def _rates(answers: Answers, contract: Contract) -> list[tuple[str, Floats, NDArray[np.bool_]]]:
    """Name, value of each row, and the rows it is a mean over."""
    if contract.task == "binary":
        flagged = (answers.answer[:, 1] >= (answers.threshold or 0.5)).astype(np.float64)
        positive = answers.target == 1
        return [("true positive rate", flagged, positive), ("false positive rate", flagged, ~positive)]
    everyone = np.ones(len(answers.target), bool)
    if contract.task == "multiclass":
        return [("accuracy", (answers.answer.argmax(axis=1) == answers.target).astype(np.float64), everyone)]
    error = np.abs(answers.answer - answers.target)
    return [("relative error", error / (error.mean() or 1.0), everyone)]


def _gap(cells: dict[str, Floats], wide: float) -> dict[str, Any]:
    means = {group: float(values.mean()) for group, values in cells.items()}
    top, bottom = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    error = np.sqrt(sum(cells[group].var() / len(cells[group]) for group in (top, bottom)))
    gap = means[top] - means[bottom]
    return {
        "gap": gap,
        "sure": float(max(gap - wide * error, 0.0)),
        "highest": {"group": top, "rate": means[top]},
        "lowest": {"group": bottom, "rate": means[bottom]},
    }


def calibration(answers: Answers, contract: Contract, seed: int) -> dict[str, float]:
    """How far predictions and what happens lie apart; how far they would by chance in a calibrated model (`by_chance`),
    and how much chance adds to an error that is there (`noise`).

    The expected calibration error of the positive class, or of the predicted one when there are more than two;
    for a number, the mean error in standard deviations of the target.
    """
    if contract.task == "regression":
        errors, spread = answers.answer - answers.target, float(answers.target.std()) or 1.0
        chance = float(norm.ppf(1 - CHANCE / 2) * errors.std() / np.sqrt(len(errors)) / spread)
        return {"error": float(abs(errors.mean()) / spread), "by_chance": chance, "noise": chance}
    score = answers.answer[:, 1] if contract.task == "binary" else answers.answer.max(axis=1)
    right = answers.target == 1 if contract.task == "binary" else answers.answer.argmax(axis=1) == answers.target
    everyone, rng = np.ones((1, len(score))), np.random.default_rng(seed)
    simulated = [metrics.calibration_error(rng.random(len(score)) < score, score, everyone) for _ in range(CALIBRATED)]
    error = float(metrics.calibration_error(right, score, everyone)[0])
    noise = float(norm.ppf(1 - CHANCE) * np.sqrt((score * (1 - score)).mean() / len(score)))
    return {"error": error, "by_chance": float(np.quantile(simulated, 1 - CHANCE)), "noise": noise}
