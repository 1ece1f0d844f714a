"""Batches from disk: CSV and Parquet into typed columns, every cell that does not fit named."""

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from perennial.contract import Boolean, Contract, Number
from perennial.errors import UserError

BLANKS = ["", "na", "n/a", "nan", "null", "none"]  # how people write nothing, in any case
TRUE, FALSE = ["true", "yes", "t", "y", "1", "1.0"], ["false", "no", "f", "n", "0", "0.0"]
SUFFIXES = {".csv", ".tsv", ".txt", ".parquet"}
VIOLATION = ["file", "row", "column", "value", "problem"]


@dataclass
class Batch:
    """One file: its typed rows, the row numbers a spreadsheet shows, and what did not fit."""

    path: Path
    frame: pd.DataFrame
    rows: "pd.Series[int]"
    violations: list[pd.DataFrame] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)  # columns the contract does not speak of


def list_batches(folder: Path) -> list[Path]:
    """Every data file of the folder in name order.

    Raises:
        UserError: when there is none, or one that is neither CSV nor Parquet.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    strange = [str(path) for path in files if path.suffix.lower() not in SUFFIXES]
    if strange:
        raise UserError(
            f"{', '.join(strange)}: neither CSV nor Parquet",
            "name it .csv, .tsv, .txt or .parquet, or move it elsewhere",
        )
    if not files:
        raise UserError(
            f"{folder}: no data",
            "put CSV or Parquet files there, one a period; `make simulate` writes the built-in data",
        )
    return files


def read_batch(path: Path, contract: Contract) -> Batch:
    """Read one file and turn each column into the contract's type.

    Raises:
        UserError: when the file cannot be read or a column is missing.
    """
    table, rows, broken = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path, contract)
    _require_columns(path, list(table.columns), contract)
    batch = Batch(path, pd.DataFrame(index=table.index), rows, [broken] if len(broken) else [])
    batch.ignored = [name for name in table.columns if name not in contract.columns]
    for name in contract.columns:
        batch.frame[name] = _typed(batch, table[name], contract)
    return batch


def _read_csv(path: Path, contract: Contract) -> tuple[pd.DataFrame, "pd.Series[int]", pd.DataFrame]:
    """All cells as text. Rows with too few or too many cells become violations, blank ones nothing."""
    spec, broken = contract.csv, []

    def note(row: Any) -> str:
        broken.append(
            (str(path), row.number, "", row.text, f"{row.actual_columns} cells, expected {row.expected_columns}")
        )
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
            header = reader.schema.names
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise UserError(
                f"{path}: the header has {', '.join(repeated)} more than once", "rename or remove the copies"
            )
        _require_columns(path, header, contract)
        broken.clear()
        texts = pa.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()))
        table = pa.csv.read_csv(path, convert_options=texts, **options).to_pandas()
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise UserError(
            f"{path}: {_why_unreadable(path, error)}",
            "save it again as CSV in UTF-8, or say how it is written in data.csv",
        ) from None
    filled = (table != "").any(axis=1)
    rows = _row_numbers(len(table), [row[1] for row in broken], 1 if spec.columns else 2)
    return table[filled], rows[filled], pd.DataFrame([row for row in broken if row[3].strip()], columns=VIOLATION)


def _encoding(path: Path, declared: str) -> str:
    """A byte-order mark knows better than the contract."""
    start = path.open("rb").read(4)
    return "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") and b"\x00" in start else declared


def _why_unreadable(path: Path, error: Exception) -> str:
    start = path.open("rb").read(4096)
    if not start.strip():
        return "the file is empty"
    if b"\x00" in start:
        return "the file is binary, not text"
    return f"not readable as CSV: {str(error).splitlines()[0]}"


def _row_numbers(count: int, broken: list[int], first: int) -> "pd.Series[int]":
    """The number in the file of each row that was kept, when the broken ones were left out."""
    gone = set(broken)
    numbers = (number for number in range(first, first + count + len(gone)) if number not in gone)
    return pd.Series(list(numbers)[:count], dtype="int64")


def _read_parquet(path: Path) -> tuple[pd.DataFrame, "pd.Series[int]", pd.DataFrame]:
    try:
        table = pa.parquet.read_table(path).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{path}: not readable as Parquet: {str(error).splitlines()[0]}", "write the file again"
        ) from None
    return table, pd.Series(range(1, len(table) + 1), dtype="int64"), pd.DataFrame(columns=VIOLATION)


def _require_columns(path: Path, header: list[str], contract: Contract) -> None:
    spare = [name for name in header if name not in contract.columns]
    missing = [name for name in contract.columns if name not in header]
    if not missing:
        return
    guesses = {name: get_close_matches(name, spare, n=1, cutoff=0.5) for name in missing}
    words = [f"{name!r}" + (f" (renamed to {guess[0]!r}?)" if guess else "") for name, guess in guesses.items()]
    raise UserError(
        f"{path}: missing column {', '.join(words)}; the file has: {', '.join(header)}",
        "rename it in the file, or change its name under data: in params.yaml",
    )


def _typed(batch: Batch, cells: pd.Series, contract: Contract) -> pd.Series:
    """The column as the contract's type; cells that cannot be read so are missing, and a violation."""
    name, target = str(cells.name), contract.target
    kind = contract.features.get(name)
    numeric = isinstance(kind, Number) or (name == target.name and target.type == "number")
    if numeric and pd.api.types.is_numeric_dtype(cells):
        return cells.astype("float64")
    if contract.time and name == contract.time.name:
        return _dates(batch, cells, contract.time.format)
    text = _as_text(cells)
    if kind is not None and kind.type == "text":
        return text.mask(text.str.strip() == "")
    blank = text.str.lower().isin(BLANKS) & ~text.isin(list(contract.values_of(name)))
    text = text.mask(blank | text.isna())
    if numeric:
        return _noted(batch, text, pd.to_numeric(text, errors="coerce").astype("float64"), "not a number")
    if isinstance(kind, Boolean):
        words = dict.fromkeys(TRUE, True) | dict.fromkeys(FALSE, False)
        return _noted(batch, text, text.str.lower().map(words).astype("boolean"), "neither true nor false")
    return text


def _as_text(cells: pd.Series) -> pd.Series:
    """Stripped text; whole numbers from Parquet without their .0, for 0 and "0" are the same category."""
    if pd.api.types.is_float_dtype(cells) and (cells.dropna() % 1 == 0).all():
        cells = cells.astype("Int64")
    return cells.astype("str").str.strip()


def _dates(batch: Batch, cells: pd.Series, pattern: str) -> pd.Series:
    if pd.api.types.is_datetime64_any_dtype(cells):
        return pd.Series(cells.dt.tz_localize(None).astype("datetime64[s]"))
    text = _as_text(cells)
    dates = pd.to_datetime(text, format=pattern, errors="coerce", utc=True).dt.tz_localize(None)
    return _noted(batch, text.mask(text == ""), dates.astype("datetime64[s]"), f"not a date in the format {pattern}")


def _noted(batch: Batch, text: pd.Series, values: pd.Series, complaint: str) -> pd.Series:
    bad = values.isna() & text.notna()
    if bad.any():
        found = {
            "file": str(batch.path),
            "row": batch.rows[bad],
            "column": str(text.name),
            "value": text[bad],
            "problem": complaint,
        }
        batch.violations.append(pd.DataFrame(found, columns=VIOLATION))
    return values
