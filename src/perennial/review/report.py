"""reports/report.md: what a reviewer reads on the pull request. The verdict first, then why.

Pure functions of what the gate and the evaluation wrote; `main` reads the files.
"""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perennial.console import out
from perennial.errors import UserError
from perennial.files import atomic, read_json
from perennial.params import METRICS
from perennial.pipeline.page import number
from perennial.review.changes import worth_telling
from perennial.review.markdown import block, chart, code, fold, safe, table

REPORT, REPORTS = Path("reports/report.md"), Path("reports")
LONGEST = 60_000  # characters; GitHub takes 65,536
MARKS = {True: "✅", False: "❌", None: "⚪"}
Facts = dict[str, Any]


def main() -> None:
    """Write the report of the last `gate`, print it, and add it to the job's summary in a workflow."""
    try:
        facts = read_json(REPORTS / "gate.json")
    except FileNotFoundError:
        raise UserError("reports/gate.json: no such file", "make gate writes it") from None
    text = render(facts, _plots() if not facts["broken"] else {}, _run_address())
    with atomic(REPORT) as path:
        path.write_text(text, encoding="utf-8")
    out.print(text, markup=False, soft_wrap=True)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with open(summary, "a", encoding="utf-8") as file:
            file.write(text)


def _plots() -> dict[str, Any]:
    with (REPORTS / "plots/calibration.csv").open(encoding="utf-8") as file:
        calibration = [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    importance = read_json(REPORTS / "evaluation.json")["importance"]
    return {"calibration": calibration, "importance": sorted(importance.items(), key=lambda item: -item[1]["mean"])}


def _run_address() -> str | None:
    run = os.environ.get("GITHUB_RUN_ID")
    return run and f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}/actions/runs/{run}"


def render(facts: Facts, plots: dict[str, Any], run: str | None) -> str:
    """The report as Markdown of at most LONGEST characters; the least needed parts go first when it is too long."""
    told = [verdict, headline, figures, slices, parameters, data, rules, charts, origin]
    parts = {part: part(facts, plots, run) for part in told}
    for dropped in (None, charts, parameters, slices, data, rules):
        parts.pop(dropped, None) if dropped else None
        text = "\n".join(line for lines in parts.values() for line in lines).strip() + "\n"
        if len(text) <= LONGEST:
            break
    return text[:LONGEST]


def verdict(facts: Facts, _: Any, run: str | None) -> list[str]:
    """Pass or fail, a line for each rule that failed or could not be judged, and what to do."""
    failed = [rule for rule in facts["rules"] if rule["passed"] is False]
    unsure = [rule for rule in facts["rules"] if rule["passed"] is None]
    if failed:
        lines = [f"## ❌ Fail: {len(failed)} of {len(facts['rules'])} rules say no", ""]
    else:
        lines = [f"## ✅ Pass: {_word(facts)}", ""]
    for rule in failed:
        lines += _failure(rule)
    for rule in unsure:
        lines.append(f"- ⚪ **{safe(rule['name'])}** was not judged: {safe(rule['text'])[:600]}")
    if run and any(rule["name"] == "dvc.lock" for rule in failed):
        lines += ["", f"The lock and reports as they should be are in the artifact `review` of [the run]({run})."]
    return lines


def _failure(rule: Facts) -> list[str]:
    fix = f"  \n  **Do:** {safe(rule['fix'])}" if rule["fix"] else ""
    if "\n" not in rule["text"] and len(rule["text"]) < 600:
        return [f"- ❌ **{safe(rule['name'])}**: {safe(rule['text'])}{fix}"]
    text = rule["text"] if len(rule["text"]) <= 4000 else rule["text"][:4000] + "\n…"
    return [f"- ❌ **{safe(rule['name'])}**{fix}", "", *(f"  {line}" for line in block(text)), ""]


def _word(facts: Facts) -> str:
    """How the challenger stands to the champion."""
    if not facts.get("metrics"):
        return "there is no champion to compare with" if not facts.get("champion") else "not compared with the champion"
    if facts["champion"]["model"] == facts["challenger"]["model"]:
        return "the model is the champion's, byte for byte"
    return {1: "better than the champion", 0: "as good as the champion", -1: "worse, but within the margin"}[
        _sign(next(iter(METRICS[facts["task"]])), facts)
    ]


def _sign(name: str, facts: Facts) -> int:
    """1 when the challenger is surely better at this metric, -1 when surely worse, else 0."""
    row, more = facts["metrics"][name], METRICS[facts["task"]].get(name, True)
    sure = 1 if row["low"] > 0 else -1 if row["high"] < 0 else 0
    return sure if more else -sure


def headline(facts: Facts, *_: Any) -> list[str]:
    """The leading metric, and money where the value of a decision is known."""
    if not facts.get("metrics"):
        return []
    lead = next(iter(METRICS[facts["task"]]))
    lines = ["", f"**{code(lead)}** {_change(facts['metrics'][lead], number)}"]
    worth = facts["metrics"].get("value_per_1000")
    if worth:
        lines[-1] += f"; worth {_change(worth, lambda v: f'{v:,.0f}')} {safe(facts['currency'])} per 1,000 decisions"
    compared = facts["compared"]
    if compared["rows"] < compared["of"]:
        lines += [f"Compared on the {compared['rows']:,} of {compared['of']:,} hold-out rows new to the champion."]
    return lines


def _change(row: Facts, form: Callable[[float], str]) -> str:
    return f"{form(row['champion'])} → {form(row['challenger'])}"


def figures(facts: Facts, *_: Any) -> list[str]:
    if facts.get("metrics"):
        header = ["metric", f"champion {code((facts['champion']['commit'] or '')[:8])}:", "challenger:", "difference:"]
        rows = [_compared(name, facts["metrics"][name], facts) for name in _in_order(facts["metrics"], facts["task"])]
        return ["", *table([*header, "90 % interval:", ""], rows)]
    if facts.get("evaluation"):
        measured, dummy = facts["evaluation"]["metrics"], facts["evaluation"]["baseline"]
        rows = [
            [code(n), number(m["value"]), f"{number(m['low'])} to {number(m['high'])}", number(dummy[n])]
            for n, m in ((name, measured[name]) for name in _in_order(measured, facts["task"]))
        ]
        return ["", *table(["metric", "challenger:", "95 % interval:", "dummy:"], rows)]
    return []


def _in_order(measured: Facts, task: str) -> list[str]:
    return [name for name in (*METRICS[task], "value_per_1000") if name in measured]


def _compared(name: str, row: Facts, facts: Facts) -> list[str]:
    span, word = f"{_signed(row['low'])} to {_signed(row['high'])}", ["", "better", "**worse**"][_sign(name, facts)]
    return [code(name), number(row["champion"]), number(row["challenger"]), _signed(row["difference"]), span, word]


def _signed(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 1000 else f"{value:+.4g}"


def slices(facts: Facts, *_: Any) -> list[str]:
    """The slices that moved for sure, and how many did not."""
    every = [row for row in facts.get("slices", []) if "difference" in row]
    moved = [row for row in every if row["difference_low"] > 0 or row["difference_high"] < 0]
    if not every:
        return []
    rows = [_slice(row) for row in sorted(moved, key=lambda row: -abs(row["difference"]))]
    none = f"None of {len(every)} slices moved beyond chance."
    header = ["column", "value", "rows:", "champion:", "challenger:", "difference:"]
    return ["", "### Slices that moved", "", *(table(header, rows, 15) if rows else [none])]


def _slice(row: Facts) -> list[str]:
    place = [code(row["column"]) + (" (sensitive)" if row["sensitive"] else ""), code(row["value"])]
    return [
        *place,
        f"{row['rows']:,}",
        *(number(row[who]) for who in ("champion", "challenger")),
        _signed(row["difference"]),
    ]


def parameters(facts: Facts, *_: Any) -> list[str]:
    rows = [
        [code(row["key"]) + (" ⚠️ judges this model" if row["key"].startswith("gate") else "")]
        + [code(row[when]) if row[when] is not None else "–" for when in ("before", "after")]
        for row in facts.get("parameters", [])
    ]
    return ["", "### Parameters", "", *table(["key", "before", "after"], rows, 40)] if rows else []


def data(facts: Facts, *_: Any) -> list[str]:
    """Files and rows that came and went; features whose training rows moved."""
    lines, files = [], facts.get("files")
    if files and files["files"]:
        rows = [
            [code(row["file"]), *("–" if row[when] is None else f"{row[when]:,}" for when in ("before", "after"))]
            for row in files["files"]
        ]
        before, after = files["rows"]["before"], files["rows"]["after"]
        lines += ["", f"{before:,} → {after:,} rows ({after - before:+,}).", ""]
        lines += table(["file", "rows before:", "after:"], rows)
    moved = [row for row in facts.get("features", []) if worth_telling(row)]
    if moved:
        header = ["feature", "shift (PSI):", "missing:", "range", "new values"]
        lines += ["", "Training rows moved:", "", *table(header, [_feature(row) for row in moved], 20)]
    elif lines and facts.get("features"):
        lines += ["", f"None of {len(facts['features'])} features moved beyond chance."]
    return ["", "### Data", *lines] if lines else []


def _feature(row: Facts) -> list[str]:
    missing = f"{row['missing']['before']:.1%} → {row['missing']['after']:.1%}"
    ends = row.get("range")
    span = " → ".join(f"{number(ends[w][0])} to {number(ends[w][1])}" for w in ("before", "after")) if ends else ""
    return [code(row["feature"]), f"{row['psi']:.3f}", missing, span, " ".join(map(code, row.get("new", [])))]


def rules(facts: Facts, *_: Any) -> list[str]:
    rows = [[MARKS[rule["passed"]], safe(rule["name"]), safe(rule["text"])[:600]] for rule in facts["rules"]]
    return fold(f"All {len(rows)} rules", table(["", "rule", "found"], rows))


def charts(facts: Facts, plots: dict[str, Any], *_: Any) -> list[str]:
    if not plots:
        return []
    points, importance = plots["calibration"], dict(plots["importance"][:20])
    predicted, actual = [p["predicted"] for p in points], [p["actual"] for p in points]
    labels, worth = [number(value) for value in predicted], [row["mean"] for row in importance.values()]
    lead = next(iter(METRICS[facts["task"]]))
    lines = chart("What happened (bars) and what was predicted (line)", labels, "in each tenth", actual, predicted)
    cells = [[number(p["predicted"]), number(p["actual"]), f"{p['rows']:,.0f}"] for p in points]
    lines += ["", *table(["predicted:", "happened:", "rows:"], cells), ""]
    lines += chart("What the model relies on", list(importance), f"loss of {lead}", worth)
    cells = [[code(name), f"{row['mean']:.4f}", f"{row['std']:.4f}"] for name, row in importance.items()]
    return fold(
        "Pictures: calibration, importance",
        [*lines, "", *table(["feature", f"loss of {code(lead)} when shuffled:", "spread:"], cells)],
    )


def origin(facts: Facts, _: Any, run: str | None) -> list[str]:
    """Where the two models come from, whether a second run gave the same, and where the rest is."""
    lines = []
    for who in ("champion", "challenger"):
        model = facts.get(who)
        if model:
            source = f", {model['source']} from commit {code(model['commit'][:8])}" if "source" in model else ""
            lines.append(
                f"- {who}: {code(model['estimator'].rpartition('.')[2])} on {model['trained_on']['rows']:,} rows, "
                f"model {code(model['model'][:12])}{source}"
            )
    if facts.get("reproduction"):
        lines.append(f"- run again in an empty place: {facts['reproduction']['level']}")
    place = f"the artifact `review` of [the run]({run})" if run else "`reports/`"
    lines.append(f"- report.html with every picture, and gate.json with every figure: {place}")
    return ["", *lines]
