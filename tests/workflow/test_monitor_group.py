"""Evidently lives apart, with the same versions as everything else; what it is given is what it can read."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from repository import ROOT

from perennial.errors import UserError
from perennial.monitoring import evidently_report

GROUPS = ["pipeline", "serve", "release", "monitor"]
HOSTILE = "</script><script>alert(1)</script>"


def pins(text: str) -> dict[str, set[str]]:
    """The versions of each package; several where they depend on the Python."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9._-]+)==([^\s\\;]+)", text, re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def pinned(group: str) -> dict[str, set[str]]:
    return pins((ROOT / f"requirements/{group}.txt").read_text(encoding="utf-8"))


def differences(one: dict[str, set[str]], other: dict[str, set[str]]) -> list[str]:
    """The packages of both of which the first has a version that the other has not."""
    return sorted(name for name in one.keys() & other.keys() if not one[name] <= other[name])


@pytest.mark.parametrize("group", GROUPS)
def test_a_package_has_one_version_in_every_group(group: str) -> None:
    assert len(pinned(group)) > 15
    assert differences(pinned(group), pinned("dev")) == []


def test_another_version_is_found() -> None:
    assert differences(pins("a==1 \\\nb-c==2 ; x\n"), pins("a==1\nb-c==2.1 \\\nd==1\n")) == ["b-c"]
    assert differences(pins("a==1 ; x\na==3 ; y"), pins("a==1 ; x\na==2 ; y")) == ["a"]


def test_only_the_monitor_has_evidently() -> None:
    with_it = [file.stem for file in (ROOT / "requirements").glob("*.txt") if "evidently" in pinned(file.stem)]
    assert with_it == ["monitor"]
    assert all(version.startswith("3.0.") for version in pinned("monitor")["pandas"])  # Evidently cannot import 3.1


def test_make_run_and_make_test_need_no_evidently() -> None:
    targets = re.findall(r"^([a-z-]+):(.*?)(?:##.*)?$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name, needs in targets if "monitor" in needs] == ["evidently"]


@pytest.fixture
def frame(make_table: Any) -> pd.DataFrame:
    return make_table(rows=200).drop(columns="grade")  # type: ignore[no-any-return]


def test_each_feature_has_its_kind(make_params: Any, frame: pd.DataFrame) -> None:
    assert evidently_report.columns_of(frame, frame, make_params()) == {
        "numerical_columns": ["mass", "width"],
        "categorical_columns": ["sealed", "colour"],
        "text_columns": ["remark"],
    }


@pytest.mark.parametrize("side", ["current", "before"])
def test_a_side_without_any_value_is_left_out(make_params: Any, frame: pd.DataFrame, side: str) -> None:
    sides = {"current": frame, "before": frame} | {side: frame.assign(mass=float("nan"), remark=None)}
    found = evidently_report.columns_of(**sides, params=make_params())
    assert [name for names in found.values() for name in names] == ["width", "sealed", "colour"]


def test_types_are_ones_it_reads(make_params: Any, frame: pd.DataFrame) -> None:
    columns = evidently_report.columns_of(frame, frame, make_params())
    given = evidently_report.cast(frame.convert_dtypes(), columns)
    assert {name: str(kind) for name, kind in given.dtypes.items()} == {
        "mass": "float64", "width": "float64", "sealed": "object", "colour": "object", "remark": "object",
    }  # fmt: skip
    assert given.isna().sum().to_dict() == frame.isna().sum().to_dict()
    assert set(given["sealed"].dropna()) == {"True", "False"}


def test_the_reference_is_a_sample_that_stays_the_same(
    make_params: Any, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidently_report, "TRAIN", tmp_path / "train.parquet")
    frame.assign(other=1).to_parquet(tmp_path / "train.parquet")
    assert len(evidently_report.reference(make_params())) == len(frame)
    monkeypatch.setattr(evidently_report, "MOST", 50)
    one, other = (evidently_report.reference(make_params()) for _ in range(2))
    assert (len(one), set(one)) == (50, set(frame))
    pd.testing.assert_frame_equal(one, other)


def test_no_value_can_end_the_script_it_is_written_into(make_params: Any, frame: pd.DataFrame) -> None:
    hostile = frame.assign(colour=HOSTILE, remark=HOSTILE)
    given = evidently_report.cast(hostile, evidently_report.columns_of(frame, frame, make_params()))
    assert set(given["colour"]) == set(given["remark"]) == {"‹/script›‹script›alert(1)‹/script›"}


def test_the_page_says_that_it_decides_nothing() -> None:
    assert evidently_report.with_notice("<html><body>x").startswith("<html><body><p")
    assert "decides nothing" in evidently_report.with_notice("<body>")
    with pytest.raises(RuntimeError, match="no <body>"):
        evidently_report.with_notice("<html>")


def test_elsewhere_it_says_where_it_is(make_params: Any, frame: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="make evidently"):
        evidently_report.draw(frame, frame, make_params())


def test_the_environment_is_ignored_by_git() -> None:
    assert "/.venv-monitor" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert not Path(ROOT / "requirements/monitor.txt").read_text(encoding="utf-8").count("://")
