"""Batches from disk: CSV and Parquet files, each row with the number a spreadsheet shows for it."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from perennial.contract import Contract
from perennial.errors import UserError
from perennial.pipeline.cast import cast

SUFFIXES = {".csv", ".tsv", ".txt", ".parquet"}
VIOLATION = ["file", "row", "column", "value", "problem"]


@dataclass
class Batch:
    """One file: its rows in the contract's types, and what did not fit."""

    path: Path
    frame: pd.DataFrame
    rows: NDArray[np.int64]  # the number of each row in the file
    violations: pd.DataFrame
    ignored: list[str]  # columns the contract does not speak of


def list_batches(folder: Path) -> list[Path]:
    """Every data file of the folder in name order.

    Raises:
        UserError: when there is none, or one that is neither CSV nor Parquet.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    strange = [str(path) for path in files if path.suffix.lower() not in SUFFIXES]
    if strange:
        fix = "name it .csv, .tsv, .txt or .parquet, or move it elsewhere"
        raise UserError(f"{', '.join(strange)}: neither CSV nor Parquet", fix)
    if not files:
        fix = "put CSV or Parquet files there, one a period; `make simulate` writes the built-in data"
        raise UserError(f"{folder}: no data", fix)
    return files


def read_batch(path: Path, contract: Contract) -> Batch:
    """Read one file and turn each column into the contract's type.

    Raises:
        UserError: when the file cannot be read or a column is missing.
    """
    parquet = path.suffix.lower() == ".parquet"
    header, table, rows, broken = _read_parquet(path, contract) if parquet else _read_csv(path, contract)
    violations, frame = [pd.DataFrame(broken, columns=VIOLATION)], pd.DataFrame(index=table.index)
    for name in contract.columns:
        frame[name], unread, complaint = cast(table.pop(name), contract)
        found = {"file": str(path), "row": rows[unread.index], "column": name, "value": unread, "problem": complaint}
        violations.append(pd.DataFrame(found, columns=VIOLATION))
    return Batch(path, frame, rows, pd.concat(violations), [name for name in header if name not in contract.columns])


def _read_csv(path: Path, contract: Contract) -> tuple[list[str], pd.DataFrame, NDArray[np.int64], list[Any]]:
    """Header, cells as text, row numbers, and the rows with too few or too many cells as violations."""
    spec, broken = contract.csv, list[Any]()

    def note(row: Any) -> str:
        problem = f"{row.actual_columns} cells, expected {row.expected_columns}"
        broken.append((str(path), row.number, "", row.text, problem))
        return "skip"

    options: dict[str, Any] = {
        "read_options": pa.csv.ReadOptions(
            use_threads=False, column_names=spec.columns, encoding=_encoding(path, spec.encoding)
        ),
        "parse_options": pa.csv.ParseOptions(
            delimiter=spec.delimiter, quote_char=spec.quote or False, newlines_in_values=bool(spec.quote),
            ignore_empty_lines=False, invalid_row_handler=note,
        ),
    }  # fmt: skip
    try:
        with pa.csv.open_csv(path, **options) as reader:
            header = list(reader.schema.names)
        _require_columns(path, header, contract)
        broken.clear()
        texts = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(contract.columns, pa.string()), include_columns=contract.columns
        )
        table = pa.csv.read_csv(path, convert_options=texts, **options).to_pandas()
    except (pa.ArrowInvalid, UnicodeError, LookupError) as error:
        fix = "save it again as CSV in UTF-8, or say how it is written in data.csv"
        raise UserError(f"{path}: not readable as CSV: {str(error).splitlines()[0]}", fix) from None
    filled = (table != "").any(axis=1).to_numpy()  # a blank line is nothing
    rows = _row_numbers(len(table), [row[1] for row in broken], 1 if spec.columns else 2)[filled]
    return header, table[filled].reset_index(drop=True), rows, [row for row in broken if row[3].strip()]


def _encoding(path: Path, declared: str) -> str:
    """A byte-order mark knows better than the contract.

    Raises:
        UserError: when the file is empty or no text.
    """
    with path.open("rb") as file:
        start = file.read(4096)
    fix = "remove the file, or save it again as CSV in UTF-8"
    if not start.strip():
        raise UserError(f"{path}: the file is empty", fix)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if b"\x00" in start:
        raise UserError(f"{path}: the file is binary, not text", fix)
    return declared


def _row_numbers(count: int, broken: list[int], first: int) -> NDArray[np.int64]:
    """The number in the file of each row that was kept, when the broken ones were left out."""
    return np.setdiff1d(np.arange(first, first + count + len(broken)), broken, assume_unique=True)


def _read_parquet(path: Path, contract: Contract) -> tuple[list[str], pd.DataFrame, NDArray[np.int64], list[Any]]:
    try:
        header = list(pa.parquet.read_schema(path).names)
        _require_columns(path, header, contract)
        table = pa.parquet.read_table(path, columns=list(contract.columns)).to_pandas().reset_index(drop=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not readable as Parquet: {str(error).splitlines()[0]}", "write it again") from None
    return header, table, np.arange(1, len(table) + 1), []


def _require_columns(path: Path, header: list[str], contract: Contract) -> None:
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise UserError(f"{path}: the header has {', '.join(repeated)} more than once", "rename or remove the copies")
    spare = [name for name in header if name not in contract.columns]
    missing = [name for name in contract.columns if name not in header]
    if missing:
        guesses = {name: get_close_matches(name, spare, n=1, cutoff=0.5) for name in missing}
        words = [f"{name!r}" + (f" (renamed to {guess[0]!r}?)" if guess else "") for name, guess in guesses.items()]
        raise UserError(
            f"{path}: missing column {', '.join(words)}; the file has: {', '.join(header)}",
            "rename it in the file, or change its name under data: in params.yaml",
        )
