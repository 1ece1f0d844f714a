"""The answer to lasting drift: one pull request with the newest labelled rows and the model trained on them.

Everything happens in a worktree of the default branch, so nothing here is touched. What is proposed depends on the log,
the branch and reports/drift.json alone: a run that died is completed by the next one. A pull request that is open is
left as it is, so that nobody's review is overwritten, unless the gate had refused it: that one is renewed.
"""

import datetime
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from perennial.console import out, step
from perennial.contract import Contract
from perennial.errors import UserError
from perennial.files import read_json
from perennial.git import git
from perennial.github import RefusedError, UnreachableError, pages, repository
from perennial.monitoring import batch, candidates, tell
from perennial.monitoring.watch import REPORT
from perennial.monitoring.window import read
from perennial.params import load
from perennial.pipeline.page import number
from perennial.pulls import BOT, Proposal, base_branch, fetch, propose
from perennial.review.markdown import code, safe, table
from perennial.worktree import perennial, said, worktree

BRANCH, PASSED = "retrain/production", "(pass)"  # the title ends with the verdict
LONGEST = 65_000  # characters; GitHub takes 65,536
Facts = dict[str, Any]


def retrain() -> None:
    """Propose a model that has learnt from what the last `watch` saw, if that said so.

    Raises:
        UserError: when there is no decision, no new labelled row, or no model comes of them.
    """
    facts = _decision()
    if facts["decision"] != "retrain":
        out.print(f"Production is {facts['decision']}: nothing to train for.")
        return
    if standing := _open():
        out.print(f"{standing} is open: merge or close it first.", soft_wrap=True)
        return
    try:
        _propose(facts)
    except UserError as error:
        if os.environ.get("GITHUB_TOKEN"):  # nobody reads the log of a scheduled run
            why = f"{tell.render(facts)}\n**No pull request could be made of it:** {safe(str(error))}\n"
            with suppress(RefusedError, UnreachableError):  # the error itself matters more
                tell.standing_issue(repository(), "retrain", why)
        raise


def _propose(facts: Facts) -> None:
    base = base_branch()
    with worktree(commit := git("rev-parse", f"origin/{base}")) as tree:
        note = _new_rows(tree, facts, load(tree / "params.yaml").data)
        chosen = candidates.train(tree, note, _evidence(facts))
        _commit(tree)
        with step("Asking the gate"):
            verdict, report = _judged(tree, commit)
        files = _changed(tree, commit)
    issue = tell.standing(repository())
    body = text(facts, note, chosen, report) + (f"\nCloses #{issue['number']}.\n" if issue else "")
    title = f"Retrain on {note['rows']:,} rows of production ({verdict})"
    try:
        pull = propose(Proposal(BRANCH, base, title, body, files, onto=commit))
    except RefusedError as error:
        raise UserError(str(error), "let Actions create pull requests: Settings, Actions, General") from None
    out.print(f"{title}: {pull['html_url']}" if pull else "Nothing new to propose.", soft_wrap=True)


def _decision() -> Facts:
    try:
        facts: Facts = read_json(REPORT)
    except FileNotFoundError:
        raise UserError(f"{REPORT}: no such file", "make drift writes it") from None
    return facts


def _open() -> str | None:
    """The address of the pull request that waits; not of one that the gate refused and nobody has worked on, for more
    rows may make it better. One from a fork, whatever its branch is called, is none of ours."""
    ours = f"{repository().split('/')[0]}:retrain/"
    listed = [
        pull for pull in pages(f"/repos/{repository()}/pulls?state=open") if pull["head"]["label"].startswith(ours)
    ]
    for pull in listed:
        if PASSED in pull["title"] or not _ours(pull["head"]["ref"]):
            return str(pull["html_url"])
    return None


def _ours(branch: str) -> bool:
    fetch(branch)
    return git("show", "-s", "--format=%an", f"origin/{branch}") == BOT["NAME"]


def _new_rows(tree: Path, facts: Facts, contract: Contract) -> Facts:
    """The labelled rows of the windows that were sound, as a batch in the tree; under DVC where the raw data is."""
    pointer = Path(f"{contract.raw}.dvc")
    if kept_by_dvc := (tree / pointer).exists():
        candidates.dvc(tree, "pull", str(pointer))
    lines, versions = [], set[str]()
    sound = [w["coverage"] for w in reversed(facts["windows"]) if not w["broken"]]
    for window in sound:
        since, until = (datetime.datetime.fromisoformat(window[end]) for end in ("since", "until"))
        with step(f"Reading the labelled rows of {since:%Y-%m-%d} to {until:%Y-%m-%d}"):
            rows = [row for row in read(facts["store"], since, until).rows if row["label"] is not None]
        lines += rows
        versions |= {row["model_version"] for row in rows}
    if not sound:
        raise UserError("every window has broken data: there is nothing to learn from", "mend its source first")
    told = {"since": sound[0]["since"], "until": sound[-1]["until"], "model_versions": sorted(versions)}
    note = batch.write(tree, sorted(lines, key=lambda row: (row["time"], row["prediction_id"])), contract, told)
    if kept_by_dvc:
        candidates.dvc(tree, "add", contract.raw)
        candidates.dvc(tree, "push", str(pointer))
    out.print(f"{note['rows']:,} new labelled rows in {note['file']}, left out: {note['left_out'] or 'none'}")
    return note


def _evidence(facts: Facts) -> list[datetime.datetime]:
    """Since when the world may be as it is now: the beginning and the middle of each window that shows it, the oldest
    first; what changes within a window leaves it half old."""
    moved = [w["coverage"] for w in reversed(facts["windows"]) if (w["drifted"] or w["fell"]) and not w["broken"]]
    ends = [[datetime.datetime.fromisoformat(window[end]) for end in ("since", "until")] for window in moved]
    return [start for since, until in ends for start in (since, since + (until - since) / 2)]


def _commit(tree: Path) -> None:
    """For the gate, which judges commits; no branch moves."""
    identity = [word for what, value in BOT.items() for word in ("-c", f"user.{what.lower()}={value}")]
    git("-C", str(tree), "add", "--all")
    git("-C", str(tree), *identity, "commit", "--quiet", "--no-verify", "--message", "Retrain")


def _judged(tree: Path, commit: str) -> tuple[str, str]:
    """The gate's verdict against the model of this commit, and its report."""
    quiet = {"CHAMPION_REV": commit, "GITHUB_STEP_SUMMARY": ""}
    for verb, codes in (("gate", (0, 1)), ("report", (0,))):
        done = perennial(tree, verb, **quiet)
        if done.returncode not in codes or not (tree / "reports/gate.json").exists():
            raise UserError(f"`perennial {verb}` ended with {done.returncode}:\n  {said(done)}")
    report = (tree / "reports/report.md").read_text(encoding="utf-8")
    return str(read_json(tree / "reports/gate.json")["verdict"]), report


def _changed(tree: Path, commit: str) -> dict[str, bytes | None]:
    names = git("-C", str(tree), "diff", "--name-only", "--no-renames", commit, "HEAD").splitlines()
    return {name: (tree / name).read_bytes() if (tree / name).exists() else None for name in names}


def text(facts: Facts, note: Facts, chosen: Facts, report: str) -> str:
    """Why, from what, and whether it is better, for whoever reviews it; of the length GitHub takes."""
    counted = {"file": code(note["file"]), "rows": f"{note['rows']:,}", "since": note["since"], "until": note["until"]}
    counted["answered by"] = ", ".join(map(code, note["model_versions"]))
    counted["left out"] = ", ".join(f"{rows:,} {why}" for why, rows in note["left_out"].items()) or "none"
    lines = [
        "Merging this makes the model below the champion; the release then proposes it for staging.",
        "If no checks run here, press *Approve workflows to run*: GitHub asks for it on what a workflow proposes "
        "(docs/monitoring.md says how to spare yourself that).",
        "", tell.render(facts).rstrip(), "", "### Rows added", "",
        *table(["", ""], [[name, value] for name, value in counted.items()]),
        "", "Their labels are those that came: rows that nobody labelled may differ.", "",
        "### Learnt from", "", *_tried(chosen), "", "### Champion and challenger", "",
    ]  # fmt: skip
    return "\n".join([*lines, report])[:LONGEST]


def _tried(chosen: Facts) -> list[str]:
    rows = []
    for one in chosen["tried"]:
        figure = f"{number(one['value'])} ({number(one['low'])} to {number(one['high'])})"
        mark = "**taken**" if one["name"] == chosen["kept"] else ""
        rows.append([safe(one["name"]), f"{one['split']['train']['rows']:,}", figure, mark])
    judges, metric = chosen["tried"][0]["split"]["holdout"]["rows"], chosen["tried"][0]["metric"]
    return table(["learnt from", "rows:", f"{metric} on {judges:,} rows:", ""], rows)
