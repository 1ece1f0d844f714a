"""The built-in data, whose makers know the truth, through a model that the stages trained; its rows as they are logged.

A world is a seed: twelve months that the three stages train on and judge by, then months that production sees. Its
customers leave more in winter (a cosine of the month), as they do in training.
"""

import contextlib
import io
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tables import ROOT, window

from perennial.contract import Contract
from perennial.inputs import encode_target
from perennial.model import answer, open_model
from perennial.monitoring import watch
from perennial.monitoring.window import Window
from perennial.params import Params, load
from perennial.pipeline import evaluate, metrics, prepare, train
from perennial.pipeline.cast import cast
from perennial.serving import schema
from perennial.simulate import months_from, simulate_month, write_month

TRAINED, CUSTOMERS, FIRST = 12, 1500, "2025-01"  # months of so many
SEEN = 24  # months after them that production can see
LABELS = (0.0, 0.05, 0.2, 1.0)  # shares of the rows whose label came
Facts = dict[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """How production differs from training, and for which shares of labels that is looked at."""

    title: str
    drift: str = "none"
    labels: tuple[float, ...] = LABELS
    part: float = 1.0  # of the customers it holds for
    leavers: float = 1.0  # odds of a customer who leaves to be among the rows
    logit: float = 0.0  # added to everyone's


WORLDS = (
    World("concept drift", "concept"),
    World("concept drift for half of the customers", "concept", part=0.5),
    World("covariate shift: other customers come", "covariate", (0.0, 0.2)),
    World("prior shift: twice the odds of meeting a leaver", leavers=2.0, labels=(0.0, 0.2, 1.0)),
    World("everyone leaves more often (+1 on the logit)", logit=1.0, labels=(0.0, 0.2, 1.0)),
    World("broken, what the service refuses is not logged", "broken", (0.0, 0.2)),
    World("broken, within the declared ranges", "in range", (0.0, 0.2)),
)
NOTHING = World("nothing")


@dataclass(frozen=True)
class Champion:
    params: Params
    reference: watch.Reference
    session: Any
    requests: Any  # what the service checks a request by


def make(folder: Path, number: int) -> None:
    """Run the stages on the world's training months, in a folder of its own."""
    home = folder / str(number)
    home.mkdir()
    shutil.copy(ROOT / "params.yaml", home)
    with contextlib.chdir(home), contextlib.redirect_stdout(io.StringIO()):
        for month in months_from(FIRST, TRAINED):
            write_month(simulate_month(month, CUSTOMERS, number), load().data.raw / Path(f"{month}.csv"))
        for stage in (prepare, train, evaluate):
            stage.main()


@lru_cache(1)
def champion(folder: Path, number: int) -> Champion:
    with contextlib.chdir(folder / str(number)):
        params = load()
        return Champion(params, watch._reference(), open_model(str(train.MODEL)), schema.requests(params.data, 1))


def month(which: int, rows: int, world: World, number: int, held: Champion) -> tuple[pd.DataFrame, int]:
    """The rows that the service logs of the month that comes so many after training, and how many it refuses."""
    params, name = held.params, months_from(FIRST, TRAINED + SEEN)[TRAINED + which]
    seed = [1000 + number, which, rows]
    rng = np.random.default_rng(seed)
    frame = _drawn(name, rows, int(rng.integers(2**31)), world, rng, params.data)
    frame = pd.DataFrame({column: cast(frame[column], params.data)[0] for column in params.data.columns})
    if world.drift != "broken":
        return frame, 0
    good = [_accepted(row, held.requests) for row in plain(frame[list(params.data.features)])]
    return frame[good].reset_index(drop=True), rows - sum(good)


def _drawn(name: str, rows: int, seed: int, world: World, rng: np.random.Generator, contract: Contract) -> pd.DataFrame:
    """As a month is written. The same seed gives the same customers with drift and without."""
    negative, positive = contract.target.classes
    kind: Any = "broken" if world.drift == "in range" else world.drift
    many = rows * 4 if world.leavers != 1 else rows
    made = simulate_month(name, many, seed, kind)
    frame = pd.DataFrame(made.columns)
    if world.drift == "in range":
        whole = simulate_month(name, many, seed).columns
        for column, spec in contract.features.items():
            if getattr(spec, "max", None) and (pd.to_numeric(frame[column], errors="coerce") > spec.max).any():
                frame[column] = whole[column]
    if world.part < 1:
        before = pd.DataFrame(simulate_month(name, many, seed).columns)
        frame = frame.where(pd.Series(rng.random(many) < world.part), before)
    if world.logit:
        odds = np.log(made.probability / (1 - made.probability)) + world.logit
        frame[contract.target.name] = np.where(rng.random(many) < 1 / (1 + np.exp(-odds)), positive, negative)
    if world.leavers != 1:
        weight = np.where(frame[contract.target.name] == positive, world.leavers, 1.0)
        frame = frame.sample(rows, weights=weight / weight.sum(), random_state=seed % 2**31).reset_index(drop=True)
    return frame


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return list(frame.astype(object).where(frame.notna(), None).to_dict("records"))


def _accepted(row: dict[str, Any], requests: Any) -> bool:
    try:
        requests.validate_python({"instances": [row]})
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Month:
    """A month of production: its rows, the model's probability of each, and one number a row that orders labels."""

    frame: pd.DataFrame
    probability: Floats
    order: NDArray[np.int64]
    target: Any

    def window(self, labels: float) -> Window:
        """With the labels of this share of the rows."""
        known = self.order < round(labels * len(self.order))
        return window(self.frame, self.probability, [y if k else None for y, k in zip(self.target, known, strict=True)])


def production(which: int, rows: int, world: World, number: int, held: Champion) -> Month:
    params = held.params
    frame, _ = month(which, rows, world, number, held)
    asked = answer(held.session, frame, params.data)[:, 1]
    order = np.random.default_rng([number, which, rows, 1]).permutation(len(frame))
    return Month(frame[list(params.data.features)], asked, order, frame[params.data.target.name])


def histories(folder: Path, number: int, rows: int, turns: range, shares: tuple[float, ...]) -> list[Facts]:
    """Of each turn, world and share of labels: the newest window, and the decisions after 0, 1 and 2 windows of it."""
    held, found = champion(folder, number), []
    for turn in turns:
        newest = 2 + 5 * turn % (SEEN - 2)  # months of every season, in few turns
        clean = [production(newest - back, rows, NOTHING, number, held) for back in range(watch.WINDOWS)]
        moved = {w: [production(newest - back, rows, w, number, held) for back in range(2)] for w in WORLDS}
        for share in shares:
            before = [_judged(each, share, held) for each in clean]
            found.append(_outcome(NOTHING, rows, share, newest, [before], held))
            for world in WORLDS:
                if share in world.labels:
                    now = [_judged(each, share, held) for each in moved[world]]
                    sequences = [[now[0], *before[1:]], [*now, before[2]]]
                    found.append(_outcome(world, rows, share, newest, sequences, held))
    return found


def _judged(each: Month, share: float, held: Champion) -> Facts:
    return watch.judge(each.window(share), held.reference, held.params)


def _outcome(world: World, rows: int, share: float, newest: int, sequences: list[list[Facts]], held: Champion) -> Facts:
    window = sequences[0][0]
    return {
        "world": world.title, "rows": rows, "labels": share, "month": newest % 12 + 1,
        "decisions": [watch.decide(windows, held.params)[0] for windows in sequences],
        "windows": [signals(each) for each in (sequences[0] if world is NOTHING else sequences[0][:1])],
        "expected": window.get("expected", {}).get("roc_auc"),
    }  # fmt: skip


def signals(window: Facts) -> dict[str, bool]:
    """What a window by itself raises."""
    each = {
        "features": bool(window["drifted"]),
        "predictions": bool(window.get("predictions", {}).get("drifted")),
        "broken": bool(window["broken"]),
        "quality": bool(window["fell"]),
        "too few rows": not window["enough"],
    }
    return each | {"any": any(each[name] for name in ("features", "predictions", "broken", "quality"))}


def truth(folder: Path, number: int, rows: int) -> dict[str, dict[str, float]]:
    """Of each world: the champion's ROC AUC on very many rows of a year, the share of leavers, of refused rows."""
    held, found = champion(folder, number), {}
    for world in (NOTHING, *WORLDS):
        parts = [month(which, rows // 12, world, 500 + number, held) for which in range(12)]
        frame = pd.concat([part for part, _ in parts], ignore_index=True)
        positive = encode_target(frame[held.params.data.target.name], held.params.data) == 1
        score = answer(held.session, frame, held.params.data)[:, 1]
        area = metrics.roc_auc(positive, score, np.ones((1, len(score))))[0]
        refused = sum(count for _, count in parts) / rows
        found[world.title] = {"auc": float(area), "leave": float(positive.mean()), "refused": float(refused)}
    return found
