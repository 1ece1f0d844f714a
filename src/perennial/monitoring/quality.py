"""How good the answers of a window were: measured where labels came, expected where they did not.

The expectation is that of the model's own calibrated probabilities. It follows a change of the rows, and is blind to a
change of what they mean: under concept or prior drift it says that nothing happened. The report says so beside it.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perennial.inputs import encode_target
from perennial.params import METRICS, Params
from perennial.pipeline import metrics

if TYPE_CHECKING:
    import pandas as pd

LEAST = 100  # labels below which quality is not judged
RESAMPLES = 500
Floats = NDArray[np.float64]


def measured(frame: "pd.DataFrame", profile: dict[str, Any], params: Params) -> dict[str, Any] | None:
    """Every metric with its interval on the labelled rows; None when there are too few, or of one class only."""
    import pandas as pd

    if profile["classes"]:
        known = frame[frame["_label"].isin(profile["classes"])]
    else:
        known = frame.assign(_label=pd.to_numeric(frame["_label"], errors="coerce")).dropna(subset="_label")
    if len(known) < LEAST or known["_label"].nunique() < 2:
        return None
    target = encode_target(known["_label"], params.data).astype(np.float64)
    ours = metrics.for_task(params.data.task, target, answers(known, params), profile["threshold"], params.value)
    return metrics.measure(ours, len(known), RESAMPLES, params.seed)


def expected(frame: "pd.DataFrame", profile: dict[str, Any], params: Params) -> dict[str, float]:
    """The metrics that calibrated probabilities would have on these rows (known as CBPE); for two classes only."""
    if params.data.task != "binary" or frame.empty:
        return {}
    probability = answers(frame, params)[:, 1]
    flagged = probability >= profile["threshold"]
    order = np.argsort(probability, kind="stable")
    rising = probability[order]
    pairs = rising.sum() * (1 - rising).sum()
    figures = {
        "roc_auc": float((rising * np.cumsum(1 - rising)).sum() / pairs) if pairs else 0.5,
        "accuracy": float(np.where(flagged, probability, 1 - probability).mean()),
        "brier": float((probability * (1 - probability)).mean()),
    }
    if params.value:
        value = params.value
        gain = probability * value.true_positive + (1 - probability) * value.false_positive
        rest = probability * value.false_negative + (1 - probability) * value.true_negative
        figures["value_per_1000"] = float(1000 * np.where(flagged, gain, rest).mean())
    return figures


def fell(found: dict[str, Any] | None, promised: dict[str, Any], task: str) -> bool:
    """Whether the leading metric is surely worse than on the hold-out: the two intervals do not meet."""
    if not found:
        return False
    lead, more = next(iter(METRICS[task].items()))
    now, then = found[lead], promised[lead]
    return bool(now["high"] < then["low"] if more else now["low"] > then["high"])


def answers(frame: "pd.DataFrame", params: Params) -> Floats:
    """What the model said: probabilities (rows, classes), or values (rows,)."""
    figures = np.array(frame["_answer"].tolist(), np.float64)
    return figures.ravel() if params.data.task == "regression" else figures
