"""Which rows train and which judge."""

from typing import Any

import pandas as pd
from pandas.util import hash_pandas_object

from perennial.contract import Contract, Time
from perennial.errors import UserError
from perennial.params import Params
from perennial.pipeline.cast import dates


def split(frame: pd.DataFrame, params: Params, report: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train and hold-out rows. Newest periods judge where there is a time; else a hash decides for each id,
    so that a row never changes sides when data grows."""
    contract = params.data
    if contract.time and params.split.since:
        frame = _recent(frame, params.split.since, contract.time)
    held = (
        _newest(frame, contract, params.split.holdout)
        if contract.time
        else hashed(frame, contract, params.split.holdout)
    )
    parts = {"train": frame[~held].reset_index(drop=True), "holdout": frame[held].reset_index(drop=True)}
    report["split"] = {"by": contract.time.name if contract.time else contract.id or "the row's content"}
    for name, part in parts.items():
        report["split"][name] = _described(part, contract)
        _refuse_useless(part, name, contract)
    return parts["train"], parts["holdout"]


def _recent(frame: pd.DataFrame, since: str, time: Time) -> pd.DataFrame:
    start: pd.Timestamp = dates(pd.Series([since]), time.format).iloc[0]
    if not start <= frame[time.name].max():
        problem = "no row is as new" if pd.notna(start) else f"not a time in the format {time.format}"
        raise UserError(f"split.since: {since}: {problem}", "write it in params.yaml as the data writes its times")
    kept: pd.DataFrame = frame[frame[time.name] >= start].reset_index(drop=True)
    return kept


def _newest(frame: pd.DataFrame, contract: Contract, share: float) -> "pd.Series[bool]":
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


def hashed(frame: pd.DataFrame, contract: Contract, share: float) -> "pd.Series[bool]":
    """The rows whose id (or whole content, without an id) falls into the share that judges."""
    identity = frame[[contract.id]] if contract.id else frame[list(contract.columns)].astype("str")
    return hash_pandas_object(identity.astype("object"), index=False, categorize=False) < int(share * 2**64)


def _described(part: pd.DataFrame, contract: Contract) -> dict[str, Any]:
    target = part[contract.target.name]
    facts: dict[str, Any] = {"rows": len(part)}
    if contract.time:
        facts |= {"from": str(part[contract.time.name].min()), "to": str(part[contract.time.name].max())}
    if contract.task == "regression":
        return facts | {"target_mean": float(target.mean()), "target_std": float(target.std())}
    return facts | {"target_shares": {label: float((target == label).mean()) for label in contract.target.classes}}


def _refuse_useless(part: pd.DataFrame, name: str, contract: Contract) -> None:
    target = part[contract.target.name]
    if target.nunique() < 2:
        values = ", ".join(map(str, target.unique())) or "no rows"
        raise UserError(
            f"the {name} rows ({len(part)}) have a constant target {contract.target.name}: {values}",
            "both sides of the split need every class: check the labels, add batches, or change split.holdout"
            + ("" if contract.keys else "; rows without an id stay with their equals: name one in data.id"),
        )
    lost = [label for label in contract.target.classes if not (target == label).any()]
    if lost:
        raise UserError(
            f"the {name} rows ({len(part)}) have no {contract.target.name} = {', '.join(lost)}",
            "add batches, change split.holdout, or drop the class from values",
        )
