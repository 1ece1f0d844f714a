"""One prediction, found again in the log of the service."""

import datetime
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perennial.errors import UserError

ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]{16}-[0-9a-f]+")  # see serving/ids.py: it begins with its time


def is_prediction(text: str) -> bool:
    return ID.fullmatch(text) is not None


def prediction(wanted: str) -> dict[str, Any]:
    """The log's line of a prediction, from PREDICTION_STORE and LOG_DIR.

    Raises:
        UserError: when neither has it.
    """
    folder = Path(os.environ.get("LOG_DIR", "logs"))
    store = os.environ.get("PREDICTION_STORE") or str((folder / "store").absolute())
    for line in (*_stored(store, wanted), *_local(folder, wanted)):
        row: dict[str, Any] = json.loads(line)
        if row["prediction_id"] == wanted:
            return row
    raise UserError(
        f"{wanted}: neither in {store} nor in {folder}", "name the log's place: PREDICTION_STORE=<URL>, LOG_DIR"
    )


def _stored(store: str, wanted: str) -> Iterator[str]:
    """From the day of the id and the one before, for a segment is filed under the day it was begun."""
    import fsspec

    files, root = fsspec.core.url_to_fs(store)
    day = datetime.datetime.fromtimestamp(int(wanted[:12], 16) / 1000, datetime.UTC).date()
    folders = [f"{root}/predictions/dt={day - datetime.timedelta(days=back)}" for back in (0, 1)]
    names = [name for folder in folders if files.exists(folder) for name in sorted(files.ls(folder, detail=False))]
    for name in names:
        with files.open(name, "rt", encoding="utf-8") as file:
            yield from _whole(file, wanted)


def _local(folder: Path, wanted: str) -> Iterator[str]:
    """From segments that were not shipped yet."""
    for path in sorted(folder.glob("predictions-*")):
        with path.open(encoding="utf-8") as file:
            yield from _whole(file, wanted)


def _whole(lines: Iterator[str], wanted: str) -> Iterator[str]:
    return (line for line in lines if wanted in line and line.endswith("\n"))
