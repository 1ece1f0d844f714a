"""What the tests of the gate share: run it, read what it wrote and said."""

import json
from pathlib import Path
from typing import Any

from repository import PARAMS, Repository

Facts = dict[str, Any]
ONCE = PARAMS.replace("gate:\n", "gate:\n  reproduced: null\n")  # the second run has tests of its own


def start(path: Path, params: str) -> Repository:
    """A pipeline that has run, committed on `main`."""
    here = Repository.create(path)
    (here.path / "params.yaml").write_text(params, encoding="utf-8")
    here.perennial("run")
    here.commit("Start")
    return here


def judged(here: Repository) -> Facts:
    return json.loads(here.read("reports/gate.json"))  # type: ignore[no-any-return]


def gate(here: Repository, expect: int = 0) -> Facts:
    """Run the gate; what it wrote. What it says on the terminal, by its exit code and in the file agree."""
    printed, found = here.perennial("gate", expect=expect), judged(here)
    assert found["verdict"] == ("fail" if expect else "pass")
    assert f"Verdict: {found['verdict']}" in printed
    assert all(rule["name"] in printed for rule in found["rules"])
    return found


def outcome(found: Facts) -> dict[str, bool | None]:
    return {rule["name"]: rule["passed"] for rule in found["rules"]}


def failed(found: Facts) -> set[str]:
    return {name for name, passed in outcome(found).items() if passed is False}


def text(found: Facts, name: str) -> str:
    return next(rule["text"] for rule in found["rules"] if rule["name"] == name)


def report(here: Repository) -> list[str]:
    """The lines of the report, which is printed and written alike."""
    printed = here.perennial("report")
    written = here.read("reports/report.md")
    assert written in printed
    return written.splitlines()


def leaves_nothing_behind(here: Repository) -> bool:
    return len(here.git("worktree", "list").splitlines()) == 1 and here.changed() == []
