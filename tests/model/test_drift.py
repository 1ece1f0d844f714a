"""What is called drift, broken data and lost quality, and how often wrongly: on tables where the truth is known."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk

from perennial.inputs import encode_target
from perennial.monitoring import drift, quality
from perennial.monitoring.watch import typed
from perennial.params import Params, Value
from perennial.pipeline import profile
from perennial.psi import SMALL

TRAINED, ROWS = 5000, 1000
COLOURS, ODDS = ["red", "grün", "🟣"], [0.6, 0.3, 0.1]
WORDS = ["on time", "a bit late", "never came", "fine, thanks", "what a very long story this is"]
VALUE = Value(true_positive=5, false_positive=-1, false_negative=-2, true_negative=0.5)
Facts = dict[str, Any]
PROMISED = {"rows": 2000, "calibration": {"probability": [0.0, 1.0], "share": [0.0, 1.0]}}


def table(rng: Any, rows: int = ROWS, shift: float = 0.0, odds: Any = ODDS, missing: float = 0.05) -> pd.DataFrame:
    """Every type of feature, none of which depends on another; `shift` moves mass, in standard deviations."""
    columns: dict[str, Any] = {
        "mass": rng.normal(shift, 1, rows),
        "width": rng.lognormal(0, 1, rows).round(1),
        "sealed": pd.array(rng.random(rows) < 0.4, dtype="boolean"),
        "colour": pd.Series(rng.choice(COLOURS, rows, p=odds), dtype="str"),
        "remark": pd.Series(rng.choice(WORDS, rows), dtype="str"),
    }
    frame = pd.DataFrame(columns)
    return frame.mask(rng.random(frame.shape) < missing)


@pytest.fixture(scope="module")
def params(make_params: Any) -> Params:
    return make_params()  # type: ignore[no-any-return]


def described(frame: pd.DataFrame, params: Params) -> Facts:
    """A profile as it is read from its file."""
    facts = profile.describe(frame.assign(grade="good"), params.data)
    read: Facts = json.loads(json.dumps(facts))
    return read


@pytest.fixture(scope="module")
def trained(params: Params) -> Facts:
    return described(table(np.random.default_rng(0), TRAINED), params)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def found(frame: pd.DataFrame, trained: Facts, importance: dict[str, float] | None = None) -> dict[str, Facts]:
    return {row["feature"]: row for row in drift.features(frame, trained, importance or {})}


def drifted(frame: pd.DataFrame, trained: Facts) -> list[str]:
    return sorted(name for name, row in found(frame, trained).items() if row["drifted"])


def broken(frame: pd.DataFrame, trained: Facts) -> list[str]:
    return sorted(name for name, row in found(frame, trained).items() if row["broken"])


# Features


@pytest.mark.parametrize("rows", [500, 1000, 5000])
def test_where_nothing_moved_there_are_few_alarms(trained: Facts, rows: int) -> None:
    rng, windows = np.random.default_rng(2), 250
    alarms = [table(rng, rows) for _ in range(windows)]
    assert sum(bool(drifted(frame, trained)) for frame in alarms) / windows <= 0.08
    assert not any(broken(frame, trained) for frame in alarms)


def test_where_nothing_moved_p_is_spread_evenly(trained: Facts) -> None:
    rng = np.random.default_rng(3)
    values = [row["p"] for _ in range(150) for row in found(table(rng), trained).values()]
    assert np.mean(np.array(values) < 0.05) == pytest.approx(0.05, abs=0.025)


def test_a_fifth_of_a_standard_deviation_is_found_in_a_thousand_rows(trained: Facts) -> None:
    rng, windows = np.random.default_rng(4), 200
    hits = [drifted(table(rng, shift=0.2), trained) for _ in range(windows)]
    assert sum("mass" in names for names in hits) / windows >= 0.85
    assert sum(names not in ([], ["mass"]) for names in hits) / windows <= 0.08


@pytest.mark.parametrize("shift", [0.05, 0.1])
def test_a_shift_too_small_to_care_about_is_none_however_certain(trained: Facts, shift: float) -> None:
    frame = table(np.random.default_rng(5), 200_000, shift)
    assert found(frame, trained)["mass"]["p"] < 0.05
    assert drifted(frame, trained) == []


def test_a_rare_value_that_gains_six_points_is_found(trained: Facts) -> None:
    rng, windows = np.random.default_rng(6), 100
    hits = [drifted(table(rng, odds=[0.54, 0.3, 0.16]), trained) for _ in range(windows)]
    assert sum("colour" in names for names in hits) / windows >= 0.8


def test_six_points_between_common_values_are_at_the_limit_of_what_is_called_drift(trained: Facts) -> None:
    """0.6 and 0.3 become 0.54 and 0.36: a PSI of 0.017, below SMALL. Twelve points are found."""
    rng, windows = np.random.default_rng(7), 100
    for odds, low, high in (([0.54, 0.36, 0.1], 0.1, 0.6), ([0.48, 0.42, 0.1], 0.95, 1)):
        share = np.mean(["colour" in drifted(table(rng, odds=odds), trained) for _ in range(windows)])
        assert low <= share <= high
    assert found(table(rng, 200_000, odds=[0.54, 0.36, 0.1]), trained)["colour"]["p"] < 1e-9


def test_booleans_and_texts_drift_too(trained: Facts, rng: Any) -> None:
    frame = table(rng)
    frame["sealed"] = pd.array(rng.random(ROWS) < 0.55, dtype="boolean")
    assert drifted(frame, trained) == ["sealed"]
    frame = table(rng)
    frame["remark"] = frame["remark"] + " and more"
    assert drifted(frame, trained) == ["remark"]


@pytest.mark.parametrize("name", ["mass", "sealed", "colour", "remark"])
def test_values_that_go_missing_are_broken_data(trained: Facts, rng: Any, name: str) -> None:
    frame = table(rng)
    frame.loc[rng.random(ROWS) < 0.15, name] = None
    row = found(frame, trained)[name]
    assert broken(frame, trained) == [name]
    assert row["missing"]["before"] == pytest.approx(0.05, abs=0.01)
    assert row["missing"]["now"] == pytest.approx(frame[name].isna().mean())
    assert (row["drifted"], row["other"]["now"]) == (True, 0)


def test_a_few_more_missing_values_break_nothing(trained: Facts, rng: Any) -> None:
    frame = table(rng)
    frame.loc[rng.random(ROWS) < 0.03, :] = None
    assert broken(frame, trained) == []


def test_fewer_missing_values_are_a_change_and_break_nothing(params: Params, rng: Any) -> None:
    trained = described(table(rng, TRAINED, missing=0.4), params)
    frame = table(rng, missing=0.05)
    assert (len(drifted(frame, trained)), broken(frame, trained)) == (5, [])


def test_values_nobody_listed_are_broken_data_and_not_only_drift(trained: Facts, rng: Any) -> None:
    frame = table(rng)
    frame.loc[rng.random(ROWS) < 0.12, "colour"] = "beige"
    row = found(frame, trained)["colour"]
    assert (row["broken"], row["drifted"]) == (True, True)
    assert row["other"] == {"before": 0.0, "now": pytest.approx((frame["colour"] == "beige").mean())}
    frame = table(rng, odds=[0.3, 0.6, 0.1])  # as large a change among listed values
    row = found(frame, trained)["colour"]
    assert (row["broken"], row["drifted"]) == (False, True)


def test_unlisted_values_that_training_knew_are_no_news(params: Params, rng: Any) -> None:
    before, now = table(rng, TRAINED), table(rng)
    for frame in (before, now):
        frame.loc[rng.random(len(frame)) < 0.2, "colour"] = "beige"
    trained = described(before, params)
    assert (drifted(now, trained), broken(now, trained)) == ([], [])


@pytest.mark.parametrize("name", ["mass", "sealed", "colour", "remark"])
def test_a_feature_that_never_changes_is_quiet_until_it_does(params: Params, rng: Any, name: str) -> None:
    constant = {"mass": 5.0, "sealed": True, "colour": "red", "remark": "all fine"}[name]
    other = {"mass": 6.0, "sealed": False, "colour": "grün", "remark": "all fine again"}[name]
    trained = described(table(rng, TRAINED, missing=0).assign(**{name: constant}), params)
    same = table(rng, missing=0).assign(**{name: constant})
    row = found(same, trained)[name]
    assert (row["p"], row["drifted"], row["broken"]) == (1.0, False, False)
    assert drifted(same.assign(**{name: other}), trained) == [name]


@pytest.mark.parametrize("name", ["mass", "sealed", "colour", "remark"])
def test_a_feature_that_was_always_missing_is_quiet_until_it_comes(params: Params, rng: Any, name: str) -> None:
    before = table(rng, TRAINED, missing=0)
    before[name] = before[name].mask(np.ones(TRAINED, bool))
    trained, now = described(before, params), table(rng, missing=0)
    assert drifted(now.assign(**{name: before[name][:ROWS]}), trained) == []
    assert (drifted(now, trained), broken(now, trained)) == ([name], [])


def test_a_feature_the_log_does_not_have_is_missing(params: Params, trained: Facts, rng: Any) -> None:
    for name in trained["features"]:
        frame = typed(table(rng).drop(columns=name), params)
        assert broken(frame, trained) == [name]
        assert found(frame, trained)[name]["missing"]["now"] == 1


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """As rows come from the log: plain values, None for missing."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return pd.DataFrame(rows, dtype=object)


def test_a_logged_table_is_judged_like_the_table(params: Params, trained: Facts, rng: Any) -> None:
    frame = table(rng, shift=0.3)
    assert found(typed(plain(frame), params), trained) == found(frame, trained)


ODD = {
    "mass": ["heavy", [1], {"a": 1}, ""], "sealed": ["yes", 1.5, [True], "true"],
    "colour": [7, ["red"], {"a": 1}, True], "remark": [7, ["late"], {"a": 1}, True],
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_cells_of_an_older_contract_are_broken_data_at_most(
    params: Params, trained: Facts, rng: Any, name: str
) -> None:
    frame = plain(table(rng, missing=0))
    frame[name] = pd.Series([*(ODD[name] * 50), *frame[name][200:]], dtype=object)
    row = found(typed(frame, params), trained)[name]
    assert row["broken"] == (name != "remark")  # any word is a text


def test_what_matters_comes_first(trained: Facts, rng: Any) -> None:
    frame = table(rng, shift=0.4, odds=[0.3, 0.6, 0.1])
    shares = {"mass": 0.7, "sealed": 0.2, "colour": 0.1}
    rows = drift.features(frame, trained, shares)
    assert [row["feature"] for row in rows[:2]] == ["mass", "colour"]
    psi = {row["feature"]: row["psi"] for row in rows}
    assert psi["colour"] > psi["mass"] > SMALL
    assert {row["feature"]: row["matters"] for row in rows} == {
        name: pytest.approx(max(psi[name], 0) * shares.get(name, 0)) for name in psi
    }


def test_without_importances_the_largest_shift_comes_first(trained: Facts, rng: Any) -> None:
    rows = drift.features(table(rng, shift=0.4, odds=[0.3, 0.6, 0.1]), trained, {})
    assert [row["psi"] for row in rows] == sorted((row["psi"] for row in rows), reverse=True)
    assert rows[0]["feature"] == "colour"


def test_the_order_of_bins_counts_for_numbers(rng: Any) -> None:
    for bins in (2, 3, 11):
        one, other = rng.integers(1, 60, bins).astype(float), rng.integers(1, 900, bins).astype(float)
        rows = [np.repeat(np.arange(bins), counts.astype(int)) for counts in (one, other)]
        expected = stats.mannwhitneyu(*rows, use_continuity=False, method="asymptotic").pvalue
        assert drift.moved(one, other) == pytest.approx(expected)
    assert drift.moved(np.zeros(3), np.array([1.0, 2, 3])) == 1
    assert drift.moved(np.array([4.0, 0]), np.array([9.0, 0])) == 1


def test_a_small_reference_finds_a_moved_mean_by_its_order(params: Params) -> None:
    rng, windows = np.random.default_rng(13), 100
    found_it = []
    for _ in range(windows):
        facts = described(table(rng, 1000), params)
        found_it.append("mass" in drifted(table(rng, shift=0.2), facts))
    assert np.mean(found_it) >= 0.7


def test_p_is_that_of_the_contingency_table(rng: Any) -> None:
    for bins in (2, 3, 11):
        one, other = rng.integers(1, 60, bins).astype(float), rng.integers(1, 900, bins).astype(float)
        expected = stats.chi2_contingency([one, other], correction=False).pvalue
        assert drift.contingency(one, other) == pytest.approx(expected)
        assert drift.contingency(np.append(one, 0), np.append(other, 0)) == pytest.approx(expected)
        assert drift.contingency(other, one) == pytest.approx(expected)
    assert drift.contingency(np.array([3.0, 0]), np.array([9.0, 0])) == 1
    assert drift.contingency(np.zeros(3), np.array([1.0, 2, 3])) == 1


def test_p_of_a_feature_is_that_of_its_bins_against_training(params: Params, rng: Any) -> None:
    before, now = table(rng, TRAINED), table(rng)
    before, now = (frame.assign(colour=frame["colour"].fillna("beige")) for frame in (before, now))
    counted = pd.DataFrame({"before": before["colour"].value_counts(), "now": now["colour"].value_counts()})
    expected = stats.chi2_contingency(counted.T, correction=False).pvalue
    assert found(now, described(before, params))["colour"]["p"] == pytest.approx(expected)


# Quality


def answered(probability: Any, label: Any) -> pd.DataFrame:
    return pd.DataFrame({"_label": label, "_answer": [[1 - p, p] for p in probability]})


def calibrated(rng: Any, rows: int = 20_000, low: float = 1.0, high: float = 2.0) -> pd.DataFrame:
    """Labels that come with exactly the probability the model gives."""
    probability = rng.beta(low, high, rows)
    return answered(probability, np.where(rng.random(rows) < probability, "bad", "good"))


@pytest.fixture(scope="module")
def binary(params: Params) -> tuple[Facts, Params]:
    facts = {"classes": ["good", "bad"], "threshold": 0.4, "promised": PROMISED}
    return facts, params.model_copy(update={"value": VALUE})


def values(figures: Facts | None) -> dict[str, float]:
    assert figures
    return {name: figure["value"] for name, figure in figures.items()}


def test_quality_of_two_classes_is_sklearns_on_the_labelled_rows(binary: Any, rng: Any) -> None:
    frame = calibrated(rng, 1200)
    truth, probability = (frame["_label"] == "bad")[:700], np.array(frame["_answer"].tolist())[:700, 1]
    frame.loc[700:, "_label"] = None
    flagged = probability >= 0.4
    worth = np.select([truth & flagged, ~truth & flagged, truth & ~flagged], [5, -1, -2], 0.5)
    expected = {
        "roc_auc": sk.roc_auc_score(truth, probability),
        "average_precision": sk.average_precision_score(truth, probability),
        "log_loss": sk.log_loss(truth, probability),
        "brier": sk.brier_score_loss(truth, probability),
        "accuracy": sk.accuracy_score(truth, flagged),
        "precision": sk.precision_score(truth, flagged),
        "recall": sk.recall_score(truth, flagged),
        "f1": sk.f1_score(truth, flagged),
        "value_per_1000": 1000 * worth.mean(),
    }
    figures = quality.measured(frame, *binary)
    found = values(figures)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert figures
    assert all(
        each["low"] < each["value"] < each["high"] for name, each in figures.items() if name != "calibration_error"
    )


def test_quality_of_more_classes_is_sklearns(make_params: Any, rng: Any) -> None:
    params, classes = make_params("multiclass"), ["low", "middle", "high"]
    odds = rng.dirichlet([1, 1, 1], 600)
    label = [rng.choice(classes, p=row) for row in odds]
    frame = pd.DataFrame({"_label": label, "_answer": odds.tolist()})
    truth = pd.Series(label).map(dict(zip(classes, range(3), strict=True)))
    found = values(quality.measured(frame, {"classes": classes, "threshold": None}, params))
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, odds.argmax(axis=1)),
            "f1_macro": sk.f1_score(truth, odds.argmax(axis=1), average="macro"),
            "roc_auc_macro": sk.roc_auc_score(truth, odds, multi_class="ovr"),
            "log_loss": sk.log_loss(truth, odds),
        }
    )
    assert quality.expected(frame, {"classes": classes, "threshold": None}, params) == {}


def numbers(rng: Any, rows: int = 400) -> pd.DataFrame:
    truth = rng.normal(10, 3, rows)
    return pd.DataFrame({"_label": truth, "_answer": [[each] for each in truth + rng.normal(0, 1, rows)]})


def test_quality_of_numbers_is_sklearns(make_params: Any, rng: Any) -> None:
    params, facts, frame = make_params("regression"), {"classes": [], "threshold": None}, numbers(rng)
    truth, answer = frame["_label"][:300], [value for (value,) in frame["_answer"][:300]]
    frame.loc[300:, "_label"] = None
    found = values(quality.measured(frame.astype({"_label": object}), facts, params))
    assert found == pytest.approx(
        {
            "mae": sk.mean_absolute_error(truth, answer),
            "rmse": sk.root_mean_squared_error(truth, answer),
            "r2": sk.r2_score(truth, answer),
        }
    )
    assert quality.expected(frame, facts, params) == {}


def test_labels_that_are_no_numbers_are_ignored_for_numbers(make_params: Any, rng: Any) -> None:
    params, facts, frame = make_params("regression"), {"classes": [], "threshold": None}, numbers(rng)
    expected = quality.measured(frame[5:], facts, params)
    frame = frame.astype({"_label": object})
    for place, label in enumerate(["many", None, float("nan"), "", {"a": 1}]):
        frame.at[place, "_label"] = label
    assert quality.measured(frame, facts, params) == expected


def test_labels_that_are_no_class_are_ignored(binary: Any, rng: Any) -> None:
    frame = calibrated(rng, 500)
    expected = quality.measured(frame[7:], *binary)
    frame = frame.astype({"_label": object})
    for place, label in enumerate(["worse", "", None, float("nan"), 1, True, ["bad"]]):
        frame.at[place, "_label"] = label
    assert quality.measured(frame, *binary) == expected


@pytest.mark.parametrize(("labels", "judged"), [(0, False), (99, False), (100, True)])
def test_few_labels_say_nothing(binary: Any, rng: Any, labels: int, judged: bool) -> None:
    frame = calibrated(rng, 500)
    frame.loc[labels:, "_label"] = None
    assert (quality.measured(frame, *binary) is not None) == judged


def test_labels_of_one_class_say_nothing(binary: Any, rng: Any) -> None:
    assert quality.measured(calibrated(rng, 500).assign(_label="good"), *binary) is None


def test_the_same_rows_give_the_same_interval(binary: Any, rng: Any) -> None:
    frame = calibrated(rng, 300)
    assert quality.measured(frame, *binary) == quality.measured(frame.copy(), *binary)


@pytest.mark.parametrize("beta", [(1, 2), (0.5, 0.5), (4, 2), (2, 30)])
def test_without_labels_the_expectation_is_what_labels_would_show(binary: Any, beta: tuple[float, float]) -> None:
    """Also where other rows come than before: the probabilities follow them."""
    frame = calibrated(np.random.default_rng(9), 40_000, *beta)
    expected = quality.expected(frame, *binary)
    real = values(quality.measured(frame, *binary))
    assert expected.keys() == {"roc_auc", "accuracy", "brier", "value_per_1000"}
    for name, bound in {"roc_auc": 0.015, "accuracy": 0.01, "brier": 0.005, "value_per_1000": 50}.items():
        assert expected[name] == pytest.approx(real[name], abs=bound), name


def test_the_expectation_knows_how_far_the_probabilities_are_off(params: Params) -> None:
    """A model that is too sure: the hold-out told, and the profile holds what it told."""
    rng = np.random.default_rng(10)

    def sure(rows: int) -> pd.DataFrame:
        odds = rng.normal(0, 1, rows)
        label = np.where(rng.random(rows) < 1 / (1 + np.exp(-odds)), "bad", "good")
        return answered(1 / (1 + np.exp(-3 * odds)), label)

    before, now = sure(60_000), sure(60_000)
    facts = {"classes": ["good", "bad"], "threshold": 0.5}
    truth = (before["_label"] == "bad").to_numpy(float)
    promised = profile.promised(np.array(before["_answer"].tolist()), truth, params.data)
    real = values(quality.measured(now, facts, params))
    expected = quality.expected(now, facts | {"promised": promised}, params)
    naive = quality.expected(now, facts | {"promised": PROMISED}, params)
    for name in ("roc_auc", "accuracy", "brier"):
        assert expected[name] == pytest.approx(real[name], abs=0.01), name
        assert abs(naive[name] - real[name]) > 0.08, name
    assert promised["loss"]["mean"] == pytest.approx(real["brier"], abs=0.01)
    assert promised["rows"] == 60_000


def losing(rng: Any, rows: int, change: str = "") -> pd.DataFrame:
    """Customers of a calibrated model, after this change; more of them near the middle are harder, not worse."""
    score = rng.normal(-1, 0.6 if change == "harder" else 1.5, rows)
    truth = {"concept": 0.3 * score, "prior": score + 1}.get(change, score)
    label = np.where(rng.random(rows) < 1 / (1 + np.exp(-truth)), "bad", "good")
    return answered(1 / (1 + np.exp(-score)), label)


def test_what_labels_cost_tells_a_worse_model_from_harder_rows(params: Params) -> None:
    rng, windows = np.random.default_rng(12), 200
    before = losing(rng, 3000)
    said = np.array(before["_answer"].tolist())
    facts = {"classes": ["good", "bad"], "threshold": 0.5}
    facts["promised"] = profile.promised(said, (before["_label"] == "bad").to_numpy(float), params.data)

    def share(change: str, labels: int) -> float:
        late = [quality.behind(losing(rng, labels, change), facts, params) for _ in range(windows)]
        return float(np.mean([each is not None and each > quality.SURE for each in late]))

    assert share("", 200) <= 0.03
    assert share("", 2000) <= 0.03
    assert share("harder", 2000) <= 0.05
    assert share("concept", 200) >= 0.9
    assert share("prior", 1000) >= 0.9
    assert quality.behind(losing(rng, 99), facts, params) is None


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_what_labels_cost_is_compared_with_the_holdout(task: str, make_params: Any, rng: Any) -> None:
    params = make_params(task)
    classes = list(params.data.target.classes)

    def asked(rows: int, wrong: float) -> pd.DataFrame:
        truth = rng.integers(0, 3, rows)
        if task == "regression":
            return pd.DataFrame({"_label": truth, "_answer": [[value] for value in truth + rng.normal(0, wrong, rows)]})
        told = np.where(rng.random(rows) < wrong, (truth + 1) % 3, truth)
        return pd.DataFrame({"_label": np.array(classes)[truth], "_answer": np.eye(3)[told].tolist()})

    before = asked(2000, 0.2)
    target = encode_target(before["_label"], params.data)
    facts = {"classes": classes, "promised": profile.promised(quality.answers(before, params), target, params.data)}
    late = [quality.behind(asked(300, wrong), facts, params) for wrong in (0.2, 0.4, 0.1)]
    assert abs(late[0]) < 3 < 4 < late[1]
    assert late[2] < 0


def test_slices_show_where_it_went_wrong(trained: Facts, params: Params, rng: Any) -> None:
    frame = table(rng, 3000).join(calibrated(rng, 3000))
    wrong = (frame["colour"] == "🟣") & (rng.random(3000) < 0.5)
    frame.loc[wrong, "_label"] = frame["_label"].map({"good": "bad", "bad": "good"})[wrong]
    rows = quality.slices(frame, trained | {"threshold": 0.4}, params)
    figures = {(row["column"], row["value"]): row["figure"]["value"] for row in rows}
    assert figures["colour", "🟣"] < 0.65 < 0.75 < figures["colour", "red"]
    assert not {row["column"] for row in rows} & set(params.data.sensitive)  # the log does not have them
    assert quality.slices(frame.assign(_label=None), trained | {"threshold": 0.4}, params) == []


def test_predictions_drift_when_their_spread_changes(params: Params, make_params: Any) -> None:
    rng = np.random.default_rng(11)

    def share_of_alarms(trained: Facts, draw: Any) -> float:
        return float(np.mean([drift.predictions(draw(), trained)["drifted"] for _ in range(200)]))

    def scores(odds: tuple[float, float], rows: int) -> Any:
        probability = rng.beta(*odds, rows)
        return np.column_stack([1 - probability, probability])

    two = {"answers": profile.answers_reference(scores((2, 3), 4000), pd.Series(), params.data)}
    two |= {"promised": {"rows": 4000}}
    assert share_of_alarms(two, lambda: scores((2, 3), 1000)) <= 0.02
    assert share_of_alarms(two, lambda: scores((2, 2.4), 1000)) >= 0.9
    target = pd.Series(rng.normal(size=4000))
    many = make_params("regression").data
    one = {"answers": profile.answers_reference(target.to_numpy(), target, many), "promised": {"rows": 4000}}
    assert share_of_alarms(one, lambda: rng.normal(size=1000)) <= 0.02
    assert share_of_alarms(one, lambda: rng.normal(0.3, 1, size=1000)) >= 0.9
    more = {"answers": {"values": ["a", "b", "c"], "shares": [0.5, 0.3, 0.2]}, "promised": {"rows": 4000}}
    assert share_of_alarms(more, lambda: np.eye(3)[rng.choice(3, 1000, p=[0.5, 0.3, 0.2])]) <= 0.02
    assert share_of_alarms(more, lambda: np.eye(3)[rng.choice(3, 1000, p=[0.35, 0.35, 0.3])]) >= 0.9


def test_a_number_that_was_constant_and_falls_has_moved(params: Params, rng: Any) -> None:
    before = table(rng, TRAINED)
    before["width"] = 1.0
    facts = described(before, params)
    for later, moved in ((1.0, []), (0.0, ["width"]), (2.0, ["width"])):
        assert drifted(before[:1000].assign(width=later), facts) == moved


def test_the_expectation_needs_no_labels_and_no_rows(binary: Any, rng: Any) -> None:
    frame = calibrated(rng, 500)
    assert quality.expected(frame.assign(_label=None), *binary) == quality.expected(frame, *binary)
    assert quality.expected(frame[:0], *binary) == {}
    facts, params = binary
    plain = params.model_copy(update={"value": None})
    assert "value_per_1000" not in quality.expected(frame, facts, plain)


def test_rows_that_all_have_one_answer_are_ranked_by_chance(binary: Any) -> None:
    assert quality.expected(answered([0.3] * 1000, None), *binary)["roc_auc"] == pytest.approx(0.5, abs=0.001)
    assert quality.expected(answered([1.0] * 100, None), *binary)["roc_auc"] == 0.5


def test_the_expectation_is_blind_to_a_change_of_what_rows_mean(binary: Any, rng: Any) -> None:
    """As its module says: under concept drift the probabilities stay as sure as before."""
    frame = calibrated(rng)
    upside_down = frame.assign(_label=frame["_label"].map({"good": "bad", "bad": "good"}))
    assert quality.expected(upside_down, *binary) == quality.expected(frame, *binary)
    real = values(quality.measured(upside_down, *binary))
    assert real["roc_auc"] < 0.35 < 0.65 < quality.expected(upside_down, *binary)["roc_auc"]


def interval(low: float, high: float) -> Facts:
    return {"value": (low + high) / 2, "low": low, "high": high}


@pytest.mark.parametrize(
    ("task", "now", "fell"),
    [
        ("binary", (0.70, 0.79), True),
        ("binary", (0.70, 0.80), False),  # they touch
        ("binary", (0.70, 0.85), False),
        ("binary", (0.95, 0.99), False),  # better than promised
        ("multiclass", (0.70, 0.79), True),
        ("multiclass", (0.95, 0.99), False),
        ("regression", (0.91, 1.2), True),  # an error: more is worse
        ("regression", (0.90, 1.2), False),
        ("regression", (0.1, 0.2), False),
    ],
)
def test_quality_fell_only_when_the_intervals_do_not_meet(task: str, now: tuple[float, float], fell: bool) -> None:
    lead = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "mae"}[task]
    assert quality.fell({lead: interval(*now)}, {lead: interval(0.80, 0.90)}, task) is fell


def test_without_labels_quality_has_not_fallen() -> None:
    assert quality.fell(None, {"roc_auc": interval(0.8, 0.9)}, "binary") is False


def test_quality_that_is_as_promised_seldom_falls_and_lost_quality_does(binary: Any) -> None:
    facts, params = binary
    rng = np.random.default_rng(10)
    promised = quality.measured(calibrated(rng, 3000), facts, params)
    assert promised
    same = [quality.fell(quality.measured(calibrated(rng, 500), facts, params), promised, "binary") for _ in range(40)]
    assert sum(same) <= 1
    frame = calibrated(rng, 500)
    noise = frame.assign(_label=rng.permutation(frame["_label"]))
    assert quality.fell(quality.measured(noise, facts, params), promised, "binary")
