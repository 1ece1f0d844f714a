"""What tables look like in the wild, and what becomes of it."""

import pandas as pd
import pytest
from tables import HEADER, Workspace, row

from perennial.params import load
from perennial.pipeline.read import read_batch


def frame(workspace: Workspace, name: str = "a.csv") -> pd.DataFrame:
    return read_batch(workspace.raw / name, load().data).frame


def test_cells_get_the_types_of_the_contract(workspace: Workspace) -> None:
    workspace.csv([row(1, garden="Yes"), row(2, garden=0)])
    types = frame(workspace).dtypes.astype(str).to_dict()
    assert types["area"] == "float64"
    assert types["garden"] == "boolean"
    assert types["day"] == "datetime64[s]"
    assert types["kind"] == types["advert"] == types["street"] == "str"


@pytest.mark.parametrize("blank", ["", " ", "NA", "n/a", "NaN", "null"])
def test_blanks_in_every_spelling_are_missing(workspace: Workspace, blank: str) -> None:
    workspace.csv([row(1, area=blank, kind=blank, garden=blank), row(2)])
    assert frame(workspace).loc[0, ["area", "kind", "garden"]].isna().all()


def test_a_declared_value_is_no_blank(workspace: Workspace) -> None:
    workspace.csv([row(1, kind="None", zone="None")])
    read = frame(workspace)
    assert read.loc[0, "kind"] == "None"
    assert pd.isna(read.loc[0, "zone"])


def test_numbers_may_stand_in_spaces_and_quotes(workspace: Workspace) -> None:
    workspace.csv([row(1, area='" 75.5 "'), row(2, area="1e2")])
    assert frame(workspace)["area"].tolist() == [75.5, 100.0]


def test_quotes_hold_commas_line_ends_and_quotes(workspace: Workspace) -> None:
    workspace.csv([row(1, advert='"big, ""bright""\nand new"'), row(2)])
    assert frame(workspace)["advert"].tolist() == ['big, "bright"\nand new', "sunny and quiet"]


def test_windows_line_ends_make_no_difference(workspace: Workspace) -> None:
    workspace.csv([row(1), row(2)])
    unix = frame(workspace)
    workspace.csv([row(1), row(2)], end="\r\n")
    pd.testing.assert_frame_equal(frame(workspace), unix)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_byte_order_marks_are_understood_and_other_encodings_declared(workspace: Workspace, encoding: str) -> None:
    if encoding == "latin-1":
        workspace.params(csv="{encoding: latin-1}")
    path = workspace.csv([row(1, advert="très calme"), row(2)])
    path.write_bytes(path.read_text().encode(encoding))
    assert frame(workspace)["advert"].tolist() == ["très calme", "sunny and quiet"]


def test_emoji_accents_and_other_scripts_survive(workspace: Workspace) -> None:
    workspace.csv([row(1, advert="😀👍🏽 Ça, non ?".replace(",", "")), row(2, advert="日本語 данные")])
    assert frame(workspace)["advert"].tolist() == ["😀👍🏽 Ça non ?", "日本語 данные"]


def test_files_without_a_header_get_their_columns_from_the_contract(workspace: Workspace) -> None:
    columns = ", ".join(HEADER)
    workspace.params(csv=f'{{delimiter: "\\t", quote: "", columns: [{columns}]}}')
    cells = [str(cell) for cell in row(1, advert='so "quiet').values()]
    (workspace.raw / "a.tsv").write_text("\t".join(cells) + "\n")
    read = frame(workspace, "a.tsv")
    assert read["advert"].tolist() == ['so "quiet']
    assert read["area"].tolist() == [51.0]


def test_parquet_equals_csv(workspace: Workspace) -> None:
    rows = [row(number) for number in range(30)]
    rows[3] = row(3, area="", kind="", garden="")
    path = workspace.csv(rows)
    native = pd.read_csv(path, parse_dates=["day"], dayfirst=True).assign(garden=lambda f: f["garden"] == "yes")
    native["garden"] = native["garden"].astype("boolean").mask(native.index == 3)
    native.to_parquet(workspace.raw / "b.parquet")
    pd.testing.assert_frame_equal(frame(workspace, "b.parquet"), frame(workspace))


def test_parquet_categories_that_are_whole_numbers_equal_their_text(workspace: Workspace) -> None:
    workspace.params(edit=lambda text: text.replace("[flat, villa, None]", "[0, 1]"))
    rows = pd.DataFrame([row(1, kind=0.0), row(2, kind=1.0), row(3, kind=None)])
    rows.to_parquet(workspace.raw / "b.parquet")
    kinds = frame(workspace, "b.parquet")["kind"]
    assert kinds.iloc[:2].tolist() == ["0", "1"]
    assert pd.isna(kinds.iloc[2])


def test_columns_the_contract_does_not_speak_of_are_ignored_and_named(workspace: Workspace) -> None:
    workspace.csv([row(n) | {"secret": "x"} for n in range(40)], header=[*HEADER, "secret"])
    report = workspace.prepare()
    assert report["files"][0]["ignored_columns"] == ["secret"]
    assert "secret" not in pd.read_parquet("data/prepared/train.parquet").columns


def test_blank_lines_are_nothing(workspace: Workspace) -> None:
    path = workspace.csv([row(n) for n in range(40)])
    path.write_text(path.read_text().replace("h5,", "\n\nh5,") + "\n\n")
    report = workspace.prepare()
    assert (report["rows"], report["rows_breaking_the_contract"]) == (40, 0)
