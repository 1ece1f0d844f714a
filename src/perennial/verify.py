"""Whether dvc.lock tells the truth: by comparing hashes in seconds, or by running everything again elsewhere."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from perennial.console import out
from perennial.errors import UserError
from perennial.files import read_json
from perennial.git import git
from perennial.params import load, read_yaml
from perennial.repro import METRICS_FILE, environment, fetch_raw_data, repository

MISSING = {"deleted", "not in cache"}  # an output that is not here says nothing about the lock


def problems() -> Iterator[str]:
    """What makes dvc.lock stale. `dvc repro --dry` exits with 0 in most of these cases, hence the status API."""
    with repository() as repo:
        kept = {str(output): output for stage in repo.index.stages for output in stage.outs if output.use_cache}
        for stage, entries in repo.status().items():
            for entry in entries:
                if isinstance(entry, str):
                    yield f"{stage}: {entry}"
                    continue
                for kind, changes in entry.items():
                    for path, state in changes.items():
                        absent = isinstance(state, str) and state in MISSING
                        if not (absent and {path, *map(str, Path(path).parents)} & kept.keys()):
                            yield f"{stage}: {kind}: {path}: {state if isinstance(state, str) else json.dumps(state)}"
        for stage in repo.index.stages:
            for dep in stage.deps:  # what is not here can still differ from what its own stage or .dvc file promises
                if str(dep) in kept and not dep.exists and dep.hash_info != kept[str(dep)].hash_info:
                    yield f"{stage.addressing}: changed deps: {dep}: modified"


def verify() -> None:
    """Raises UserError, naming each stale stage and why, unless dvc.lock matches code, params and data."""
    load()
    found = list(problems())
    if found:
        raise UserError(
            "dvc.lock is not current:\n  " + "\n  ".join(found),
            "make run, then commit dvc.lock and reports/ with your change",
        )
    out.print("dvc.lock is current.")


@dataclass(frozen=True)
class Reproduction:
    """What a second run, in an empty place, gave."""

    level: Literal["same bytes", "same metrics", "different", "failed"]
    details: list[str]  # the outputs with other bytes, or the metrics that differ


def reproduction(lock: Any, metrics: Any) -> Reproduction:
    """Run everything again in an empty place and compare.

    Args:
        lock: the content of the dvc.lock that promises the outputs' hashes.
        metrics: the figures that it promises, as in reports/metrics.json.
    """
    fetch_raw_data(load())
    with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
        copy = Path(folder) / "repository"
        _copy_tree(copy)
        variables = os.environ | environment() | {"PYTHONPATH": str(copy / "src")}
        result = subprocess.run([sys.executable, "-m", "dvc", "repro", "--no-run-cache"], cwd=copy, env=variables)
        if result.returncode:
            return Reproduction("failed", [])
        changed = _changed_outputs(lock, read_yaml(copy / "dvc.lock"))
        different = _differences(metrics, read_json(copy / METRICS_FILE))
    if different:
        return Reproduction("different", different)
    return Reproduction("same metrics" if changed else "same bytes", changed)


def reproduce() -> None:
    """Run everything again and compare with what dvc.lock and reports/metrics.json promise.

    Raises:
        UserError: when the metrics differ (in the sixth decimal or before), naming which.
    """
    again = reproduction(read_yaml(Path("dvc.lock")), read_json(METRICS_FILE))
    if again.level == "failed":
        raise UserError("the pipeline failed in the copy", "see its messages above")
    if again.level == "different":
        raise UserError(
            "different: the metrics are not those of this tree\n  " + "\n  ".join(again.details),
            "make run, look at the change, commit it",
        )
    if again.details:
        changed = ", ".join(again.details)
        out.print(f"[yellow]same metrics[/], but other bytes (another processor can do that): {changed}")
    else:
        out.print("[green]same bytes[/]: every output is identical.")


def _copy_tree(copy: Path) -> None:
    """Everything Git tracks or would track, as it is now, and the raw data; none of the cached outputs."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if Path(name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, copy / name)
    raw = Path(load().data.raw)
    shutil.copytree(raw, copy / raw, dirs_exist_ok=True)
    git("init", "-q", str(copy))


def locked_outputs(lock: Any) -> dict[str, str]:
    """The MD5 of each output by its path, from the content of a dvc.lock (or of none)."""
    stages = (lock or {}).get("stages", {})
    return {entry["path"]: entry["md5"] for stage in stages.values() for entry in stage.get("outs", ())}


def _changed_outputs(before: Any, after: Any) -> list[str]:
    hashes = [locked_outputs(lock) for lock in (before, after)]
    return sorted(path for path in hashes[0] | hashes[1] if hashes[0].get(path) != hashes[1].get(path))


def _differences(before: Any, after: Any, name: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for key in sorted({*before, *after})
            for line in _differences(before.get(key), after.get(key), f"{name}.{key}".strip("."))
        ]
    return [] if before == after else [f"{name}: {before} here, {after} when run again"]
