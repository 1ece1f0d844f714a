"""`perennial verify` tells a stale dvc.lock from a current one, with and without the cached outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from repository import Repository, write_table


@dataclass(frozen=True)
class Stale:
    """An edit that leaves dvc.lock behind, and the stages and files that `verify` must name."""

    edit: Callable[[Repository], object]
    stages: tuple[str, ...]
    file: str


def append(repository: Repository, name: str, text: str) -> None:
    with (repository.path / name).open("a", encoding="utf-8") as file:
        file.write(text)


STALE = {
    "code of a stage": Stale(
        lambda here: append(here, "src/perennial/pipeline/prepare.py", "# changed\n"),
        ("prepare",),
        "src/perennial/pipeline/prepare.py",
    ),
    "code of the last stage": Stale(
        lambda here: append(here, "src/perennial/pipeline/evaluate.py", "# changed\n"),
        ("evaluate",),
        "src/perennial/pipeline/evaluate.py",
    ),
    "code that stages share": Stale(
        lambda here: append(here, "src/perennial/inputs.py", "# changed\n"),
        ("train", "evaluate"),
        "src/perennial/inputs.py",
    ),
    "template": Stale(
        lambda here: append(here, "src/perennial/pipeline/report.html.j2", "<p>changed</p>\n"),
        ("evaluate",),
        "src/perennial/pipeline/report.html.j2",
    ),
    "parameter": Stale(
        lambda here: here.replace("params.yaml", "max_iter: 20", "max_iter: 21"), ("train",), "params.yaml"
    ),
    "parameter of two stages": Stale(
        lambda here: here.replace("params.yaml", "seed: 7", "seed: 8"), ("train", "evaluate"), "params.yaml"
    ),
    "floor": Stale(
        lambda here: here.replace("params.yaml", "roc_auc: 0.6", "roc_auc: 0.5"), ("evaluate",), "params.yaml"
    ),
    "metrics edited by hand": Stale(
        lambda here: here.replace("reports/metrics.json", '"rows": 200', '"rows": 201'),
        ("evaluate",),
        "reports/metrics.json",
    ),
    "metrics deleted": Stale(
        lambda here: (here.path / "reports/metrics.json").unlink(), ("evaluate",), "reports/metrics.json"
    ),
    "data report edited by hand": Stale(
        lambda here: append(here, "reports/data.json", "\n"), ("prepare", "evaluate"), "reports/data.json"
    ),
    "command": Stale(
        lambda here: here.replace(
            "dvc.yaml", "python -m perennial.pipeline.train", "python -u -m perennial.pipeline.train"
        ),
        ("train",),
        "changed command",
    ),
    "code deleted": Stale(
        lambda here: (here.path / "src/perennial/pipeline/leaks.py").unlink(),
        ("prepare",),
        "src/perennial/pipeline/leaks.py",
    ),
    "data edited": Stale(lambda here: here.replace("data/raw/2.csv", "\n2-0,", "\n2-9999,"), ("prepare",), "data/raw"),
    "data added": Stale(lambda here: write_table(here.path / "data/raw", range(5, 6)), ("prepare",), "data/raw"),
    "data deleted": Stale(lambda here: (here.path / "data/raw/4.csv").unlink(), ("prepare",), "data/raw"),
}


@pytest.fixture(params=["with outputs", "fresh clone"])
def place(request: pytest.FixtureRequest, built: Repository, tmp_path: Path) -> Repository:
    """Where everything has just run, and where only what Git keeps is."""
    return built.copy(tmp_path / "here") if request.param == "with outputs" else built.clone(tmp_path / "here")


def named(text: str) -> dict[str, list[str]]:
    """Stage and what was said of it, line by line of the message."""
    lines = [line.strip().partition(": ") for line in text.splitlines() if line.startswith("  ") and "Fix:" not in line]
    return {stage: [said for name, _, said in lines if name == stage] for stage, _, _ in lines}


def test_current(place: Repository) -> None:
    assert "dvc.lock is current" in place.perennial("verify")
    assert place.changed() == []


@pytest.mark.parametrize("case", STALE)
def test_stale(place: Repository, case: str) -> None:
    stale = STALE[case]
    stale.edit(place)
    text = place.perennial("verify", expect=1)
    found = named(text)
    assert set(found) == set(stale.stages), text
    assert all(any(stale.file in said for said in lines) for lines in found.values()), text
    assert "make run" in text


def test_all_that_is_stale_is_named_at_once(built: Repository, tmp_path: Path) -> None:
    here = built.copy(tmp_path / "here")
    for case in ("code of a stage", "parameter", "metrics edited by hand"):
        STALE[case].edit(here)
    assert set(named(here.perennial("verify", expect=1))) == {"prepare", "train", "evaluate"}


def test_an_output_edited_by_hand(built: Repository, tmp_path: Path) -> None:
    """A cached output may be absent, but when it is there it is the one that dvc.lock promises."""
    here = built.copy(tmp_path / "here")
    append(here, "models/model.onnx", "changed")
    assert set(named(here.perennial("verify", expect=1))) == {"train", "evaluate"}


def test_no_lock_at_all(built: Repository, tmp_path: Path) -> None:
    here = built.clone(tmp_path / "here")
    (here.path / "dvc.lock").unlink()
    assert set(named(here.perennial("verify", expect=1))) == {"prepare", "train", "evaluate"}


def test_a_lock_with_conflict_marks(built: Repository, tmp_path: Path) -> None:
    here = built.clone(tmp_path / "here")
    lock = here.read("dvc.lock").splitlines(keepends=True)
    (here.path / "dvc.lock").write_text(
        "".join([*lock[:5], "<<<<<<< HEAD\n", lock[5], "=======\n", lock[5], ">>>>>>> other\n", *lock[6:]])
    )
    assert "dvc.lock" in here.perennial("verify", expect=1)


def test_a_broken_params_file_is_named_with_its_line(built: Repository, tmp_path: Path) -> None:
    here = built.clone(tmp_path / "here")
    here.replace("params.yaml", "holdout: 0.25", "holdout: 7")
    line = here.read("params.yaml").splitlines().index("  holdout: 7") + 1
    assert f"params.yaml:{line}" in here.perennial("verify", expect=1)
