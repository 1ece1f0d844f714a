"""models/profile.json: what a model needs beside its weights, and what its training data looked like."""

import platform
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from perennial.contract import Boolean, Category, Contract, Number
from perennial.inputs import layout

BINS = 10
OTHER = "other"  # the share of categories the contract does not list


def describe(train: pd.DataFrame, contract: Contract) -> dict[str, Any]:
    """The contract, the model's inputs and the reference every later window is compared with."""
    span = [str(train[contract.time.name].agg(end)) for end in ("min", "max")] if contract.time else None
    return {
        "contract": contract.model_dump(mode="json"),
        "contract_digest": contract.digest,
        "task": contract.task,
        "classes": list(contract.target.classes),
        "inputs": {name: list(columns) for name, columns in layout(contract).items()},
        "trained_on": {"rows": len(train), "time": span},
        "target": _target(train[contract.target.name], contract),
        "features": {name: reference(train[name], contract) for name in contract.features},
        "example": {name: _typical(train[name], contract) for name in contract.features},
        "versions": {"python": ".".join(platform.python_version_tuple()[:2])}
        | {name: version(name) for name in ("scikit-learn", "skl2onnx", "onnx", "onnxruntime", "numpy")},
    }


def reference(column: pd.Series, contract: Contract) -> dict[str, Any]:
    """Shares of the column's bins, of its missing values, and of values nobody declared; they add up to 1.

    Numbers are binned at their deciles (`edges` are the inner ones; a bin holds low < value <= high),
    texts by their count of words; a category and a boolean have a bin for each value.
    """
    spec = contract.features[str(column.name)]
    missing = float(column.isna().mean())
    if isinstance(spec, (Category, Boolean)):
        values = spec.values if isinstance(spec, Category) else (False, True)
        shares = [float((column == value).sum() / len(column)) for value in values]
        other = max(0.0, 1 - sum(shares) - missing)
        return {"type": spec.type, "values": list(values), "shares": shares, "missing": missing, OTHER: other}
    numbers = column.dropna() if isinstance(spec, Number) else column.dropna().map(lambda text: len(str(text).split()))
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1])) if len(numbers) else np.empty(0)
    counts = np.bincount(np.searchsorted(edges, numbers.to_numpy(np.float64)), minlength=len(edges) + 1)
    return {"type": spec.type, "edges": edges.tolist(), "shares": (counts / len(column)).tolist(), "missing": missing}


def _target(target: pd.Series, contract: Contract) -> dict[str, Any]:
    if contract.task == "regression":
        return {"mean": float(target.mean()), "std": float(target.std()), "median": float(target.median())}
    return {"shares": [float((target == label).mean()) for label in contract.target.classes]}


def _typical(column: pd.Series, contract: Contract) -> Any:
    """The median or most common value, as a client would send it."""
    spec, given = contract.features[str(column.name)], column.dropna()
    if given.empty:
        return None
    if isinstance(spec, Number):
        middle = float(given.sort_values().iloc[len(given) // 2])
        return int(middle) if middle.is_integer() else middle
    value = given.mode().iloc[0]
    return bool(value) if isinstance(spec, Boolean) else str(value)
