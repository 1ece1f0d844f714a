"""Whether this tree's model may be merged: gather the facts, apply the rules, say the verdict.

Writes reports/gate.json, which has every fact, every rule and the verdict; `report` and CI read nothing else of it.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from perennial.console import out
from perennial.errors import UserError
from perennial.files import read_json, write_json
from perennial.git import found
from perennial.params import Params, load, read_yaml
from perennial.repro import METRICS_FILE, StageFailed, update
from perennial.review import champion as champions
from perennial.review import changes
from perennial.review.measure import measure
from perennial.review.rules import Facts, Rule, judge, verdict
from perennial.verify import problems, reproduction

GATE, DATA = Path("reports/gate.json"), Path("reports/data.json")
KEPT = ("dvc.lock", "reports/data.json", "reports/metrics.json")  # what a commit must have of a run


def gate() -> bool:
    """Judge this tree's model and write reports/gate.json; whether it may be merged."""
    try:
        params = load()
        facts = gather(params)
        rules = judge(facts, params)
    except UserError as error:  # nothing could be judged, and the pull request must say why
        facts, rules = {"broken": str(error)}, [Rule("set-up", False, str(error))]
    told = {"verdict": verdict(rules), "rules": [asdict(rule) for rule in rules], **facts}
    write_json(GATE, told, sort_keys=False)
    say(rules)
    return verdict(rules) == "pass"


def say(rules: list[Rule]) -> None:
    from rich.markup import escape
    from rich.table import Table

    marks = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[yellow]–[/]"}
    table = Table("", "rule", "found", title="May this model be merged?")
    for rule in rules:
        fix = f"\n[bold]{escape(rule.fix)}[/]" if rule.passed is False and rule.fix else ""
        table.add_row(marks[rule.passed], rule.name, escape(rule.text) + fix)
    out.print(table)
    passed = verdict(rules) == "pass"
    out.print("Verdict: [green]pass[/]" if passed else "Verdict: [red]fail[/]", f"({GATE})")


def gather(params: Params) -> Facts:
    """Everything the rules and the report need, as plain values.

    Raises:
        UserError: when there is no raw data, or no way to tell the base commit.
    """
    lock = lock_state()
    promised = {"lock": read_yaml(Path("dvc.lock")), "metrics": read_json(METRICS_FILE)} if not lock["stale"] else None
    before = _kept()
    broken = _update(params)
    if not broken and _kept() == before:
        lock["stale"] = []  # the outputs here were another commit's; the lock told how to make its own
    facts: Facts = {"task": params.data.task, "commit": _commit(), "lock": lock, "broken": broken}
    facts |= {"data": read_json(DATA) if DATA.exists() else None, "floors": params.gate.floors}
    facts |= {"currency": params.value.currency if params.value else ""}
    champion, base, reason = champions.find()
    facts |= {"base": base, "parameters": changes.parameters(base) if base else []}
    facts |= {"files": changes.files(base, facts["data"]) if base and facts["data"] else None}
    if broken:
        return facts
    facts |= measure(params, champion, reason)
    facts["reproduction"] = None
    if params.gate.reproduced:
        out.print("Running everything again in an empty place")
        promised = promised or {"lock": read_yaml(Path("dvc.lock")), "metrics": read_json(METRICS_FILE)}
        facts["reproduction"] = asdict(reproduction(promised["lock"], promised["metrics"]))
    return facts


def lock_state() -> dict[str, list[str]]:
    """Why dvc.lock is stale, and which files of a run differ from the last commit; before anything is run."""
    changed = found("diff", "--name-only", "HEAD", "--", *KEPT)
    untracked = found("ls-files", "--others", "--", *KEPT)
    uncommitted = sorted({*(changed or "").splitlines(), *(untracked or "").splitlines()})
    missing = [f"{name} is missing" for name in KEPT if not Path(name).exists()]
    return {"stale": missing or list(problems()), "uncommitted": uncommitted}


def _kept() -> list[bytes | None]:
    return [Path(name).read_bytes() if Path(name).exists() else None for name in KEPT]


def _update(params: Params) -> str | None:
    """Bring the pipeline up to date; what broke, when something did."""
    try:
        update(params)
    except StageFailed:
        data = read_json(DATA) if DATA.exists() else {}
        return data.get("error") or "a stage of the pipeline failed; what it said is in the log"
    return None


def _commit() -> dict[str, Any]:
    head = found("rev-parse", "--verify", "-q", "HEAD")
    return {"sha": head, "clean": not found("status", "--porcelain", "--untracked-files=no")}
