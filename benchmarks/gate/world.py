"""A world in which the truth is known: many customers, models fitted on a few, and their true ROC AUC.

The customers are drawn once and are all there are, so a model's ROC AUC on them is the truth, and hold-outs drawn
from them (with replacement) are independent samples of it. Noise on the scores takes from a model what it has too
much, so that two models are equal, or apart by so much, to 1e-5.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from perennial.inputs import encode_target
from perennial.params import Params
from perennial.pipeline import features, metrics, train
from perennial.pipeline.cast import cast
from perennial.simulate import months_from, simulate_month

Floats = NDArray[np.float64]
MONTHS, CUSTOMERS = 10, 1500  # that train, of the built-in data
NEWEST = ("2025-11", "2025-12")  # that judge
SHARPNESS = 40  # halvings in the search for the noise


@dataclass(frozen=True)
class Recipe:
    """How a model is fitted: what differs from params.yaml."""

    months: tuple[int, int] = (0, MONTHS)
    rows: int | None = None  # so many of them, drawn by chance
    other: bool = False  # on other customers altogether
    without: int | None = None  # the place of a feature that is left out
    params: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Scenario:
    """Two models and how far the challenger truly lies below the champion."""

    title: str
    champion: str
    challenger: str
    fall: float


RECIPES = {
    "ten months": Recipe(),
    "nine months": Recipe((0, MONTHS - 1)),
    "others": Recipe(other=True),
    "larger trees": Recipe(params=(("max_leaf_nodes", 31),)),
    "30 trees": Recipe(params=(("max_iter", 30),)),
    "one feature less": Recipe(without=3),
    "a quarter": Recipe(rows=3750),
    "a seventh": Recipe(rows=2100),
}
SCENARIOS = (
    Scenario("one month more to learn from", "nine months", "ten months", 0),
    Scenario("same rows, larger trees", "ten months", "larger trees", 0),
    Scenario("fitted on other customers", "ten months", "others", 0),
    Scenario("one month more, noise on the scores", "nine months", "ten months", 0.005),
    Scenario("one month more, noise on the scores", "nine months", "ten months", 0.01),
    Scenario("a feature forgotten", "ten months", "one feature less", 0.01),
    Scenario("a quarter of the rows", "ten months", "a quarter", 0.01),
    Scenario("one month more, noise on the scores", "nine months", "ten months", 0.02),
    Scenario("30 trees for 80", "ten months", "30 trees", 0.02),
    Scenario("a seventh of the rows", "ten months", "a seventh", 0.02),
)


def table(months: list[str] | tuple[str, ...], customers: int, seed: int, params: Params) -> pd.DataFrame:
    """Simulated rows as stage `prepare` would write them."""
    written = [pd.DataFrame(simulate_month(month, customers, seed).columns) for month in months]
    frame = pd.concat(written, ignore_index=True)
    return pd.DataFrame({name: cast(frame[name], params.data)[0] for name in params.data.columns})


def make(number: int, people: int, params: Params, folder: Path) -> None:
    """World `number`: its customers, and every model's answer to them before and after noise; kept in the folder."""
    everyone = table(NEWEST, people // len(NEWEST), 1000 + number, params)
    positive = encode_target(everyone[params.data.target.name], params.data) == 1
    fitted = {name: _fitted(recipe, number, everyone, params) for name, recipe in RECIPES.items()}
    kept: dict[str, Any] = {"positive": positive}
    for index, scenario in enumerate(SCENARIOS):
        (champion, threshold), (challenger, other) = fitted[scenario.champion], fitted[scenario.challenger]
        fall = auc(positive, champion) - auc(positive, challenger)
        rng = np.random.default_rng([number, index])
        if fall > scenario.fall:
            champion = blurred(champion, positive, auc(positive, challenger) + scenario.fall, rng)
        else:
            challenger = blurred(challenger, positive, auc(positive, champion) - scenario.fall, rng)
        truth = auc(positive, champion), auc(positive, challenger)
        kept |= {f"champion{index}": champion, f"challenger{index}": challenger}
        kept |= {f"facts{index}": np.array([threshold, other, fall, *truth])}
    everyone.to_parquet(folder / f"{number}.parquet")
    np.savez(folder / f"{number}.npz", **kept)


def _fitted(recipe: Recipe, number: int, everyone: pd.DataFrame, params: Params) -> tuple[Floats, float]:
    months = months_from("2025-01", MONTHS)[slice(*recipe.months)]
    rows = table(months, CUSTOMERS, 2000 + number + 500 * recipe.other, params)
    if recipe.rows:
        rows = rows.sample(recipe.rows, random_state=number).reset_index(drop=True)
    data = {name: f for place, (name, f) in enumerate(params.data.features.items()) if place != recipe.without}
    contract = params.data.model_copy(update={"features": data})
    section = params.train.model_copy(update={"params": params.train.params | dict(recipe.params)})
    changed = params.model_copy(update={"data": contract, "train": section})
    return fit(rows, everyone, changed)


def fit(rows: pd.DataFrame, everyone: pd.DataFrame, params: Params) -> tuple[Floats, float]:
    """Probabilities for everyone, and the threshold, of a model fitted as stage `train` does."""
    pipeline, threshold = train.fit(rows, params)
    with threadpool_limits(1):
        return pipeline.predict_proba(features.matrix(everyone, params.data))[:, 1], float(threshold or 0.5)


def auc(positive: NDArray[np.bool_], score: Floats) -> float:
    return float(metrics.roc_auc(positive, score, np.ones((1, len(score))))[0])


def blurred(score: Floats, positive: NDArray[np.bool_], wanted: float, rng: np.random.Generator) -> Floats:
    """The probabilities with as much normal noise on their logit as brings the ROC AUC down to `wanted`."""
    logit, noise = np.log(score / (1 - score)), rng.normal(size=len(score))
    low, high = 0.0, 4.0
    for _ in range(SHARPNESS):
        middle = (low + high) / 2
        low, high = (middle, high) if auc(positive, logit + middle * noise) > wanted else (low, middle)
        if high - low < 1e-5:
            break
    return np.asarray(1 / (1 + np.exp(-(logit + high * noise))))
