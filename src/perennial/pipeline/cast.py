"""Cells as the contract's types: what people write in tables, and what cannot be read so."""

import pandas as pd
import pyarrow as pa

from perennial.contract import Boolean, Contract, Number, Text

BLANKS = ["", "na", "n/a", "nan", "null", "none"]  # how people write nothing, in any case
WORDS = dict.fromkeys(["true", "yes", "t", "y", "1"], True) | dict.fromkeys(["false", "no", "f", "n", "0"], False)


def cast(cells: pd.Series, contract: Contract) -> tuple[pd.Series, pd.Series, str]:
    """The column in the contract's type, the texts of the cells that cannot be read so, and why.

    Numbers become float64, booleans nullable, dates datetime64, all else text; what is blank or
    cannot be read is missing. Without a role in the contract but to be sensitive, a column is text.
    """
    name, target = str(cells.name), contract.target
    spec = contract.features.get(name)
    numeric = isinstance(spec, Number) or (name == target.name and target.type == "number")
    dated = contract.time is not None and name == contract.time.name
    if numeric and pd.api.types.is_numeric_dtype(cells):
        return cells.astype("float64"), cells.iloc[:0], ""
    if dated and pd.api.types.is_datetime64_any_dtype(cells):
        return cells.dt.tz_localize(None).astype("datetime64[s]"), cells.iloc[:0], ""
    text = _text(cells)
    if isinstance(spec, Text):
        return text.mask(text == ""), text.iloc[:0], ""
    # "None" is nothing, unless the contract lists it as a value.
    text = text.mask(text.str.lower().isin(BLANKS) & ~text.isin(list(contract.values_of(name))))
    values: pd.Series
    if numeric:
        values, complaint = _numbers(text), "not a number"
    elif dated and contract.time:
        values, complaint = dates(text, contract.time.format), f"not a date in the format {contract.time.format}"
    elif isinstance(spec, Boolean):
        values, complaint = text.str.lower().map(WORDS).astype("boolean"), "neither true nor false"
    else:
        return text, text.iloc[:0], ""
    return values, text[values.isna() & text.notna()], complaint


def _text(cells: pd.Series) -> pd.Series:
    """Stripped text; whole numbers from Parquet without their .0, for 0 and "0" are the same category."""
    text = cells.astype("str").str.strip()
    return text.str.removesuffix(".0") if pd.api.types.is_float_dtype(cells) else text


def _numbers(text: pd.Series) -> pd.Series:
    """Arrow reads whole columns ten times as fast, but gives up at the first cell that is no number."""
    try:
        return text.astype("double[pyarrow]").astype("float64")
    except pa.ArrowInvalid:
        return pd.to_numeric(text, errors="coerce").astype("float64")


def dates(text: pd.Series, pattern: str) -> pd.Series:
    """Times without a zone, in UTC; missing where a text is none."""
    return pd.to_datetime(text, format=pattern, errors="coerce", utc=True).dt.tz_localize(None).astype("datetime64[s]")
