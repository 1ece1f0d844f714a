"""What the gate finds about a model that holds every rule, as plain values; tests change a value or two."""

from copy import deepcopy
from typing import Any

from perennial.params import Gate, Params
from perennial.review.rules import judge

FEATURES = {
    "mass": {"type": "number"},
    "colour": {"type": "category", "values": ["red", "green"]},
    "sealed": {"type": "boolean"},
}
TARGETS: dict[str, Any] = {
    "binary": {"name": "grade", "values": ["good", "bad"], "positive": "bad"},
    "regression": {"name": "grade", "type": "number"},
}
GATE: dict[str, Any] = {
    "floors": {"roc_auc": 0.7},
    "slices": {"floor": 0.6, "margin": 0.05, "rows": 100},
    "size": {"ratio": 2, "free": 1},
    "latency": {"ratio": 2, "free": 0.5},
}


def model(letter: str) -> dict[str, Any]:
    return {
        "model": letter * 64,
        "contract": "c" * 64,
        "estimator": "sklearn.ensemble.HistGradientBoostingClassifier",
        "trained_on": {"rows": 3000, "time": ["2024-01-01 00:00:00", "2024-03-01 00:00:00"]},
        "parity": {"rows": 500, "difference_below": 1e-6, "tolerance": 1e-5},
        "versions": {"python": "3.11"},
    }


def compared(champion: float, challenger: float, spread: float) -> dict[str, float]:
    difference = challenger - champion
    ends = {"low": difference - spread, "high": difference + spread}
    return {"champion": champion, "challenger": challenger, "difference": difference, **ends}


def slice_of(column: str, value: str, champion: float, challenger: float, sensitive: bool = False) -> dict[str, Any]:
    difference = challenger - champion
    spans = {"challenger": challenger, "difference": difference}
    ends = {f"{name}_{end}": v + s for name, v in spans.items() for end, s in (("low", -0.03), ("high", 0.03))}
    whose = {"column": column, "value": value, "rows": 500, "sensitive": sensitive}
    return {**whose, "champion": champion, **spans, **ends}


FACTS: dict[str, Any] = {
    "task": "binary",
    "commit": {"sha": "2" * 40, "clean": True},
    "base": "1" * 40,
    "currency": "EUR",
    "floors": {"roc_auc": 0.7},
    "broken": None,
    "lock": {"stale": [], "uncommitted": []},
    "data": {
        "passed": True, "rows": 4000, "rows_breaking_the_contract": 12, "leaks": {},
        "files": [{"file": "data/raw/1.csv", "rows": 3000}, {"file": "data/raw/2.csv", "rows": 1000}],
    },
    "reproduction": {"level": "same bytes", "details": []},
    "champion": model("a") | {"commit": "1" * 40, "source": "cache", "same_bytes": True},
    "challenger": model("b"),
    "not_compared": "",
    "compared": {"rows": 1000, "of": 1000},
    "evaluation": {
        "metrics": {
            "roc_auc": {"value": 0.82, "low": 0.8, "high": 0.84},
            "brier": {"value": 0.15, "low": 0.14, "high": 0.16},
            "value_per_1000": {"value": 2721.4, "low": 2358, "high": 3069},
        },
        "baseline": {"roc_auc": 0.5, "brier": 0.25, "value_per_1000": 0},
    },
    "metrics": {
        "roc_auc": compared(0.81, 0.82, 0.005),
        "brier": compared(0.15, 0.151, 0.002),
        "value_per_1000": compared(2500, 2721.4, 300),
    },
    "slices": [
        slice_of("colour", "red", 0.8, 0.85), slice_of("colour", "green", 0.82, 0.81), slice_of("age", "old", 0.8, 0.8)
    ],
    "fairness": [
        {
            "column": "age", "rate": "true positive rate", "gap": 0.1, "sure": 0.02,
            "highest": {"group": "old", "rate": 0.8}, "lowest": {"group": "young", "rate": 0.7},
        }
    ],
    "calibration": {"error": 0.03, "by_chance": 0.02, "noise": 0.01},
    "size": {"challenger": 2.0, "champion": 1.5},
    "latency": {"challenger": 0.02, "champion": 0.02},
    "parameters": [],
    "files": {"rows": {"before": 4000, "after": 4000}, "files": []},
    "features": [],
}  # fmt: skip
REGRESSION: dict[str, Any] = {
    "task": "regression",
    "currency": "",
    "evaluation.metrics": {
        "mae": {"value": 3.9, "low": 3.7, "high": 4.1},
        "r2": {"value": 0.8, "low": 0.7, "high": 0.9},
    },
    "evaluation.baseline": {"mae": 16.0, "r2": 0.0},
    "metrics": {"mae": compared(4.0, 3.9, 0.05), "r2": compared(0.79, 0.8, 0.005)},
    "slices": [slice_of("colour", "red", 4.0, 3.9)],
    "fairness": [],
}


def facts(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """FACTS with other values at some dotted places; None deletes nothing, it is a value."""
    found = deepcopy(FACTS)
    for place, value in (changes or {}).items():
        node, *path = found, *place.split(".")
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = deepcopy(value)
    return found


def params(task: str = "binary", **gate: Any) -> Params:
    floors = {} if task == "binary" else {"floors": {"mae": 5}, "slices": {"floor": 5, "margin": 0.05}}
    return Params.model_validate(
        {
            "seed": 1,
            "data": {"raw": "data/raw", "target": TARGETS[task], "features": FEATURES, "sensitive": ["age"]},
            "split": {"holdout": 0.2},
            "train": {"estimator": "sklearn.linear_model.LogisticRegression"},
            "value": {"true_positive": 5, "false_positive": -1, "currency": "EUR"} if task == "binary" else None,
            "evaluate": {"bootstrap": 100},
            "gate": Gate.model_validate(GATE | floors | gate),
        }
    )


def judged(changes: dict[str, Any] | None = None, task: str = "binary", **gate: Any) -> dict[str, Any]:
    """The facts with the rules' findings, as gate.json has them."""
    found = facts(changes)
    rules = judge(found, params(task, **gate))
    return {"rules": [{"name": r.name, "passed": r.passed, "text": r.text, "fix": r.fix} for r in rules], **found}
