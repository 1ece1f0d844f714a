"""The champion: the model of the base commit, from DVC's cache or remote, or built again from its commit."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from perennial.console import out
from perennial.errors import UserError
from perennial.git import found, git, yaml_at
from perennial.repro import repository
from perennial.verify import locked_outputs
from perennial.worktree import perennial, said, worktree

MODEL, PROFILE = "models/model.onnx", "models/profile.json"


@dataclass(frozen=True)
class Champion:
    commit: str
    source: Literal["cache", "remote", "rebuilt"]
    model: bytes
    profile: dict[str, Any]
    same_bytes: bool  # whether they are the bytes its dvc.lock promises


def find() -> tuple[Champion | None, str | None, str]:
    """The champion, the commit it belongs to, and why there is none."""
    commit = base_commit()
    if commit is None:
        return None, None, "there is no earlier commit to compare with"
    wanted = locked_outputs(yaml_at(commit, "dvc.lock"))
    if not {MODEL, PROFILE} <= wanted.keys():
        return None, commit, f"commit {commit[:8]} has no model in its dvc.lock: this is the first one"
    kept = _kept(commit, wanted)
    if kept:
        return kept, commit, ""
    try:
        return _rebuilt(commit, wanted), commit, ""
    except UserError as error:
        return None, commit, str(error)


def base_commit() -> str | None:
    """`CHAMPION_REV`, else where this branch left the default branch; on that branch itself, the commit before.

    Raises:
        UserError: when CHAMPION_REV names no commit, or history is cut off before the branches meet.
    """
    asked = os.environ.get("CHAMPION_REV")
    if asked:
        commit = found("rev-parse", "--verify", "-q", f"{asked}^{{commit}}")
        if commit is None:
            raise UserError(f"CHAMPION_REV={asked}: no such commit here", "git fetch it, with its history")
        return commit
    head, default = found("rev-parse", "--verify", "-q", "HEAD"), _default_branch()
    if head is None or default is None:
        return None
    base = found("merge-base", "HEAD", default)
    if base is None:
        raise UserError(
            f"HEAD and {default} have no commit in common here",
            "git fetch --unshallow, or name the champion: CHAMPION_REV=<commit>",
        )
    if base == head and not git("status", "--porcelain", "--untracked-files=no"):
        return found("rev-parse", "--verify", "-q", "HEAD^")
    return base


def _default_branch() -> str | None:
    for name in ("origin/HEAD", "origin/main", "origin/master", "main", "master"):
        if found("rev-parse", "--verify", "-q", f"{name}^{{commit}}"):
            return name
    return None


def _kept(commit: str, wanted: dict[str, str]) -> Champion | None:
    """From the cache, or else from the remote into the cache; None when neither has both files whole."""
    from dvc_data.hashfile.hash_info import HashInfo

    with repository() as repo:
        places = {name: Path(repo.cache.local.oid_to_path(wanted[name])) for name in (MODEL, PROFILE)}
        here = _whole(places, wanted)
        if here is None:
            for place in places.values():  # a broken file would be taken for the right one when it is built again
                place.unlink(missing_ok=True)
        if here is None and repo.config["core"].get("remote"):
            try:
                with out.status("Fetching the champion"):
                    repo.cloud.pull({HashInfo("md5", wanted[name]) for name in places})
            except Exception:  # every kind of remote has errors of its own; the champion can be built again
                return None
            fetched = _whole(places, wanted)
            return _champion(commit, "remote", fetched, True) if fetched else None
        return _champion(commit, "cache", here, True) if here else None


def _whole(places: dict[str, Path], wanted: dict[str, str]) -> dict[str, bytes] | None:
    contents = {name: path.read_bytes() for name, path in places.items() if path.is_file()}
    right = {name: _md5(content) == wanted[name] for name, content in contents.items()}
    return contents if len(right) == len(places) and all(right.values()) else None


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _champion(
    commit: str, source: Literal["cache", "remote", "rebuilt"], files: dict[str, bytes], same: bool
) -> Champion:
    return Champion(commit, source, files[MODEL], json.loads(files[PROFILE]), same)


def _rebuilt(commit: str, wanted: dict[str, str]) -> Champion:
    """From its own code, parameters and data, with the packages it asks for.

    Raises:
        UserError: when the pipeline of that commit fails.
    """
    out.print(f"Building the champion again from commit {commit[:8]} (it is in no cache)")
    with worktree(commit) as tree:
        done = perennial(tree, "run")
        if done.returncode:
            problem = f"the model of commit {commit[:8]} is in no cache and could not be built again"
            raise UserError(f"{problem}:\n  {said(done)}")
        files = {name: (tree / name).read_bytes() for name in (MODEL, PROFILE)}
    return _champion(commit, "rebuilt", files, all(_md5(files[name]) == wanted[name] for name in files))
