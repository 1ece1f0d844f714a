"""The built-in data is what its maker says: it can be written again, and what drifts is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from perennial import cli, simulate
from perennial.contract import Contract
from perennial.errors import UserError
from perennial.inputs import encode_target
from perennial.params import Params, load
from perennial.pipeline import features, prepare, train
from perennial.pipeline.split import split

ROOT = Path(__file__).parents[2]
MONTH, ROWS, SEED = "2025-06", 4000, 7


@pytest.fixture(scope="module")
def params() -> Params:
    return load(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def contract(params: Params) -> Contract:
    return params.data


def month(drift: Any = "none", seed: int = SEED) -> simulate.Month:
    return simulate.simulate_month(MONTH, ROWS, seed, drift)


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.csv")}


def moved(contract: Contract, one: simulate.Month, other: simulate.Month) -> set[str]:
    """The features whose distribution differs, missing values left out (Kolmogorov-Smirnov; chi-squared for words)."""

    def p_value(name: str) -> float:
        columns = [pd.Series(batch.columns[name]).replace("", None).dropna() for batch in (one, other)]
        if name in contract.named("number"):
            return float(stats.ks_2samp(*(column.astype(float) for column in columns)).pvalue)
        counts = pd.concat([column.value_counts() for column in columns], axis=1).fillna(0)
        return float(stats.chi2_contingency(counts).pvalue)

    return {name for name in contract.features if p_value(name) < 1e-4}


def test_the_committed_data_is_what_the_defaults_write(tmp_path: Path, contract: Contract) -> None:
    cli.simulate(out=tmp_path)
    written, committed = bytes_in(tmp_path), bytes_in(ROOT / contract.raw)
    assert written.keys() == committed.keys()
    assert [name for name, content in written.items() if content != committed[name]] == []


def test_a_month_does_not_depend_on_the_others(tmp_path: Path) -> None:
    cli.simulate(start="2025-11", months=3, rows=50, out=tmp_path / "three")
    cli.simulate(start="2026-01", months=1, rows=50, out=tmp_path / "one")
    three, one = bytes_in(tmp_path / "three"), bytes_in(tmp_path / "one")
    assert sorted(three) == ["2025-11.csv", "2025-12.csv", "2026-01.csv"]
    assert one == {"2026-01.csv": three["2026-01.csv"]}


def test_another_seed_is_another_table(tmp_path: Path) -> None:
    for seed in (1, 2):
        simulate.write_month(month(seed=seed), tmp_path / f"{seed}.csv")
    one, two = bytes_in(tmp_path).values()
    assert one != two


def test_the_best_auc_is_scikit_learn_s_and_leaves_a_model_something_to_do(contract: Contract) -> None:
    target = contract.target
    batches = [simulate.simulate_month(name, 1500, SEED) for name in simulate.months_from("2025-01", 12)]
    positive = np.concatenate([batch.columns[target.name] == target.positive for batch in batches])
    best = simulate.best_auc(batches)
    assert best == pytest.approx(roc_auc_score(positive, np.concatenate([batch.probability for batch in batches])))
    assert 0.80 < best < 0.88


def test_the_known_probability_is_the_one_labels_are_drawn_with(contract: Contract) -> None:
    batch, target = month(), contract.target
    positive = batch.columns[target.name] == target.positive
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        inside = (batch.probability >= low) & (batch.probability < low + 0.2)
        known = batch.probability[inside]
        deviations = (positive[inside].sum() - known.sum()) / np.sqrt((known * (1 - known)).sum())
        assert abs(deviations) < 4


def test_without_drift_only_chance_moves(contract: Contract) -> None:
    assert moved(contract, month(), month(seed=8)) == set()


def test_covariate_drift_moves_features_but_not_what_follows_from_them(contract: Contract) -> None:
    drifted, number = month("covariate"), int(MONTH[-2:])
    assert len(moved(contract, month(), drifted)) >= 3
    rng = np.random.default_rng([SEED, int(MONTH[:4]), number])
    customers, tone = simulate._customers(rng, ROWS, shifted=True)
    unchanged = simulate._churn_probability(customers, tone, number, changed=False)
    np.testing.assert_array_equal(drifted.probability, unchanged)


def test_concept_drift_leaves_the_features_alone_and_changes_what_follows_from_them(contract: Contract) -> None:
    before, after = month(), month("concept")
    for name, column in before.columns.items():
        same = np.mean(np.asarray(column) == np.asarray(after.columns[name]))
        assert (same < 0.9) if name == contract.target.name else (same == 1), name
    assert roc_auc_score(after.columns[contract.target.name], before.probability) < simulate.best_auc([after]) - 0.05


def test_a_broken_month_is_stopped_and_a_good_one_is_not(tmp_path: Path, contract: Contract) -> None:
    for name, drift in (("good", "none"), ("broken", "broken")):
        simulate.write_month(month(drift), tmp_path / name / f"{MONTH}.csv")
    report: dict[str, Any] = {}
    frame, rejected = prepare.collect(contract.model_copy(update={"raw": str(tmp_path / "good")}), report)
    assert (len(frame), len(rejected)) == (ROWS, 0)
    assert not prepare.stop_on_leak(frame, contract, report)
    with pytest.raises(UserError, match="rows break the contract"):
        prepare.collect(contract.model_copy(update={"raw": str(tmp_path / "broken")}), report)
    problems = {entry["problem"].split(" (")[0].rpartition(" ")[0] for entry in report["problems"]}
    assert problems == {"above the maximum", "not in"}


def test_the_model_of_params_yaml_comes_close_to_the_best_auc_and_not_above(params: Params) -> None:
    contract = params.data.model_copy(update={"raw": str(ROOT / params.data.raw)})
    report: dict[str, Any] = {}
    known, judging = split(prepare.collect(contract, report)[0], params, report)
    pipeline, _ = train.fit(known, params.model_copy(update={"value": None}))
    probability = pipeline.predict_proba(features.matrix(judging, contract))[:, 1]
    reached = roc_auc_score(encode_target(judging[contract.target.name], contract), probability)
    first = f"{pd.Timestamp(report['split']['holdout']['from']):%Y-%m}"
    months = [name for name in simulate.months_from("2025-01", 12) if name >= first]
    best = simulate.best_auc([simulate.simulate_month(name, 1500, SEED) for name in months])
    assert 0.80 < reached < best
