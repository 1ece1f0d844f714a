"""What a branch changes beside code: parameters, files of data, and how the training rows are distributed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.contract import Contract
from perennial.files import parse_yaml
from perennial.git import json_at, yaml_at
from perennial.psi import SMALL, excess
from perennial.review.champion import Champion

if TYPE_CHECKING:
    import pandas as pd

MOVED = 0.01  # change of a share of missing or unlisted values that is worth a line


def parameters(commit: str) -> list[dict[str, Any]]:
    """Every key of params.yaml whose value differs from the commit's; None where there is no such key."""
    before, after = _flat(yaml_at(commit, "params.yaml")), _flat(parse_yaml(Path("params.yaml").read_text("utf-8")))
    return [
        {"key": key, "before": before.get(key), "after": after.get(key)}
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree} if prefix else {}
    return {k: v for key, item in tree.items() for k, v in _flat(item, f"{prefix}.{key}".lstrip(".")).items()}


def files(commit: str, report: dict[str, Any]) -> dict[str, Any] | None:
    """Rows in all and by file, before and after; None when the commit has no data report."""
    base = json_at(commit, "reports/data.json")
    if not base or "rows" not in base or "rows" not in report:
        return None
    before, after = ({file["file"]: file["rows"] for file in kept["files"]} for kept in (base, report))
    changed = [name for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name)]
    return {
        "rows": {"before": base["rows"], "after": report["rows"]},
        "files": [{"file": name, "before": before.get(name), "after": after.get(name)} for name in changed],
    }


def features(champion: Champion, train: "pd.DataFrame", contract: Contract) -> list[dict[str, Any]]:
    """For each feature both trainings have: how far the rows have moved, most first."""
    references = champion.profile["features"]
    both = [name for name, spec in contract.features.items() if references.get(name, {}).get("type") == spec.type]
    moved = [_moved(train[name], references[name], champion, contract) for name in both]
    return sorted(moved, key=lambda row: -row["psi"])


def _moved(
    column: "pd.Series[Any]", reference: dict[str, Any], champion: Champion, contract: Contract
) -> dict[str, Any]:
    name = str(column.name)
    row: dict[str, Any] = {"feature": name}
    row |= {"psi": excess(column, reference, champion.profile["trained_on"]["rows"])}
    row |= {"missing": {"before": reference["missing"], "after": float(column.isna().mean())}}
    if reference["type"] == "number" and reference.get("range") and column.notna().any():
        row |= {"range": {"before": reference["range"], "after": [float(column.min()), float(column.max())]}}
    if reference["type"] == "category":
        listed = set(contract.values_of(name)) - set(reference["values"])
        row |= {"new": sorted(listed | (set(column.dropna().unique()) - set(reference["values"])))[:20]}
    return row


def worth_telling(row: dict[str, Any]) -> bool:
    """Whether a reviewer would want to know of this feature."""
    missing = abs(row["missing"]["after"] - row["missing"]["before"]) > MOVED
    return bool(row["psi"] > SMALL or missing or row.get("new"))
