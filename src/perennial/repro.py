"""The pipeline as a whole: run it, verify that its lock is current, reproduce it elsewhere."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perennial.console import out
from perennial.errors import UserError
from perennial.files import read_json
from perennial.params import METRICS, Params, load

METRICS_FILE, EVALUATION = Path("reports/metrics.json"), Path("reports/evaluation.json")


def run() -> None:
    """Bring every stage up to date, then show the result."""
    params = load()
    _fetch_raw_data(params)
    ran = _repro()
    if not ran:
        out.print("Nothing changed since the last run: every stage is up to date.")
    show(params)


def _repro() -> list[Any]:
    """The stages that ran. The stage itself has said what went wrong when one fails."""
    import logging

    import dvc.logger
    from dvc.exceptions import ReproductionError
    from dvc.stage.exceptions import StageCmdFailedError

    dvc.logger.setup(level=logging.WARNING)
    os.environ |= _environment()
    try:
        with _repository() as repo:
            return list(repo.reproduce())
    except ReproductionError as error:
        cause = error.__cause__
        if isinstance(cause, StageCmdFailedError):  # DVC keeps the stage's exit code in its text only
            raise SystemExit(130 if str(cause).endswith(("exited with 130", "exited with -2")) else 1) from None
        if isinstance(cause, PermissionError):
            raise cause from None
        if isinstance(cause, FileNotFoundError):
            path = os.path.relpath(cause.filename)
            raise UserError(f"{path}: no such file, and a stage in dvc.yaml needs it", f"git restore {path}") from None
        raise UserError(f"DVC: {error}: {cause}", _advice(str(cause))) from None


@contextmanager
def _repository() -> Iterator[Any]:
    """DVC's view of this repository; what DVC cannot do ends in a UserError with advice."""
    from dvc.exceptions import DvcException, ReproductionError
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            yield repo
    except ReproductionError:
        raise
    except DvcException as error:
        raise UserError(f"DVC: {error}", _advice(str(error))) from None


def _environment() -> dict[str, str]:
    """For the stages: `python` is this Python, whether or not its environment is activated."""
    return {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])}


def _advice(text: str) -> str:
    if "dvc.lock" in text:
        return (
            "if a merge left conflict marks in dvc.lock, take either side (git checkout --ours dvc.lock) and run again"
        )
    if "lock" in text:
        return "another dvc command is running here: wait for it, or remove .dvc/tmp/lock if none is"
    return "see above; `dvc doctor` describes the set-up"


def _fetch_raw_data(params: Params) -> None:
    """Bring the raw data to what its pointer says, where DVC keeps it and nothing would be lost.

    Raises:
        UserError: which files, from where, and what to do, when there are none or the remote does not have them.
    """
    raw = Path(params.data.raw)
    pointer = raw.with_name(raw.name + ".dvc")
    if not pointer.exists():
        if not raw.exists():
            raise UserError(
                f"{raw}: no such folder",
                "put CSV or Parquet files there, one a period; `make simulate` writes the built-in data",
            )
        return
    with _repository() as repo:
        (output,) = repo.stage.load_one(str(pointer)).outs
        if raw.exists():
            here = output.get_hash()
            if here == output.hash_info or not output.cache.exists(here.value):
                return  # up to date, or edited since: the run takes the edit in
        name = repo.config["core"].get("remote")
        where = repo.config["remote"].get(name, {}).get("url", "no remote is configured")
        try:
            with out.status(f"Pulling {raw} from {where}"):
                repo.pull([str(pointer)])
        except Exception as error:  # every kind of remote has errors of its own
            raise UserError(
                f"{raw} is kept by DVC ({pointer}) and could not be pulled from {where}: {error}",
                f"check that {where} is there and that you may read it; if it has moved: "
                f"dvc remote modify {name or '<name>'} url <new place>; or put the files into {raw} yourself",
            ) from None
    out.print(f"Pulled {raw} from {where}.", soft_wrap=True)


def show(params: Params) -> None:
    """The last result: a table of metrics, the verdict of the floors, where the report and the model are."""
    from rich.table import Table

    figures, floors = read_json(METRICS_FILE), read_json(EVALUATION)["floors"]
    table = Table(
        "metric",
        "value",
        "95 % interval",
        "dummy",
        title=f"{params.data.target.name}: {figures['rows']:,} hold-out rows",
    )
    for name in (*METRICS[params.data.task], "value_per_1000"):
        if name in figures["metrics"]:
            row = figures["metrics"][name]
            table.add_row(
                name,
                f"{row['value']:.4g}",
                f"{row['low']:.4g} to {row['high']:.4g}",
                f"{figures['baseline'][name]:.4g}",
            )
    out.print(table)
    for floor in floors:
        mark = "[green]✓" if floor["passed"] else "[red]✗"
        out.print(f"{mark} {floor['metric']} {floor['value']:.4g}, floor {floor['floor']:.4g}[/]")
    verdict = (
        "[green]above every floor[/]"
        if all(floor["passed"] for floor in floors)
        else "[red]below a floor: not fit to merge[/]"
    )
    out.print(f"Verdict: {verdict if floors else 'no floors are set (gate.floors in params.yaml)'}")
    out.print("Report:  reports/report.html\nModel:   models/model.onnx")


MISSING = {"deleted", "not in cache"}  # an output that is not here says nothing about the lock


def problems() -> Iterator[str]:
    """What makes dvc.lock stale. `dvc repro --dry` exits with 0 in most of these cases, hence the status API."""
    with _repository() as repo:
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


def reproduce() -> None:
    """Run everything again in an empty place and compare with what dvc.lock promises.

    Raises:
        UserError: when the metrics differ (in the sixth decimal or before), naming which.
    """
    _fetch_raw_data(load())
    with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
        copy = Path(folder) / "repository"
        _copy_tree(copy)
        environment = os.environ | _environment() | {"PYTHONPATH": str(copy / "src")}
        result = subprocess.run([sys.executable, "-m", "dvc", "repro", "--no-run-cache"], cwd=copy, env=environment)
        if result.returncode:
            raise UserError("the pipeline failed in the copy", "see its messages above")
        changed = _changed_outputs(Path("dvc.lock"), copy / "dvc.lock")
        different = _differences(read_json(METRICS_FILE), read_json(copy / METRICS_FILE))
    if different:
        raise UserError(
            "different: the metrics are not those of this tree\n  " + "\n  ".join(different),
            "make run, look at the change, commit it",
        )
    if changed:
        out.print("[yellow]same metrics[/], but other bytes (another processor can do that): " + ", ".join(changed))
    else:
        out.print("[green]same bytes[/]: every output is identical.")


def _copy_tree(copy: Path) -> None:
    """Everything Git tracks or would track, as it is now, and the raw data; none of the cached outputs."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if Path(name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, copy / name)
    raw = Path(load().data.raw)
    shutil.copytree(raw, copy / raw, dirs_exist_ok=True)
    subprocess.run(["git", "init", "-q"], cwd=copy, check=True)


def _changed_outputs(before: Path, after: Path) -> list[str]:
    from perennial.params import read_yaml

    hashes = [
        {o["path"]: o["md5"] for s in read_yaml(lock)["stages"].values() for o in s["outs"]} for lock in (before, after)
    ]
    return sorted(path for path in hashes[0] | hashes[1] if hashes[0].get(path) != hashes[1].get(path))


def _differences(before: Any, after: Any, name: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for key in sorted({*before, *after})
            for line in _differences(before.get(key), after.get(key), f"{name}.{key}".strip("."))
        ]
    return [] if before == after else [f"{name}: {before} here, {after} when run again"]
