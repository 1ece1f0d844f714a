"""A log in a store, as the service writes it and its shipper files it, without a service."""

import datetime
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import fsspec
import orjson

UTC = datetime.UTC
DAY = datetime.timedelta(days=1)
SINCE = datetime.datetime(2026, 3, 2, tzinfo=UTC)  # a window of a week
UNTIL = SINCE + 7 * DAY
NOON = SINCE + DAY / 2
Line = dict[str, Any] | bytes


def prediction_id(number: int) -> str:
    return f"019d00000000-{number:016x}-0"


def prediction(number: int, at: datetime.datetime = NOON, **changes: Any) -> dict[str, Any]:
    """The line of a row of the service's log; the number makes its id."""
    line = {
        "prediction_id": prediction_id(number), "time": at.timestamp(), "model_version": "one", "commit": "abc",
        "features": {"mass": number / 4, "colour": "red", "sealed": True, "remark": None},
        "output": {"label": "good", "probabilities": {"good": 0.75, "bad": 0.25}},
    }  # fmt: skip
    return line | changes


def label(number: int, value: Any = "bad", at: datetime.datetime = NOON + DAY, **changes: Any) -> dict[str, Any]:
    """A line of feedback."""
    return {"time": at.timestamp(), "prediction_id": prediction_id(number), "label": value, "known": True} | changes


class Log:
    """Segments in a store of any kind."""

    def __init__(self, url: Any) -> None:
        self.url = str(url)
        self._files, self._root = fsspec.core.url_to_fs(self.url)
        self._count = itertools.count()

    def predictions(self, *lines: Line, **where: Any) -> str:
        return self.segment("predictions", lines, **where)

    def feedback(self, *lines: Line, **where: Any) -> str:
        return self.segment("feedback", lines, **where)

    def segment(self, kind: str, lines: Iterable[Line], day: Any = None, name: str = "") -> str:
        """File lines, bytes as they are, under a day: by default that of the first line's time. Its path."""
        lines = list(lines)
        if day is None:
            began = next((line["time"] for line in lines if isinstance(line, Mapping)), NOON.timestamp())
            day = datetime.datetime.fromtimestamp(began, UTC)
        name = name or f"{kind}-{day:%Y%m%d}T000000-{next(self._count):012x}.jsonl"
        content = b"".join(line if isinstance(line, bytes) else orjson.dumps(line) + b"\n" for line in lines)
        path = f"{self._root}/{kind}/dt={day:%Y-%m-%d}/{name}"
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(path, content)
        return path
