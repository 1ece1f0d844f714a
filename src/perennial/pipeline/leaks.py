"""The leak tripwire: a feature, or a sum of two, that gives the target away.

A score of 1 means that the target can be told from it alone: the ROC AUC (the mean over
classes when there are more than two), or the share of variance explained for a number.
A forgotten component of the target or a field written after the fact looks just so.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perennial.contract import Contract

SUSPICIOUS = 0.99
ROWS = 50_000  # enough to see a leak; keeps the search fast on large tables
BINS = 64
PAIRS = 200  # pairs of numbers looked at closely, the most promising first
PROMISING = 0.05  # R² below which a pair is not looked at
RARE = 20  # rows (of the rarest class) below which the search would see leaks in noise
Floats = NDArray[np.float64]


def leaks(frame: pd.DataFrame, contract: Contract) -> dict[str, float]:
    """The suspicious features, or pairs as "a + b", with their score; those the contract allows are left out."""
    sample = frame.iloc[:: max(1, len(frame) // ROWS)]
    targets = _targets(sample[contract.target.name], contract)
    if len(targets) == 0:
        return {}
    names = [name for name in contract.features if name not in contract.allow_leak]
    single = {name: _single_score(sample[name], targets, contract.task) for name in names}
    found = {name: score for name, score in single.items() if score >= SUSPICIOUS}
    numbers = [name for name in names if name in contract.named("number") and name not in found]
    return found | _pairs(sample, numbers, targets, contract.task)


def _targets(target: pd.Series, contract: Contract) -> Floats:
    """Shape (outputs, rows): the number itself, or one row of 0 and 1 for each class to tell from the rest."""
    if contract.task == "regression":
        return target.to_numpy(np.float64)[None, :][: len(target) >= RARE]
    classes = contract.target.classes[1:] if contract.task == "binary" else contract.target.classes
    indicators = np.array([(target == label).to_numpy(np.float64) for label in classes])
    common = np.minimum(indicators.sum(1), (1 - indicators).sum(1)) >= RARE
    return np.asarray(indicators[common])


def _single_score(values: pd.Series, targets: Floats, task: str) -> float:
    codes = _codes(values)
    score = float(np.mean([_learnt_score(codes, target, task) for target in targets]))
    if task == "regression" and pd.api.types.is_float_dtype(values):
        known = values.dropna()
        goal = pd.Series(targets[0], values.index)[known.index]
        if len(known) >= RARE and known.nunique() > 1 and goal.nunique() > 1:
            score = max(score, known.corr(goal) ** 2, known.rank().corr(goal.rank()) ** 2)
    return score


def _codes(values: pd.Series) -> NDArray[np.int64]:
    """Each distinct value, or quantile bin of a number, as a small integer; missing is one of its own."""
    if pd.api.types.is_float_dtype(values):
        values = pd.qcut(values, BINS, labels=False, duplicates="drop") if values.nunique() > BINS else values
    return pd.factorize(values, use_na_sentinel=False)[0].astype(np.int64)


def _learnt_score(codes: NDArray[np.int64], target: Floats, task: str) -> float:
    """Mean target by code learnt on every other row, judged on the rest."""
    learn, judge = slice(0, None, 2), slice(1, None, 2)
    size = codes.max(initial=0) + 1
    count = np.bincount(codes[learn], minlength=size)
    mean = target[learn].mean()
    means = np.where(count > 0, np.bincount(codes[learn], target[learn], size) / np.maximum(count, 1), mean)
    return _score(means[codes[judge]], target[judge], task)


def _score(predicted: Floats, target: Floats, task: str) -> float:
    if task == "regression":
        spread = ((target - target.mean()) ** 2).sum()
        return float(1 - ((target - predicted) ** 2).sum() / spread) if spread > 0 else 0.0
    ranks = pd.Series(predicted).rank().to_numpy()
    positives, negatives = target.sum(), (1 - target).sum()
    if positives == 0 or negatives == 0:
        return 0.0
    area = (ranks[target == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    return float(max(area, 1 - area))


def _pairs(sample: pd.DataFrame, names: list[str], targets: Floats, task: str) -> dict[str, float]:
    """Pairs whose best weighted sum (least squares) gives the target away."""
    if len(names) < 2:
        return {}
    numbers = sample[names].fillna(sample[names].median()).fillna(0.0).to_numpy(np.float64)
    spread = numbers.std(0)
    numbers = (numbers - numbers.mean(0)) / np.where(spread > 0, spread, 1.0)
    explained = np.max([_explained(numbers, target) for target in targets], axis=0)
    first, second = np.triu_indices(len(names), 1)
    promising = np.argsort(-explained[first, second], kind="stable")[:PAIRS]
    scores = {}
    for one, other in zip(first[promising], second[promising], strict=True):
        if explained[one, other] >= PROMISING:
            scores[f"{names[one]} + {names[other]}"] = _sum_score(numbers[:, [one, other]], targets, task)
    return {pair: score for pair, score in scores.items() if score >= SUSPICIOUS}


def _explained(numbers: Floats, target: Floats) -> Floats:
    """R² of the target on each pair of standardised columns, from their correlations; shape (columns, columns)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        own = np.corrcoef(numbers.T, target)
        between, to_target = own[:-1, :-1], own[:-1, -1]
        squares = to_target[:, None] ** 2 + to_target[None, :] ** 2
        explained = (squares - 2 * np.outer(to_target, to_target) * between) / (1 - between**2)
    return np.nan_to_num(explained, posinf=0.0, neginf=0.0)


def _sum_score(both: Floats, targets: Floats, task: str) -> float:
    """The best score of the weighted sums that fit each target; between two classes lies a third, hence the bins."""
    sums = [both @ np.linalg.lstsq(both, target - target.mean(), rcond=None)[0] for target in targets]
    if task == "regression":
        return _score(sums[0] + targets[0].mean(), targets[0], task)
    codes = [_codes(pd.Series(one)) for one in sums]
    return max(float(np.mean([_learnt_score(code, target, task) for target in targets])) for code in codes)
