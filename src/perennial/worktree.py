"""Another commit's files in a folder of their own, which share this repository's DVC cache, and its pipeline there."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perennial.git import found, git
from perennial.repro import environment, repository

REQUIREMENTS = "requirements/pipeline.txt"


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
        tree = Path(folder) / "tree"
        git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            with repository() as repo:
                cache = repo.cache.local_cache_dir  # `cache.local.path` is a folder in it
            (tree / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache}\n", encoding="utf-8")
            yield tree
        finally:
            found("worktree", "remove", "--force", str(tree))
            found("worktree", "prune")


def perennial(tree: Path, verb: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the tree's own code: with the packages here, or with its own where it asks for others."""
    asked = tree / REQUIREMENTS
    same = asked.is_file() and asked.read_bytes() == Path(REQUIREMENTS).read_bytes()
    command = [sys.executable, "-m", "perennial", verb] if same else ["make", verb]
    kept = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    kept |= environment() | {"PYTHONPATH": str(tree / "src")} | variables
    return subprocess.run(command, cwd=tree, env=kept, capture_output=True, text=True)


def said(done: subprocess.CompletedProcess[str], lines: int = 8) -> str:
    """The end of what a command said, for an error's text."""
    return "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-lines:])
