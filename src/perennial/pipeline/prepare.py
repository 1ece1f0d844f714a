"""Stage 1: raw batches to checked, split, typed rows.

Reads `data.raw`, writes data/prepared/{train,holdout}.parquet, rejected.csv and reports/data.json.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.contract import Contract
from perennial.errors import UserError
from perennial.files import atomic, write_json
from perennial.params import Params, load

if TYPE_CHECKING:
    import pandas as pd

PREPARED, REPORT = Path("data/prepared"), Path("reports/data.json")


def main() -> None:
    params = load()
    report: dict[str, Any] = {"passed": False, "contract": params.data.digest}
    try:
        frame, rejected = collect(params.data, report)
        stop_on_leak(frame, params.data, report)
        train, holdout = split(frame, params, report)
        report["passed"] = True
    except UserError as error:
        report["error"] = str(error)
        raise
    finally:
        write_json(REPORT, report)
    for name, part in (("train", train), ("holdout", holdout)):
        with atomic(PREPARED / f"{name}.parquet") as path:
            part.to_parquet(path, index=False)
    with atomic(PREPARED / "rejected.csv") as path:
        rejected.to_csv(path, index=False, lineterminator="\n")


def collect(contract: Contract, report: dict[str, Any]) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The rows that keep the contract, and the list of what breaks it.

    Raises:
        UserError: when files cannot be read, or too many rows break the contract.
    """
    from perennial.pipeline import check

    batches = _read_all(contract)
    frame, origin = check.join(batches)
    if frame.empty:
        raise UserError(f"{contract.raw}: the files hold a header and no rows", "add rows")
    found = check.violations(frame, origin, batches, contract)
    aside = check.set_aside(found, origin, contract)
    broken = len(found[["file", "row"]].drop_duplicates())
    rows = len(frame) + sum(found["column"] == "")  # lines with too few or too many cells never reached the frame
    report |= {
        "files": [
            {"file": str(batch.path), "rows": len(batch.frame), "ignored_columns": batch.ignored} for batch in batches
        ],
        "rows": rows,
        "rows_breaking_the_contract": broken,
        "tolerance": contract.tolerance,
        "problems": check.summary(found),
        "missing": {name: int(count) for name, count in frame.isna().sum().items()},
        "duplicate_rows": int(frame.duplicated().sum()),
    }
    if broken > contract.tolerance * rows:
        raise UserError(
            _too_many(report, contract), f"mend the files, or the contract in params.yaml; all of it: {REPORT}"
        )
    return frame[~aside].reset_index(drop=True), found


def _read_all(contract: Contract) -> list[Any]:
    """Every batch; what is wrong with any file is said for all of them at once."""
    from rich.progress import track

    from perennial.pipeline.read import list_batches, read_batch

    batches, errors = [], []
    for path in track(list_batches(Path(contract.raw)), "Reading batches", transient=True):
        try:
            batches.append(read_batch(path, contract))
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("\n".join(errors))
    return batches


def _too_many(report: dict[str, Any], contract: Contract) -> str:
    lines = [
        f"{report['rows_breaking_the_contract']} of {report['rows']} rows break the contract "
        f"(tolerance {contract.tolerance:.1%}):"
    ]
    for entry in report["problems"][:20]:
        where = ", ".join(
            f"{e['file']} row {e['row']}" + (f" ({e['value']})" if e["value"] else "") for e in entry["examples"][:3]
        )
        lines.append(f"  {entry['column'] or 'the line'}: {entry['problem']}: {entry['rows']} rows, first {where}")
    return "\n".join(lines)


def stop_on_leak(frame: "pd.DataFrame", contract: Contract, report: dict[str, Any]) -> None:
    """Raises UserError when a feature gives the target away and the contract does not allow it."""
    from perennial.pipeline.leaks import leaks

    report["leaks"] = leaks(frame, contract)
    if report["leaks"]:
        lines = [
            f"  {name}: tells {contract.target.name} with a score of {score:.4f} of 1"
            for name, score in report["leaks"].items()
        ]
        raise UserError(
            "features that give the target away:\n" + "\n".join(lines),
            "remove them from data.features if they are known only after the fact; "
            "if they are honest, name them in data.allow_leak",
        )


def split(frame: "pd.DataFrame", params: Params, report: dict[str, Any]) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Train and hold-out rows. Newest periods judge where there is a time; else a hash decides for each id,
    so that a row never changes sides when data grows."""
    contract = params.data
    held = (
        _newest(frame, contract, params.split.holdout)
        if contract.time
        else _hashed(frame, contract, params.split.holdout)
    )
    parts = {"train": frame[~held].reset_index(drop=True), "holdout": frame[held].reset_index(drop=True)}
    report["split"] = {"by": contract.time.name if contract.time else contract.id or "the row's content"}
    for name, part in parts.items():
        report["split"][name] = _described(part, contract)
        _refuse_useless(part, name, contract)
    return parts["train"], parts["holdout"]


def _newest(frame: "pd.DataFrame", contract: Contract, share: float) -> "pd.Series[bool]":
    """Whole periods only: the newest ones whose share of rows comes closest to `share`."""
    assert contract.time
    counts = frame[contract.time.name].value_counts().sort_index()
    if len(counts) < 2:
        raise UserError(
            f"{contract.time.name}: all rows have the same time, so none can be held out by time",
            "add an older or newer period, or drop data.time",
        )
    held = counts[::-1].cumsum()[:-1] / len(frame)
    return frame[contract.time.name] >= (held - share).abs().idxmin()


def _hashed(frame: "pd.DataFrame", contract: Contract, share: float) -> "pd.Series[bool]":
    from pandas.util import hash_pandas_object

    identity = frame[[contract.id]] if contract.id else frame[list(contract.columns)].astype("str")
    return hash_pandas_object(identity.astype("object"), index=False, categorize=False) < int(share * 2**64)


def _described(part: "pd.DataFrame", contract: Contract) -> dict[str, Any]:
    target = part[contract.target.name]
    facts: dict[str, Any] = {"rows": len(part)}
    if contract.time:
        facts |= {"from": str(part[contract.time.name].min()), "to": str(part[contract.time.name].max())}
    if contract.task == "regression":
        return facts | {"target_mean": float(target.mean()), "target_std": float(target.std())}
    return facts | {"target_shares": {label: float((target == label).mean()) for label in contract.target.classes}}


def _refuse_useless(part: "pd.DataFrame", name: str, contract: Contract) -> None:
    target = part[contract.target.name]
    if target.nunique() < 2:
        values = ", ".join(map(str, target.unique())) or "no rows"
        raise UserError(
            f"the {name} rows ({len(part)}) have a constant target {contract.target.name}: {values}",
            "both sides of the split need every class: check the labels, add batches, or change split.holdout",
        )
    lost = [label for label in contract.target.classes if not (target == label).any()]
    if lost:
        raise UserError(
            f"the {name} rows ({len(part)}) have no {contract.target.name} = {', '.join(lost)}",
            "add batches, change split.holdout, or drop the class from values",
        )


if __name__ == "__main__":
    from perennial.console import run

    run(main)
