"""Batches from disk: CSV and Parquet files, each row with the number a spreadsheet shows for it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
BLOCK = 2_000_000  # bytes of CSV read at once; Arrow reads up to 32 blocks ahead
CSV_FIX = "save it again as CSV in UTF-8, or say how it is written in data.csv"
# Cells, row numbers, broken rows as violations, share of the file read so far.
Chunk = tuple[pd.DataFrame, NDArray[np.int64], list[Any], float]


@dataclass
class Batch:
    """A file, or a piece of one: its rows in the contract's types, and what did not fit."""

    path: Path
    frame: pd.DataFrame
    rows: NDArray[np.int64]  # the number of each row in the file
    violations: pd.DataFrame
    ignored: list[str]  # columns the contract does not speak of
    done: float = 1.0  # the share of the file that was read up to here


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
    """A whole file. Raises as `read_chunks` does."""
    chunks = list(read_chunks(path, contract, contract.columns))
    frames, rows, violations = ([getattr(chunk, part) for chunk in chunks] for part in ("frame", "rows", "violations"))
    return Batch(
        path, pd.concat(frames, ignore_index=True), np.concatenate(rows), pd.concat(violations), chunks[0].ignored
    )


def read_chunks(path: Path, contract: Contract, columns: Sequence[str]) -> Iterator[Batch]:
    """These columns in the contract's types, piece by piece; at least one piece, for it knows the types.

    Raises:
        UserError: when the file cannot be read or a column is missing.
    """
    names = header(path, contract)
    _require_columns(path, names, columns)
    ignored = [name for name in names if name not in contract.columns]
    read = _parquet_chunks if path.suffix.lower() == ".parquet" else _csv_chunks
    for table, rows, broken, done in read(path, contract, columns):
        violations, frame = [pd.DataFrame(broken, columns=VIOLATION)], pd.DataFrame(index=table.index)
        for name in columns:
            frame[name], unread, complaint = cast(table.pop(name), contract)
            found = {
                "file": str(path),
                "row": rows[unread.index],
                "column": name,
                "value": unread,
                "problem": complaint,
            }
            violations.append(pd.DataFrame(found, columns=VIOLATION))
        yield Batch(path, frame, rows, pd.concat(violations), ignored, done)


def _csv_options(path: Path, contract: Contract, broken: list[Any]) -> dict[str, Any]:
    """How the contract says the file is written; rows with too few or too many cells go to `broken`."""
    spec = contract.csv

    def note(row: Any) -> str:
        problem = f"{row.actual_columns} cells, expected {row.expected_columns}"
        broken.append((str(path), row.number, "", row.text, problem))
        return "skip"

    return {
        "read_options": pa.csv.ReadOptions(
            use_threads=False, block_size=BLOCK, column_names=spec.columns, encoding=_encoding(path, spec.encoding)
        ),
        "parse_options": pa.csv.ParseOptions(
            delimiter=spec.delimiter, quote_char=spec.quote or False, newlines_in_values=bool(spec.quote),
            ignore_empty_lines=False, invalid_row_handler=note,
        ),
    }  # fmt: skip


@contextmanager
def _readable(path: Path, kind: str, fix: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, UnicodeError, LookupError, OSError) as error:
        raise UserError(f"{path}: not readable as {kind}: {str(error).splitlines()[0]}", fix) from None


def header(path: Path, contract: Contract) -> list[str]:
    """The names of the file's columns. Raises UserError when it cannot be read."""
    if path.suffix.lower() == ".parquet":
        with _readable(path, "Parquet", "write the file again"):
            return list(pa.parquet.read_schema(path).names)
    with _readable(path, "CSV", CSV_FIX), pa.csv.open_csv(path, **_csv_options(path, contract, [])) as reader:
        return list(reader.schema.names)


def _csv_chunks(path: Path, contract: Contract, columns: Sequence[str]) -> Iterator[Chunk]:
    broken: list[Any] = []
    texts = pa.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), include_columns=columns)
    options, next_row = _csv_options(path, contract, broken), 1 if contract.csv.columns else 2
    with (
        _readable(path, "CSV", CSV_FIX),
        pa.OSFile(str(path)) as file,
        pa.csv.open_csv(file, convert_options=texts, **options) as reader,
    ):
        told, empty = 0, reader.schema.empty_table().to_pandas()
        for batch in reader:
            table = batch.to_pandas()
            rows = _row_numbers(len(table), [row[1] for row in broken], next_row)
            next_row = int(rows[-1]) + 1 if len(rows) else next_row
            noted = [row for row in broken[told:] if row[1] < next_row]  # Arrow reads ahead: later ones wait
            told += len(noted)
            filled = (table != "").any(axis=1).to_numpy()  # a blank line is nothing
            yield table[filled].reset_index(drop=True), rows[filled], _spoken(noted), file.tell() / file.size()
        yield empty, np.empty(0, np.int64), _spoken(broken[told:]), 1.0


def _spoken(broken: list[Any]) -> list[Any]:
    return [row for row in broken if row[3].strip()]


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
    """The numbers in the file of so many rows from `first` on, where the broken ones were left out."""
    return np.setdiff1d(np.arange(first, first + count + len(broken)), broken, assume_unique=True)[:count]


def _parquet_chunks(path: Path, contract: Contract, columns: Sequence[str]) -> Iterator[Chunk]:  # noqa: ARG001
    next_row = 1
    with _readable(path, "Parquet", "write the file again"), pa.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=list(columns)):
            table = batch.to_pandas().reset_index(drop=True)
            yield table, np.arange(next_row, next_row + len(table)), [], next_row / file.metadata.num_rows
            next_row += len(table)
        if next_row == 1:
            yield file.schema_arrow.empty_table().to_pandas()[list(columns)], np.empty(0, np.int64), [], 1.0


def _require_columns(path: Path, header: list[str], columns: Sequence[str]) -> None:
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise UserError(f"{path}: the header has {', '.join(repeated)} more than once", "rename or remove the copies")
    spare = [name for name in header if name not in columns]
    missing = [name for name in columns if name not in header]
    if missing:
        guesses = {name: get_close_matches(name, spare, n=1, cutoff=0.5) for name in missing}
        words = [f"{name!r}" + (f" (renamed to {guess[0]!r}?)" if guess else "") for name, guess in guesses.items()]
        raise UserError(
            f"{path}: missing column {', '.join(words)}; the file has: {', '.join(header)}",
            "rename it in the file, or change its name under data: in params.yaml",
        )
