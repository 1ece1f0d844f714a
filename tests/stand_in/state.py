"""What the stand-in remembers."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]
WORKFLOW = "github-actions[bot]"  # who writes with a workflow's token


class Logged(NamedTuple):
    """One request, as it was answered."""

    method: str
    path: str
    status: int
    authorization: str
    host: str


@dataclass
class Repository:
    """Issues, pull requests and comments are in the API's own form."""

    name: str
    git: Path | None = None  # a bare repository
    default_branch: str = "main"
    pulls: dict[int, Json] = field(default_factory=dict)
    issues: dict[int, Json] = field(default_factory=dict)
    comments: dict[int, list[Json]] = field(default_factory=dict)  # of an issue or a pull request, oldest first
    files: dict[int, list[Json]] = field(default_factory=dict)  # of a pull request, where a test tells them
    labels: set[str] = field(default_factory=set)
    artifacts: list[Json] = field(default_factory=list)
    dispatches: list[Json] = field(default_factory=list)
    releases: dict[int, Json] = field(default_factory=dict)  # drafts too, oldest first

    @property
    def owner(self) -> str:
        return self.name.partition("/")[0]

    def next_number(self) -> int:
        return max([0, *self.issues, *self.pulls]) + 1

    def end(self, branch: str, sha: str, into: "Repository") -> Json:
        """This repository's end of a pull request."""
        told = {"full_name": self.name, "fork": self is not into, "owner": {"login": self.owner}}
        return {"ref": branch, "sha": sha, "label": f"{self.owner}:{branch}", "repo": told}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
