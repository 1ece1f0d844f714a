"""A Monday: drift.yml under act, on a log of the last three weeks, with the origin behind HTTP and a token.

Evidently's 1 GB is left out; its environment is a stand-in (tests of the report itself are elsewhere).
"""

import base64
import datetime
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from production import Production, World, gone, same, shifted
from repository import Repository
from runner import NAME, Run, Runner, bare
from stand_in import GitHub
from traffic import UTC

pytestmark = pytest.mark.skipif(not shutil.which("act"), reason="act is not installed (go install)")
BRANCH = "retrain/production"
EVENTS: dict[str, dict[str, Any]] = {
    "schedule": {"schedule": "23 5 * * 1"},
    "workflow_dispatch": {"ref": "refs/heads/main", "inputs": {}},
    "repository_dispatch": {"action": "drift", "client_payload": {"status": "firing"}},
}
WORLDS: dict[str, list[World]] = {
    "quiet": [same, same, same],
    "data-quality": [gone, same, same],
    "retrain": [shifted, shifted, same],
}
APP = ("--var", "RETRAIN_APP_ID=7", "-s", "RETRAIN_APP_KEY=key of 7")
APP_TOKEN = "app-contents-write-pulls-write-issues-write"
EVIDENTLY = "#!/bin/sh\necho Evidently was asked: $1 of $PREDICTION_STORE\necho '<html>' > reports/evidently.html\n"


class Mondays:
    """The project at its origin, where nobody pushes without a token."""

    def __init__(self, runner: Runner, stores: dict[str, Path]) -> None:
        self.runner, self.stores, self.summary = runner, stores, ""
        self.artifacts, self.monitor = runner.folder / "test_artifacts", runner.folder / "monitor"
        runner.environment["TEST_MONITOR"] = str(self.monitor)

    def __call__(self, event: str, world: str = "", *arguments: str) -> Run:
        shutil.rmtree(self.artifacts, ignore_errors=True)
        tree, url = self.runner.clone("main"), self.runner.github.url
        tree.git("remote", "set-url", "origin", f"{url}/{NAME}")
        connected = ("--var", f"PREDICTION_STORE={self.stores[world]}") if world else ()
        server = ("--env", f"GITHUB_SERVER_URL={url}")
        return self.runner.run(event, "drift", EVENTS[event], tree, *server, *connected, *arguments)

    def uploaded(self) -> dict[str, str]:
        folder = self.artifacts / "drift/reports"
        return {path.name: path.read_text("utf-8") for path in folder.iterdir()}

    def evidently(self, program: str) -> None:
        (self.monitor / "bin").mkdir(parents=True, exist_ok=True)
        (self.monitor / ".monitor").touch()
        (self.monitor / "bin/perennial").write_text(program)
        (self.monitor / "bin/perennial").chmod(0o755)

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.runner.origin), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    @property
    def issues(self) -> list[dict[str, Any]]:
        return list(self.runner.repository.issues.values())

    @property
    def pulls(self) -> list[dict[str, Any]]:
        return list(self.runner.repository.pulls.values())

    def writes(self) -> list[str]:
        return [f"{line.method} {line.path}" for line in self.runner.github.log if line.method in ("POST", "PATCH")]

    def tokens(self, path: str) -> set[str]:
        """What was shown for writing there."""
        log = [line for line in self.runner.github.log if line.method == "POST" and line.path.endswith(path)]
        return {line.authorization for line in log if line.authorization}


@pytest.fixture(scope="module")
def mondays(built: Repository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mondays]:
    folder = tmp_path_factory.mktemp("mondays")
    author = built.copy(folder / "author")
    author.replace("params.yaml", "gate:\n", "gate:\n  reproduced: null\n")  # has tests of its own
    author.replace("params.yaml", "seed: 7\n", "watch: {days: 7, rows: 200}\n\nseed: 7\n")
    author.commit("Watch weeks")
    now = datetime.datetime.now(UTC)
    for name, worlds in WORLDS.items():
        Production(author, folder / name, 350).weeks(*worlds, until=now)
    shutil.copytree(author.path / ".dvc/cache", folder / "test_cache")  # what main.yml keeps
    with GitHub(folder / "state") as github:
        made = Mondays(Runner(github, bare(author, folder / "demo.git"), folder), {n: folder / n for n in WORLDS})
        made.evidently(EVIDENTLY)
        yield made


def test_a_fork_without_a_log_is_green_and_told_how_to_connect_one(mondays: Mondays) -> None:
    run = mondays("workflow_dispatch")
    assert run.jobs == {"watch": "success"}, run.output
    assert set(mondays.uploaded()) == {"drift.md"}
    assert "`PREDICTION_STORE`" in mondays.uploaded()["drift.md"]
    assert "Evidently was asked" not in run.output
    assert mondays.writes() == []


def test_a_quiet_week_is_green_and_says_nothing(mondays: Mondays) -> None:
    run = mondays("schedule", "quiet")
    assert run.jobs == {"watch": "success"}, run.output
    assert "Decision: quiet" in run.output
    assert f"Evidently was asked: evidently of {mondays.stores['quiet']}" in run.output
    assert set(mondays.uploaded()) == {"drift.json", "drift.md", "drift.html", "evidently.html"}
    assert mondays.writes() == []


def test_broken_data_opens_an_issue_and_trains_nothing(mondays: Mondays) -> None:
    """Evidently fails, too, and nobody minds."""
    mondays.evidently("#!/bin/sh\nexit 1\n")
    run = mondays("repository_dispatch", "data-quality")
    mondays.evidently(EVIDENTLY)
    assert run.jobs == {"watch": "success"}, run.output
    (issue,) = mondays.issues
    assert issue["title"] == "Production: data-quality"
    assert issue["body"] == mondays.uploaded()["drift.md"]
    assert "evidently.html" not in mondays.uploaded()
    assert mondays.pulls == []


def test_a_crash_after_the_push_is_red_and_leaves_main_alone(mondays: Mondays) -> None:
    main = mondays.git("rev-parse", "main")
    mondays.runner.github.broken["POST .*/pulls$"] = 500
    run = mondays("schedule", "retrain")
    mondays.runner.github.broken.clear()
    assert run.jobs == {"watch": "success", "retrain": "failure"}, run.output
    assert mondays.git("for-each-ref", "--format=%(refname:short)", "refs/heads").split() == ["main", BRANCH]
    assert mondays.git("rev-parse", "main") == main
    (issue,) = mondays.issues
    assert "No pull request could be made of it" in issue["body"]


def test_the_next_run_completes_it_with_one_pull_request(mondays: Mondays) -> None:
    """With an App's token where there is an App, so that the checks start by themselves."""
    run = mondays("schedule", "retrain", *APP)
    assert run.jobs == {"watch": "success", "retrain": "success"}, run.output
    (pull,) = mondays.pulls
    assert (pull["head"]["ref"], pull["head"]["sha"]) == (BRANCH, mondays.git("rev-parse", BRANCH))
    assert mondays.git("rev-parse", f"{BRANCH}^") == mondays.git("rev-parse", "main")
    assert pull["title"].startswith("Retrain on ")
    assert f"Closes #{mondays.issues[0]['number']}." in pull["body"]
    assert "### Champion and challenger" in pull["body"]
    note = json.loads(mondays.git("show", f"{BRANCH}:data/production.json"))[-1]
    assert note["until"] == json.loads(mondays.uploaded()["drift.json"])["windows"][0]["coverage"]["until"]
    assert f"Bearer {APP_TOKEN}" in mondays.tokens("/pulls")
    secret = base64.b64encode(f"x-access-token:{APP_TOKEN}".encode()).decode()
    assert f"Basic {secret}" in mondays.tokens("/git-receive-pack")
    assert APP_TOKEN not in run.output


def test_while_it_is_open_nothing_is_proposed(mondays: Mondays) -> None:
    before, pulls = mondays.git("for-each-ref"), json.dumps(mondays.pulls)
    run = mondays("workflow_dispatch", "retrain")
    assert run.jobs == {"watch": "success", "retrain": "success"}, run.output
    assert f"{mondays.pulls[0]['html_url']} is open" in run.output
    assert "Training on" not in run.output
    assert (mondays.git("for-each-ref"), json.dumps(mondays.pulls)) == (before, pulls)
