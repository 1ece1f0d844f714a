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
from perennial.review import sections
from perennial.review.markdown import block, code, safe
from perennial.review.sections import sign

REPORT, REPORTS = Path("reports/report.md"), Path("reports")
LONGEST = 60_000  # characters; GitHub takes 65,536
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
    below = [sections.figures, sections.slices, sections.parameters, sections.data, sections.rules, sections.charts]
    parts = {part: part(facts, plots, run) for part in (verdict, headline, *below, sections.origin)}
    for dropped in (None, *reversed(below)):
        if dropped and parts[dropped]:
            parts[dropped] = ["", f"*The part on {dropped.__name__} is left out: this report was too long.*"]
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
        sign(next(iter(METRICS[facts["task"]])), facts)
    ]


def headline(facts: Facts, *_: Any) -> list[str]:
    """The leading metric, and money where the value of a decision is known."""
    if not facts.get("metrics"):
        return []
    lead = next(iter(METRICS[facts["task"]]))
    told, worth = f"**{code(lead)}** {_change(facts['metrics'][lead], number)}", facts["metrics"].get("value_per_1000")
    if worth:
        money = f"{_change(worth, lambda v: f'{v:,.0f}')} {safe(facts['currency'])}".strip()
        told += f"; worth {money} per 1,000 decisions"
    lines, compared = ["", told], facts["compared"]
    if compared["rows"] < compared["of"]:
        lines += ["", f"Compared on the {compared['rows']:,} of {compared['of']:,} hold-out rows new to the champion."]
    return lines


def _change(row: Facts, form: Callable[[float], str]) -> str:
    return f"{form(row['champion'])} → {form(row['challenger'])}"
