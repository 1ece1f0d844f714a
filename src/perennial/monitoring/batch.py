"""Labelled rows of production as the next batch of raw data, with where they came from noted beside it."""

import csv
import datetime
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from perennial.contract import Contract
from perennial.errors import UserError
from perennial.files import atomic, read_json, sha256, write_json
from perennial.monitoring.window import UTC

NOTES = Path("data/production.json")  # a list, the oldest batch first
Row = dict[str, Any]


def notes(root: Path = Path()) -> list[dict[str, Any]]:
    """Every batch that came from production."""
    return list(read_json(root / NOTES)) if (root / NOTES).exists() else []


def learnt(root: Path = Path()) -> datetime.datetime | None:
    """Up to when the model has learnt from production; what was seen before says nothing about it."""
    ends = [datetime.datetime.fromisoformat(note["until"]) for note in notes(root)]
    return max(ends, default=None)


def write(tree: Path, lines: Iterable[Row], contract: Contract, facts: dict[str, Any]) -> dict[str, Any]:
    """Write data/raw/production-<day>.csv into the tree, and note it; the note.

    Only the contract's columns are written: what else a log holds stays where it is. A row that breaks the contract,
    or that the raw data has already, is left out and counted.

    Args:
        lines: of a `window.Window`, each with a label.
        facts: `since`, `until` and what else the note shall say.

    Raises:
        UserError: when nothing new is left.
    """
    path = tree / contract.raw / f"production-{datetime.datetime.fromisoformat(facts['until']):%Y%m%d-%H%M}.csv"
    known, left_out = _ids(tree, contract), Counter[str]()
    rows = []
    for line in lines:
        if line["prediction_id"] in known:
            left_out["in the raw data already"] += 1
        else:
            rows.append(_row(line, contract))
    _save(path, rows, contract)
    kept = [row for row, fits in zip(rows, _fits(path, len(rows), contract), strict=True) if fits] if rows else []
    left_out["breaks the contract"] = len(rows) - len(kept)
    if not kept:
        path.unlink()
        raise UserError(f"no labelled row is new: {dict(+left_out) or 'there are none'}", "send labels to /feedback")
    _save(path, kept, contract)
    note = {"file": str(path.relative_to(tree)), "rows": len(kept), **facts, "left_out": dict(+left_out)}
    note["sha256"] = sha256(path)
    write_json(tree / NOTES, [*notes(tree), note], sort_keys=False)
    return note


def _row(line: Row, contract: Contract) -> Row:
    cells = {name: _cell(line["features"].get(name)) for name in contract.features}
    cells[contract.target.name] = _cell(line["label"])
    if contract.id:
        cells[contract.id] = line["prediction_id"]
    if contract.time:
        cells[contract.time.name] = written(datetime.datetime.fromtimestamp(line["time"], UTC), contract)
    return cells


def written(time: datetime.datetime, contract: Contract) -> str:
    """A time as this contract's data writes it."""
    assert contract.time
    pattern = contract.time.format
    return f"{time:%Y-%m-%dT%H:%M:%S}" if pattern == "ISO8601" else time.strftime(pattern)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _save(path: Path, rows: list[Row], contract: Contract) -> None:
    """As the contract says that CSV files are written here. A sensitive column is empty: the service is not told it."""
    spec = contract.csv
    # A lone return is not quoted, and a zero makes the file binary; without quotes nothing holds the rest either.
    loose = re.compile(r"[\r\0]" if spec.quote else rf"[{re.escape(spec.delimiter)}\r\n\0]")
    with (
        atomic(path) as unfinished,
        unfinished.open("w", newline="", encoding=spec.encoding, errors="replace") as file,  # no word is made of such
    ):
        names = list(spec.columns or contract.columns)
        writer = csv.writer(
            file,
            delimiter=spec.delimiter,
            lineterminator="\n",
            quotechar=spec.quote or None,
            quoting=csv.QUOTE_MINIMAL if spec.quote else csv.QUOTE_NONE,
        )
        if not spec.columns:
            writer.writerow(names)
        for row in rows:
            writer.writerow([loose.sub(" ", row.get(name, "")) for name in names])


def _fits(path: Path, rows: int, contract: Contract) -> list[bool]:
    """For each row of the file, in order, whether it keeps the contract; read as the pipeline will read it."""
    from perennial.pipeline import check, read

    frame, origin = check.join([batch := read.read_batch(path, contract)])
    broken = check.set_aside(check.violations(frame, origin, [batch], contract), origin, contract)
    whole, first = set(origin.loc[~broken, "row"]), 1 if contract.csv.columns else 2
    return [first + place in whole for place in range(rows)]


def _ids(tree: Path, contract: Contract) -> set[str]:
    """The ids of the rows that came from production before."""
    from perennial.pipeline import read

    if not contract.id:
        return set()
    files = [tree / note["file"] for note in notes(tree)]
    chunks = [chunk for path in files if path.exists() for chunk in read.read_chunks(path, contract, [contract.id])]
    return {str(name) for chunk in chunks for name in chunk.frame[contract.id]}
