"""Tables of twenty features in which the truth is known: nothing changed, or one thing did, by so much.

Fourteen numbers of four shapes and six categories of 2 to 12 values, independent of each other, and a model whose
probabilities are a fixed function of some of them, so that predictions can drift too.
"""

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perennial.contract import Contract
from perennial.monitoring.watch import Reference
from perennial.monitoring.window import UTC, Window
from perennial.params import Params, load
from perennial.pipeline import profile

ROOT = Path(__file__).resolve().parents[2]
Floats = NDArray[np.float64]
NOW = datetime.datetime(2026, 3, 2, tzinfo=UTC)
CLASSES = ("no", "yes")
HELD = 0.25  # rows of the hold-out for each that trained
SIZES = (2, 3, 4, 6, 8, 12)  # values of the categories
CATEGORIES = tuple(f"c{place}" for place in range(len(SIZES)))


@dataclass(frozen=True)
class Shape:
    title: str
    draw: Callable[[np.random.Generator, int], Floats]
    mean: float
    std: float


SHAPES = (
    Shape("normal", lambda rng, rows: rng.normal(size=rows), 0, 1),
    Shape("lognormal", lambda rng, rows: rng.lognormal(0, 1, rows), np.exp(0.5), np.exp(0.5) * (np.e - 1) ** 0.5),
    Shape("gamma", lambda rng, rows: rng.gamma(2, 2, rows), 4, 8**0.5),
    Shape("whole numbers", lambda rng, rows: rng.exponential(10, rows), 10, 10),
)
NUMBERS = {f"n{place}": SHAPES[place % len(SHAPES)] for place in range(14)}


@dataclass(frozen=True)
class Change:
    """One thing that is otherwise in a window than in the reference; `size` in the unit its kind has."""

    title: str
    kind: str = "none"
    feature: str = ""
    size: float = 0.0


NOTHING = Change("nothing")
SEASONS = tuple(Change(f"a season of ±{size} σ in one feature", "season", "n0", size) for size in (0.1, 0.2))
MOVED = (
    *(Change(f"mean of a normal +{size} σ", "mean", "n0", size) for size in (0.1, 0.2, 0.5)),
    *(Change(f"mean of a {NUMBERS[name].title} +0.2 σ", "mean", name, 0.2) for name in ("n1", "n2")),
    Change("mean of whole numbers +0.2 σ", "mean", "n3", 0.2),
    *(Change(f"{size} points from the commonest to the rarest value", "rarest", "c2", size) for size in (3, 6, 12)),
    *(Change(f"{size} points between the two commonest values", "common", "c2", size) for size in (3, 6, 12)),
    *(Change(f"a new value in {size} % of the rows", "new", "c3", size) for size in (3, 10)),
    *(Change(f"{size} % of a column missing", "missing", "n5", size) for size in (10, 100)),
)
SIDE = tuple(c for c in MOVED if c.feature in ("n0", "n5") or (c.kind, c.size) in (("rarest", 6), ("new", 3)))


def draw(rows: int, rng: np.random.Generator, change: Change = NOTHING, phase: float | None = None) -> pd.DataFrame:
    """Rows as training sees them. A season has its whole cycle in them, or only its `phase` (in turns)."""
    columns: dict[str, Any] = {name: shape.draw(rng, rows) for name, shape in NUMBERS.items()}
    if change.kind == "mean":
        shape, column = NUMBERS[change.feature], columns[change.feature]
        by = change.size * shape.std
        columns[change.feature] = column * (1 + by / shape.mean) if shape.mean else column + by
    if change.kind == "season":
        turns = rng.random(rows) if phase is None else phase
        columns[change.feature] = columns[change.feature] + change.size * np.sin(2 * np.pi * turns)
    for name, shape in NUMBERS.items():
        columns[name] = columns[name].round() if shape.title == "whole numbers" else columns[name]
    for name, size in zip(CATEGORIES, SIZES, strict=True):
        odds = _odds(size, change) if name == change.feature else _odds(size)
        places = np.searchsorted(odds.cumsum()[:-1], rng.random(rows), "right")
        columns[name] = np.array([f"v{value}" for value in range(size)], object)[places]
    if change.kind in ("missing", "new"):
        hit = rng.random(rows) < change.size / 100
        column = pd.Series(columns[change.feature])
        columns[change.feature] = column.mask(hit, np.nan if change.kind == "missing" else "unheard of")
    return pd.DataFrame(columns).astype(dict.fromkeys(CATEGORIES, "str"))


def _odds(size: int, change: Change = NOTHING) -> Floats:
    odds = np.arange(size, 0, -1.0) / (size * (size + 1) / 2)
    to = {"rarest": -1, "common": 1}.get(change.kind)
    if to is not None:
        odds[0], odds[to] = odds[0] - change.size / 100, odds[to] + change.size / 100
    return odds


def probability(frame: pd.DataFrame) -> Floats:
    """What the model says of each row: a logistic function of six features; missing ones count as their median."""
    numbers = [(frame[name] - shape.mean) / shape.std for name, shape in list(NUMBERS.items())[:4]]
    logit = -1.2 + sum((number.fillna(0) for number in numbers), np.zeros(len(frame))) * 0.5
    logit += 0.6 * (frame["c0"] == "v1") + 0.4 * (frame["c2"] == "v3")
    return np.asarray(1 / (1 + np.exp(-logit)), np.float64)


@cache
def params() -> Params:
    """Those of params.yaml for this table; windows of 200 rows are judged, and every feature matters to retrain."""
    features: dict[str, Any] = {name: {"type": "number"} for name in NUMBERS}
    for name, size in zip(CATEGORIES, SIZES, strict=True):
        features[name] = {"type": "category", "values": [f"v{value}" for value in range(size)]}
    target = {"name": "target", "values": list(CLASSES), "positive": CLASSES[1]}
    data = Contract.model_validate({"raw": "data/raw", "target": target, "features": features})
    whole = load(ROOT / "params.yaml")
    watch = whole.watch.model_copy(update={"rows": 200, "importance": 0.0})
    return whole.model_copy(update={"data": data, "value": None, "watch": watch})


def reference(train: pd.DataFrame, rng: np.random.Generator, change: Change = NOTHING) -> Reference:
    """What stages `train` and `evaluate` would have written of these rows and a hold-out like them."""
    held = draw(int(HELD * len(train)), rng, change if change.kind == "season" else NOTHING)
    said = probability(held)
    answers, truth = np.stack([1 - said, said], axis=1), (rng.random(len(said)) < said).astype(np.int64)
    known = np.array(CLASSES)[(rng.random(len(train)) < probability(train)).astype(int)]
    facts = profile.describe(train.assign(target=known), params().data) | {"threshold": 0.5}
    facts["answers"] = profile.answers_reference(answers, pd.Series(truth), params().data)
    facts["promised"] = profile.promised(answers, truth, params().data)
    share = 1 / len(facts["features"])
    return Reference(
        json.loads(json.dumps(facts)), {"rows": len(held), "metrics": {}}, dict.fromkeys(facts["features"], share)
    )


def window(frame: pd.DataFrame, probabilities: Floats, labels: Any = None) -> Window:
    """These rows as they come out of the service's log; a label is None where none came."""
    cells = frame.astype(object).where(frame.notna(), None).to_dict("records")
    labels = [None] * len(cells) if labels is None else labels
    at = NOW.timestamp()
    rows = [
        {
            "prediction_id": f"{number:016x}", "time": at, "model_version": "one", "features": row, "label": label,
            "output": {"label": CLASSES[p >= 0.5], "probabilities": {CLASSES[0]: 1 - p, CLASSES[1]: p}},
            "labelled_at": 0.0 if label is None else at + 86_400,
        }
        for number, (row, p, label) in enumerate(zip(cells, probabilities.tolist(), labels, strict=True))
    ]  # fmt: skip
    return Window(NOW, NOW + datetime.timedelta(days=1), rows, len(rows))
