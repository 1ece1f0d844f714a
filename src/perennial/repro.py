"""The pipeline as a whole: bring it up to date, show what came out."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perennial.console import out
from perennial.errors import UserError
from perennial.files import read_json
from perennial.params import METRICS, Params, load

METRICS_FILE, EVALUATION = Path("reports/metrics.json"), Path("reports/evaluation.json")


class StageFailed(SystemExit):
    """A stage ended badly, and has said why; the command's exit code is 1, or 130 after Ctrl-C."""


def run() -> None:
    """Bring every stage up to date, then show the result."""
    params = load()
    if not update(params):
        out.print("Nothing changed since the last run: every stage is up to date.")
    show(params)


def update(params: Params) -> list[Any]:
    """Bring every stage up to date; the stages that ran.

    Raises:
        StageFailed: when one fails.
    """
    fetch_raw_data(params)
    import logging

    import dvc.logger
    from dvc.exceptions import ReproductionError
    from dvc.stage.exceptions import StageCmdFailedError

    dvc.logger.setup(level=logging.WARNING)
    os.environ |= environment()
    try:
        with repository() as repo:
            return list(repo.reproduce())
    except ReproductionError as error:
        cause = error.__cause__
        if isinstance(cause, StageCmdFailedError):  # DVC keeps the stage's exit code in its text only
            raise StageFailed(130 if str(cause).endswith(("exited with 130", "exited with -2")) else 1) from None
        if isinstance(cause, PermissionError):
            raise cause from None
        if isinstance(cause, FileNotFoundError):
            path = os.path.relpath(cause.filename)
            raise UserError(f"{path}: no such file, and a stage in dvc.yaml needs it", f"git restore {path}") from None
        raise UserError(f"DVC: {error}: {cause}", _advice(str(cause))) from None


@contextmanager
def repository() -> Iterator[Any]:
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


def environment() -> dict[str, str]:
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


def fetch_raw_data(params: Params) -> None:
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
    with repository() as repo:
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
