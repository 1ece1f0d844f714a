"""The built-in data: a simulated subscription service, month by month.

Each row is one customer on the first of a month; the label says whether that
customer had left a month later. A month depends on nothing but the seed and its
own date, so any month can be written again, or written later with drift.
The only file of code that names columns of the built-in table: it makes them.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Drift = Literal["none", "covariate", "concept", "broken"]
Floats = NDArray[np.float64]
Columns = dict[str, Any]

PLANS = {"basic": 12.0, "plus": 24.0, "pro": 55.0}
CHANNELS = ["web", "app", "partner", "phone"]
REGIONS = ["north", "south", "east", "west"]
AGES = ["18-29", "30-44", "45-59", "60+"]
MESSAGES = [
    ["love the new release", "works great, thank you", "very happy with the support", "just what my team needed"],
    [
        "how do I change my address?",
        "please send the invoice again",
        "can I add a second user?",
        "where is the export?",
    ],
    ["too expensive for what it does", "thinking of cancelling", "it keeps crashing 😡", "still waiting for an answer"],
]  # by tone: glad, neutral, cross
GREETINGS = ["", "", "Hi, ", "Hello, ", "Olá, ", "Grüezi, ", "URGENT: "]


@dataclass(frozen=True)
class Month:
    """Rows as they are written and, for whoever judges a model, the truth behind them."""

    columns: Columns
    probability: Floats  # of the positive label, before any value went missing


def simulate_month(month: str, rows: int, seed: int, drift: Drift = "none") -> Month:
    """One month ("2025-01") of `rows` customers."""
    year, number = map(int, month.split("-"))
    rng = np.random.default_rng([seed, year, number])
    truth, tone = _customers(rng, rows, drift == "covariate")
    probability = _churn_probability(truth, tone, number, drift == "concept")
    label = np.where(rng.random(rows) < probability, "yes", "no")
    ids = [f"C{year % 100:02d}{number:02d}{index:06d}" for index in range(rows)]
    seen = _as_observed(rng, truth)
    if drift == "broken":
        _break(rng, seen)
    return Month({"customer_id": ids, "billing_month": [month] * rows, **seen, "churned": label}, probability)


def _customers(rng: np.random.Generator, rows: int, shifted: bool) -> tuple[Columns, NDArray[np.int64]]:
    """Who they are. Shifted: prices rise, the app brings in newer customers who log in less."""
    age = rng.choice(4, rows, p=[0.22, 0.34, 0.27, 0.17])
    channel = rng.choice(4, rows, p=[0.25, 0.55, 0.12, 0.08] if shifted else [0.45, 0.30, 0.15, 0.10])
    plan = rng.choice(3, rows, p=[0.5, 0.33, 0.17])
    tenure = rng.gamma(1.4, 12 if shifted else 20, rows).clip(0, 239).astype(int)
    fee = np.array(list(PLANS.values()))[plan] * (1.25 if shifted else 1.0) * rng.lognormal(0, 0.18, rows)
    logins = rng.poisson(rng.gamma(1.6, 5.0 if shifted else 8.0, rows) * np.where(channel == 1, 1.3, 1.0))
    tickets = rng.poisson(0.5 + 0.5 * (channel == 3) + 0.02 * logins)
    delay = np.where(rng.random(rows) < 0.25, rng.gamma(1.5, 6.0, rows), 0.0).round()
    tone = np.where(rng.random(rows) < 0.45, rng.choice(3, rows, p=[0.3, 0.4, 0.3]), -1)
    truth = {
        "tenure_months": tenure,
        "monthly_fee": fee.round(2),
        "logins_30d": logins,
        "support_tickets": tickets,
        "payment_delay_days": delay.astype(int),
        "plan_tier": np.array(list(PLANS))[plan],
        "signup_channel": np.array(CHANNELS)[channel],
        "sales_region": rng.choice(REGIONS, rows),
        "auto_renew": rng.random(rows) < 0.45 + 0.12 * plan,
        "last_message": _messages(rng, tone),
        "age_band": np.array(AGES)[age],
    }
    return truth, tone


def _messages(rng: np.random.Generator, tone: NDArray[np.int64]) -> list[str]:
    """What the customer wrote last; one message in ten does not show the tone behind it."""
    shown = np.where((tone >= 0) & (rng.random(len(tone)) < 0.1), rng.choice(3, len(tone)), tone)
    greeting, phrase = rng.choice(len(GREETINGS), len(tone)), rng.choice(4, len(tone))
    return ["" if s < 0 else GREETINGS[g] + MESSAGES[s][p] for s, g, p in zip(shown, greeting, phrase, strict=True)]


def _churn_probability(truth: Columns, tone: NDArray[np.int64], month: int, changed: bool) -> Floats:
    """P(leaves). Changed: a rival appears; those who pay much and renew by hand go, old customers too."""
    relative_fee = truth["monthly_fee"] / np.vectorize(PLANS.get)(truth["plan_tier"]) - 1.0
    idle = truth["logins_30d"] <= 4
    renews = truth["auto_renew"]
    logit = -1.55 + 0.15 * np.cos(2 * np.pi * month / 12)
    logit = logit - (0.15 if changed else 0.62) * (np.log1p(truth["tenure_months"]) - 3.0)
    logit = logit + 1.3 * idle - 0.035 * np.minimum(truth["logins_30d"], 30)
    logit = logit + (6.0 if changed else 1.8) * relative_fee * np.where(idle, 1.8, 1.0)
    logit = logit + 0.45 * np.minimum(truth["support_tickets"], 4) * np.where(truth["plan_tier"] == "pro", 0.4, 1.0)
    logit = logit + 0.09 * np.minimum(truth["payment_delay_days"], 20)
    logit = logit - (-0.4 if changed else 1.1) * renews + 0.25 * (truth["signup_channel"] == "partner")
    logit = logit + np.array([0.0, -0.9, 0.0, 1.6])[tone + 1] + np.where(truth["age_band"] == "18-29", 0.25, 0.0)
    return np.asarray(1 / (1 + np.exp(-1.2 * logit)), dtype=np.float64)


def _as_observed(rng: np.random.Generator, truth: Columns) -> Columns:
    """What reaches the table: some values get lost, and not at random."""
    seen = {name: np.array([_cell(value) for value in column], dtype=object) for name, column in truth.items()}
    rows = len(truth["tenure_months"])
    tracked = np.where(truth["signup_channel"] == "phone", 0.75, 0.97)
    seen["logins_30d"][rng.random(rows) > tracked] = ""
    seen["payment_delay_days"][rng.random(rows) < 0.06] = ""
    seen["monthly_fee"][rng.random(rows) < 0.01] = ""
    seen["sales_region"][rng.random(rows) < 0.03] = ""
    return seen


def _cell(value: Any) -> str:
    return str(value).lower() if isinstance(value, (bool, np.bool_)) else str(value)


def _break(rng: np.random.Generator, seen: Columns) -> None:
    """The faults of a bad release: cents for euros, a lost tracker, a plan nobody declared."""
    seen["monthly_fee"] = np.array(
        [value and f"{float(value) * 100:.0f}" for value in seen["monthly_fee"]], dtype=object
    )
    seen["logins_30d"][rng.random(len(seen["logins_30d"])) < 0.6] = ""
    seen["plan_tier"][rng.random(len(seen["plan_tier"])) < 0.08] = "premium"


def months_from(start: str, count: int) -> list[str]:
    """`count` months from "2025-01" on."""
    year, month = map(int, start.split("-"))
    ordinals = range(year * 12 + month - 1, year * 12 + month - 1 + count)
    return [f"{ordinal // 12:04d}-{ordinal % 12 + 1:02d}" for ordinal in ordinals]


def write_month(batch: Month, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(batch.columns)
        writer.writerows(zip(*batch.columns.values(), strict=True))


def best_auc(batches: list[Month]) -> float:
    """ROC AUC of the true probability: no model can do better, for it also knows the values that went missing."""
    probability = np.concatenate([batch.probability for batch in batches])
    positive = np.concatenate([batch.columns["churned"] == "yes" for batch in batches])
    ranks = probability.argsort().argsort() + 1.0
    wins = ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return float(wins / (positive.sum() * (~positive).sum()))
