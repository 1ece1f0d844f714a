"""How good the answers of a window were: measured where labels came, expected where they did not.

The expectation is what the hold-out makes of the model's probabilities (isotonic calibration). It follows a change of
the rows, and is blind to a change of what they mean: under concept or prior drift it says that nothing happened. The
report says so beside it.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perennial.inputs import encode_target
from perennial.model import loss
from perennial.params import METRICS, Params
from perennial.pipeline import metrics

if TYPE_CHECKING:
    import pandas as pd

SURE = 2.58  # standard errors: once in 200 windows by chance
LEAST = 100  # labels below which quality is not judged
RESAMPLES, DRAWN = 500, 10_000_000  # fewer resamples of very many rows: their interval is narrow anyway
Floats = NDArray[np.float64]


def measured(frame: "pd.DataFrame", profile: dict[str, Any], params: Params) -> dict[str, Any] | None:
    """Every metric with its interval on the labelled rows; None when there are too few, or of one class only."""
    known = labelled(frame, profile)
    if len(known) < LEAST or known["_label"].nunique() < 2:
        return None
    target = encode_target(known["_label"], params.data).astype(np.float64)
    ours = metrics.for_task(params.data.task, target, answers(known, params), profile["threshold"], params.value)
    resamples = min(RESAMPLES, max(100, DRAWN // len(known)))
    return metrics.measure(ours, len(known), resamples, params.seed)


def labelled(frame: "pd.DataFrame", profile: dict[str, Any]) -> "pd.DataFrame":
    """The rows with a label that this target can have."""
    import pandas as pd

    if profile["classes"]:
        return frame[frame["_label"].isin(profile["classes"])]
    return frame.assign(_label=pd.to_numeric(frame["_label"], errors="coerce")).dropna(subset="_label")


def slices(frame: "pd.DataFrame", profile: dict[str, Any], params: Params) -> list[dict[str, Any]]:
    """The leading metric on the labelled rows of each category and boolean, where there are enough to tell."""
    from perennial.pipeline.evaluate import slice_figures

    known = labelled(frame, profile)
    if known.empty:
        return []
    target = encode_target(known["_label"], params.data).astype(np.float64)
    unlogged = {name: None for name in params.data.sensitive if name not in known}
    found = slice_figures(known.assign(**unlogged), target, answers(known, params), profile, params)
    return [row for row in found if row["figure"] and row["column"] not in unlogged]


def expected(frame: "pd.DataFrame", profile: dict[str, Any], params: Params) -> dict[str, float]:
    """The metrics of these rows if the hold-out's calibration still holds (known as CBPE); for two classes only."""
    if params.data.task != "binary" or frame.empty:
        return {}
    said = answers(frame, params)[:, 1]
    probability = _calibrated(said, profile)
    flagged = said >= profile["threshold"]
    order = np.argsort(said, kind="stable")
    rising = probability[order]
    pairs = rising.sum() * (1 - rising).sum()
    figures = {
        "roc_auc": float((rising * np.cumsum(1 - rising)).sum() / pairs) if pairs else 0.5,
        "accuracy": float(np.where(flagged, probability, 1 - probability).mean()),
        "brier": float((probability * (1 - said) ** 2 + (1 - probability) * said**2).mean()),
    }
    if params.value:
        value = params.value
        gain = probability * value.true_positive + (1 - probability) * value.false_positive
        rest = probability * value.false_negative + (1 - probability) * value.true_negative
        figures["value_per_1000"] = float(1000 * np.where(flagged, gain, rest).mean())
    return figures


def fell(found: dict[str, Any] | None, promised: dict[str, Any], task: str, late: float | None = None) -> bool:
    """Whether quality is surely worse than on the hold-out: the leading metric's two intervals do not meet, or the loss
    lies `late` standard errors behind (`behind`); the metric sees a worse order, the loss also a wrong level."""
    if late is not None and late > SURE:
        return True
    if not found:
        return False
    lead, more = next(iter(METRICS[task].items()))
    now, then = found[lead], promised[lead]
    return bool(now["high"] < then["low"] if more else now["low"] > then["high"])


def behind(frame: "pd.DataFrame", profile: dict[str, Any], params: Params) -> float | None:
    """By how many standard errors the labelled rows lose more than the hold-out promises (`model.loss`).

    For two classes each row is compared with the loss that the hold-out's calibration expects of it, so that harder
    rows are no worse model; else the mean with the hold-out's. None where there are too few labels.
    """
    known = labelled(frame, profile)
    if len(known) < LEAST:
        return None
    said, promised, task = answers(known, params), profile["promised"], params.data.task
    answered = said.argmax(axis=1) if task == "multiclass" else said[:, 1] if task == "binary" else said
    lost = loss(task, answered, encode_target(known["_label"], params.data))
    due, spread = promised["loss"]["mean"], promised["loss"]["std"]
    if task == "binary":
        positive = _calibrated(answered, profile)
        due = positive * (1 - answered) ** 2 + (1 - positive) * answered**2
        spread = float((lost - due).std())
    more = lost - due
    wide = float(np.sqrt(more.var() / len(more) + spread**2 / promised["rows"]))
    return float(more.mean()) / wide if wide else 0.0


def _calibrated(probability: Floats, profile: dict[str, Any]) -> Floats:
    """What share the hold-out had positive where the model said this."""
    corners = profile["promised"]["calibration"]
    return np.asarray(np.interp(probability, corners["probability"], corners["share"]))


def answers(frame: "pd.DataFrame", params: Params) -> Floats:
    """What the model said: probabilities (rows, classes), or values (rows,)."""
    figures = np.array(frame["_answer"].tolist(), np.float64)
    return figures.ravel() if params.data.task == "regression" else figures
