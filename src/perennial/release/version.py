"""Versions of the model: annotated tags in GTO's format, `model@vX.Y.Z`, numbered by what changed.

Clients see the contract's features and target: a change there is major. Data and parameters are minor, code is a patch,
and a commit that changes none of these releases nothing.
"""

import re
from dataclasses import dataclass
from typing import Any, Self

from perennial.errors import UserError
from perennial.git import found, git, yaml_at

NAME = "model"  # the artifact in dvc.yaml
CODE = ("src", "requirements/pipeline.txt", "requirements/serve.txt", "Dockerfile", "dvc.yaml", ".python-version")
SEEN = ("features", "target")  # the part of the contract that clients see


@dataclass(frozen=True, order=True)
class Version:
    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}"

    @property
    def tag(self) -> str:
        return f"{NAME}@{self}"

    @classmethod
    def of(cls, text: str) -> Self | None:
        """From `model@v1.2.3`, `v1.2.3` or `1.2.3`; None for anything else."""
        match = re.fullmatch(rf"(?:{NAME}@)?v?(\d+)\.(\d+)\.(\d+)", text)
        return cls(*map(int, match.groups())) if match else None

    def after(self, change: str) -> "Version":
        if change == "major":
            return Version(self.major + 1, 0, 0)
        return (
            Version(self.major, self.minor + 1, 0)
            if change == "minor"
            else Version(self.major, self.minor, self.patch + 1)
        )


@dataclass(frozen=True)
class Plan:
    """What a commit releases."""

    version: Version | None  # None: nothing to release
    tagged: bool  # whether its tag is already there
    why: str


def versions() -> dict[Version, str]:
    """Every released version and its commit, the newest first. A lightweight tag is none: it says nothing."""
    form = "--format=%(objecttype) %(refname:lstrip=2) %(*objectname)"
    lines = [line.split() for line in git("for-each-ref", form, f"refs/tags/{NAME}@v*").splitlines()]
    pairs = [(Version.of(line[1]), line[2]) for line in lines if line[0] == "tag"]
    return dict(sorted(((v, commit) for v, commit in pairs if v), reverse=True))


def plan(commit: str = "HEAD") -> Plan:
    """The version that a commit has or gets.

    Raises:
        UserError: when a newer version was released from a commit that this one does not come after.
    """
    released, sha = versions(), git("rev-parse", f"{commit}^{{commit}}")
    here = [version for version, at in released.items() if at == sha]
    if here:
        return Plan(here[0], True, f"{here[0].tag} is this commit")
    if not released:
        return Plan(Version(1, 0, 0), False, "the first version")
    last, base = next(iter(released.items()))
    if found("merge-base", "--is-ancestor", base, sha) is None:
        raise UserError(
            f"{last.tag} was released from {base[:8]}, and {sha[:8]} is not after it: versions never go backwards",
            "release a commit of the default branch, or bring an older version back: make rollback TO=<version>",
        )
    change, why = changed(base, sha)
    return Plan(last.after(change) if change else None, False, f"{why} since {last.tag}")


def changed(before: str, after: str) -> tuple[str, str]:
    """`major`, `minor`, `patch` or nothing, and what it was."""
    old, new = (yaml_at(commit, "params.yaml") or {} for commit in (before, after))
    for key in SEEN:
        if old.get("data", {}).get(key) != new.get("data", {}).get(key):
            return "major", f"data.{key} changed"
    for key in sorted({*old, *new} - {"gate"}):
        if old.get(key) != new.get(key):
            return "minor", f"{key} in params.yaml changed"
    if _data(before) != _data(after):
        return "minor", "the data changed"
    files = git("diff", "--name-only", before, after, "--", *CODE).splitlines()
    return ("patch", f"{files[0]} changed") if files else ("", "nothing that is released changed")


def _data(commit: str) -> Any:
    """The hash of the raw data that the commit's dvc.lock promises."""
    raw = (yaml_at(commit, "params.yaml") or {}).get("data", {}).get("raw")
    stages = (yaml_at(commit, "dvc.lock") or {}).get("stages", {})
    return next((d["md5"] for s in stages.values() for d in s.get("deps", ()) if d["path"] == raw), None)


def facts(version: Version) -> dict[str, str]:
    """What the tag says of a version: image, model, contract and commit.

    Raises:
        UserError: when there is no such version, or its tag was made by hand.
    """
    released = versions()
    if version not in released:
        known = ", ".join(map(str, released)) or "none yet"
        raise UserError(f"there is no version {version}", f"git fetch --tags; versions here: {known}")
    text = git("for-each-ref", "--format=%(contents:body)", f"refs/tags/{version.tag}")
    told = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    if not {"image", "commit", "model", "contract"} <= told.keys():
        raise UserError(f"{version.tag} does not say which image it is", "it was tagged by hand: release a new commit")
    return told


def parse(text: str) -> Version:
    version = Version.of(text)
    if version is None:
        raise UserError(f"{text!r} is no version", "write it as v1.2.3")
    return version
