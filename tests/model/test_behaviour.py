"""What the model of params.yaml does on the table it describes, fitted here with the pipeline's own functions."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from perennial.inputs import encode_target, feed, layout
from perennial.model import answer, open_model
from perennial.params import METRICS, Params, Value, load
from perennial.pipeline import evaluate, export, prepare, profile, train
from perennial.pipeline.split import split

ROOT = Path(__file__).parents[2]


class Built(NamedTuple):
    params: Params
    train: pd.DataFrame
    holdout: pd.DataFrame
    session: Any
    profile: dict[str, Any]

    def ask(self, frame: pd.DataFrame) -> Any:
        """One number a row: the value, or the probability of the last class."""
        found = answer(self.session, frame, self.params.data)
        return found if found.ndim == 1 else found[:, -1]

    def truth(self, frame: pd.DataFrame) -> Any:
        """What `ask` should have said."""
        target = frame[self.params.data.target.name]
        return target if self.params.data.task == "regression" else target == self.params.data.target.classes[-1]

    def judged(self) -> dict[str, Any]:
        data = self.params.data
        target = encode_target(self.holdout[data.target.name], data)
        return evaluate.judge(target, answer(self.session, self.holdout, data), self.profile, self.params)


@pytest.fixture(scope="session")
def built() -> Built:
    params = load(ROOT / "params.yaml")
    contract = params.data.model_copy(update={"raw": str(ROOT / params.data.raw)})
    report: dict[str, Any] = {}
    frame, _ = prepare.collect(contract, report)
    known, judging = split(frame, params, report)
    pipeline, threshold = train.fit(known, params)
    content = export.to_onnx(pipeline, params.data).SerializeToString(deterministic=True)
    facts = profile.describe(known, params.data) | {"threshold": threshold}
    return Built(params, known, judging, open_model(content), facts)


@pytest.fixture(scope="session")
def importance(built: Built) -> dict[str, Any]:
    target = encode_target(built.holdout[built.params.data.target.name], built.params.data)
    return evaluate.permutation_importance(built.session, built.holdout, target, built.profile, built.params)


def test_a_sensitive_column_changes_no_answer(built: Built) -> None:
    contract = built.params.data
    hidden = [name for name in contract.sensitive if name not in contract.features]
    others = {name: built.holdout[name].to_numpy()[::-1] for name in (*hidden, contract.target.name)}
    np.testing.assert_array_equal(built.ask(built.holdout.assign(**others)), built.ask(built.holdout))
    assert not set(hidden) & {name for columns in layout(contract).values() for name in columns}


def test_shuffling_the_most_important_feature_hurts(importance: dict[str, Any]) -> None:
    means = [row["mean"] for row in importance.values()]
    assert means == sorted(means, reverse=True)
    assert means[0] > 5 * next(iter(importance.values()))["std"]


def test_the_most_important_number_moves_the_answer_the_way_the_data_does(
    built: Built, importance: dict[str, Any]
) -> None:
    numbers = [name for name in importance if name in built.params.data.named("number")]
    for name in numbers[:1]:
        in_data = built.train[name].corr(built.truth(built.train), method="spearman")
        low, high = (built.ask(built.holdout.assign(**{name: built.train[name].quantile(q)})) for q in (0.1, 0.9))
        assert (high - low).mean() * in_data > 0


def test_knowing_nothing_the_model_stays_near_the_average(built: Built) -> None:
    nothing = pd.concat([built.holdout.iloc[[0]], built.holdout.iloc[[0]].map(lambda _: None)], ignore_index=True)
    found = built.ask(nothing.astype(built.holdout.dtypes))[1]
    average, spread = built.truth(built.train).mean(), built.truth(built.train).std()
    assert abs(found - average) < 0.5 * spread  # a yes/no target of 30 %: within 23 points


def test_an_unseen_category_is_scored(built: Built) -> None:
    strange = built.holdout.assign(**dict.fromkeys(built.params.data.named("category"), "never seen 😀"))
    found = built.ask(strange)
    assert np.isfinite(found).all()
    assert np.corrcoef(found, built.ask(built.holdout))[0, 1] > 0.5  # what else is known still counts


def test_the_probabilities_of_a_row_add_up_to_one(built: Built) -> None:
    found = answer(built.session, built.holdout, built.params.data)
    assert built.params.data.task == "regression" or found.sum(axis=1) == pytest.approx(1, abs=1e-6)


def test_the_whole_interval_of_the_leading_metric_is_better_than_a_constant_answer(built: Built) -> None:
    lead, more_is_better = next(iter(METRICS[built.params.data.task].items()))
    figures = built.judged()
    interval, dummy = figures["metrics"][lead], figures["baseline"][lead]
    assert interval["low"] > dummy if more_is_better else interval["high"] < dummy


def test_the_floors_hold(built: Built) -> None:
    assert [row for row in evaluate.floors(built.judged()["metrics"], built.params) if not row["passed"]] == []


@pytest.mark.parametrize(
    "value",
    [
        Value(true_positive=24, false_positive=-8),
        Value(true_positive=1, false_positive=-30),
        Value(true_positive=0, false_positive=-1, false_negative=-50, true_negative=2),
    ],
)
def test_the_threshold_is_the_most_valuable_one(value: Value) -> None:
    rng = np.random.default_rng(0)
    probability = rng.beta(1, 2, 3000)
    positive = rng.random(3000) < probability

    def total(threshold: float) -> float:
        flagged = probability >= threshold
        cells = {"true_positive": positive & flagged, "false_positive": ~positive & flagged,
                 "false_negative": positive & ~flagged, "true_negative": ~positive & ~flagged}  # fmt: skip
        return float(sum(getattr(value, name) * cell.sum() for name, cell in cells.items()))

    chosen = train.most_valuable(probability, positive, value)
    assert total(chosen) == pytest.approx(max(total(candidate / 100) for candidate in range(1, 100)))
    assert total(chosen) > total(0.5)


def test_of_equally_valuable_thresholds_the_one_nearest_to_a_half_is_chosen() -> None:
    value = Value(true_positive=1, false_positive=-1)
    probability, positive = np.array([0.105, 0.9]), np.array([False, True])
    assert train.most_valuable(probability, positive, value) == 0.5
    assert train.most_valuable(probability, positive, value.model_copy(update={"false_positive": 0})) == 0.5
    assert train.most_valuable(1 - probability, ~positive, value) == 0.5
    assert train.most_valuable(np.array([0.2, 0.3]), positive, value) == 0.3


def test_shares_of_the_profile_add_up_to_one(built: Built) -> None:
    for name, facts in built.profile["features"].items():
        assert sum(facts["shares"]) + facts["missing"] + facts.get("other", 0) == pytest.approx(1), name
        assert facts["missing"] == pytest.approx(built.train[name].isna().mean())


def test_shares_of_the_profile_are_those_of_the_training_rows(built: Built) -> None:
    for name in built.params.data.named("category", "boolean"):
        facts, counted = built.profile["features"][name], built.train[name].value_counts() / len(built.train)
        assert facts["shares"] == pytest.approx([counted.get(value, 0) for value in facts["values"]]), name


def test_edges_of_the_profile_increase_and_part_the_rows_as_serving_will(built: Built) -> None:
    for name in built.params.data.named("number"):
        facts, column = built.profile["features"][name], built.train[name].dropna()
        assert len(facts["edges"]) + 1 == len(facts["shares"])
        assert np.all(np.diff(facts["edges"]) > 0)
        bins = pd.cut(column, [-np.inf, *facts["edges"], np.inf])  # low < value <= high
        counted = bins.value_counts(sort=False) / len(built.train)
        np.testing.assert_allclose(facts["shares"], counted, err_msg=name)


def test_the_example_of_the_profile_can_be_asked_and_says_what_a_row_says(built: Built) -> None:
    inputs, example = built.profile["inputs"], built.profile["example"]["row"]
    assert example.keys() == built.params.data.features.keys()
    asked = built.session.run(None, feed([example], inputs))[-1]
    frame = pd.DataFrame([example]).astype({name: built.train[name].dtype for name in example})
    np.testing.assert_array_equal(np.ravel(asked), np.ravel(answer(built.session, frame, built.params.data)))
