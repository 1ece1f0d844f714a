"""Every way a table goes wrong that we have met, and what its owner is told."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from tables import HEADER, Workspace, row

from perennial.errors import UserError

GOOD = [row(number) for number in range(100)]


def refused(workspace: Workspace) -> str:
    """The message of the stage, which wrote its report and nothing else."""
    with pytest.raises(UserError) as error:
        workspace.prepare()
    assert workspace.report()["passed"] is False
    assert workspace.report()["error"] == str(error.value)
    assert not (workspace.root / "data/prepared").exists()
    return str(error.value)


def changed(share: float, **changes: object) -> list[dict[str, object]]:
    """A hundred rows of which this share is changed."""
    return [good | changes if index < share * 100 else good for index, good in enumerate(GOOD)]


def test_missing_column(workspace: Workspace) -> None:
    header = [name for name in HEADER if name != "area"]
    workspace.csv([{k: v for k, v in good.items() if k != "area"} for good in GOOD], header=header)
    assert re.search(r"a\.csv: missing column 'area'; the file has: house, day, rooms", refused(workspace))


def test_renamed_column(workspace: Workspace) -> None:
    workspace.csv(GOOD, header=[name.replace("garden", "has_garden") for name in HEADER])
    assert "missing column 'garden' (renamed to 'has_garden'?)" in refused(workspace)


def test_the_same_column_twice(workspace: Workspace) -> None:
    workspace.csv(GOOD, header=[name.replace("area", "rooms") for name in HEADER])
    assert "a.csv: the header has rooms more than once" in refused(workspace)


def test_every_broken_file_is_named_at_once(workspace: Workspace) -> None:
    workspace.csv(GOOD, "good.csv")
    (workspace.raw / "empty.csv").write_text("")
    (workspace.raw / "image.csv").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + os.urandom(500))
    (workspace.raw / "torn.parquet").write_bytes(b"PAR1" + os.urandom(500))
    message = refused(workspace)
    assert "empty.csv: the file is empty" in message
    assert "image.csv: the file is binary, not text" in message
    assert "torn.parquet: not readable as Parquet" in message
    assert "good.csv" not in message


def test_wrong_encoding(workspace: Workspace) -> None:
    path = workspace.csv(changed(0.1, advert="très calme"))
    path.write_bytes(path.read_text().encode("latin-1"))
    assert re.search(r"a\.csv: not readable as CSV: .*invalid UTF8.*\n  Fix: .*data\.csv", refused(workspace))


def test_a_file_that_is_no_table(workspace: Workspace) -> None:
    workspace.csv(GOOD)
    (workspace.raw / "notes.docx").write_text("hello")
    assert re.search(r"notes\.docx: neither CSV nor Parquet\n  Fix: ", refused(workspace))


def test_no_data(workspace: Workspace) -> None:
    assert "data/raw: no data" in refused(workspace)
    workspace.csv([])
    assert "a header and no rows" in refused(workspace)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "castle"}, "kind: not in values (flat, villa, None): 20 rows, first data/raw/a.csv row 2 (castle)"),
        ({"zone": "z"}, "zone: not in values (a, b): 20 rows, first data/raw/a.csv row 2 (z)"),
        ({"area": 5}, "area: below the minimum 10: 20 rows, first data/raw/a.csv row 2 (5)"),
        ({"area": 5000}, "area: above the maximum 1000: 20 rows, first data/raw/a.csv row 2 (5000)"),
        ({"area": "inf"}, "area: not a finite number: 20 rows, first data/raw/a.csv row 2 (inf)"),
        ({"area": "1.000.5"}, "area: not a number: 20 rows, first data/raw/a.csv row 2 (1.000.5)"),
        ({"rooms": ""}, "rooms: missing: 20 rows, first data/raw/a.csv row 2"),
        ({"garden": "perhaps"}, "garden: neither true nor false: 20 rows, first data/raw/a.csv row 2 (perhaps)"),
        ({"day": "2024-03-01"}, "day: not a date in the format %d/%m/%Y: 20 rows, first data/raw/a.csv row 2"),
        ({"day": ""}, "day: missing: 20 rows, first data/raw/a.csv row 2"),
        ({"sold": ""}, "sold: missing: 20 rows, first data/raw/a.csv row 2"),
        ({"sold": "maybe"}, "sold: not in values (no, yes): 20 rows, first data/raw/a.csv row 2 (maybe)"),
        ({"house": ""}, "house: missing: 20 rows, first data/raw/a.csv row 2"),
        ({"street": "elm,oak"}, "the line: 11 cells, expected 10: 20 rows, first data/raw/a.csv row 2 (h0"),
    ],
)
def test_too_many_bad_cells(workspace: Workspace, changes: dict[str, object], told: str) -> None:
    workspace.csv(changed(0.2, **changes))
    message = refused(workspace)
    assert "data/raw/a.csv: 20 of 100 rows break the contract (tolerance 10.0%)" in message
    assert told in message


def test_all_violations_at_once_each_with_its_place(workspace: Workspace) -> None:
    rows = list(GOOD)
    for index, changes in enumerate([{"area": 1}, {"area": "x"}, {"kind": "hut"}, {"rooms": ""}, {"sold": "?"}] * 3):
        rows[index * 2] = rows[index * 2] | changes
    workspace.csv(rows)
    refused(workspace)
    problems = {(p["column"], p["problem"]): p for p in workspace.report()["problems"]}
    assert {column for column, _ in problems} == {"area", "kind", "rooms", "sold"}
    assert problems["area", "not a number"]["examples"] == [
        {"file": "data/raw/a.csv", "row": number, "value": "x"} for number in (4, 14, 24)
    ]


def test_repeated_ids(workspace: Workspace) -> None:
    workspace.csv([*GOOD, *GOOD[:20]])
    assert "house: repeats an earlier house and day: 20 rows, first data/raw/a.csv row 102 (h0)" in refused(workspace)
    assert workspace.report()["duplicate_ids"] == 20


def test_an_id_may_come_back_another_day(workspace: Workspace) -> None:
    workspace.csv([*GOOD, *(good | {"day": "25/03/2024"} for good in GOOD)])
    assert workspace.prepare()["duplicate_ids"] == 0


def test_a_new_batch_is_judged_by_itself(workspace: Workspace) -> None:
    """A large history must not hide that the newest file is broken."""
    workspace.csv([row(number) for number in range(2000)], "a.csv")
    workspace.csv([row(number, area="?") for number in range(5000, 5020)], "b.csv")
    assert "data/raw/b.csv: 20 of 20 rows break the contract" in refused(workspace)


def test_within_the_tolerance_bad_rows_are_set_aside_and_none_is_lost(workspace: Workspace) -> None:
    workspace.csv(changed(0.05, area="?"))
    report = workspace.prepare()
    rejected = pd.read_csv("data/prepared/rejected.csv")
    assert rejected[["file", "row", "column", "value"]].values.tolist() == [
        ["data/raw/a.csv", number, "area", "?"] for number in range(2, 7)
    ]
    assert report["split"]["train"]["rows"] + report["split"]["holdout"]["rows"] + len(rejected) == 100


def test_unseen_categories_are_kept_where_the_contract_scores_them_and_set_aside_where_it_refuses(
    workspace: Workspace,
) -> None:
    rows = [good | ({"kind": "hut"} if n in (3, 4) else {"zone": "z"} if n == 7 else {}) for n, good in enumerate(GOOD)]
    workspace.csv(rows)
    report = workspace.prepare()
    assert report["unseen"] == {"kind": 2, "zone": 1}
    assert report["split"]["train"]["rows"] + report["split"]["holdout"]["rows"] == 99


def test_row_numbers_are_those_of_the_file_after_broken_and_blank_lines(workspace: Workspace) -> None:
    path = workspace.csv(GOOD)
    lines = path.read_text().splitlines()
    lines[2:2] = ["only,three,cells", "", '"a house', 'on two lines",x']
    lines = [line.replace(",59,", ",?,") for line in lines]
    path.write_text("\n".join(lines) + "\n")
    workspace.prepare()
    rejected = pd.read_csv("data/prepared/rejected.csv")
    assert rejected[["row", "problem"]].values.tolist() == [
        [3, "3 cells, expected 10"], [5, "2 cells, expected 10"], [14, "not a number"],
    ]  # fmt: skip


def test_constant_target(workspace: Workspace) -> None:
    workspace.csv([good | {"sold": "no"} for good in GOOD])
    assert re.search(r"train rows \(\d+\) have a constant target sold: no\n  Fix: ", refused(workspace))


def test_one_class_only_in_the_holdout(workspace: Workspace) -> None:
    workspace.csv([good | ({"sold": "yes"} if str(good["day"]) >= "15" else {}) for good in GOOD])
    assert re.search(r"holdout rows \(\d+\) have a constant target sold: yes\n  Fix: .*holdout", refused(workspace))


def test_all_rows_of_one_time(workspace: Workspace) -> None:
    workspace.csv([good | {"day": "01/03/2024"} for good in GOOD])
    assert "day: all rows have the same time" in refused(workspace)


def test_a_leak_stops_the_run_unless_it_is_allowed_by_name(workspace: Workspace) -> None:
    rows = [row(n, area=100 + 50 * (n % 5 > 2), kind="flat") for n in range(400)]
    workspace.csv(rows)
    assert "features that give the target sold away:\n  area: a score of 1.0000" in refused(workspace)
    workspace.params(edit=lambda text: text.replace("tolerance: 0.1", "tolerance: 0.1\n  allow_leak: [area]"))
    assert workspace.prepare()["passed"] is True


def test_the_command_exits_with_1_and_prints_no_traceback(workspace: Workspace) -> None:
    workspace.csv(changed(0.2, area="?"))
    command = [sys.executable, "-m", "perennial.pipeline.prepare"]
    result = subprocess.run(command, cwd=workspace.root, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("Error data/raw/a.csv: 20 of 100 rows")
    assert "Traceback" not in result.stderr
    assert "Fix: mend the files" in result.stderr


def test_a_misspelt_key_in_params_is_named_with_its_line(workspace: Workspace) -> None:
    workspace.csv(GOOD)
    workspace.params(edit=lambda text: text.replace("tolerance:", "tolerence:"))
    with pytest.raises(UserError, match=r"params.yaml:\d+: data.tolerence: unknown key; did you mean 'tolerance'"):
        workspace.prepare()


def test_an_unfinished_file_never_has_the_final_name(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        Path(str(_[1])).write_bytes(b"half")
        raise KeyboardInterrupt

    workspace.csv(GOOD)
    monkeypatch.setattr(pd.DataFrame, "to_parquet", stopped)
    with pytest.raises(KeyboardInterrupt):
        workspace.prepare()
    assert list((workspace.root / "data/prepared").iterdir()) == []
