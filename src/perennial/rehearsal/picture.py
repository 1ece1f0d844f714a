"""Quality over time, with what happened: one picture, and the table behind it."""

from pathlib import Path
from typing import Any

import numpy as np

from perennial.console import out
from perennial.pipeline import metrics

SPAN, WEEK = 1, 7  # days of a point in the picture, of a row of the table
COLOURS = {"quiet": "#16a34a", "watch": "#eab308", "data-quality": "#9333ea", "retrain": "#dc2626"}
Facts = dict[str, Any]


def auc(label: Any, score: Any) -> float:
    rows = np.ones((1, len(label)))
    return float(metrics.roc_auc(np.asarray(label) == 1, np.asarray(score, np.float64), rows)[0])


def points(story: Facts, span: int) -> list[Facts]:
    """For each so many days: ROC AUC of what was served, by all true labels, and of the true probabilities."""
    found = []
    for start in range(0, len(story["days"]), span):
        days = story["days"][start : start + span]
        label, said, truth = ([cell for day in days for cell in day[name]] for name in ("label", "said", "truth"))
        arrived = sum(day["labels_arrived"] for day in days)
        found.append({
            "day": start, "rows": len(label), "version": days[-1]["version"], "labels_arrived": arrived,
            "served": auc(label, said), "reachable": auc(label, truth),
        })  # fmt: skip
    return found


def draw(story: Facts, path: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    from perennial.pipeline.pictures import BLUE, GREY, ORANGE, STYLE

    table = points(story, SPAN)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.8), layout="constrained")
        axes = figure.add_subplot()
        middle = [row["day"] + SPAN / 2 for row in table]
        axes.plot(middle, [row["reachable"] for row in table], "--", color=GREY, label="the most any model could have")
        versions = dict.fromkeys(row["version"] for row in table)
        for version, colour in zip(versions, (BLUE, ORANGE, "#0d9488") * len(versions), strict=False):
            own = [(day, row["served"]) for day, row in zip(middle, table, strict=True) if row["version"] == version]
            axes.plot(*zip(*own, strict=True), "o-", color=colour, markersize=3, label=f"model {version[:8]}")
        _events(axes, story)
        axes.set(xlabel="day", ylabel="ROC AUC of what was served", xlim=(0, len(story["days"])))
        axes.set_title("The world changes; the watch sees it; a pull request brings the model back")
        figure.legend(loc="outside lower center", ncols=4)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160)


def _events(axes: Any, story: Facts) -> None:
    """Decisions as coloured squares along the bottom, the rest as lines with words."""
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.12 * (high - low), high + 0.1 * (high - low))
    low, high = axes.get_ylim()
    told: set[str] = set()
    for event in story["events"]:
        if decision := event.get("decision"):
            label = f"the watch says {decision}" if decision not in told else None
            told.add(decision)
            axes.plot(event["day"], low + 0.05 * (high - low), "s", color=COLOURS[decision], markersize=8, label=label)
        if words := event.get("short"):
            axes.axvline(event["day"], color="#475569", linewidth=0.8, linestyle=":")
            axes.text(event["day"] + 0.4, high, words, va="top", fontsize=9, color="#475569")


def say(story: Facts) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("days", "rows", "labels", "model", "ROC AUC", "could be", "what happened")
    for row in points(story, WEEK):
        last = row["day"] + WEEK
        happened = [event["what"] for event in story["events"] if row["day"] < max(event["day"], 1) <= last]
        counts = [f"{row['rows']:,}", f"{row['labels_arrived']:,}", row["version"][:8]]
        figures = [f"{row['served']:.3f}", f"{row['reachable']:.3f}"]
        table.add_row(
            f"{row['day']}–{min(last, len(story['days'])) - 1}", *counts, *figures, escape("\n".join(happened))
        )
    out.print(table)
    found = story["recovery"]
    out.print(
        f"After the change {found['before']:.3f}, after the merge {found['served']:.3f}; a model trained on the whole "
        f"truth has {found['trained_on_the_truth']:.3f}, and none can have more than {found['reachable']:.3f}."
    )
    out.print(f"{story['requests']:,} requests, {story['failed']} failed.")
