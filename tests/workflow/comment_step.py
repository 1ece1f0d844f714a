"""The one step of comment.yml, run against the stand-in for GitHub: what it says, posts and leaves behind."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repository import ROOT
from stand_in import GitHub

SHA, RUN = "5ca1ab1e" * 5, 4242
WATERMARK = '![](https://cml.dev/watermark.png#5ca1ab1e "CML watermark perennial")'
COMMAND = ["-S", "-m", "perennial.review.comment"]  # -S: the standard library and nothing else
IMPATIENT = "import perennial.github as g, perennial.review.comment as c, sys; g.PAUSE = 0.01; sys.exit(c.main())"
MEMORY = 200_000  # kB
PLACES = {"HOME": "home", "PATH": "bin", "TMPDIR": "temporary", "PWD": "work"}


class CommentStep:
    """A repository with pull request 1, whose run has ended."""

    def __init__(self, github: GitHub, folder: Path) -> None:
        self.github, self.folder, self.summary = github, folder, ""
        for name in PLACES.values():
            (folder / name).mkdir(parents=True)
        self.repository = github.add_repository("octo/demo")
        self.pull = github.add_pull("octo/demo", head="feat", sha=SHA, files=["params.yaml"])
        self.event: dict[str, Any] = {"id": RUN, "event": "pull_request", "conclusion": "success", "pull_requests": []}
        self.event |= {"head_branch": "feat", "head_sha": SHA, "head_repository": {"owner": {"login": "octo"}}}

    def upload(self, report: str | bytes | Mapping[str, str | bytes]) -> None:
        """The run's artifact: its report, its files, or its bytes."""
        content = {"reports/report.md": report} if isinstance(report, str) else report
        self.github.add_artifact("octo/demo", self.event["id"], "review", content)

    def push(self, report: str) -> None:
        """The next run, and its report."""
        self.event["id"] += 1
        self.upload(report)

    def __call__(self, expect: int = 0, impatient: bool = False, **environment: str) -> str:
        """What the step says. It ends as expected, in little memory, and leaves no file but the summary."""
        event, summary = self.folder / "event.json", self.folder / "summary.md"
        event.write_text(json.dumps({"action": "completed", "workflow_run": self.event}))
        summary.write_text("")
        before = self.files()
        command = [sys.executable, *(["-S", "-c", IMPATIENT] if impatient else COMMAND)]
        if "CML_BIN" not in environment:
            command = ["/bin/sh", "-c", f'ulimit -v {MEMORY}; exec "$@"', "sh", *command]
        told = self.environment(event, summary) | environment
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "timeout": 120}
        done = subprocess.run(command, cwd=self.folder / PLACES["PWD"], env=told, **output)
        said, self.summary = done.stdout.decode(), summary.read_text("utf-8")
        assert done.returncode == expect, said
        assert "Traceback" not in said, said
        assert self.files() == before
        return said

    def environment(self, event: Path, summary: Path) -> dict[str, str]:
        own = {name: str(self.folder / place) for name, place in PLACES.items()}
        own |= {"PYTHONPATH": str(ROOT / "src"), "GITHUB_EVENT_PATH": str(event), "GITHUB_STEP_SUMMARY": str(summary)}
        return own | self.github.environment("octo/demo") | {"GITHUB_SHA": "0" * 40}

    def files(self) -> list[Path]:
        """All that is there, two folders up from where the step works too."""
        return sorted(self.folder.parent.rglob("*"))

    def comments(self, by: str = "github-actions[bot]") -> list[str]:
        return [c["body"] for c in self.github.comments("octo/demo", self.pull["number"]) if c["user"]["login"] == by]

    def posted(self) -> str:
        """The one comment that stands."""
        (body,) = self.comments()
        return body
