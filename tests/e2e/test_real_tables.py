"""Other people's tables with no edit of Python: a contract each, the whole pipeline, known scores.

REAL_TABLES names the folder that holds them (they are not part of this repository):
Telco-Customer-Churn.csv, bike-hour.csv and SMSSpamCollection, as their publishers ship them.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from repository import ROOT, Repository

TABLES = Path(os.environ.get("REAL_TABLES", "../shared/data"))
pytestmark = pytest.mark.skipif(not TABLES.exists(), reason="REAL_TABLES does not name a folder")
FILES = {"telco": "Telco-Customer-Churn.csv", "bike": "bike-hour.csv", "sms": "SMSSpamCollection"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Repository]:
    return {name: pipeline(name, tmp_path_factory.mktemp(name) / "copy") for name in FILES}


def pipeline(name: str, path: Path) -> Repository:
    """This repository with that table in place of the built-in one, after a run."""
    repository = Repository.create(path)
    shutil.rmtree(path / "data/raw")
    (path / "data/raw").mkdir()
    shutil.copy(TABLES / FILES[name], path / "data/raw" / f"{name}.csv")
    shutil.copy(ROOT / "tests/contracts" / f"{name}.yaml", path / "params.yaml")
    repository.perennial("run")
    return repository


def report(repository: Repository, name: str) -> Any:
    return json.loads(repository.read(f"reports/{name}.json"))


def figure(repository: Repository, name: str) -> float:
    return float(report(repository, "metrics")["metrics"][name]["value"])


def test_each_table_is_above_its_floors_and_beats_the_dummy(ran: dict[str, Repository]) -> None:
    for name, repository in ran.items():
        assert all(floor["passed"] for floor in report(repository, "evaluation")["floors"]), name
        assert "always the same answer" in repository.read("reports/report.html")
    for name, metric in {"telco": "log_loss", "bike": "mae", "sms": "log_loss"}.items():
        assert figure(ran[name], metric) < report(ran[name], "metrics")["baseline"][metric] * 0.8


def test_telco_churn_scores_as_is_known_for_it(ran: dict[str, Repository]) -> None:
    """Published logistic regressions reach a ROC AUC of about 0.84."""
    assert 0.82 < figure(ran["telco"], "roc_auc") < 0.87
    data = report(ran["telco"], "data")
    assert data["rows"] == 7043
    assert data["missing"]["TotalCharges"] == 11  # blanks that made the column look like text
    assert figure(ran["telco"], "value_per_1000") > 0
    groups = [row for row in report(ran["telco"], "evaluation")["slices"] if row["sensitive"]]
    assert {(row["column"], row["value"]) for row in groups} == {("gender", "Female"), ("gender", "Male")}


def test_bike_hire_is_split_by_time_and_beats_the_mean_of_each_hour(ran: dict[str, Repository]) -> None:
    split = report(ran["bike"], "data")["split"]
    assert split["train"]["to"] < split["holdout"]["from"]
    table = pd.read_csv(TABLES / FILES["bike"], encoding="utf-8-sig")
    newest = pd.to_datetime(table["dteday"], format="%d/%m/%Y") >= split["holdout"]["from"]
    by_hour = table[~newest].groupby(["hr", "workingday"])["cnt"].mean().rename("guess").reset_index()
    judged = table[newest].merge(by_hour, on=["hr", "workingday"])
    assert len(judged) == split["holdout"]["rows"]
    assert figure(ran["bike"], "mae") < 0.5 * (judged["cnt"] - judged["guess"]).abs().mean()


def test_sms_spam_is_told_from_its_words(ran: dict[str, Repository]) -> None:
    assert figure(ran["sms"], "f1") > 0.93
    data = report(ran["sms"], "data")
    assert data["rows_breaking_the_contract"] == 1  # the message that is broken into two lines
    assert data["problems"][0]["problem"] == "1 cells, expected 2"


def test_the_parts_of_the_bike_target_are_caught_as_a_leak(tmp_path: Path) -> None:
    """casual + registered = cnt: it stood in a public template for years."""
    repository = Repository.create(tmp_path / "copy")
    shutil.rmtree(repository.path / "data/raw")
    (repository.path / "data/raw").mkdir()
    shutil.copy(TABLES / FILES["bike"], repository.path / "data/raw/bike.csv")
    contract = (ROOT / "tests/contracts/bike.yaml").read_text()
    leaky = "  features:\n    casual: {type: number}\n    registered: {type: number}\n"
    (repository.path / "params.yaml").write_text(contract.replace("  features:\n", leaky))
    said = repository.perennial("run", expect=1)
    assert re.search(r"give the target cnt away:\s+casual \+ registered: a score of 1\.0000", said)
    assert "allow_leak" in said
