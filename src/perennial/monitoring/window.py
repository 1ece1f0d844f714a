"""Windows of logged predictions, joined with the labels that came later.

Memory is bounded by `most`: of more rows a sample is kept, the ids with the smallest hashes, so that the same log
always gives the same sample and a row that was shipped twice is one row. What is no line of ours is counted and left
aside.
"""

import datetime
import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from perennial.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

MOST = 200_000  # rows kept of a window
LATE = datetime.timedelta(days=120)  # how long after a prediction its label is still looked for
SKEW = datetime.timedelta(days=1)  # a segment is filed under the day it was begun; clocks differ
UTC = datetime.UTC
NUMBER = (int, float)  # by `type`, for a bool is an int to `isinstance`


@dataclass
class Window:
    """Predictions of a span of time. `rows` are the log's own lines, each with `label` (None) and `labelled_at`."""

    since: datetime.datetime
    until: datetime.datetime
    rows: list[dict[str, Any]] = field(default_factory=list)
    seen: int = 0  # predictions in the span, before sampling
    aside: Counter[str] = field(default_factory=Counter)  # lines that could not be used, by reason

    def coverage(self) -> dict[str, Any]:
        """What the window is made of: rows, labelled share, delay of labels, versions, what was left aside."""
        delays = sorted(r["labelled_at"] - r["time"] for r in self.rows if r["label"] is not None)
        return {
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "rows": self.seen,
            "kept": len(self.rows),
            "labelled": len(delays) / len(self.rows) if self.rows else 0.0,
            "label_delay_days": delays[len(delays) // 2] / 86_400 if delays else None,
            "versions": dict(Counter(str(r["model_version"]) for r in self.rows).most_common(10)),
            "aside": dict(self.aside),
        }

    def frame(self) -> "pd.DataFrame":
        """One row each: the features, `_label`, `_time`, and `_answer`, the model's answer as a list of figures."""
        import pandas as pd

        cells = [
            {**r["features"], "_time": r["time"], "_label": r["label"], "_answer": _figures(r["output"])}
            for r in self.rows
        ]
        return pd.DataFrame(cells)


def read(
    store: str, since: datetime.datetime, until: datetime.datetime, most: int = MOST, newest: bool = False
) -> Window:
    """The predictions with since <= time < until, and the latest label of each.

    Args:
        store: where the service ships its log: a folder, or any URL that fsspec knows.
        most: rows to keep; of more, a sample, or with `newest` the newest.

    Raises:
        UserError: when the store, or a segment in it, cannot be read.
    """
    window, kept = Window(since, until), _Kept(most, newest)
    for line in _lines(store, "predictions", since - SKEW, until + SKEW, window.aside):
        if not _is_prediction(line):
            window.aside["foreign"] += 1
        elif since.timestamp() <= line["time"] < until.timestamp():
            kept.add(line)
    rows, window.seen = kept.rows(), kept.distinct()
    if repeated := kept.lines - window.seen:
        window.aside["repeated"] = repeated
    for line in _lines(store, "feedback", since - SKEW, until + LATE, window.aside):
        if not _is_label(line):
            window.aside["foreign"] += 1
            continue
        row = rows.get(line["prediction_id"])
        if row is not None and line["time"] >= row["labelled_at"]:
            row["label"], row["labelled_at"] = line["label"], line["time"]
    window.rows = sorted(rows.values(), key=lambda row: row["prediction_id"])
    return window


class _Kept:
    """The `most` rows whose ids have the smallest hashes, or (newest) the latest times."""

    def __init__(self, most: int, newest: bool) -> None:
        self._most, self._newest = most, newest
        self._heap: list[tuple[int, str]] = []  # the largest key first, so negative
        self._rows: dict[str, dict[str, Any]] = {}
        self._times: dict[str, int] = {}  # how often a kept row came; it has been kept since it first came
        self.lines = 0

    def add(self, row: dict[str, Any]) -> None:
        name = row["prediction_id"]
        self.lines += 1
        if name in self._rows:
            self._times[name] += 1
            return
        digest = blake2b(name.encode(), digest_size=8).digest()
        entry = (int(row["time"] * 1e6) if self._newest else -int.from_bytes(digest), name)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            last = heapq.heapreplace(self._heap, entry)[1]
            del self._rows[last], self._times[last]
        else:
            return
        self._rows[name], self._times[name] = {**row, "label": None, "labelled_at": 0.0}, 1

    def distinct(self) -> int:
        """How many rows came, each counted once; of those not kept, as if they came as often as those that were."""
        return round(self.lines * len(self._rows) / max(sum(self._times.values()), 1))

    def rows(self) -> dict[str, dict[str, Any]]:
        return self._rows


def _lines(
    store: str, kind: str, since: datetime.datetime, until: datetime.datetime, aside: Counter[str]
) -> Iterator[dict[str, Any]]:
    """The objects of every segment filed under these days, one at a time."""
    import fsspec
    import orjson

    try:
        files, root = fsspec.core.url_to_fs(store)
        days = [since.date() + datetime.timedelta(days=n) for n in range((until.date() - since.date()).days + 1)]
        there = {str(path).rpartition("/")[2]: path for path in files.ls(f"{root}/{kind}", detail=False)}
        names = [n for d in days if f"dt={d}" in there for n in sorted(files.ls(there[f"dt={d}"], detail=False))]
    except FileNotFoundError:
        return
    except Exception as error:  # whatever the store's library raises
        raise _unreadable(store, error) from None
    for name in names:
        try:
            with files.open(name, "rb") as file:
                for raw in file:
                    try:
                        line = orjson.loads(raw)
                    except ValueError:
                        aside["torn"] += 1
                        continue
                    if isinstance(line, dict):
                        yield line
                    else:
                        aside["foreign"] += 1
        except (FileNotFoundError, IsADirectoryError):
            aside["unreadable"] += 1
        except Exception as error:  # a part of the log would be another population
            raise _unreadable(store, error) from None


def _unreadable(store: str, error: Exception) -> UserError:
    return UserError(f"{store} cannot be read: {error}", "PREDICTION_STORE=<a folder or URL>, with access to it")


def _is_prediction(line: dict[str, Any]) -> bool:
    kinds = {"prediction_id": str, "model_version": str, "features": dict, "output": dict}
    ours = all(isinstance(line.get(name), kind) for name, kind in kinds.items())
    if not ours or type(line.get("time")) not in NUMBER:
        return False
    output = line["output"]
    if isinstance(output.get("probabilities"), dict):
        figures = _figures(output)
        return bool(figures) and all(type(figure) in NUMBER for figure in figures)
    return "probabilities" not in output and type(output.get("value")) in NUMBER


def _is_label(line: dict[str, Any]) -> bool:
    known = isinstance(line.get("prediction_id"), str) and type(line.get("time")) in NUMBER
    return known and type(line.get("label")) in (str, *NUMBER)


def _figures(output: dict[str, Any]) -> list[float]:
    return list(output["probabilities"].values()) if "probabilities" in output else [output["value"]]
