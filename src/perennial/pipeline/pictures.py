"""The pictures of the evaluation, as SVG that is the same for the same figures."""

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from perennial.params import METRICS, Params, Value
from perennial.pipeline import metrics

BLUE, GREY, ORANGE = "#2563eb", "#94a3b8", "#ea580c"
Floats = NDArray[np.float64]
Curves = dict[str, list[tuple[Any, ...]]]
STYLE: Any = {
    "svg.hashsalt": "perennial", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": GREY, "axes.titleweight": "bold", "axes.titlesize": 11,
    "axes.grid": True, "grid.color": "#e2e8f0", "axes.axisbelow": True, "legend.frameon": False,
}  # fmt: skip


def draw(
    target: Floats,
    answer: Floats,
    curves: Curves,
    figures: dict[str, Any],
    details: dict[str, Any],
    profile: dict[str, Any],
    params: Params,
) -> dict[str, str]:
    """Name of each picture and its SVG, in the order they are read."""
    task, classes = params.data.task, profile["classes"]
    with matplotlib.rc_context(STYLE):
        drawn = {
            "curve": _curve(curves["curve"], task, figures),
            "calibration": _calibration(curves["calibration"], task),
        }
        if task == "binary":
            drawn["scores"] = _scores(answer[:, 1], target == 1, profile["threshold"], classes)
        if task == "binary" and params.value:
            drawn["value"] = _value(answer[:, 1], target == 1, profile["threshold"], params.value)
        if task == "regression":
            drawn["errors"] = _errors(target, answer)
        else:
            drawn["confusion"] = _confusion(target, answer, profile)
        drawn["importance"] = _importance(details["importance"], next(iter(METRICS[task])))
        if details["slices"]:
            drawn["slices"] = _slices(details["slices"], figures)
        return {name: _svg(figure) for name, figure in drawn.items()}


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    return buffer.getvalue()


def _axes(title: str, across: str, up: str, height: float = 3.6) -> tuple[Figure, Any]:
    figure = Figure(figsize=(4.8, height))
    axes = figure.subplots()
    axes.set(title=title, xlabel=across, ylabel=up)
    return figure, axes


def _curve(points: list[tuple[Any, ...]], task: str, figures: dict[str, Any]) -> Figure:
    x, y = zip(*points, strict=True)
    if task == "regression":
        figure, axes = _axes("How far off", "error at most", "share of rows")
        axes.axvline(figures["metrics"]["mae"]["value"], color=GREY, linestyle="--", label="mean error")
    else:
        figure, axes = _axes("ROC curve", "false positive rate", "true positive rate")
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="guessing")
    axes.plot(x, y, color=BLUE, label="model")
    axes.legend(loc="lower right")
    return figure


def _calibration(rows: list[tuple[Any, ...]], task: str) -> Figure:
    predicted, actual, _ = zip(*rows, strict=True)
    what = "value" if task == "regression" else "probability"
    figure, axes = _axes("Calibration", f"mean predicted {what}", "mean of what happened")
    ends = [min(*predicted, *actual), max(*predicted, *actual)]
    axes.plot(ends, ends, color=GREY, linestyle="--", label="perfect")
    axes.plot(predicted, actual, color=BLUE, marker="o", label="model, tenths of the rows")
    axes.legend(loc="upper left")
    return figure


def _scores(probability: Floats, positive: NDArray[np.bool_], threshold: float, classes: list[str]) -> Figure:
    figure, axes = _axes("What the model says of each class", f"probability of {classes[-1]}", "share of the class")
    bins = np.linspace(0, 1, 26)
    for label, rows, color in ((classes[0], ~positive, GREY), (classes[-1], positive, BLUE)):
        axes.hist(
            probability[rows],
            bins,
            weights=np.full(rows.sum(), 1 / max(rows.sum(), 1)),
            color=color,
            alpha=0.6,
            label=label,
        )
    axes.axvline(threshold, color=ORANGE, label=f"threshold {threshold:.2f}")
    axes.legend(title="really")
    return figure


def _value(probability: Floats, positive: NDArray[np.bool_], threshold: float, value: Value) -> Figure:
    figure, axes = _axes("What the threshold is worth", "threshold", f"{value.currency or 'value'} per 1,000 rows")
    grid, everyone = np.linspace(0.01, 0.99, 99), np.ones((1, len(probability)))
    worth = [metrics.binary(positive, probability, t, value)["value_per_1000"](everyone)[0] for t in grid]
    axes.plot(grid, worth, color=BLUE)
    axes.axhline(0, color=GREY, linewidth=1)
    axes.axvline(threshold, color=ORANGE, label=f"chosen on training folds: {threshold:.2f}")
    axes.legend()
    return figure


def _errors(target: Floats, answer: Floats) -> Figure:
    figure, axes = _axes("Predicted and actual", "predicted", "actual")
    axes.hexbin(answer, target, gridsize=40, mincnt=1, bins="log", cmap="Blues", linewidths=0)
    ends = [min(answer.min(), target.min()), max(answer.max(), target.max())]
    axes.plot(ends, ends, color=ORANGE, linewidth=1)
    return figure


def confusion_table(target: Floats, answer: Floats, threshold: float | None) -> NDArray[np.int64]:
    """Rows by true class, columns by predicted class."""
    predicted = (answer[:, 1] >= threshold).astype(int) if threshold is not None else answer.argmax(axis=1)
    size = answer.shape[1]
    return np.bincount(target.astype(int) * size + predicted, minlength=size * size).reshape(size, size)


def _confusion(target: Floats, answer: Floats, profile: dict[str, Any]) -> Figure:
    table = confusion_table(target, answer, profile["threshold"])
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = _axes("Right and wrong", "predicted", "really")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    places = range(len(table))
    axes.set_xticks(places, profile["classes"])
    axes.set_yticks(places, profile["classes"])
    for row, column in np.ndindex(table.shape):
        shade = "white" if shares[row, column] > 0.5 else "black"
        axes.text(
            column, row, f"{table[row, column]:,}\n{shares[row, column]:.0%}", ha="center", va="center", color=shade
        )
    return figure


def _importance(importance: dict[str, Any], lead: str) -> Figure:
    names = list(importance)[:20][::-1]
    figure, axes = _axes("What the model relies on", f"loss of {lead} when shuffled", "", 1.2 + 0.28 * len(names))
    axes.barh(
        names,
        [importance[n]["mean"] for n in names],
        xerr=[importance[n]["std"] for n in names],
        color=BLUE,
        ecolor=GREY,
    )
    axes.grid(axis="y", visible=False)
    return figure


def _slices(slices: list[dict[str, Any]], figures: dict[str, Any]) -> Figure:
    shown = [row for row in slices if row["figure"]][:40][::-1]
    lead = slices[0]["value_of"]
    figure, axes = _axes(f"{lead} by slice, with 95 % intervals", lead, "", 1.2 + 0.26 * len(shown))
    for place, row in enumerate(shown):
        color = ORANGE if row["sensitive"] else BLUE
        axes.plot([row["figure"]["low"], row["figure"]["high"]], [place, place], color=color)
        axes.plot(row["figure"]["value"], place, marker="o", color=color)
    axes.set_yticks(range(len(shown)), [f"{row['column']} = {row['value']}" for row in shown])
    axes.axvline(figures["metrics"][lead]["value"], color=GREY, linestyle="--")
    axes.grid(axis="y", visible=False)
    return figure
