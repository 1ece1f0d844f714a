"""What no gate may let pass: features that give the target away, and labels that mean nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import decide
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from world import CUSTOMERS, MONTHS, fit, table

from perennial.errors import UserError
from perennial.inputs import encode_target
from perennial.params import Params
from perennial.pipeline import prepare
from perennial.pipeline.cast import cast
from perennial.simulate import months_from

Floats = NDArray[np.float64]
Plant = Callable[[Floats, np.random.Generator], dict[str, Any]]  # whether each row left -> columns, as written
MONTHS_ALL = 12  # of the built-in data
WORLD, SCENARIO = 0, 0  # whose customers and champion shuffled labels meet


def _flipped(share: float) -> Plant:
    return lambda left, rng: {"leak": np.abs(left - (rng.random(len(left)) < share)).astype(int)}


def _given(left: Floats, values: Any, share: float = 1.0, rng: np.random.Generator | None = None) -> Any:
    """The values for those who left (a share of them), blank for the others."""
    known = (left == 1) & (rng.random(len(left)) < share if rng else True)
    return np.where(known, np.asarray(values).astype(str), "")


def _parts(left: Floats, rng: np.random.Generator, count: int, size: float = 1.0) -> dict[str, Any]:
    """Columns of noise whose sum is the target."""
    noise = {f"leak{part}": rng.normal(0, size, len(left)) for part in range(1, count)}
    return noise | {f"leak{count}": left - np.sum(list(noise.values()), axis=0)}


def _difference(left: Floats, rng: np.random.Generator) -> dict[str, Any]:
    since = rng.integers(1, 3000, len(left))  # days
    return {"leak1": since, "leak2": since + np.where(left == 1, rng.integers(1, 30, len(left)), 31)}


def _weighted(left: Floats, rng: np.random.Generator) -> dict[str, Any]:
    one = rng.normal(size=len(left))
    return {"leak1": one, "leak2": (3 * one - left + rng.normal(0, 0.05, len(left))) / 2}


def _product(left: Floats, rng: np.random.Generator) -> dict[str, Any]:
    one = rng.choice([-1.0, 1.0], len(left)) * rng.uniform(1, 2, len(left))
    return {"leak1": one, "leak2": np.where(left == 1, 1.0, -1.0) / one}


def _xor(left: Floats, rng: np.random.Generator) -> dict[str, Any]:
    one = rng.integers(0, 2, len(left))
    return {"leak1_boolean": np.where(one, "true", "false"), "leak2_boolean": np.where(one == left, "true", "false")}


# Columns that hold numbers are numbers; leak_<type> names another type. The first are wanted, the others are limits.
WANTED: dict[str, Plant] = {
    "the target as a number": lambda left, _: {"leak": left},
    "the target as a boolean": lambda left, _: {"leak_boolean": np.where(left == 1, "true", "false")},
    "the target with a little noise (normal, 1 % of its range)": lambda left, rng: {
        "leak": left + rng.normal(0, 0.01, len(left))
    },
    "the target, one row in a hundred wrong": _flipped(0.01),
    "a code of eight, four of them for those who left": lambda left, rng: {
        "leak_category": np.array(list("abcdefgh"))[(rng.integers(0, 4, len(left)) + 4 * left).astype(int)]
    },
    "a day of cancellation, given only for those who left": lambda left, rng: {
        "leak": _given(left, rng.integers(1, 29, len(left)))
    },
    "a reason for leaving (category), given only for them": lambda left, rng: {
        "leak_category": _given(left, rng.choice(["price", "moved", "rival"], len(left)))
    },
    "a farewell (text), given only for them": lambda left, rng: {
        "leak_text": _given(left, rng.choice(["bye", "it was nice", "too expensive"], len(left)))
    },
    "the sum of two columns": lambda left, rng: _parts(left, rng, 2),
    "the difference of two columns (days, some thousand)": _difference,
    "a weighted sum of two columns with a little noise": _weighted,
}
LIMITS: dict[str, Plant] = {
    "the target, 2 rows in a hundred wrong": _flipped(0.02),
    "the target, 5 rows in a hundred wrong": _flipped(0.05),
    "the target, 10 rows in a hundred wrong": _flipped(0.1),
    "a day of cancellation, given for 9 in 10 of those who left": lambda left, rng: {
        "leak": _given(left, rng.integers(1, 29, len(left)), 0.9, rng)
    },
    "the sum of three columns": lambda left, rng: _parts(left, rng, 3),
    "the product of two columns": _product,
    "two booleans, equal for those who left": _xor,
}
NOTHING = "nothing planted"
PLANTS: dict[str, Plant] = {NOTHING: lambda *_: {}} | WANTED | LIMITS


def planted(title: str, months: int, turn: int, params: Params) -> tuple[pd.DataFrame, Params]:
    """The built-in table with these columns beside its own, and the parameters that know them."""
    frame = table(months_from("2025-01", months), CUSTOMERS, 5000 + turn, params)
    left = encode_target(frame[params.data.target.name], params.data).astype(np.float64)
    columns = PLANTS[title](left, np.random.default_rng([turn, len(title)]))
    tree = params.data.model_dump(mode="json", exclude_none=True)
    for name, values in columns.items():
        kind = name.partition("_")[2] or "number"
        listed = sorted({value for value in values if value}) if kind == "category" else []
        tree["features"][name] = {"type": kind} | ({"values": listed} if listed else {})
    known = type(params.data).model_validate(tree)
    for name, values in columns.items():
        frame[name] = cast(pd.Series(values, name=name), known)[0]
    return frame, params.model_copy(update={"data": known})


def leak(title: str, turns: range, params: Params) -> dict[str, Any]:
    """How often stage `prepare` stops."""
    stopped = 0
    for turn in turns:
        frame, knowing = planted(title, MONTHS_ALL, turn, params)
        try:
            prepare.stop_on_leak(frame, knowing.data, {})
        except UserError:
            stopped += 1
    return {"title": title, "stopped": stopped, "of": len(turns)}


def gain(title: str, params: Params) -> float:
    """The ROC AUC, on the newest two months, of a model that has such columns."""
    frame, knowing = planted(title, MONTHS_ALL, 0, params)
    rows, newest = frame[: MONTHS * CUSTOMERS], frame[MONTHS * CUSTOMERS :].reset_index(drop=True)
    score, _ = fit(rows, newest, knowing.model_copy(update={"value": None}))
    positive = encode_target(newest[params.data.target.name], params.data) == 1
    return float(decide.area(positive, score)(np.ones((1, len(score))))[0])


def shuffled(folder: Path, turn: int, sizes: tuple[int, ...], params: Params) -> list[dict[str, Any]]:
    """The decision on a model fitted on shuffled labels: true hold-out labels, then shuffled ones too."""
    everyone, kept = decide.world(folder, WORLD)
    rows = table(months_from("2025-01", MONTHS), CUSTOMERS, 6000 + turn, params)
    rng, name = np.random.default_rng(turn), params.data.target.name
    rows[name] = rng.permutation(rows[name].to_numpy())
    score, threshold = fit(rows, everyone, params)
    found = []
    for size in sizes:
        drawn = np.random.default_rng([turn, size]).integers(0, len(everyone), size)
        frame, target = everyone.iloc[drawn].reset_index(drop=True), kept["positive"][drawn].astype(np.float64)
        for title, labels in (("those that train", target), ("all", rng.permutation(target))):
            champion = decide.asked(labels, kept[f"champion{SCENARIO}"][drawn], kept[f"facts{SCENARIO}"][0])
            challenger = decide.asked(labels, score[drawn], threshold)
            blocked = decide.judge(decide.facts(frame, champion, challenger, params), params)
            found.append({"shuffled": title, "rows": size, "blocked": blocked})
    return found
