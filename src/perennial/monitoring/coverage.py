"""What the log holds of a span of time: said, and, if asked for, written as a table."""

import datetime
from pathlib import Path

from perennial.console import out, step
from perennial.errors import UserError
from perennial.files import atomic
from perennial.monitoring.window import MOST, Window, read


def window(
    store: str, since: datetime.datetime, until: datetime.datetime, rows: int | None, target: Path | None
) -> None:
    """Read a window, the newest `rows` of it if so many are asked for, and tell its coverage."""
    if since >= until:
        raise UserError(f"--since {since:%Y-%m-%dT%H:%M} is not before --until {until:%Y-%m-%dT%H:%M}")
    with step(f"Reading {store}"):
        found = read(store, since, until, rows or MOST, newest=rows is not None)
    show(found)
    if target:
        _write(found, target)


def show(found: Window) -> None:
    from rich.table import Table

    facts, table = found.coverage(), Table(show_header=False)
    delay = facts["label_delay_days"]
    table.add_row("since", facts["since"])
    table.add_row("until", facts["until"])
    table.add_row("rows", f"{facts['rows']:,}" + (f", {facts['kept']:,} kept" if facts["kept"] < facts["rows"] else ""))
    table.add_row("labelled", f"{facts['labelled']:.1%}" + (f", {delay:.1f} days later (median)" if delay else ""))
    table.add_row("model versions", ", ".join(f"{name}: {rows:,}" for name, rows in facts["versions"].items()) or "–")
    table.add_row("left aside", ", ".join(f"{rows:,} {why}" for why, rows in facts["aside"].items()) or "nothing")
    out.print(table, markup=False)


def _write(found: Window, target: Path) -> None:
    """The rows as CSV or Parquet: the features, then `_time`, `_label` and the model's figures."""
    if target.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"{target}: neither .csv nor .parquet", "name it one of them")
    frame = found.frame()
    with atomic(target) as path:
        if target.suffix.lower() == ".csv":
            frame.to_csv(path, index=False, lineterminator="\n")
        else:
            frame.to_parquet(path, index=False)
    out.print(f"{len(frame):,} rows in {target}", soft_wrap=True)
