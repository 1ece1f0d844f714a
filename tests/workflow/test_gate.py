"""`perennial gate` and `perennial report` in small real repositories: what passes, what fails, what is said of it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gates import failed, gate, judged, leaves_nothing_behind, outcome, report, text
from repository import Repository

# Better, equal, worse


def test_a_branch_that_changes_no_byte_of_the_model_passes(here: Repository) -> None:
    here.replace("params.yaml", "reproduced: null", "reproduced: bytes")
    here.commit()
    found = gate(here)
    assert set(outcome(found).values()) == {True, None}
    assert {row["difference"] for row in found["metrics"].values()} == {0}
    assert found["champion"]["model"] == found["challenger"]["model"]
    assert found["reproduction"] == {"level": "same bytes", "details": []}
    assert report(here)[0] == "## ✅ Pass: the model is the champion's, byte for byte"
    assert leaves_nothing_behind(here)


def test_on_the_default_branch_the_champion_is_the_commit_before(history: Repository, tmp_path: Path) -> None:
    here = history.copy(tmp_path / "here")
    found = gate(here)
    assert found["champion"]["commit"] == found["base"] == here.git("rev-parse", "poor")
    assert report(here)[0] == "## ✅ Pass: better than the champion"


def test_a_worse_model_fails_and_the_report_says_by_how_much(worse: Repository, tmp_path: Path) -> None:
    here = worse.copy(tmp_path / "here")
    found, lines = judged(here), report(here)
    assert outcome(found)["champion"] is False
    assert outcome(found)["dvc.lock"] is True
    row = found["metrics"]["roc_auc"]
    assert row["high"] < 0
    assert lines[0].startswith("## ❌ Fail: ")
    champion, challenger = (f"{row[who]:.4g}" for who in ("champion", "challenger"))
    assert any(line.startswith("- ❌ **champion**") and f"{challenger} against {champion}" in line for line in lines)
    assert any(line.startswith("| `roc_auc` |") and line.endswith("| **worse** |") for line in lines)
    assert "| `train.params.max_iter` | `20` | `1` |" in lines
    assert leaves_nothing_behind(here)


def test_labels_that_were_shuffled_fail_by_every_rule_about_them(here: Repository) -> None:
    for week in (1, 2, 3):
        file = here.path / f"data/raw/{week}.csv"
        header, *rows = [line.rpartition(",") for line in file.read_text().splitlines()]
        labels = [label for _, _, label in rows]
        shifted = labels[7:] + labels[:7]
        lines = ["".join(header), *(f"{row},{label}" for (row, _, _), label in zip(rows, shifted, strict=True))]
        file.write_text("\n".join(lines) + "\n")
    found = gate(here, expect=1)
    assert failed(found) >= {
        "dvc.lock", "floor of roc_auc", "better than a dummy", "champion", "slices",
    }  # fmt: skip


def test_review_is_gate_and_report_with_the_exit_code_of_the_gate(worse: Repository, tmp_path: Path) -> None:
    here = worse.copy(tmp_path / "here")
    printed = here.perennial("review", expect=1)
    assert "Verdict: fail" in printed
    assert here.read("reports/report.md") in printed


def test_a_report_without_a_gate_says_what_to_run(here: Repository) -> None:
    assert "make gate" in here.perennial("report", expect=1)


# What breaks before there is a model


def test_a_bad_file_is_told_by_file_row_column_and_value(here: Repository) -> None:
    file = here.path / "data/raw/4.csv"
    header, *rows = file.read_text().splitlines()
    broken = [row.replace(f",{row.split(',')[2]},", ",heavy,", 1) for row in rows[:20]]
    file.write_text("\n".join([header, *broken, *rows[20:]]) + "\n")
    here.commit("A bad batch")
    found = gate(here, expect=1)
    assert outcome(found) == {"data check": False, "dvc.lock": False}
    for said in (text(found, "data check"), "\n".join(report(here))):
        assert "data/raw/4.csv: 20 of 200 rows break the contract" in said
        assert "amount: " in said
        assert "data/raw/4.csv row 2 (heavy)" in said


def test_a_stage_that_fails_is_told(here: Repository) -> None:
    here.replace("params.yaml", "max_iter: 20", "max_itr: 20")
    found = gate(here, expect=1)
    assert outcome(found) == {"data check": True, "dvc.lock": False, "pipeline": False}
    lines = report(here)
    assert lines[0] == "## ❌ Fail: 2 of 3 rules say no"
    assert "| `train.params.max_itr` | – | `20` |" in lines


def test_a_broken_params_file_is_told_with_its_line(here: Repository) -> None:
    here.replace("params.yaml", "holdout: 0.25", "holdout: 7")
    line = here.read("params.yaml").splitlines().index("  holdout: 7") + 1
    found = gate(here, expect=1)
    assert outcome(found) == {"set-up": False}
    assert f"params.yaml:{line}: split.holdout" in text(found, "set-up")
    assert any(f"params.yaml:{line}" in told for told in report(here))


def test_a_lock_with_conflict_marks_is_told(here: Repository) -> None:
    lock = here.read("dvc.lock").splitlines(keepends=True)
    marks = ["<<<<<<< HEAD\n", lock[5], "=======\n", lock[5], ">>>>>>> other\n"]
    (here.path / "dvc.lock").write_text("".join([*lock[:5], *marks, *lock[6:]]))
    found = gate(here, expect=1)
    assert "dvc.lock" in text(found, "set-up")


# dvc.lock, the gate's own parameters, the second run


def test_a_lock_is_stale_then_not_committed_then_right_and_a_weaker_gate_is_pointed_at(here: Repository) -> None:
    here.replace("params.yaml", "roc_auc: 0.6", "roc_auc: 0.1")
    found = gate(here, expect=1)
    assert failed(found) == {"dvc.lock"}
    assert text(found, "dvc.lock").startswith("not current: evaluate: ")
    lines = report(here)
    assert any("make run, then commit dvc.lock and reports/" in line for line in lines)
    assert "| `gate.floors.roc_auc` ⚠️ judges this model | `0.6` | `0.1` |" in lines
    found = gate(here, expect=1)
    assert text(found, "dvc.lock") == "not committed: dvc.lock"
    here.commit("A floor that nothing misses")
    found = gate(here)
    assert outcome(found)["dvc.lock"] is True


def test_outputs_that_another_commit_left_here_do_not_make_the_lock_stale(here: Repository) -> None:
    here.git("checkout", "-q", "poor", "--", ".")
    here.commit("The poor model again, but for its outputs, which DVC keeps")
    found = gate(here, expect=1)
    assert outcome(found)["dvc.lock"] is True
    assert outcome(found)["champion"] is False


def test_figures_edited_by_hand_fail_even_if_the_lock_was_made_to_fit(here: Repository) -> None:
    here.replace("params.yaml", "reproduced: null", "reproduced: metrics")
    file = here.path / "reports/metrics.json"
    before = md5(file)
    value = json.loads(file.read_text())["metrics"]["roc_auc"]["value"]
    here.replace("reports/metrics.json", f'"value": {value}', f'"value": {value + 0.01:.6f}')
    lock = here.read("dvc.lock").replace(before, md5(file))
    (here.path / "dvc.lock").write_text(lock)
    here.commit("Better figures")
    found = gate(here, expect=1)
    assert failed(found) == {"reproduced"}
    assert "metrics.roc_auc.value: " in text(found, "reproduced")


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def test_figures_that_depend_on_the_clock_fail(here: Repository) -> None:
    here.replace("params.yaml", "reproduced: null", "reproduced: metrics")
    here.replace(
        "src/perennial/pipeline/evaluate.py",
        '        "rows": len(target),\n        "threshold"',
        '        "rows": len(target) + __import__("time").time_ns() % 1000003,\n        "threshold"',
    )
    found = gate(here, expect=1)
    assert failed(found) == {"dvc.lock", "reproduced"}
    assert text(found, "reproduced").startswith("different when run again: rows: ")
    assert "- run again in an empty place: different" in report(here)


# Other targets


TARGETS = {
    "multiclass": ("values: [low, middle, high]", "sklearn.linear_model.LogisticRegression", "C: 0.0001", "accuracy"),
    "regression": ("type: number", "sklearn.linear_model.Ridge", "alpha: 100000", "mae"),
}


@pytest.mark.parametrize("task", TARGETS)
def test_other_targets_are_judged_too(task: str, make_table: Callable[..., Any], tmp_path: Path) -> None:
    target, estimator, weak, lead = TARGETS[task]
    params = f"""\
seed: 1
data:
  raw: data/raw
  target: {{name: grade, {target}}}
  id: parcel
  features:
    mass: {{type: number}}
    width: {{type: number}}
    colour: {{type: category, values: [red, grün, 🟣]}}
  sensitive: [sealed]
split: {{holdout: 0.3}}
train: {{estimator: {estimator}, params: {{{weak}}}}}
value: null
evaluate: {{bootstrap: 100}}
gate: {{floors: {{}}, reproduced: null}}
"""
    here = Repository.create(tmp_path / "here")
    shutil.rmtree(here.path / "data/raw")
    (here.path / "data/raw").mkdir()
    make_table(task, 1500).assign(parcel=range(1500)).to_csv(here.path / "data/raw/a.csv", index=False)
    (here.path / "params.yaml").write_text(params, encoding="utf-8")
    here.perennial("run")
    here.commit("Start")
    here.git("switch", "-q", "-c", "change")
    here.replace("params.yaml", weak, weak.split(":")[0] + ": 1")
    found, lines = gate(here, expect=1), report(here)
    assert found["task"] == task
    assert outcome(found)["champion"] is outcome(found)["fairness"] is outcome(found)["calibration"] is True
    assert failed(found) == {"dvc.lock"}
    assert any(line.startswith(f"| `{lead}` |") and line.endswith("| better |") for line in lines)
