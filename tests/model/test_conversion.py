"""Every estimator the README allows gives the same answers as ONNX; all others say so and stop."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.base import is_classifier

from perennial.errors import UserError
from perennial.params import Params
from perennial.pipeline import export, train

MODULES = ("linear_model", "ensemble", "tree", "neighbors", "neural_network", "naive_bayes", "svm")
QUICK = {"MLPClassifier": {"tol": 0.05}}  # or it warns that it has not converged
CALIBRATED = ["LinearSVC", "SVC", "RidgeClassifier"]
# skl2onnx 1.20 reads an attribute that scikit-learn 1.9 is about to rename.
pytestmark = pytest.mark.filterwarnings("ignore:Attribute `prob[AB]_` was deprecated:FutureWarning")
Make = Callable[..., Any]


def named(text: str) -> list[str]:
    """The classes that `CONVERTIBLE` names; a star stands for Classifier and Regressor."""
    names = re.findall(r"[A-Z][A-Za-z]+\*?", text)
    return [
        whole
        for name in names
        for whole in ([name[:-1] + k for k in ("Classifier", "Regressor")] if "*" in name else [name])
    ]


def path_of(name: str) -> str:
    return next(f"sklearn.{module}.{name}" for module in MODULES if hasattr(import_module(f"sklearn.{module}"), name))


def converted(params: Params, make_table: Make, seed: int = 0) -> tuple[Any, bytes]:
    pipeline, _ = train.fit(make_table(params.data.task, seed=seed), params)
    return pipeline, export.to_onnx(pipeline, params.data).SerializeToString(deterministic=True)


def parity(pipeline: Any, content: bytes, params: Params, make_table: Make) -> dict[str, Any]:
    """On rows the model was fitted on, where values meet thresholds exactly, and on new ones."""
    holdout = pd.concat([make_table(params.data.task), make_table(params.data.task, rows=100, seed=99)])
    spread = float(holdout[params.data.target.name].std()) if params.data.task == "regression" else 1.0
    return export.check_parity(pipeline, content, holdout, params.data, spread)


def prove(params: Params, make_table: Make) -> dict[str, Any]:
    return parity(*converted(params, make_table), params, make_table)


def test_the_list_of_convertible_estimators_is_read_whole() -> None:
    plain, _, calibrated = export.CONVERTIBLE.partition("calibration: sigmoid")
    assert named(calibrated) == CALIBRATED
    assert {"LogisticRegression", "HistGradientBoostingRegressor", "RandomForestClassifier"} <= set(named(plain))


@pytest.mark.parametrize("name", named(export.CONVERTIBLE))
def test_an_estimator_of_the_list_gives_the_same_answers(name: str, make_params: Make, make_table: Make) -> None:
    section = {"estimator": path_of(name), "params": QUICK.get(name, {}), "text": {"max_features": 20, "ngrams": 2}}
    section["calibration"] = "sigmoid" if name in CALIBRATED else "none"
    classes = is_classifier(getattr(import_module(section["estimator"].rpartition(".")[0]), name)())
    for task in ("binary", "multiclass") if classes else ("regression",):
        assert prove(make_params(task, train=section), make_table)["rows"] == 464  # 300 + 100, and 64 edge rows


HISTOGRAM, LOGISTIC = "sklearn.ensemble.HistGradientBoostingClassifier", "sklearn.linear_model.LogisticRegression"
FOREST = "sklearn.ensemble.RandomForestClassifier"  # draws at random: the seed counts


@pytest.mark.parametrize("estimator", [HISTOGRAM, LOGISTIC])
def test_calibration_converts_too(estimator: str, make_params: Make, make_table: Make) -> None:
    prove(make_params("binary", train={"estimator": estimator, "calibration": "sigmoid"}), make_table)


@pytest.mark.parametrize("kind", ["number", "boolean", "category", "text"])
@pytest.mark.parametrize("estimator", [HISTOGRAM, LOGISTIC])
def test_a_table_with_one_type_of_feature_converts(
    estimator: str, kind: str, make_params: Make, make_table: Make
) -> None:
    every = make_params().data.features
    one = {name: spec.model_dump() for name, spec in every.items() if spec.type == kind}
    prove(make_params(features=one, train={"estimator": estimator}), make_table)


@pytest.mark.parametrize("estimator", [HISTOGRAM, FOREST, LOGISTIC])
def test_texts_of_many_words_convert(estimator: str, make_params: Make, make_table: Make) -> None:
    rng, table = np.random.default_rng(0), make_table(rows=800)
    words = np.array([f"word{number}" for number in range(40)] + ["été", "don't"])
    told = {"good": 20, "bad": 42}  # the words to choose from, up to thirty of them a row
    table["remark"] = [" ".join(rng.choice(words[: told[grade]], rng.integers(1, 30))) for grade in table["grade"]]
    params = make_params(train={"estimator": estimator, "text": {"ngrams": 2}})
    pipeline, _ = train.fit(table, params)
    content = export.to_onnx(pipeline, params.data).SerializeToString()
    assert export.check_parity(pipeline, content, table, params.data, 1.0)["rows"] == 864


@pytest.mark.parametrize("estimator", [HISTOGRAM, LOGISTIC])
def test_a_category_may_be_called_missing(estimator: str, make_params: Make, make_table: Make) -> None:
    colour = {"type": "category", "values": ["red", "grün", "🟣", "missing"]}
    prove(make_params(features={"colour": colour}, train={"estimator": estimator}), make_table)


BAD: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "answers that differ": (
        "regression",
        "ensemble.HistGradientBoostingRegressor",
        {"params": {"loss": "poisson"}},
        "the ONNX model differs from scikit-learn on",
    ),
    "categories by position": (
        "binary",
        "ensemble.HistGradientBoostingClassifier",
        {"params": {"categorical_features": [3]}},
        "the ONNX model differs from scikit-learn on",
    ),
    "no converter": (
        "regression",
        "kernel_ridge.KernelRidge",
        {},
        "KernelRidge does not convert to ONNX: .*\n  Fix: these do: LogisticRegression",
    ),
    "operators the runtime lacks": (
        "binary",
        "gaussian_process.GaussianProcessClassifier",
        {},
        "GaussianProcessClassifier",
    ),
    "no probabilities": (
        "binary",
        "svm.LinearSVC",
        {},
        "gives no probabilities\n  Fix: set train.calibration: sigmoid",
    ),
    "no such class": (
        "binary",
        "ensemble.RandomForest",
        {},
        "train.estimator: cannot load 'sklearn.ensemble.RandomForest'",
    ),
    "no such module": (
        "binary",
        "forest.RandomForest",
        {},
        "train.estimator: cannot load 'sklearn.forest.RandomForest'",
    ),
    "a module": ("binary", "svm", {}, "train.estimator: cannot load 'sklearn.svm'"),
    "a function": ("binary", "metrics.roc_auc_score", {}, "train.estimator"),
    "an estimator of estimators": ("binary", "ensemble.VotingClassifier", {}, "train.estimator"),
    "an unknown parameter": (
        "binary",
        "linear_model.LogisticRegression",
        {"params": {"c": 1}},
        "LogisticRegression has no parameter c\n  Fix: allowed: .*C, ",
    ),
    "an impossible parameter": (
        "binary",
        "linear_model.LogisticRegression",
        {"params": {"C": -1}},
        "The 'C' parameter of LogisticRegression must be",
    ),
    "a regressor for classes": ("binary", "linear_model.Ridge", {}, "Ridge does not fit a binary target"),
    "a classifier for a number": (
        "regression",
        "linear_model.LogisticRegression",
        {},
        "LogisticRegression does not fit a regression target",
    ),
    "a transformer": ("binary", "preprocessing.StandardScaler", {}, "StandardScaler does not fit a binary target"),
    "a calibrated number": ("regression", "linear_model.Ridge", {"calibration": "sigmoid"}, "sigmoid is for classes"),
}


@pytest.mark.parametrize(("task", "estimator", "section", "told"), BAD.values(), ids=BAD)
def test_what_does_not_convert_says_so(
    task: str, estimator: str, section: dict[str, Any], told: str, make_params: Make, make_table: Make
) -> None:
    params = make_params(task, train={"estimator": f"sklearn.{estimator}", **section})
    with pytest.raises(UserError, match=told):
        prove(params, make_table)


@pytest.mark.parametrize("name", ["mass", "sealed", "colour", "remark"])
@pytest.mark.parametrize("estimator", [HISTOGRAM, LOGISTIC])
def test_a_feature_without_any_value_is_named_or_harmless(
    estimator: str, name: str, make_params: Make, make_table: Make
) -> None:
    table, params = make_table(), make_params(train={"estimator": estimator})
    table[name] = table[name].mask(table[name].notna())
    try:
        train.fit(table, params)
        told = f"{name} is harmless"
    except UserError as error:
        told = str(error)
    assert name in told


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_another_model_s_answers_are_shown_row_by_row(task: str, make_params: Make, make_table: Make) -> None:
    kind = "Regressor" if task == "regression" else "Classifier"
    params = make_params(task, train={"estimator": f"sklearn.tree.DecisionTree{kind}"})
    pipeline, _ = converted(params, make_table)
    _, other = converted(params, make_table, seed=5)
    with pytest.raises(UserError, match=r"differs from scikit-learn on \d+ of 464 rows") as error:
        parity(pipeline, other, params, make_table)
    head, *rows = str(error.value).split("The worst:\n")[1].splitlines()[:6]
    assert head.split() == [*params.data.features, "scikit_learn", "onnx", "difference"]
    differences = [float(row.split()[-1]) for row in rows]
    assert len(rows) == 5
    assert differences == sorted(differences, reverse=True)
    assert differences[-1] > export.TOLERANCE


def test_an_answer_that_is_no_number_is_a_difference(make_params: Make, make_table: Make) -> None:
    params = make_params("regression", train={"estimator": "sklearn.linear_model.Ridge"})
    pipeline, content = converted(params, make_table)
    model = onnx.load_from_string(content)
    (coefficients,) = [
        attribute for node in model.graph.node for attribute in node.attribute if attribute.name == "coefficients"
    ]
    coefficients.floats[0] = np.nan
    with pytest.raises(UserError, match="differs from scikit-learn on 464 of 464 rows"):
        parity(pipeline, model.SerializeToString(), params, make_table)


FIT = """
from pathlib import Path
import pandas as pd
from perennial.params import Params
from perennial.pipeline import export, train
params = Params.model_validate_json(Path("params.json").read_text())
pipeline, _ = train.fit(pd.read_parquet("table.parquet"), params)
Path("model.onnx").write_bytes(export.to_onnx(pipeline, params.data).SerializeToString(deterministic=True))
"""


def test_two_processes_write_the_same_bytes(tmp_path: Path, make_params: Make, make_table: Make) -> None:
    digests = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        params = make_params(train={"estimator": FOREST, "params": {"n_estimators": 5}, "text": {"ngrams": 2}})
        (folder / "params.json").write_text(params.model_dump_json())
        make_table().to_parquet(folder / "table.parquet")
        subprocess.run([sys.executable, "-c", FIT], cwd=folder, env=os.environ | {"PYTHONHASHSEED": seed}, check=True)
        digests.append(hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest())
    assert digests[0] == digests[1]


def test_edge_rows_hold_what_serving_may_meet(make_params: Make, make_table: Make) -> None:
    contract, table = make_params().data, make_table()
    edges = export.edge_rows(table, contract)
    assert edges.iloc[0].isna().all()  # nothing known at all
    for name in contract.named("category"):
        assert set(contract.values_of(name)) < set(edges[name].dropna())  # and some that nobody listed
    for name in contract.named("number"):
        assert edges[name].min() <= table[name].min()
        assert edges[name].max() >= table[name].max()
    assert pd.Series(export.ODD_TEXTS).isin(edges["remark"]).all()
