"""Champion against challenger: who is called worse, on which rows, how often by mistake; on tables made up here."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics as sk

from perennial.params import METRICS, Params
from perennial.pipeline import metrics
from perennial.review import compare, rules
from perennial.review.compare import Answers

TASKS = ["binary", "multiclass", "regression"]
ROWS = 400
each_task = pytest.mark.parametrize("task", TASKS)
few = settings(max_examples=15, deadline=None, database=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
noises = st.floats(0, 2)


def target_of(task: str, rng: Any, rows: int = ROWS) -> tuple[Any, Any]:
    """Scores (rows, classes) or (rows,), and targets that follow them: of the softmax, or with a normal error."""
    scores = rng.normal(scale=2, size=(rows, 3 if task == "multiclass" else 1))
    if task == "regression":
        return scores[:, 0], scores[:, 0] + rng.normal(scale=0.5, size=rows)
    scores = scores if task == "multiclass" else np.hstack([0 * scores, scores])
    reach = softmax(scores).cumsum(axis=1)
    return scores, (rng.random((rows, 1)) > reach[:, :-1]).sum(axis=1).astype(float)


def softmax(scores: Any) -> Any:
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def said(task: str, scores: Any, target: Any) -> Answers:
    """What a model with these scores answers; one with the true scores is as good as can be, and calibrated."""
    return Answers(target, scores if task == "regression" else softmax(scores), 0.5 if task == "binary" else None)


def models(task: str, seed: int, *noise: float, rows: int = ROWS) -> list[Answers]:
    """Models of the same rows, each with so much noise of its own on the true scores."""
    rng = np.random.default_rng(seed)
    scores, target = target_of(task, rng, rows)
    return [said(task, scores + rng.normal(size=scores.shape) * part, target) for part in noise]


def column(values: Any, scores: Any) -> Any:
    """One value a row, in a shape that meets the scores."""
    return np.asarray(values).reshape(-1, *[1] * (scores.ndim - 1))


def lead(task: str) -> tuple[str, int]:
    """The leading metric, and 1 where more of it is better, else -1."""
    name, more = next(iter(METRICS[task].items()))
    return name, 1 if more else -1


def let_pass(found: Any, params: Params) -> bool:
    (rule,) = rules.champion({"metrics": found}, params)
    return rule.passed is True


@pytest.fixture(scope="module")
def make(make_params: Callable[..., Params]) -> Callable[..., Params]:
    def make(task: str, **data: Any) -> Params:
        return make_params(task, features={"group": {"type": "category", "values": ["a", "b"]}}, **data)

    return make


@each_task
@few
@given(seed=seeds, noise=st.floats(1, 6))
def test_a_model_that_is_worse_in_every_resample_is_never_let_pass(
    make: Callable[..., Params], task: str, seed: int, noise: float
) -> None:
    params, (champion, challenger) = make(task), models(task, seed, 0, noise)
    (name, sign), everyone = lead(task), np.ones((1, ROWS))
    ours, theirs = challenger.metrics(params)[name], champion.metrics(params)[name]
    gains = np.concatenate([sign * (ours(w) - theirs(w)) for w in metrics.resamples(ROWS, 100, params.seed)])
    worse = gains.max() < 0 and sign * float((ours(everyone) - theirs(everyone))[0]) < -params.gate.margin * 10
    assert not (worse and let_pass(compare.differences(champion, challenger, params), params))
    assert worse or noise < 3  # so much noise is always seen


@each_task
@few
@given(seed=seeds, first=noises, second=noises)
def test_swapping_the_two_turns_every_sign(
    make: Callable[..., Params], task: str, seed: int, first: float, second: float
) -> None:
    one, other = models(task, seed, first, second)
    there, back = compare.differences(one, other, make(task)), compare.differences(other, one, make(task))
    for name, row in there.items():
        assert row["difference"] == -back[name]["difference"]
        assert [row["low"], row["high"]] == pytest.approx([-back[name]["high"], -back[name]["low"]], abs=1e-12)
        assert row["champion"] == back[name]["challenger"]
        assert row["difference"] == row["challenger"] - row["champion"]


@each_task
@few
@given(seed=seeds, noise=noises)
def test_equal_models_differ_by_nothing_at_all(make: Callable[..., Params], task: str, seed: int, noise: float) -> None:
    params, (model,) = make(task), models(task, seed, noise)
    params = params.model_copy(update={"gate": params.gate.model_copy(update={"margin": 0.0})})
    found = compare.differences(model, replace(model), params)
    assert {row[key] for row in found.values() for key in ("difference", "low", "high")} == {0.0}
    assert let_pass(found, params)


@each_task
@few
@given(seed=seeds, first=noises, second=noises)
def test_the_order_of_rows_changes_no_figure(
    make: Callable[..., Params], task: str, seed: int, first: float, second: float
) -> None:
    both, order = models(task, seed, first, second), np.random.default_rng(seed).permutation(ROWS)
    shuffled = [Answers(model.target[order], model.answer[order], model.threshold) for model in both]
    found, again = (compare.differences(*pair, make(task)) for pair in (both, shuffled))
    for name, row in found.items():
        for key in ("champion", "challenger", "difference"):
            assert again[name][key] == pytest.approx(row[key], abs=1e-9), (name, key)


def by_sklearn(task: str, model: Answers) -> dict[str, float]:
    target, answer = model.target, model.answer
    if task == "regression":
        return {"mae": sk.mean_absolute_error(target, answer), "r2": sk.r2_score(target, answer)}
    chosen = answer.argmax(axis=1)
    whole = {"log_loss": sk.log_loss(target, answer), "accuracy": sk.accuracy_score(target, chosen)}
    if task == "multiclass":
        return whole | {"f1_macro": sk.f1_score(target, chosen, average="macro")}
    return whole | {"roc_auc": sk.roc_auc_score(target, answer[:, 1]), "f1": sk.f1_score(target, chosen)}


@each_task
def test_the_figures_of_both_are_scikit_learn_s(make: Callable[..., Params], task: str) -> None:
    champion, challenger = models(task, 1, 0.5, 1)
    found = compare.differences(champion, challenger, make(task))
    for who, model in (("champion", champion), ("challenger", challenger)):
        for name, figure in by_sklearn(task, model).items():
            assert found[name][who] == pytest.approx(figure, rel=1e-9), (who, name)


@each_task
def test_of_equally_good_models_one_in_twenty_is_called_worse(make: Callable[..., Params], task: str) -> None:
    params = make(task)
    params = params.model_copy(update={"gate": params.gate.model_copy(update={"margin": 0.0})})
    called = [not let_pass(compare.differences(*models(task, s, 1, 1, rows=200), params), params) for s in range(200)]
    assert 0.01 <= np.mean(called) <= 0.1


# Slices


def groups(sizes: dict[str, int]) -> pd.DataFrame:
    return pd.DataFrame({"group": pd.Series(np.repeat(list(sizes), list(sizes.values())), dtype="str")})


@each_task
def test_groups_of_too_few_rows_are_not_judged(make: Callable[..., Params], task: str) -> None:
    frame = groups({"a": 250, "b": 100, "c": 99})
    champion, challenger = models(task, 2, 1, 1, rows=len(frame))
    found = compare.slices(frame, champion, challenger, make(task), 100)
    assert [(row["value"], row["rows"]) for row in found] == [("a", 250), ("b", 100)]


def test_a_group_of_one_class_is_not_judged(make: Callable[..., Params]) -> None:
    frame, (model,) = groups({"a": 200, "b": 200}), models("binary", 2, 1)
    only = replace(model, target=np.where(frame["group"] == "a", 1.0, model.target))
    assert [row["value"] for row in compare.slices(frame, None, only, make("binary"), 100)] == ["b"]


@each_task
def test_the_slice_that_fell_is_found_and_no_other(make: Callable[..., Params], task: str) -> None:
    frame, params = groups({"a": 200, "b": 200, "c": 200, "d": 200}), make(task)
    rng = np.random.default_rng(3)
    scores, target = target_of(task, rng, len(frame))
    spoilt = np.where(column(frame["group"] == "c", scores), -scores, scores)
    champion, challenger = said(task, scores, target), said(task, spoilt, target)
    found = compare.slices(frame, champion, challenger, params, 100)
    sign = lead(task)[1]
    gone = [r["value"] for r in found if max(sign * r["difference_low"], sign * r["difference_high"]) < 0]
    assert gone == ["c"]
    (rule,) = rules.slices({"slices": found, "metrics": {"some": {}}}, params)
    assert rule.passed is False
    assert "group = c (200 rows)" in rule.text
    assert "group = a" not in rule.text


def test_the_figure_of_a_slice_is_that_of_its_rows(make: Callable[..., Params]) -> None:
    frame, (champion, challenger) = groups({"a": 300, "b": 100}), models("binary", 4, 1, 1)
    inside = (frame["group"] == "b").to_numpy()
    row = compare.slices(frame, champion, challenger, make("binary"), 100)[1]
    expected = [sk.roc_auc_score(m.target[inside], m.answer[inside, 1]) for m in (champion, challenger)]
    assert [row["champion"], row["challenger"]] == pytest.approx(expected)
    assert row["difference"] == pytest.approx(expected[1] - expected[0])


def test_the_more_groups_are_judged_the_wider_their_intervals(make: Callable[..., Params]) -> None:
    frame, (model,) = groups({"a": 200, "b": 200}), models("binary", 5, 1)
    more = frame.assign(**{f"other_{i}": frame["group"] for i in range(5)})
    alone, crowded = (
        compare.slices(table, None, model, make("binary", sensitive=[n for n in table if n != "group"]), 100)
        for table in (frame, more)
    )
    assert (len(alone), len(crowded)) == (2, 12)
    assert alone[0]["challenger"] == crowded[0]["challenger"]
    widths = [row[0]["challenger_high"] - row[0]["challenger_low"] for row in (alone, crowded)]
    assert widths[1] / widths[0] == pytest.approx(
        norm.ppf(1 - compare.SLICE_FELL / 12) / norm.ppf(1 - compare.SLICE_FELL / 2)
    )


def test_of_equally_good_models_no_slice_falls_nineteen_times_in_twenty(make: Callable[..., Params]) -> None:
    params, alarms = make("binary"), 0
    frame = groups(dict.fromkeys("abcdef", 100))
    for seed in range(100):
        found = compare.slices(frame, *models("binary", seed, 1, 1, rows=600), params, 100)
        alarms += any(row["difference_high"] < 0 for row in found)
    assert alarms <= 12


# Fairness


def largest_gap(params: Params, task: str, seed: int, worse: float, rows: int = 2000) -> dict[str, Any]:
    """Between two groups, by a model with so much noise for the second."""
    rng = np.random.default_rng(seed)
    scores, target = target_of(task, rng, rows)
    right = rng.random(rows) < 0.5
    noise = rng.normal(size=scores.shape) * column(right, scores) * worse
    frame = pd.DataFrame({"group": "a", "side": pd.Series(np.where(right, "right", "left"), dtype="str")})
    found = compare.fairness(frame, said(task, scores + noise, target), params.data, 100)
    return max(found, key=lambda row: row["sure"])


@each_task
def test_a_model_that_serves_one_group_worse_is_found(make: Callable[..., Params], task: str) -> None:
    found = largest_gap(make(task, sensitive=["side"]), task, 1, 6)
    assert found["sure"] > 0.15
    assert found["gap"] > found["sure"]
    worse = "highest" if task == "regression" or found["rate"].startswith("false") else "lowest"
    assert found[worse]["group"] == "right"


@each_task
def test_a_fair_model_is_found_unfair_at_most_one_time_in_twenty(make: Callable[..., Params], task: str) -> None:
    params = make(task, sensitive=["side"])
    alarms = sum(largest_gap(params, task, seed, 0, rows=600)["sure"] > 0 for seed in range(200))
    assert alarms <= 18


def test_groups_of_too_few_rows_are_not_compared(make: Callable[..., Params]) -> None:
    """By class, for each rate is a mean over one class only."""
    params, (model,) = make("binary", sensitive=["side"]), models("binary", 7, 1)
    frame = pd.DataFrame({"group": "a", "side": pd.Series(["left"] * 300 + ["right"] * 100, dtype="str")})
    assert compare.fairness(frame, model, params.data, 100) == []
    assert len(compare.fairness(frame, model, params.data, 20)) == 2


def test_the_rates_are_those_of_the_threshold(make: Callable[..., Params]) -> None:
    frame = pd.DataFrame({"group": "a", "side": pd.Series(["left", "right"] * 200, dtype="str")})
    (model,) = models("binary", 8, 1)
    flagged, left = model.answer[:, 1] >= 0.3, (frame["side"] == "left").to_numpy()
    (row, _) = compare.fairness(frame, replace(model, threshold=0.3), make("binary", sensitive=["side"]).data, 20)
    rates = {side: flagged[(model.target == 1) & (left == (side == "left"))].mean() for side in ("left", "right")}
    assert {row[end]["group"]: row[end]["rate"] for end in ("highest", "lowest")} == pytest.approx(rates)


# Calibration


def off(task: str, seed: int, factor: float, params: Params, shift: float = 0) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    scores, target = target_of(task, rng, 1000)
    return compare.calibration(said(task, scores * factor + shift, target), params.data, seed)


@each_task
def test_a_calibrated_model_is_off_by_no_more_than_chance(make: Callable[..., Params], task: str) -> None:
    params = make(task)
    found = [off(task, seed, 1, params) for seed in range(60)]
    assert np.mean([row["error"] > row["by_chance"] for row in found]) <= 0.12


@pytest.mark.parametrize(
    ("task", "factor", "shift"), [("binary", 3, 0), ("multiclass", 3, 0), ("regression", 1, 0.3), ("binary", 0.3, 0)]
)
def test_a_model_that_is_too_sure_or_biased_or_too_shy_is_found(
    make: Callable[..., Params], task: str, factor: float, shift: float
) -> None:
    params = make(task)
    found = off(task, 1, factor, params, shift)
    assert found["error"] > max(found["by_chance"], params.gate.calibration or 0)
    (rule,) = rules.calibration({"calibration": found}, params)
    assert rule.passed is False
