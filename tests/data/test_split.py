"""Which rows judge the model."""

import pandas as pd
from tables import Workspace, row

TIMELESS = ('  time: {name: day, format: "%d/%m/%Y"}\n', "")
NAMELESS = ("  id: house\n", "")


def parts() -> tuple[pd.DataFrame, pd.DataFrame]:
    train, holdout = (pd.read_parquet(f"data/prepared/{name}.parquet") for name in ("train", "holdout"))
    return train, holdout


def test_the_newest_whole_periods_judge(workspace: Workspace) -> None:
    workspace.csv([row(n) for n in range(400)])
    report = workspace.prepare()
    train, holdout = parts()
    assert train["day"].max() < holdout["day"].min()
    assert len(holdout) == 100  # 5 of 20 days, a quarter
    assert report["split"]["by"] == "day"


def test_without_a_time_a_row_never_changes_sides_when_data_grows(workspace: Workspace) -> None:
    workspace.params(edit=lambda text: text.replace(*TIMELESS))
    workspace.csv([row(n) for n in range(1000)])
    workspace.prepare()
    before = parts()
    workspace.csv([row(n) for n in range(1000, 2000)], "b.csv")
    workspace.csv([row(n) for n in reversed(range(1000))])
    workspace.prepare()
    after = parts()
    assert set(before[0]["house"]) < set(after[0]["house"])
    assert set(before[1]["house"]) < set(after[1]["house"])
    assert 0.2 < len(after[1]) / 2000 < 0.3


def test_without_an_id_equal_rows_stand_on_one_side(workspace: Workspace) -> None:
    workspace.params(edit=lambda text: text.replace(*TIMELESS).replace(*NAMELESS))
    rows = [row(n, area=50 + n % 500, rooms=1, kind="flat", zone="a", garden="no") for n in range(500)]
    workspace.csv([*rows, *rows])
    report = workspace.prepare()
    train, holdout = parts()
    assert report["duplicate_rows"] == 500
    assert not set(train["area"]) & set(holdout["area"])
    assert len(train) + len(holdout) == 1000
