"""Whether this tree's model may be merged: gather the facts, apply the rules, say the verdict.

Writes reports/gate.json, which has every fact, every rule and the verdict; `report` and CI read nothing else of it.
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.console import out, step
from perennial.errors import UserError
from perennial.files import read_json, write_json
from perennial.git import found
from perennial.params import Params, load, read_yaml
from perennial.repro import METRICS_FILE, StageFailed, update
from perennial.review import champion as champions
from perennial.review import changes, compare
from perennial.review.ground import NotComparableError, meet
from perennial.review.rules import Facts, Rule, judge, verdict
from perennial.verify import problems, reproduction

if TYPE_CHECKING:
    import pandas as pd

GATE, DATA = Path("reports/gate.json"), Path("reports/data.json")
MODEL, PROFILE = Path("models/model.onnx"), Path("models/profile.json")
KEPT = ("dvc.lock", "reports/data.json", "reports/metrics.json")  # what a commit must have of a run
PREPARED = Path("data/prepared")
CALLS, WARM_UP = 300, 20  # single rows asked of each model


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
    broken = _update(params)
    facts: Facts = {"task": params.data.task, "commit": _commit(), "lock": lock, "broken": broken}
    facts |= {"data": read_json(DATA) if DATA.exists() else None, "floors": params.gate.floors}
    facts |= {"currency": params.value.currency if params.value else ""}
    champion, base, reason = champions.find()
    facts |= {"base": base, "parameters": changes.parameters(base) if base else []}
    facts |= {"files": changes.files(base, facts["data"]) if base and facts["data"] else None}
    if broken:
        return facts
    facts |= judged(params, champion, reason)
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


def judged(params: Params, champion: champions.Champion | None, reason: str) -> Facts:
    """The models on the hold-out: differences, slices, fairness, calibration, size and speed."""
    import pandas as pd

    from perennial.inputs import encode_target
    from perennial.model import answer, open_model

    profile, holdout = read_json(PROFILE), pd.read_parquet(PREPARED / "holdout.parquet")
    session, slices = open_model(str(MODEL)), params.gate.slices
    least = slices.rows if slices else 100
    with step(f"Asking the challenger about {len(holdout):,} hold-out rows"):
        target = encode_target(holdout[params.data.target.name], params.data).astype(np.float64)
        ours = compare.Answers(target, answer(session, holdout, params.data), profile["threshold"])
    facts: Facts = {"metrics": {}, "not_compared": reason, "compared": None, "features": [], "champion": None}
    if champion:
        facts |= {"champion": _facts(champion.profile) | {k: getattr(champion, k) for k in ("commit", "source")}}
        facts["champion"]["same_bytes"] = champion.same_bytes
        facts["features"] = changes.features(champion, pd.read_parquet(PREPARED / "train.parquet"), params.data)
        facts |= _compared(champion, holdout, ours, params)
    with step("Comparing slices"):
        rows, theirs = facts.pop("rows", np.ones(len(holdout), bool)), facts.pop("theirs", None)
        facts["slices"] = compare.slices(holdout[rows], theirs, ours.at(rows), params, least)
    facts |= {"challenger": _facts(profile), "evaluation": read_json(METRICS_FILE)}
    facts["fairness"] = compare.fairness(holdout, ours, params.data, least)
    facts["calibration"] = compare.calibration(ours, params.data, params.seed)
    return facts | costs(champion, profile)


def _compared(
    champion: champions.Champion, holdout: "pd.DataFrame", ours: compare.Answers, params: Params
) -> dict[str, Any]:
    try:
        with step(f"Comparing with the champion of commit {champion.commit[:8]} ({champion.source})"):
            rows, theirs = meet(champion, holdout, ours, params)
            found_differences = compare.differences(theirs, ours.at(rows), params)
    except NotComparableError as error:
        return {"not_compared": f"the champion of commit {champion.commit[:8]} cannot be compared: {error}"}
    compared = {"rows": int(rows.sum()), "of": len(rows)}
    return {"metrics": found_differences, "compared": compared, "rows": rows, "theirs": theirs}


def _facts(profile: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": profile["model"]["sha256"],
        "contract": profile["contract_digest"],
        "estimator": profile["model"]["estimator"],
        "trained_on": profile["trained_on"],
        "parity": profile["parity"],
        "versions": profile["versions"],
    }


def costs(champion: champions.Champion | None, profile: dict[str, Any]) -> dict[str, Any]:
    """Megabytes of each model, and median milliseconds for one row, asked in turn so that both have the same luck."""
    from perennial.model import answer_row, open_model

    models = {"challenger": (MODEL.read_bytes(), profile)}
    if champion:
        models["champion"] = (champion.model, champion.profile)
    asked = [
        (name, open_model(content), facts["example"]["row"], facts["inputs"])
        for name, (content, facts) in models.items()
    ]
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(WARM_UP + CALLS):
        for name, session, row, inputs in asked:
            start = time.perf_counter()
            answer_row(session, row, inputs)
            times[name].append(time.perf_counter() - start)
    return {
        "size": {name: len(content) / 1e6 for name, (content, _) in models.items()},
        "latency": {name: 1000 * float(np.median(spent[WARM_UP:])) for name, spent in times.items()},
    }
