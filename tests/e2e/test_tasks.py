"""The same table asked other questions: every kind of target, with an edit of params.yaml alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from repository import Repository

BASE = """\
data:
  raw: data/raw
  target: {target}
  id: ticket
  features: {features}
  sensitive: [shift]
split: {{holdout: 0.3}}
train: {train}
value: null
evaluate: {{bootstrap: 100}}
gate: {{floors: {floors}}}
seed: 3
"""
ASKED = {
    "multiclass": {
        "target": "{name: colour, values: [red, green, blue]}",
        "features": "{amount: {type: number}, urgent: {type: boolean}, answer: {type: boolean}, remark: {type: text}}",
        "train": "{estimator: sklearn.linear_model.LogisticRegression, calibration: sigmoid}",
        "floors": "{accuracy: 0.99}",
    },
    "regression": {
        "target": "{name: amount, type: number, min: 0}",
        "features": "{distance: {type: number}, answer: {type: boolean}}",
        "train": "{estimator: sklearn.ensemble.GradientBoostingRegressor, params: {n_estimators: 20}}",
        "floors": "{mae: 1000}",
    },
    "categories only": {
        "target": "{name: urgent, values: ['true', 'false'], positive: 'true'}",
        "features": "{answer: {type: category, values: ['yes', 'no']}}",
        "train": "{estimator: sklearn.tree.DecisionTreeClassifier}",
        "floors": "{roc_auc: 0.5}",
    },
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Repository, str]]:
    results = {}
    for name, parts in ASKED.items():
        repository = Repository.create(tmp_path_factory.mktemp("task") / "copy")
        (repository.path / "params.yaml").write_text(BASE.format(**parts))
        results[name] = (repository, repository.perennial("run"))
    return results


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text())


def test_several_classes(asked: dict[str, tuple[Repository, str]]) -> None:
    repository, said = asked["multiclass"]
    figures = read(repository.path / "reports", "metrics")
    assert set(figures["metrics"]) == {"accuracy", "f1_macro", "roc_auc_macro", "log_loss"}
    assert figures["threshold"] is None
    assert figures["metrics"]["log_loss"]["value"] < 1.2  # three classes nearly at random: log(3) = 1.0986
    assert "It tells which of red, green, blue a row is." in repository.read("reports/report.html")
    assert "✗ accuracy" in said
    assert "below a floor" in said


def test_a_number(asked: dict[str, tuple[Repository, str]]) -> None:
    repository, said = asked["regression"]
    figures = read(repository.path / "reports", "metrics")
    assert figures["metrics"]["mae"]["value"] < figures["baseline"]["mae"]
    assert figures["metrics"]["r2"]["value"] > figures["baseline"]["r2"]
    assert read(repository.path / "models", "profile")["inputs"] == {"numbers": ["distance", "answer"]}
    assert "above every floor" in said


def test_a_model_without_any_number(asked: dict[str, tuple[Repository, str]]) -> None:
    repository, _ = asked["categories only"]
    assert read(repository.path / "models", "profile")["inputs"] == {"categories": ["answer"]}
    assert read(repository.path / "reports", "evaluation")["importance"]["answer"]["mean"] > 0


def test_dvc_draws_and_compares_what_the_pipeline_declares(asked: dict[str, tuple[Repository, str]]) -> None:
    for repository, _ in asked.values():
        shown = repository.dvc("plots", "show", "--json")
        assert '"errors"' not in shown
        drawn = json.loads(shown)["data"]
        assert len(drawn) == 3
        assert all(plot[0]["content"]["data"]["values"] for plot in drawn.values())
        assert "reports/metrics.json" in repository.dvc("metrics", "show")
