"""Which rows judge the model."""

import pandas as pd
import pytest
from tables import Workspace, row

from perennial.errors import UserError

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


def test_what_is_older_than_since_is_left_out(workspace: Workspace) -> None:
    workspace.csv([row(n) for n in range(400)])
    workspace.prepare()
    days = sorted(pd.concat(parts())["day"].unique())
    workspace.params(edit=lambda text: text.replace("{holdout: 0.25", f"{{since: {days[4]:%d/%m/%Y}, holdout: 0.25"))
    report = workspace.prepare()["split"]
    train, holdout = parts()
    assert train["day"].min() == days[4]
    assert holdout["day"].max() == days[-1]
    assert report["train"]["rows"] + report["holdout"]["rows"] == 320


@pytest.mark.parametrize(
    ("since", "problem"), [("soon", "not a time in the format"), ("01/01/2999", "no row is as new")]
)
def test_a_since_that_is_no_time_of_the_data_is_refused(workspace: Workspace, since: str, problem: str) -> None:
    workspace.csv([row(n) for n in range(400)])
    workspace.params(edit=lambda text: text.replace("{holdout: 0.25", f"{{since: {since}, holdout: 0.25"))
    with pytest.raises(UserError, match=problem):
        workspace.prepare()


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
