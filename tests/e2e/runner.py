"""The real workflow files under real `act`, on this machine; actions of others are replaced by those in actions/.

act ignores permissions, concurrency, triggers and environments: tests/workflow/test_workflows.py looks at those.
"""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repository import ROOT, TOOLS, Repository
from stand_in import GitHub

NAME = "octo/demo"
ACTIONS = Path(__file__).with_name("actions")
COLOURS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")  # act's steps have a terminal
USES = re.compile(r"uses: (actions/[\w-]+)(?:/\w+)?@([0-9a-f]{40})")


@dataclass(frozen=True)
class Run:
    """A workflow that has ended: each job's result, and all that was printed."""

    number: int
    jobs: dict[str, str]
    output: str

    @property
    def conclusion(self) -> str:
        return "success" if set(self.jobs.values()) == {"success"} else "failure"


class Runner:
    """GitHub's runners for one repository: the stand-in, its bare repository, and a folder for what runs leave."""

    def __init__(self, github: GitHub, origin: Path, folder: Path) -> None:
        self.github, self.origin, self.folder = github, origin, folder
        self.repository = github.add_repository(NAME, git=origin)
        self.environment: dict[str, str] = {}
        self.runs = 4241

    def run(self, event: str, workflow: str, payload: dict[str, Any], tree: Repository, *arguments: str) -> Run:
        """Run a workflow of this tree, as GitHub would on this event."""
        self.runs += 1
        told = payload | {"repository": {"full_name": NAME, "default_branch": "main", "fork": False}}
        file = self.folder / f"event-{self.runs}.json"
        file.write_text(json.dumps(told), encoding="utf-8")
        path = f".github/workflows/{workflow}.yml"
        command = ["act", event, "-C", str(tree.path), "-W", path, "-e", str(file), "--json", *arguments]
        command += ["-P", "ubuntu-24.04=-self-hosted", "--action-offline-mode", "-s", "GITHUB_TOKEN=a-token"]
        command += ["--action-cache-path", str(self.folder / "act")]
        for name, commit in sorted(set(USES.findall(tree.read(path)))):
            if name != "actions/checkout":  # act has its own: a copy of the tree, without what Git ignores
                command += ["--local-repository", f"{name}@{commit}={ACTIONS / name.partition('/')[2]}"]
        own = self._environment(tree)
        for key in ("GITHUB_API_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_ACTOR"):
            command += ["--env", f"{key}={own[key]}"]
        done = subprocess.run(
            command, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
        )
        return self._ended(done.stdout)

    def _environment(self, tree: Repository) -> dict[str, str]:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        own = tree.environment | {"PYTHONPATH": "src", "HOME": str(home), "TEST_VENV": str(TOOLS.parent)}
        own |= {name: str(self.folder / name.lower()) for name in ("TEST_CACHE", "TEST_ARTIFACTS", "TEST_ATTESTATIONS")}
        own |= {"GITHUB_API_URL": self.github.url, "GITHUB_REPOSITORY": NAME, "GITHUB_ACTOR": "ada"}
        return own | {"GITHUB_RUN_ID": str(self.runs)} | self.environment

    def _ended(self, output: str) -> Run:
        """A job that was skipped for want of a runner counts as none: act itself would call that a success."""
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        jobs = {line["jobID"]: line["jobResult"] for line in lines if "jobResult" in line}
        assert jobs, output
        said = "\n".join(line.get("msg", "").rstrip("\n") for line in lines)
        return Run(self.runs, jobs, COLOURS.sub("", said))

    def pull_request(self, number: int, jobs: str = "review") -> Run:
        """What a push to a pull request starts: the judgement, then the comment."""
        pull = self.repository.pulls[number]
        tree = self._merged(pull)
        artifacts = self.folder / "test_artifacts"
        shutil.rmtree(artifacts, ignore_errors=True)
        run = self.run("pull_request", "pull-request", {"number": number, "pull_request": pull}, tree, "-j", jobs)
        if (artifacts / "review").is_dir():
            files = [path for path in artifacts.rglob("*") if path.is_file()]
            content = {str(path.relative_to(artifacts / "review")): path.read_bytes() for path in files}
            self.github.add_artifact(NAME, run.number, "review", content)
        self.comment(pull, run)
        return run

    def comment(self, pull: dict[str, Any], ended: Run) -> Run:
        told = {"id": ended.number, "event": "pull_request", "conclusion": ended.conclusion, "pull_requests": []}
        told |= {"head_sha": pull["head"]["sha"], "head_branch": pull["head"]["ref"]}
        owner = pull["head"]["repo"]["full_name"]
        told |= {"head_repository": {"full_name": owner, "owner": {"login": owner.partition("/")[0]}}}
        run = self.run("workflow_run", "comment", {"action": "completed", "workflow_run": told}, self.clone("main"))
        assert run.conclusion == "success", run.output
        return run

    def clone(self, branch: str) -> Repository:
        path = self.folder / f"clone-{self.runs}-{branch}"
        shutil.rmtree(path, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", "-b", branch, str(self.origin), str(path)], check=True)
        return Repository(path)

    def _merged(self, pull: dict[str, Any]) -> Repository:
        """What is checked out for a pull request: its head merged into its base."""
        tree = self.clone(pull["base"]["ref"])
        source = self.github.repositories[pull["head"]["repo"]["full_name"]].git
        tree.git("fetch", "-q", str(source), pull["head"]["sha"])
        tree.git("merge", "-q", "--no-ff", "-m", "Merge", "FETCH_HEAD")
        return tree

    def comments(self, number: int) -> list[str]:
        bodies = self.github.comments(NAME, number)
        return [comment["body"] for comment in bodies if comment["user"]["type"] == "Bot"]


def bare(repository: Repository, path: Path) -> Path:
    """The repository as a server has it."""
    repository.git("clone", "-q", "--bare", str(repository.path), str(path))
    subprocess.run(["git", "-C", str(path), "config", "http.receivepack", "true"], check=True)
    return path


__all__ = ["NAME", "ROOT", "Run", "Runner", "bare"]
