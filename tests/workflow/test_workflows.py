"""What the runner will not tell us: triggers, permissions, pins, secrets, and that every step is a make target."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT

from perennial.files import parse_yaml

FOLDER = ROOT / ".github/workflows"
WORKFLOWS: dict[str, Any] = {path.stem: parse_yaml(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.yml"))}
JOBS = {f"{name}-{job}": spec for name, workflow in WORKFLOWS.items() for job, spec in workflow["jobs"].items()}
STEPS = {f"{name}-{number}": step for name, job in JOBS.items() for number, step in enumerate(job["steps"])}
TARGETS = set(re.findall(r"(?m)^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8")))


@pytest.mark.parametrize("name", [name for name, step in STEPS.items() if "run" in step])
def test_a_step_is_a_make_target(name: str) -> None:
    step = STEPS[name]
    words = step["run"].split()
    assert words[0] == "make"
    assert set(words[1:]) <= TARGETS
    assert "${{" not in step["run"]  # what comes from outside goes through the environment


@pytest.mark.parametrize("name", WORKFLOWS)
def test_an_action_is_pinned_to_a_commit_and_says_its_version(name: str) -> None:
    used = re.findall(r"uses: (.*)", (FOLDER / f"{name}.yml").read_text("utf-8"))
    assert used
    assert all(re.fullmatch(r"[\w.-]+(/[\w.-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line) for line in used)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_grants_nothing_by_itself(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {}
    assert WORKFLOWS[name]["concurrency"]["group"]


@pytest.mark.parametrize("name", JOBS)
def test_a_job_says_what_it_may_do_and_how_long(name: str) -> None:
    spec = JOBS[name]
    assert spec["permissions"]
    assert spec["timeout-minutes"] <= 60
    for step in spec["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_a_pull_request_can_read_and_nothing_else() -> None:
    """Its code runs here, a fork's too."""
    workflow = WORKFLOWS["pull-request"]
    assert set(workflow[True] if True in workflow else workflow["on"]) == {"pull_request"}
    assert all(job["permissions"] == {"contents": "read"} for job in workflow["jobs"].values())
    text = (FOLDER / "pull-request.yml").read_text("utf-8")
    assert "secrets." not in text
    assert "github.token" not in text
    assert "actions/cache/restore@" in text
    assert "actions/cache/save@" not in text
    assert "actions/cache@" not in text  # main must never read what a pull request kept


def test_only_the_comment_may_write_and_it_runs_no_code_of_the_pull_request() -> None:
    workflow, (job,) = WORKFLOWS["comment"], WORKFLOWS["comment"]["jobs"].values()
    assert workflow["on"]["workflow_run"]["workflows"] == [WORKFLOWS["pull-request"]["name"]]
    assert job["permissions"] == {"actions": "read", "contents": "read", "pull-requests": "write"}
    checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    assert all(not {"ref", "repository"} & step.get("with", {}).keys() for step in checkouts)
    assert not any("download-artifact" in step.get("uses", "") for step in job["steps"])


def test_the_watch_may_speak_and_only_the_retraining_may_push() -> None:
    workflow = WORKFLOWS["drift"]
    assert set(workflow["on"]) == {"schedule", "workflow_dispatch", "repository_dispatch"}
    assert workflow["on"]["repository_dispatch"]["types"] == ["drift"]
    assert workflow["concurrency"] == {"group": "drift", "cancel-in-progress": False}  # a retraining ends what it began
    watch, retrain = workflow["jobs"]["watch"], workflow["jobs"]["retrain"]
    assert watch["permissions"] == {"contents": "read", "issues": "write"}
    assert retrain["permissions"] == {"contents": "write", "pull-requests": "write", "issues": "write"}
    assert (retrain["needs"], retrain["if"]) == ("watch", "${{ needs.watch.outputs.decision == 'retrain' }}")
    assert "secrets." not in json.dumps(watch)
    (app,) = [step for step in retrain["steps"] if "create-github-app-token@" in step.get("uses", "")]
    asked = {name: value for name, value in app["with"].items() if name.startswith("permission-")}
    assert asked == {f"permission-{name}": "write" for name in ("contents", "pull-requests", "issues")}
    tokens = [step["run"] for step in [*watch["steps"], *retrain["steps"]] if "GITHUB_TOKEN" in step.get("env", {})]
    assert tokens == ["make watch", "make retrain"]  # what installs and draws has none


def test_the_ruleset_requires_the_jobs_that_judge() -> None:
    ruleset = json.loads((ROOT / ".github/ruleset.json").read_text("utf-8"))
    (rule,) = [rule for rule in ruleset["rules"] if rule["type"] == "required_status_checks"]
    required = {check["context"] for check in rule["parameters"]["required_status_checks"]}
    assert required == set(WORKFLOWS["pull-request"]["jobs"])


def test_zizmor_finds_nothing_here_and_something_there(tmp_path: Path) -> None:
    subprocess.run(["zizmor", "--offline", "--quiet", str(ROOT / ".github")], check=True)
    shutil.copytree(FOLDER, tmp_path / ".github/workflows")
    planted = tmp_path / ".github/workflows/pull-request.yml"
    planted.write_text(planted.read_text("utf-8").replace("run: make review", "run: echo ${{ github.head_ref }}"))
    assert subprocess.run(["zizmor", "--offline", "--quiet", str(tmp_path)], capture_output=True).returncode > 10
