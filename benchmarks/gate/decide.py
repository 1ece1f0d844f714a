"""The gate's own functions on one hold-out after the other."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from world import SCENARIOS

from perennial.params import METRICS, Params
from perennial.pipeline import metrics
from perennial.review import compare, rules
from perennial.review.compare import Answers

Floats = NDArray[np.float64]
RULES = (rules.floors, rules.baseline, rules.champion, rules.slices, rules.fairness, rules.calibration)
ALL = "any rule"


@dataclass(frozen=True)
class Leading(Answers):
    """Answers to two classes, measured by ROC AUC alone, which is all that the rules compare."""

    def at(self, rows: NDArray[np.bool_]) -> "Leading":
        return Leading(self.target[rows], self.answer[rows], self.threshold)

    def metrics(self, params: Params) -> dict[str, metrics.Metric]:
        assert next(iter(METRICS[params.data.task])) == "roc_auc"
        return {"roc_auc": area(self.target == 1, self.answer[:, 1])}


def area(positive: NDArray[np.bool_], score: Floats) -> metrics.Metric:
    """metrics.roc_auc in a quarter of the time: sorted once, and each positive meets the negatives below it."""
    order = np.argsort(score, kind="stable")
    ups, downs = order[positive[order]], order[~positive[order]]
    first, last = (np.searchsorted(score[downs], score[ups], side) for side in ("left", "right"))
    tied = (first != last).any()

    def metric(weights: Floats) -> Floats:
        below = np.zeros((len(weights), len(downs) + 1))
        np.cumsum(weights[:, downs], axis=1, out=below[:, 1:])
        drawn, beaten = weights[:, ups], below[:, first]
        if tied:
            beaten = (beaten + below[:, last]) / 2
        pairs, wins = drawn.sum(axis=1) * below[:, -1], np.einsum("ij,ij->i", drawn, beaten)
        return np.asarray(np.divide(wins, pairs, out=np.full(len(wins), 0.5), where=pairs > 0))

    return metric


def hurry() -> None:
    """One thread; smaller blocks of weights, kept for the next who asks for the same. Changes no figure."""
    threadpool_limits(1)
    rng = np.random.default_rng(0)
    positive, score = rng.random(500) < 0.3, rng.random(500).round(2)
    weights = np.concatenate(list(metrics.resamples(500, 50, 0)))
    if not np.allclose(metrics.roc_auc(positive, score, weights), area(positive, score)(weights), atol=1e-12):
        raise SystemExit("benchmarks/gate/decide.py: area no longer gives what metrics.roc_auc gives")
    drawn = metrics.resamples
    metrics.CELLS = 500_000
    metrics.resamples = lru_cache(3)(lambda rows, count, seed: list(drawn(rows, count, seed)))


def facts(frame: pd.DataFrame, champion: Answers | None, challenger: Answers, params: Params) -> dict[str, Any]:
    """What gate.gather finds out, as far as the rules above ask for it."""
    rows, knob = len(challenger.target), params.gate.slices
    every, whole = Answers.metrics(challenger, params), np.ones((1, rows))
    measured: dict[str, Any] = {name: {"value": float(every[name](whole)[0])} for name in params.gate.floors}
    measured |= metrics.measure(challenger.metrics(params), rows, params.evaluate.bootstrap, params.seed)
    least = knob.rows if knob else 100
    return {
        "evaluation": {"metrics": measured, "baseline": {"roc_auc": 0.5}},
        "metrics": compare.differences(champion, challenger, params) if champion else {},
        "not_compared": "no champion",
        "slices": compare.slices(frame, champion, challenger, params, least),
        "fairness": compare.fairness(frame, challenger, params.data, least),
        "calibration": compare.calibration(challenger, params.data, params.seed),
    }


def judge(found: dict[str, Any], params: Params) -> dict[str, bool]:
    """Which of the rules block."""
    blocked = {rule.__name__: any(one.passed is False for one in rule(found, params)) for rule in RULES}
    return blocked | {ALL: any(blocked.values())}


@lru_cache(1)
def world(folder: Path, number: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    frame = pd.read_parquet(folder / f"{number}.parquet")
    with np.load(folder / f"{number}.npz") as kept:
        return frame, dict(kept)


def asked(target: Floats, score: Floats, threshold: float) -> Leading:
    """The answers of a model with these probabilities."""
    return Leading(target, np.stack([1 - score, score], axis=1), float(threshold))


def holdouts(
    folder: Path, number: int, index: int, rows: int, turns: range, params: Params, raw: bool = False
) -> list[dict[str, Any]]:
    """The decision on each of so many hold-outs of one world; `raw` adds the facts."""
    frame, kept = world(folder, number)
    found = []
    for turn in turns:
        drawn = np.random.default_rng([number, rows, turn]).integers(0, len(frame), rows)
        target, thresholds = kept["positive"][drawn].astype(np.float64), kept[f"facts{index}"][:2]
        scores = (kept[f"{name}{index}"][drawn] for name in ("champion", "challenger"))
        champion, challenger = (asked(target, *one) for one in zip(scores, thresholds, strict=True))
        seen = facts(frame.iloc[drawn].reset_index(drop=True), champion, challenger, params)
        row = seen["metrics"]["roc_auc"]
        found.append({"blocked": judge(seen, params), "better": row["low"] > 0, "width": row["high"] - row["low"]})
        if raw:
            found[-1]["facts"] = seen
    return found


def truths(folder: Path, number: int) -> list[dict[str, float]]:
    """Of each scenario: the true ROC AUC of both, and the fall before noise."""
    _, kept = world(folder, number)
    names = ("threshold", "other", "fall", "champion", "challenger")
    return [dict(zip(names, map(float, kept[f"facts{index}"]), strict=True)) for index in range(len(SCENARIOS))]
