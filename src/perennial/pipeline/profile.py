"""models/profile.json: what a model needs beside its weights, and what its training data looked like."""

import platform
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from perennial.contract import Boolean, Category, Contract, Number
from perennial.inputs import layout
from perennial.model import loss

BINS = 10
OTHER = "other"  # the share of values the contract does not list


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
        "example": {"row": {name: _typical(train[name], contract) for name in contract.features}},
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
        facts: dict[str, Any] = {
            "type": spec.type,
            "values": list(values),
            "shares": shares,
            "missing": missing,
            OTHER: other,
        }
        return facts | {"chi2_critical": _critical(len(shares) + 2, contract)}
    numbers = column.dropna() if isinstance(spec, Number) else column.dropna().map(lambda text: len(str(text).split()))
    deciles = np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1]) if len(numbers) else []
    edges = np.unique([float(f"{edge:.9g}") for edge in deciles])
    if len(edges) and numbers.min() == edges[0] and (spec.type == "text" or spec.min != edges[0]):
        edges = np.array([np.nextafter(edges[0], -np.inf), *edges])  # or a fall would stay in the bin of the least
    shares = _shares(numbers.to_numpy(np.float64), edges, len(column))
    critical = _critical(len(shares) + 1, contract)
    ends = [float(numbers.min()), float(numbers.max())] if len(numbers) else None
    return {
        "type": spec.type,
        "range": ends,
        "edges": edges.tolist(),
        "shares": shares,
        "missing": missing,
        "chi2_critical": critical,
    }


def _shares(numbers: Any, edges: Any, rows: int) -> list[float]:
    return list(np.bincount(np.searchsorted(edges, numbers), minlength=len(edges) + 1) / rows)


def _critical(bins: int, contract: Contract) -> float:
    """The chi-square quantile above which a PSI is no chance, at 5 % over all features (Bonferroni)."""
    from scipy.stats import chi2

    return float(chi2.ppf(1 - 0.05 / len(contract.features), bins - 1))


def answers_reference(answers: Any, target: pd.Series, contract: Contract) -> dict[str, Any]:
    """How the model's answers spread over bins: tenths of the positive probability, classes, deciles of the target."""
    if contract.task == "multiclass":
        shares = np.bincount(answers.argmax(axis=1), minlength=answers.shape[1]) / len(answers)
        return {"values": list(contract.target.classes), "shares": shares.tolist()}
    if contract.task == "binary":
        edges, score = np.arange(1, 10) / 10, answers[:, 1]
    else:
        edges, score = np.unique(np.quantile(target, np.arange(1, 10) / 10)), answers
    return {"edges": edges.tolist(), "shares": _shares(score, edges, len(score))}


def promised(answers: Any, target: Any, contract: Contract) -> dict[str, Any]:
    """What the hold-out promises for rows that get a label: the loss of one (`model.loss`), and, for two classes,
    which share was positive at which probability (isotonic regression, by its corners).

    Args:
        answers: probabilities (rows, classes), or values (rows,).
        target: encoded, shape (rows,).
    """
    answered = answers.argmax(axis=1) if contract.task == "multiclass" else answers
    answered = answers[:, 1] if contract.task == "binary" else answered
    losses = loss(contract.task, answered, target)
    facts: dict[str, Any] = {"rows": len(losses), "loss": {"mean": float(losses.mean()), "std": float(losses.std())}}
    if contract.task == "binary":
        from sklearn.isotonic import IsotonicRegression

        corners = IsotonicRegression(y_min=0, y_max=1).fit(answered, target)
        facts["calibration"] = {
            "probability": corners.X_thresholds_.tolist(),
            "share": corners.y_thresholds_.tolist(),
        }
    return facts


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
