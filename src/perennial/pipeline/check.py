"""The contract as a pandera schema: every violation at once, named by file, row, column and value."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from perennial.contract import Category, Contract, Number, Target
from perennial.pipeline.read import VIOLATION, Batch

UNSEEN = "not in values"


def schema(contract: Contract, columns: Sequence[str]) -> Any:
    """A pandera DataFrameSchema for a frame of these columns, as `cast` types them."""
    import pandera.pandas as pa

    known: dict[str, Any] = {
        name: pa.Column(nullable=not spec.required, checks=_checks(spec)) for name, spec in contract.features.items()
    }
    known[contract.target.name] = pa.Column(nullable=False, checks=_checks(contract.target))
    known |= {name: pa.Column(nullable=False) for name in contract.keys}
    unique = list(contract.key) if set(contract.key) <= set(columns) else []
    asked = {name: known[name] for name in columns if name in known}
    return pa.DataFrameSchema(asked, unique=unique or None, report_duplicates="exclude_first")


def _checks(spec: Any) -> list[Any]:
    import pandera.pandas as pa

    if isinstance(spec, (Category, Target)) and spec.values:
        return [pa.Check.isin(list(spec.values), error=f"{UNSEEN} ({', '.join(spec.values)})")]
    if not isinstance(spec, (Number, Target)):
        return []
    checks = [pa.Check(np.isfinite, error="not a finite number", ignore_na=True)]
    if spec.min is not None:
        checks.append(pa.Check.ge(spec.min, error=f"below the minimum {spec.min:g}"))
    if spec.max is not None:
        checks.append(pa.Check.le(spec.max, error=f"above the maximum {spec.max:g}"))
    return checks


def join(batches: list[Batch]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All batches as one frame, and where each of its rows stands (file, row)."""
    frame = pd.concat([batch.frame for batch in batches], ignore_index=True)
    lengths = [len(batch.frame) for batch in batches]
    paths = [str(batch.path) for batch in batches]
    files = pd.Categorical(np.repeat(np.array(paths, object), lengths), categories=paths)
    return frame, pd.DataFrame({"file": files, "row": np.concatenate([batch.rows for batch in batches])})


def violations(frame: pd.DataFrame, origin: pd.DataFrame, batches: list[Batch], contract: Contract) -> pd.DataFrame:
    """Every cell that breaks the contract: file, row, column, value, problem, in the files' order."""
    import pandera.pandas as pa

    unreadable = pd.concat([batch.violations for batch in batches])
    try:
        schema(contract, list(frame.columns)).validate(frame, lazy=True, inplace=True)
        found = unreadable
    except pa.errors.SchemaErrors as errors:
        found = pd.concat([unreadable, _described(errors.failure_cases, origin, contract)])
    # A cell that could not be read is missing now; saying so twice would not help.
    found = found.astype({"row": "int64"}).drop_duplicates(["file", "row", "column"])
    return found.sort_values(["file", "row", "column"], kind="stable", ignore_index=True)


def _described(cases: pd.DataFrame, origin: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    where = origin.loc[cases["index"].astype("int64")].reset_index(drop=True)
    repeats = (cases["check"] == "multiple_fields_uniqueness").to_numpy()
    problem = (
        cases["check"]
        .mask(cases["check"] == "not_nullable", "missing")
        .mask(repeats, f"repeats an earlier {' and '.join(contract.key)}")
    )
    value = cases["failure_case"].map(
        lambda case: "" if pd.isna(case) else f"{case:g}" if isinstance(case, float) else str(case)
    )
    column = cases["column"].mask(repeats, contract.id or "")
    texts = {"column": column, "value": value, "problem": problem}
    found = where.assign(**{name: series.to_numpy() for name, series in texts.items()})
    return found.astype({"file": "str"})[VIOLATION]


def set_aside(found: pd.DataFrame, origin: pd.DataFrame, contract: Contract) -> "pd.Series[bool]":
    """The rows to leave out: all that break the contract, but for unseen categories it says to score."""
    scored = [name for name, spec in contract.features.items() if isinstance(spec, Category) and spec.unseen == "score"]
    kept = found["column"].isin(scored) & found["problem"].str.startswith(UNSEEN)
    broken = pd.MultiIndex.from_frame(found.loc[~kept, ["file", "row"]])
    return pd.Series(pd.MultiIndex.from_frame(origin.astype({"file": "str"})).isin(broken), index=origin.index)


def summary(found: pd.DataFrame, examples: int = 5) -> list[dict[str, Any]]:
    """One entry for each column and problem: how many rows, and the first few."""
    groups = found.groupby(["column", "problem"], sort=False)
    entries = [
        {
            "column": column,
            "problem": problem,
            "rows": len(group),
            "examples": group.head(examples)[["file", "row", "value"]].to_dict("records"),
        }
        for (column, problem), group in groups
    ]
    return sorted(entries, key=lambda entry: (-entry["rows"], entry["column"], entry["problem"]))


def counts(frame: pd.DataFrame, found: pd.DataFrame, contract: Contract) -> dict[str, Any]:
    """Missing cells and unseen categories of each column, repeated ids (repeated rows where there is no id)."""
    unseen = found.loc[found["problem"].str.startswith(UNSEEN), "column"].value_counts().sort_index()
    repeated = frame.duplicated(list(contract.key) or None).sum()
    return {
        "missing": {name: int(count) for name, count in frame.isna().sum().items()},
        "unseen": {str(name): int(count) for name, count in unseen.items()},
        "duplicate_ids" if contract.key else "duplicate_rows": int(repeated),
    }
