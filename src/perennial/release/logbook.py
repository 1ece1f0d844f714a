"""One prediction, found again in the log of the service."""

import datetime
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from perennial.errors import UserError
from perennial.serving.ids import PATTERN
from perennial.serving.log import CLOSED


def is_prediction(text: str) -> bool:
    return re.fullmatch(PATTERN, text) is not None


def prediction(wanted: str) -> dict[str, Any]:
    """The log's line of a prediction, from PREDICTION_STORE and LOG_DIR.

    Raises:
        UserError: when neither has it.
    """
    folder = Path(os.environ.get("LOG_DIR", "logs"))
    store = os.environ.get("PREDICTION_STORE") or str((folder / "store").absolute())
    for line in chain(_local(folder, wanted), _stored(store, wanted)):  # in this order: what is shipped leaves here
        row: dict[str, Any] = json.loads(line)
        if row["prediction_id"] == wanted:
            return row
    raise UserError(
        f"{wanted}: neither in {store} nor in {folder}", "name the log's place: PREDICTION_STORE=<URL>, LOG_DIR"
    )


def _stored(store: str, wanted: str) -> Iterator[str]:
    """From the day of the id and the one before, for a segment is filed under the day it was begun."""
    import fsspec

    try:
        day = datetime.datetime.fromtimestamp(int(wanted[:12], 16) / 1000, datetime.UTC).date()
    except (ValueError, OverflowError):
        return  # a time that no clock of ours will show
    try:
        files, root = fsspec.core.url_to_fs(store)
        folders = [f"{root}/predictions/dt={day - datetime.timedelta(days=back)}" for back in (0, 1)]
        names = [name for folder in folders if files.exists(folder) for name in sorted(files.ls(folder, detail=False))]
        for name in names:
            with files.open(name, "rt", encoding="utf-8", errors="replace") as file:
                yield from _whole(file, wanted)
    except Exception as error:  # whatever the store's library raises
        raise UserError(f"PREDICTION_STORE={store}: {error}", "its address, its keys, its fsspec package") from None


def _local(folder: Path, wanted: str) -> Iterator[str]:
    """From segments that were not shipped yet."""
    for path in sorted(folder.glob("predictions-*")):
        for name in (path, path.with_suffix(CLOSED)):  # it may be closed, or shipped, at this moment
            with suppress(FileNotFoundError), name.open(encoding="utf-8", errors="replace") as file:
                yield from _whole(file, wanted)
                break


def _whole(lines: Iterator[str], wanted: str) -> Iterator[str]:
    return (line for line in lines if wanted in line and line.endswith("\n"))
