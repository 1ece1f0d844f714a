"""Stage 1: raw batches to checked, split, typed rows.

Reads `data.raw`, writes data/prepared/{train,holdout}.parquet, rejected.csv and reports/data.json.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.console import out, run, say
from perennial.contract import Contract
from perennial.errors import UserError
from perennial.files import atomic, write_json
from perennial.params import load

if TYPE_CHECKING:
    import pandas as pd

    from perennial.pipeline.read import Batch

PREPARED, REPORT = Path("data/prepared"), Path("reports/data.json")


def main() -> None:
    from perennial.pipeline.split import split

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
    say(f"Split by {report['split']['by']}: {len(train):,} rows train, {len(holdout):,} judge")


def collect(contract: Contract, report: dict[str, Any]) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The rows that keep the contract, and the list of what breaks it.

    Raises:
        UserError: when files cannot be read, or too many rows of one break the contract.
    """
    from perennial.pipeline import check

    batches = _read_all(contract)
    frame, origin = check.join(batches)
    if frame.empty:
        raise UserError(f"{contract.raw}: the files hold a header and no rows", "add rows")
    found = check.violations(frame, origin, batches, contract)
    kept = frame[~check.set_aside(found, origin, contract)].reset_index(drop=True)
    report["files"] = [_file_facts(batch, found) for batch in batches]
    report |= {total: sum(file[total] for file in report["files"]) for total in ("rows", "rows_breaking_the_contract")}
    report |= {
        "tolerance": contract.tolerance,
        "problems": check.summary(found),
        **check.counts(frame, found, contract),
    }
    over = [file for file in report["files"] if file["rows_breaking_the_contract"] > contract.tolerance * file["rows"]]
    if over:
        fix = f"mend the files, or the contract in params.yaml; {REPORT} says all of it"
        raise UserError(_too_many(over, report["problems"], contract), fix)
    say(
        f"{report['rows']:,} rows in {len(batches)} files keep the contract, but for {len(frame) - len(kept)} set aside"
    )
    return kept, found


def _read_all(contract: Contract) -> "list[Batch]":
    """Every batch; what is wrong with any file is said for all of them at once."""
    from rich.progress import track

    from perennial.pipeline.read import list_batches, read_batch

    batches, errors = [], []
    files = list_batches(Path(contract.raw))
    for path in track(files, "Reading batches", console=out, transient=True, disable=not out.is_terminal):
        try:
            batches.append(read_batch(path, contract))
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("\n".join(errors))
    return batches


def _file_facts(batch: "Batch", found: "pd.DataFrame") -> dict[str, Any]:
    here = found[found["file"] == str(batch.path)]
    return {
        "file": str(batch.path),
        "rows": len(batch.frame) + int((here["column"] == "").sum()),  # a broken line never reached the frame
        "rows_breaking_the_contract": int(here["row"].nunique()),
        "ignored_columns": batch.ignored,
    }


def _too_many(over: list[dict[str, Any]], problems: list[dict[str, Any]], contract: Contract) -> str:
    lines = [
        f"{file['file']}: {file['rows_breaking_the_contract']:,} of {file['rows']:,} rows break the contract"
        f" (tolerance {contract.tolerance:.1%})"
        for file in over[:10]
    ]
    if len(over) > 10:
        lines.append(f"and {len(over) - 10} more files")
    for entry in problems[:20]:
        first = "; ".join(
            f"{e['file']} row {e['row']}" + (f" ({e['value'][:60]})" if e["value"] else "")
            for e in entry["examples"][:3]
        )
        lines.append(f"  {entry['column'] or 'the line'}: {entry['problem']}: {entry['rows']:,} rows, first {first}")
    return "\n".join(lines)


def stop_on_leak(frame: "pd.DataFrame", contract: Contract, report: dict[str, Any]) -> None:
    """Raises UserError when a feature gives the target away and the contract does not allow it."""
    from perennial.pipeline.leaks import leaks

    report["leaks"] = leaks(frame, contract)
    if report["leaks"]:
        lines = [f"  {name}: a score of {score:.4f} of 1" for name, score in report["leaks"].items()]
        raise UserError(
            f"features that give the target {contract.target.name} away:\n" + "\n".join(lines),
            "remove them from data.features if they are known only after the fact; "
            "if they are honest, name them in data.allow_leak",
        )


if __name__ == "__main__":
    run(main)
