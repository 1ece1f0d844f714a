"""One decision from three windows, and the command that makes it from a log."""

import csv
import datetime
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from repository import Repository, built, write_table
from traffic import DAY, SINCE, UNTIL, Log, label, prediction

from perennial.monitoring import watch
from perennial.monitoring.window import Window
from perennial.params import Params
from perennial.serving import artifacts
from perennial.serving.predictor import Predictor

Facts = dict[str, Any]
IMPORTANCE = {"mass": 0.6, "width": 0.3, "colour": 0.06, "remark": 0.04}


@pytest.fixture(scope="module")
def params(make_params: Any) -> Params:
    """Judged are windows of 500 rows, and what has a tenth of the importance."""
    return make_params()  # type: ignore[no-any-return]


def window(drifted: str = "", broken: str = "", fell: bool = False, rows: int = 1000, answers: bool = False) -> Facts:
    """What `watch.judge` finds, by the names of the features."""
    enough, moved, gone = rows >= 500, drifted.split(), broken.split()
    features = [
        {
            "feature": name, "p": 0.001 if name in moved else 0.5, "psi": 0.2 if name in moved else 0.001,
            "missing": {"before": 0.01, "now": 0.31 if name in gone else 0.01}, "other": {"before": 0.0, "now": 0.0},
            "drifted": name in moved, "broken": name in gone, "importance": share, "matters": 0.0,
        }
        for name, share in IMPORTANCE.items()
    ]  # fmt: skip
    return {
        "coverage": {"rows": rows}, "enough": enough, "features": features if enough else [], "drifted": moved,
        "broken": gone, "importance": sum(IMPORTANCE[name] for name in moved), "fell": fell,
        "predictions": {"drifted": answers, "psi": 0.03},
    }  # fmt: skip


CALM = window()
FEW = window(rows=499)
DECISIONS: dict[str, tuple[str, list[Facts]]] = {
    # quiet
    "nothing": ("quiet", [CALM, CALM, CALM]),
    "no rows": ("quiet", [window(rows=0), window(rows=0), window(rows=0)]),
    "few rows": ("quiet", [FEW, FEW, FEW]),
    "what was is over": ("quiet", [CALM, window("mass", fell=True), window("mass", fell=True)]),
    "mended": ("quiet", [CALM, window("mass", broken="mass"), window("mass", broken="mass")]),
    # watch
    "fewer rows than before": ("watch", [FEW, CALM, CALM]),
    "none any more": ("watch", [window(rows=0), window(rows=0), CALM]),
    "few rows after drift": ("watch", [FEW, window("mass"), window("mass")]),
    "few rows after a break": ("watch", [FEW, window("mass", broken="mass"), CALM]),
    "few rows after lost quality": ("watch", [FEW, window(fell=True), window(fell=True)]),
    "once": ("watch", [window("mass"), CALM, CALM]),
    "all at once": ("watch", [window("mass width colour remark"), CALM, CALM]),
    "once, few rows before": ("watch", [window("mass"), FEW, FEW]),
    "unimportant": ("watch", [window("colour"), window("colour"), window("colour")]),
    "predictions": ("watch", [window(answers=True), window(answers=True), window(answers=True)]),
    "lost quality once": ("watch", [window(fell=True), CALM, CALM]),
    "drift, then lost quality": ("watch", [window(fell=True), window("mass"), CALM]),
    "lost quality, then drift": ("watch", [window("mass"), window(fell=True), window(fell=True)]),
    # data-quality
    "broken": ("data-quality", [window(broken="colour"), CALM, CALM]),
    "broken again": ("data-quality", [window("mass", broken="mass"), window("mass", broken="mass"), CALM]),
    "broken beats drift": ("data-quality", [window("mass", broken="colour"), window("mass"), window("mass")]),
    "broken beats lost quality": ("data-quality", [window(broken="mass", fell=True), window(fell=True), CALM]),
    # retrain
    "twice": ("retrain", [window("mass"), window("mass"), CALM]),
    "two of three": ("retrain", [window("mass"), CALM, window("mass")]),
    "two of three, few rows between": ("retrain", [window("mass"), FEW, window("mass")]),
    "always": ("retrain", [window("mass"), window("mass"), window("mass")]),
    "small features together": ("retrain", [window("colour remark"), window("colour remark"), CALM]),
    "the same among others": ("retrain", [window("mass colour"), window("mass remark"), CALM]),
    "lost quality twice": ("retrain", [window(fell=True), window(fell=True), CALM]),
    "lost quality in two of three": ("retrain", [window(fell=True), CALM, window(fell=True)]),
    "unimportant drift, lost quality": ("retrain", [window("colour", fell=True), window("colour", fell=True), CALM]),
}
OTHERS: dict[str, tuple[str, list[Facts]]] = {
    "one feature, then another": ("watch", [window("mass"), window("width"), CALM]),
    "what matters moved once": ("watch", [window("mass colour"), window("width colour"), CALM]),
    "what broke is no drift": ("watch", [window("mass"), window("mass", broken="mass"), CALM]),
    "other features broke": ("retrain", [window("mass"), window("mass width", broken="width"), CALM]),
    "fell while broken": ("watch", [window(fell=True), window(broken="mass", fell=True), CALM]),
}


@pytest.mark.parametrize("case", DECISIONS)
def test_what_is_decided(params: Params, case: str) -> None:
    expected, windows = DECISIONS[case]
    decision, reasons = watch.decide(windows, params)
    assert decision == expected, reasons
    assert reasons
    assert all(reasons)


@pytest.mark.parametrize("case", OTHERS)
def test_only_the_same_drift_of_sound_data_lasts(params: Params, case: str) -> None:
    expected, windows = OTHERS[case]
    assert watch.decide(windows, params)[0] == expected


def test_reasons_name_features_and_figures(params: Params) -> None:
    (reason,) = watch.decide([window(rows=12), CALM, CALM], params)[1]
    assert "12 rows" in reason
    assert "500" in reason
    (reason,) = watch.decide([window("colour"), CALM, CALM], params)[1]
    assert "colour" in reason
    assert "0.200" in reason
    (reason,) = watch.decide([window(broken="mass"), CALM, CALM], params)[1]
    assert reason == "mass: 31.0% missing, 1.0% in training"
    (reason,) = watch.decide([window(fell=True), CALM, CALM], params)[1]
    assert "quality fell" in reason
    assert len(watch.decide([window("mass", fell=True)] * 3, params)[1]) == 3


def test_unlisted_values_are_told_from_missing_ones(params: Params) -> None:
    newest = window(broken="colour")
    row = next(row for row in newest["features"] if row["feature"] == "colour")
    row |= {"missing": {"before": 0.01, "now": 0.01}, "other": {"before": 0.0, "now": 0.25}}
    (reason,) = watch.decide([newest, CALM, CALM], params)[1]
    assert reason == "colour: 25.0% values the contract does not list, 0.0% in training"


def reference(classes: list[str]) -> watch.Reference:
    return watch.Reference({"classes": classes}, {}, {})


def test_a_window_with_too_few_rows_is_not_judged(params: Params) -> None:
    few = Window(SINCE, UNTIL, [prediction(n) | {"label": None, "labelled_at": 0.0} for n in range(499)], seen=499)
    facts = watch.judge(few, reference(["good", "bad"]), params)
    assert (facts["enough"], facts["drifted"], facts["broken"], facts["quality"]) == (False, [], [], None)
    assert facts["coverage"]["rows"] == 499


OLDER = [
    {"value": 2.5},
    {"probabilities": {"a": 0.2, "b": 0.3, "c": 0.5}},
    {"probabilities": {"bad": 1.0, "good": 0.0}},
]


@pytest.mark.parametrize("output", OLDER)
def test_answers_of_a_model_with_another_target_are_set_aside(params: Params, output: Facts) -> None:
    rows = [prediction(n) | {"label": None, "labelled_at": 0.0} for n in range(499)]
    rows += [prediction(n, output=output) | {"label": None, "labelled_at": 0.0} for n in range(499, 600)]
    facts = watch.judge(Window(SINCE, UNTIL, rows, seen=600), reference(["good", "bad"]), params)
    assert facts["enough"] is False
    assert facts["coverage"]["kept"] == 499
    assert sum(facts["coverage"]["aside"].values()) == 101


# The command


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Its model has learnt from six hundred rows of the small table."""
    return built(tmp_path_factory.mktemp("project") / "repository")


@pytest.fixture(scope="module")
def predictor(project: Repository) -> Predictor:
    return Predictor(artifacts.read(project.path / "models", ""))


Change = Callable[[Facts], Facts]
TYPES: dict[str, Callable[[str], Any]] = {
    "amount": float, "distance": float, "colour": str, "urgent": "true".__eq__, "remark": str
}  # fmt: skip


def traffic(log: Log, predictor: Predictor, folder: Path, changes: list[Change], rows: int = 700) -> None:
    """Three weeks, the newest first, of fresh rows of the small table, changed; and their labels, a day later."""
    for back, change in enumerate(changes):
        week, draw = 20 + back, random.Random(back)
        write_table(folder, range(week, week + 1), rows)
        with (folder / f"{week}.csv").open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        sent = [change({name: cast(line[name]) for name, cast in TYPES.items()}) for line in lines]
        answers = predictor.predict(sent)
        parts: list[tuple[list[Any], list[Any]]] = [([], []) for _ in range(7)]
        for place, (row, answer) in enumerate(zip(sent, answers, strict=True)):
            number, day = back * rows + place, place % 7
            at = SINCE + (day + draw.random()) * DAY - back * 7 * DAY
            about = {"model_version": predictor.version, "features": row, "output": answer}
            parts[day][0].append(prediction(number, at, **about))
            parts[day][1].append(label(number, lines[place]["answer"], at + DAY))
        for predictions, labels in parts:
            log.predictions(*predictions)
            log.feedback(*labels)


def same(row: Facts) -> Facts:
    return row


def shifted(row: Facts) -> Facts:
    return row | {"distance": row["distance"] + 1.5}


def gone(row: Facts) -> Facts:
    return row | {"distance": None if row["amount"] < 30 else row["distance"], "colour": "red"}


@pytest.mark.parametrize(
    ("changes", "decision", "reason"),
    [
        ([same, same, same], "quiet", "nothing moved"),
        ([shifted, same, same], "watch", "distance drifted"),
        ([shifted, shifted, same], "retrain", "distance"),
        ([gone, shifted, shifted], "data-quality", "distance"),
    ],
)
def test_the_command_decides_from_a_log(
    project: Repository, predictor: Predictor, tmp_path: Path, changes: list[Change], decision: str, reason: str
) -> None:
    log = Log(tmp_path / "store")
    traffic(log, predictor, tmp_path / "tables", changes)
    said = project.perennial("drift", "--store", log.url, "--until", UNTIL.isoformat())
    facts = json.loads(project.read("reports/drift.json"))
    assert facts["decision"] == decision, facts["reasons"]
    assert reason in " ".join(facts["reasons"])
    assert f"Decision: {decision}" in said
    assert all(line in " ".join(said.split()) for line in facts["reasons"])
    assert facts["model"] == json.loads(project.read("models/profile.json"))["model"]["sha256"]
    assert [each["coverage"]["until"] for each in facts["windows"]] == [
        (UNTIL - back * 7 * DAY).isoformat() for back in range(3)
    ]
    for each in facts["windows"]:
        covered = each["coverage"]
        assert (covered["rows"], covered["labelled"], covered["aside"]) == (700, 1.0, {})
        assert covered["label_delay_days"] == pytest.approx(1)
        assert covered["versions"] == {predictor.version: 700}
        assert {row["feature"] for row in each["features"]} == set(TYPES)
        assert each["quality"]["roc_auc"]["low"] < each["quality"]["roc_auc"]["high"]
        assert set(each["expected"]) == {"roc_auc", "accuracy", "brier", "value_per_1000"}


def test_an_empty_store_is_quiet_and_not_an_error(project: Repository, tmp_path: Path) -> None:
    project.perennial("drift", "--store", str(tmp_path / "none"))
    facts = json.loads(project.read("reports/drift.json"))
    assert (facts["decision"], facts["windows"][0]["coverage"]["rows"]) == ("quiet", 0)


def test_the_store_may_be_named_by_the_environment(project: Repository, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "perennial", "drift", "--until", UNTIL.isoformat()]
    Log(tmp_path / "store").predictions(prediction(1))
    project.command(*command, PREDICTION_STORE=str(tmp_path / "store"))
    facts = json.loads(project.read("reports/drift.json"))
    assert (facts["store"], facts["windows"][0]["coverage"]["rows"]) == (str(tmp_path / "store"), 1)


@pytest.mark.parametrize("until", ["2026-03-09", "2026-03-09T00:00", "2026-03-09T00:00Z", "2026-03-09T09:00+09:00"])
def test_the_end_of_the_last_window_is_the_moment_that_was_named(
    project: Repository, tmp_path: Path, until: str
) -> None:
    project.perennial("drift", "--store", str(tmp_path), "--until", until)
    facts = json.loads(project.read("reports/drift.json"))
    end = facts["windows"][0]["coverage"]["until"]
    assert datetime.datetime.fromisoformat(end) == UNTIL


def test_what_cannot_be_read_is_an_error_with_a_way_out(project: Repository, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    assert "Fix: PREDICTION_STORE=" in project.perennial("drift", "--store", str(tmp_path / "file"), expect=1)
    assert "Fix: " in project.perennial("drift", "--store", str(tmp_path), "--until", "yesterday", expect=1)
