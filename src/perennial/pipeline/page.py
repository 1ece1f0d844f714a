"""reports/report.html: one file a colleague can open offline and understand."""

import base64
from pathlib import Path
from typing import Any

from perennial.params import METRICS, Params

TEMPLATE = Path(__file__).with_name("report.html.j2")
MEANING = {
    "roc_auc": "chance that a positive row scores above a negative one",
    "average_precision": "precision averaged over all thresholds",
    "log_loss": "surprise at the truth; less is better",
    "brier": "mean squared error of the probability; less is better",
    "calibration_error": "gap between probability and what happens; less is better",
    "accuracy": "share of right answers",
    "precision": "share of flagged rows that are positive",
    "recall": "share of positive rows that are flagged",
    "f1": "balance of precision and recall",
    "value_per_1000": "what 1,000 decisions are worth",
    "f1_macro": "F1, averaged over the classes",
    "roc_auc_macro": "ROC AUC of each class against the rest, averaged",
    "mae": "mean absolute error; less is better",
    "rmse": "root of the mean squared error; less is better",
    "r2": "share of the variance explained",
}
TITLES = {
    "curve": "How well it ranks", "calibration": "Do its numbers mean what they say?", "scores": "Scores by class",
    "value": "Worth of the threshold", "errors": "Predicted and actual", "confusion": "Right and wrong",
    "importance": "Importance", "slices": "Slices",
}  # fmt: skip


def render(
    figures: dict[str, Any],
    details: dict[str, Any],
    drawn: dict[str, str],
    profile: dict[str, Any],
    data: dict[str, Any],
    params: Params,
) -> str:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "share": lambda part: f"{part:.1%}"}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    images = {name: base64.b64encode(svg.encode()).decode() for name, svg in drawn.items()}
    return template.render(
        figures=figures, details=details, images=images, titles=TITLES, profile=profile, data=data, params=params,
        contract=params.data, rows=table(figures, params), passed=all(floor["passed"] for floor in details["floors"]),
        lead=next(iter(METRICS[params.data.task])),
    )  # fmt: skip


def table(figures: dict[str, Any], params: Params) -> list[dict[str, Any]]:
    """The metrics in the order they are read: value, interval, the dummy's value, whether ours is better."""
    better = METRICS[params.data.task] | {"value_per_1000": True}
    return [
        {
            "name": name, "meaning": MEANING[name], **figures["metrics"][name], "baseline": figures["baseline"][name],
            "wins": (figures["metrics"][name]["value"] > figures["baseline"][name]) == more,
        }
        for name, more in better.items()
        if name in figures["metrics"]
    ]  # fmt: skip


def number(value: Any) -> str:
    """Four significant digits, or as many as the whole part has."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
