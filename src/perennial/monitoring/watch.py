"""What to do about production: look at the last three windows and decide once, with reasons.

    quiet         nothing beyond chance
    watch         something moved, but once, or where it does not matter; or rows stopped coming
    data-quality  values went missing or are not listed: mend the source, do not learn from it
    retrain       the same drift in two of three windows, in features that matter, or quality fell in two;
                  a window in which a feature broke is no evidence of its drift, nor of lost quality

The windows are read anew each time, so a run depends on the log alone and can be repeated. What the model has learnt
from already is left out (`batch.learnt`): a retraining is never followed by another one for the same rows.
"""

import datetime
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.console import out, step
from perennial.files import read_json, write_json
from perennial.monitoring import batch, drift, page, quality
from perennial.monitoring.window import UTC, Window, read
from perennial.params import METRICS, Params, load
from perennial.repro import METRICS_FILE

if TYPE_CHECKING:
    import pandas as pd

REPORT = Path("reports/drift.json")
PROFILE, EVALUATION = Path("models/profile.json"), Path("reports/evaluation.json")
WINDOWS, PERSISTENT = 3, 2
Facts = dict[str, Any]


@dataclass(frozen=True)
class Reference:
    """What the champion promised."""

    profile: Facts
    metrics: Facts
    importance: dict[str, float]  # shares


def watch(store: str, until: datetime.datetime | None = None) -> Facts:
    """Judge the last windows before `until` (now) and write reports/drift.json."""
    params, reference = load(), _reference()
    judged = []
    for start, end in spans(params, until):
        with step(f"Reading the {params.watch.days:g} days before {end:%Y-%m-%d %H:%M}"):
            window = read(store, start, end)
        judged.append(judge(window, reference, params))
    decision, reasons = decide(judged, params)
    facts = {"decision": decision, "reasons": reasons, "store": store, "model": reference.profile["model"]["sha256"]}
    learnt = batch.learnt()
    facts |= {"task": params.data.task, "learnt": learnt.isoformat() if learnt else None, "windows": judged}
    write_json(REPORT, facts, sort_keys=False)
    page.write(facts, reference.profile, reference.metrics["metrics"], params)
    return facts


def spans(params: Params, until: datetime.datetime | None) -> list[tuple[datetime.datetime, datetime.datetime]]:
    """Begin and end of each window, the newest first, without what the model has learnt from."""
    last, length = until or datetime.datetime.now(UTC), datetime.timedelta(days=params.watch.days)
    learnt = batch.learnt() or datetime.datetime.min.replace(tzinfo=UTC)
    ends = [last - back * length for back in range(WINDOWS)]
    return [(max(end - length, min(learnt, end)), end) for end in ends]


def _reference() -> Reference:
    worth = {name: max(row["mean"], 0.0) for name, row in read_json(EVALUATION)["importance"].items()}
    whole = sum(worth.values()) or 1.0
    return Reference(
        read_json(PROFILE), read_json(METRICS_FILE), {name: value / whole for name, value in worth.items()}
    )


def judge(window: Window, reference: Reference, params: Params) -> Facts:
    """Drift, breaks and quality of one window; `enough` says whether there were rows to judge by."""
    window = comparable(window, reference.profile["classes"])
    facts: Facts = {"coverage": window.coverage(), "enough": len(window.rows) >= params.watch.rows}
    if not facts["enough"]:
        return facts | {"features": [], "drifted": [], "broken": [], "importance": 0.0, "quality": None, "fell": False}
    frame = typed(window.frame(), params)
    found = drift.features(frame, reference.profile, reference.importance)
    drifted = [row["feature"] for row in found if row["drifted"]]
    now = quality.measured(frame, reference.profile, params)
    behind = quality.behind(frame, reference.profile, params)
    return facts | {
        "features": found,
        "drifted": drifted,
        "broken": [row["feature"] for row in found if row["broken"]],
        "importance": sum(reference.importance.get(name, 0.0) for name in drifted),
        "predictions": drift.predictions(quality.answers(frame, params), reference.profile),
        "quality": now,
        "expected": quality.expected(frame, reference.profile, params),
        "slices": quality.slices(frame, reference.profile, params),
        "behind": behind,
        "fell": quality.fell(now, reference.metrics["metrics"], params.data.task, behind),
    }


def comparable(window: Window, classes: list[str]) -> Window:
    """Only the rows whose model gave what ours gives, the same classes or a number; the others are counted."""
    rows = [row for row in window.rows if list(row["output"].get("probabilities", ())) == classes]
    return replace(window, rows=rows, aside=window.aside + Counter({"another target": len(window.rows) - len(rows)}))


def typed(frame: "pd.DataFrame", params: Params) -> "pd.DataFrame":
    """The features as training saw them: numbers as floats, the rest as they were sent; a field left out is missing.

    So is what an older contract let pass and this one cannot read.
    """
    import pandas as pd

    for name, spec in params.data.features.items():
        column = frame[name] if name in frame else pd.Series(None, frame.index, dtype=object)
        if spec.type == "number":
            frame[name] = pd.to_numeric(column, errors="coerce")
        elif spec.type == "boolean":
            known = np.array([isinstance(cell, (bool, np.bool_)) for cell in column], bool)
            frame[name] = column.where(known, None).astype("boolean")
        else:
            frame[name] = column.astype("str").where(column.notna(), None)
    return frame


def decide(windows: list[Facts], params: Params) -> tuple[str, list[str]]:
    """The decision and its reasons, from the windows, the newest first."""
    newest = windows[0]
    if not newest["enough"]:
        rows, before = newest["coverage"]["rows"], max(w["coverage"]["rows"] for w in windows[1:])
        few = f"{rows} rows in the last window, fewer than {params.watch.rows}: too few to tell anything"
        dried = any(window["enough"] for window in windows[1:])
        return ("watch", [f"{few}; there were {before}: is the log whole?"]) if dried else ("quiet", [few])
    if newest["broken"]:
        return "data-quality", [_broken(row) for row in newest["features"] if row["broken"]]
    reasons = [
        f"{row['feature']} drifted: PSI {row['psi']:.3f} beyond chance" for row in newest["features"] if row["drifted"]
    ]
    if newest["predictions"]["drifted"]:
        reasons.append(f"the predictions drifted: PSI {newest['predictions']['psi']:.3f} beyond chance")
    if newest["fell"]:
        reasons.append("quality fell below what the hold-out promised")
    sound = [[name for name in w["drifted"] if name not in w["broken"]] for w in windows]
    lasting = [row for row in newest["features"] if sum(row["feature"] in names for names in sound) >= PERSISTENT]
    lasting = [row for row in lasting if row["drifted"]]
    if lasting and sum(row["importance"] for row in lasting) >= params.watch.importance:
        names = ", ".join(row["feature"] for row in lasting)
        return "retrain", [*reasons, f"{names}: in {PERSISTENT} of the last {WINDOWS} windows or more, and it matters"]
    worse = [w for w in windows if w["fell"] and not w["broken"]]
    if len(worse) >= PERSISTENT and newest["fell"]:
        return "retrain", [*reasons, f"quality fell in {len(worse)} of the last {WINDOWS} windows"]
    return ("watch", reasons) if reasons else ("quiet", ["nothing moved beyond chance"])


def _broken(row: Facts) -> str:
    kind = "missing" if row["missing"]["now"] - row["missing"]["before"] > drift.BROKEN else "other"
    word = "missing" if kind == "missing" else "values the contract does not list"
    return f"{row['feature']}: {row[kind]['now']:.1%} {word}, {row[kind]['before']:.1%} in training"


def show(facts: Facts) -> None:
    from rich.table import Table

    table = Table("window", "rows", "labelled", "drifted", "broken", "quality")
    for window in facts["windows"]:
        kept, found = window["coverage"], window.get("quality")
        lead = next(iter(METRICS[facts["task"]]))
        figure = f"{found[lead]['value']:.3f} ({found[lead]['low']:.3f} to {found[lead]['high']:.3f})" if found else "–"
        days = f"{kept['since'][:10]} to {kept['until'][:10]}"
        table.add_row(
            days, f"{kept['rows']:,}", f"{kept['labelled']:.0%}", ", ".join(window["drifted"]) or "–",
            ", ".join(window["broken"]) or "–", figure,
        )  # fmt: skip
    out.print(table)
    out.print(f"Decision: [bold]{facts['decision']}[/] ({REPORT})")
    for reason in facts["reasons"]:
        out.print(f"  {reason}", markup=False)
