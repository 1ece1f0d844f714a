"""Where releases and deployments are decided: a clone of a small project, its bare origin, the stand-in for GitHub."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT, clean_environment
from stand_in import GitHub
from stand_in.state import WORKFLOW

from perennial import github as client
from perennial.files import parse_yaml, sha256
from perennial.release.version import Version, plan

NAME, IMAGE = "octo/demo", "ghcr.io/octo/demo"
PARAMS = "data: {raw: data/raw, target: {name: answer}, features: {amount: {type: number}}}\nseed: %d\n"
LOCK = "stages: {prepare: {deps: [{path: data/raw, md5: aaaa.dir, size: 5}]}}\n"
PROFILE = {"model": {"sha256": "", "estimator": "A"}, "contract_digest": "c0ffee", "trained_on": {"rows": 3}}
COMPOSE = "deploy/compose.env"
TRACK = {"staging": "CHALLENGER", "production": "CHAMPION"}


def overlay(environment: str) -> str:
    return f"deploy/kubernetes/overlays/{environment}/kustomization.yaml"


def digest(text: str) -> str:
    """One for each text."""
    return "sha256:" + (text.encode().hex() * 64)[:64]


class Desk:
    """The clone is the working directory, and the environment is a workflow's."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, github: GitHub) -> None:
        self.here, self.origin, self.github = folder / "here", folder / "origin.git", github
        kept = clean_environment() | github.environment(NAME)
        for name in set(os.environ) - set(kept):
            monkeypatch.delenv(name)
        own = {f"GIT_{who}_NAME": "Ada" for who in ("AUTHOR", "COMMITTER")} | kept
        own |= {f"GIT_{who}_EMAIL": "ada@example.com" for who in ("AUTHOR", "COMMITTER")} | {"GIT_TERMINAL_PROMPT": "0"}
        own |= {f"GIT_CONFIG_{scope}": os.devnull for scope in ("GLOBAL", "SYSTEM")}
        for name, value in own.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(client, "PAUSE", 0.001)
        shutil.copytree(ROOT / "deploy", self.here / "deploy")
        monkeypatch.chdir(self.here)
        self.write({"params.yaml": PARAMS % 7, "dvc.lock": LOCK, "src/code.py": "1\n"})
        self.write({".gitignore": "/models\n/reports\n/release\n"})
        self.git("init", "-q", "-b", "main", "--template=")
        self.commit()
        self.git("clone", "-q", "--bare", "--template=", str(self.here), str(self.origin))
        self.git("remote", "add", "origin", str(self.origin))
        self.repository = github.add_repository(NAME, git=self.origin)

    def git(self, *arguments: str, at: Path | None = None) -> str:
        command = ["git", "-C", str(at or self.here), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.here / name).parent.mkdir(parents=True, exist_ok=True)
            (self.here / name).write_text(text, encoding="utf-8")

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "-q", "--allow-empty", "-m", "Change")
        return self.head()

    def push(self) -> str:
        """Whatever is on disk is merged; its commit."""
        commit = self.commit()
        self.git("push", "-q", "origin", "HEAD:main")
        return commit

    def head(self, ref: str = "HEAD") -> str:
        return self.git("rev-parse", ref)

    # What a release needs of the steps before it

    def judged(self, verdict: str = "pass", **more: Any) -> dict[str, str]:
        """What gate and image left for this commit; the image's facts. The gate's figures differ from run to run."""
        commit = self.head()
        told = {"verdict": verdict, "rules": [{"name": "floor of roc_auc", "passed": verdict == "pass"}], **more}
        image = {"name": IMAGE, "digest": digest(commit), "commit": commit, "version": str(plan().version)}
        metrics = {"metrics": {"roc_auc": {"value": 0.8}}}
        self.write({"models/model.onnx": commit, "reports/metrics.json": json.dumps(metrics)})
        profile = PROFILE | {"model": {"sha256": sha256(self.here / "models/model.onnx"), "estimator": "A"}}
        self.write({"models/profile.json": json.dumps(profile), "reports/evaluation.json": "{}"})
        self.write({"reports/gate.json": json.dumps(told | {"commit": {"sha": commit}})})
        self.write({"release/image.json": json.dumps(image), "release/sbom.cdx.json": "{}"})
        return image

    def released(self, text: str) -> dict[str, Any]:
        """A version as `release` tags it, for a commit of its own on main; its image."""
        version = Version.of(text)
        assert version
        self.git("fetch", "-q", "origin", "main")
        self.git("reset", "-q", "--hard", "origin/main")
        self.write({"src/code.py": f"{text}\n"})
        commit = self.push()
        image = {"name": IMAGE, "digest": digest(text), "commit": commit, "version": text}
        facts = {
            "image": f"{IMAGE}@{image['digest']}",
            "commit": commit,
            "model": "0" * 64,
            "contract": "1",
            "gate": "pass",
        }
        body = "".join(f"{key}: {value}\n" for key, value in facts.items())
        self.git("tag", "--annotate", version.tag, "--message", f"Release {version.tag}\n\n{body}", commit)
        self.git("push", "-q", "origin", f"refs/tags/{version.tag}")
        return image

    # What came of it

    @property
    def pulls(self) -> list[dict[str, Any]]:
        return list(self.repository.pulls.values())

    def at(self, branch: str, path: str) -> str:
        return self.git("show", f"refs/heads/{branch}:{path}", at=self.origin) + "\n"

    def runs(self, environment: str, branch: str = "main") -> dict[str, str]:
        """Digest, version and commit that a branch says, when overlay and compose.env say the same."""
        text = parse_yaml(self.at(branch, overlay(environment)))
        (image,), notes = text["images"], text["commonAnnotations"]
        told = {"DIGEST": image["digest"]} | {
            key.upper(): notes[f"perennial.dev/{key}"] for key in ("version", "commit")
        }
        lines = dict(line.split("=", 1) for line in self.at(branch, COMPOSE).splitlines() if "=" in line)
        assert told == {key: lines[f"{TRACK[environment]}_{key}"] for key in told}
        return told

    def merge(self, number: int) -> None:
        """What its author decides: the branch holds one commit on main."""
        pull = self.repository.pulls[number]
        main, head = (self.head_at(ref) for ref in ("main", pull["head"]["ref"]))
        assert self.git("rev-list", f"{main}..{head}", at=self.origin).split() == [head]
        self.git("update-ref", "refs/heads/main", head, at=self.origin)
        self.git("update-ref", "-d", f"refs/heads/{pull['head']['ref']}", at=self.origin)
        pull.update(state="closed", merged=True)

    def head_at(self, branch: str) -> str:
        return self.git("rev-parse", f"refs/heads/{branch}", at=self.origin)

    def head_at_commit(self, ref: str) -> str:
        return self.git("rev-parse", f"{ref}^{{commit}}", at=self.origin)

    def changed(self, branch: str) -> list[str]:
        return sorted(self.git("diff", "--name-only", "main", branch, at=self.origin).splitlines())

    def everything(self) -> dict[str, Any]:
        """All that anybody can see of the origin and of GitHub; equal when nothing has happened."""
        refs = self.git("for-each-ref", at=self.origin)
        kept = (self.repository.pulls, self.repository.releases, self.repository.comments)
        return {"refs": refs, "kept": json.loads(json.dumps(kept))}

    def writes(self) -> list[str]:
        return [f"{line.method} {line.path}" for line in self.github.log if line.method not in ("GET", "HEAD")]

    def refuse_pushes(self, refuse: bool = True) -> None:
        hook = self.origin / "hooks/pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho the disk is full >&2; exit 1\n")
        hook.chmod(0o755 if refuse else 0o644)


def bot(desk: Desk, branch: str) -> bool:
    name = desk.git("show", "-s", "--format=%an %cn", branch, at=desk.origin)
    return re.fullmatch(f"{re.escape(WORKFLOW)} {re.escape(WORKFLOW)}", name) is not None
