"""Files are whole or absent, and the same for the same content."""

from pathlib import Path

import numpy as np
import pytest

from perennial.files import atomic, read_json, sha256, write_json


def interrupted(path: Path) -> None:
    with atomic(path) as unfinished:
        unfinished.write_text("half of")
        raise KeyboardInterrupt


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_first_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_nobody_sees_a_file_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with atomic(path) as unfinished:
        unfinished.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert read_json(tmp_path / "a.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_the_same_content_in_another_order_is_the_same_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1, "b": {"c": [0.1 + 0.2], "d": "é"}})
    write_json(tmp_path / "b.json", {"b": {"d": "é", "c": (0.3,)}, "a": 1})
    assert sha256(tmp_path / "a.json") == sha256(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_text(encoding="utf-8").endswith("}\n")


def test_order_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": 2}, sort_keys=False)
    assert list(read_json(tmp_path / "a.json")) == ["b", "a"]


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (float("nan"), "null"),
        (float("inf"), "null"),
        (float("-inf"), "null"),
        (np.float64("nan"), "null"),
        (-0.0, "0.0"),
        (-1e-9, "0.0"),
        (1 / 3, "0.333333"),
        (1e20, "1e+20"),
        (2, "2"),
        (True, "true"),
        ("😀", '"😀"'),
    ],
)
def test_a_number_is_rounded_and_never_nan_or_minus_zero(tmp_path: Path, given: object, written: str) -> None:
    write_json(tmp_path / "a.json", [given])
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == f"[\n  {written}\n]\n"


def test_decimals_can_be_chosen(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [2 / 3]}, decimals=2)
    assert read_json(tmp_path / "a.json") == {"a": [0.67]}
