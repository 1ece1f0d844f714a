"""The figures of a report: the same as scikit-learn's, on whole tables and on resamples, with honest intervals."""

from math import erf, pi, sqrt
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from perennial.params import Value
from perennial.pipeline import metrics

RNG = np.random.default_rng(0)
ROWS, THRESHOLD = 300, 0.4
VALUE = Value(true_positive=5, false_positive=-2, false_negative=-1, true_negative=0.5)
SCORE = RNG.normal(size=ROWS)
LABEL = (SCORE + RNG.normal(size=ROWS) > 0).astype(float)
TIED = np.clip(1 / (1 + np.exp(-SCORE)), 0, 1).round(1)  # ten scores for 300 rows, 0 and 1 among them
TIED[:2] = 0.0, 1.0
CLASS = np.digitize(SCORE + RNG.normal(size=ROWS), [-0.5, 0.8]).astype(float)
SHARES = RNG.dirichlet([1, 1, 1], ROWS) * 0.5 + np.eye(3)[CLASS.astype(int)] * 0.5
NUMBER = np.exp(SCORE)
GUESS = NUMBER + RNG.normal(size=ROWS)
# Every row once, then rows as often as six resamples drew them, some of them never.
WEIGHTS = np.concatenate([np.ones((1, ROWS)), *metrics.resamples(ROWS, 6, seed=1)])


def binary_by_sklearn(w: Any) -> dict[str, float]:
    flagged = TIED >= THRESHOLD
    bins = np.minimum(TIED * 10, 9).astype(int)
    inside = [bins == b for b in range(10) if w[bins == b].sum() > 0]
    gaps = [abs(np.average(LABEL[b], weights=w[b]) - np.average(TIED[b], weights=w[b])) for b in inside]
    tn, fp, fn, tp = sk.confusion_matrix(LABEL, flagged, sample_weight=w).ravel()
    return {
        "roc_auc": sk.roc_auc_score(LABEL, TIED, sample_weight=w),
        "average_precision": sk.average_precision_score(LABEL, TIED, sample_weight=w),
        "log_loss": sk.log_loss(LABEL, TIED, sample_weight=w),
        "brier": sk.brier_score_loss(LABEL, TIED, sample_weight=w),
        "calibration_error": np.average(gaps, weights=[w[b].sum() for b in inside]),
        "accuracy": sk.accuracy_score(LABEL, flagged, sample_weight=w),
        "precision": sk.precision_score(LABEL, flagged, sample_weight=w),
        "recall": sk.recall_score(LABEL, flagged, sample_weight=w),
        "f1": sk.f1_score(LABEL, flagged, sample_weight=w),
        "value_per_1000": 1000 * (5 * tp - 2 * fp - 1 * fn + 0.5 * tn) / w.sum(),
    }


def multiclass_by_sklearn(w: Any) -> dict[str, float]:
    chosen = SHARES.argmax(axis=1)
    return {
        "accuracy": sk.accuracy_score(CLASS, chosen, sample_weight=w),
        "f1_macro": sk.f1_score(CLASS, chosen, average="macro", sample_weight=w),
        "roc_auc_macro": sk.roc_auc_score(CLASS, SHARES, multi_class="ovr", sample_weight=w),
        "log_loss": sk.log_loss(CLASS, SHARES, sample_weight=w),
    }


def regression_by_sklearn(w: Any) -> dict[str, float]:
    return {
        "mae": sk.mean_absolute_error(NUMBER, GUESS, sample_weight=w),
        "rmse": sk.root_mean_squared_error(NUMBER, GUESS, sample_weight=w),
        "r2": sk.r2_score(NUMBER, GUESS, sample_weight=w),
    }


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (metrics.for_task("binary", LABEL, np.stack([1 - TIED, TIED], 1), THRESHOLD, VALUE), binary_by_sklearn),
        (metrics.for_task("multiclass", CLASS, SHARES, None, None), multiclass_by_sklearn),
        (metrics.for_task("regression", NUMBER, GUESS, None, None), regression_by_sklearn),
    ],
    ids=["binary", "multiclass", "regression"],
)
def test_every_metric_equals_scikit_learn_s_on_the_table_and_on_resamples(ours: Any, theirs: Any) -> None:
    figures = {name: metric(WEIGHTS) for name, metric in ours.items()}
    expected = [theirs(weights) for weights in WEIGHTS]
    assert figures.keys() == expected[0].keys()
    for name, found in figures.items():
        np.testing.assert_allclose(found, [row[name] for row in expected], rtol=1e-10, err_msg=name)


def test_value_per_1000_by_hand() -> None:
    value = Value(true_positive=10, false_positive=-4, true_negative=1, false_negative=-7)
    positive, probability = np.array([True, True, False, False, False]), np.array([0.9, 0.1, 0.5, 0.2, 0.3])
    metric = metrics.binary(positive, probability, 0.5, value)["value_per_1000"]
    assert metric(np.ones((1, 5))) == 1000 * (10 - 7 - 4 + 1 + 1) / 5
    assert metric(np.array([[3, 0, 1, 0, 0.0]])) == 1000 * (3 * 10 - 4) / 4


def test_without_a_value_matrix_there_is_no_value() -> None:
    assert "value_per_1000" not in metrics.binary(LABEL == 1, TIED, 0.5, None)


def test_a_probability_at_the_threshold_is_flagged() -> None:
    assert metrics.binary(np.array([True]), np.array([0.4]), 0.4, None)["recall"](np.ones((1, 1))) == 1


@pytest.mark.parametrize("offset", [0, 1e6, 1e9])
def test_r2_does_not_depend_on_where_zero_is(offset: float) -> None:
    metric = metrics.regression(NUMBER + offset, GUESS + offset)["r2"]
    np.testing.assert_allclose(metric(WEIGHTS), [regression_by_sklearn(w)["r2"] for w in WEIGHTS], rtol=1e-5)


def test_resamples_draw_as_many_rows_as_there_are_and_are_the_same_for_the_same_seed() -> None:
    one, again, other = (np.concatenate([*metrics.resamples(50, 8, seed)]) for seed in (3, 3, 4))
    assert one.shape == (8, 50)
    assert (one.sum(axis=1) == 50).all()
    assert (one == again).all()
    assert (one != other).any()


def test_the_size_of_a_block_changes_no_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [*metrics.resamples(50, 7, seed=3)]
    monkeypatch.setattr(metrics, "CELLS", 100)
    blocks = [*metrics.resamples(50, 7, seed=3)]
    assert [len(block) for block in blocks] == [2, 2, 2, 1]
    assert len(whole) == 1
    assert (np.concatenate(blocks) == whole[0]).all()


def test_a_table_larger_than_a_block_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = metrics.binary(LABEL == 1, TIED, THRESHOLD, VALUE)
    whole = metrics.measure(ours, ROWS, 100, seed=3)
    monkeypatch.setattr(metrics, "CELLS", 10)
    for name, figure in metrics.measure(ours, ROWS, 100, seed=3).items():
        assert figure == pytest.approx(whole[name], rel=1e-12)
        assert figure["low"] <= figure["value"] <= figure["high"]


def share_of_intervals_around(truth: float, draw: Any, lead: str, tables: int = 300) -> float:
    rng, hits = np.random.default_rng(5), 0
    for _ in range(tables):
        ours, rows = draw(rng)
        interval = metrics.measure({lead: ours[lead]}, rows, 200, int(rng.integers(2**31)))[lead]
        hits += interval["low"] <= truth <= interval["high"]
    return hits / tables


def test_the_interval_of_an_error_covers_the_truth_19_times_in_20() -> None:
    def draw(rng: Any) -> Any:
        return metrics.regression(np.zeros(150), rng.normal(size=150)), 150

    assert 0.91 <= share_of_intervals_around(sqrt(2 / pi), draw, "mae") <= 0.98


def test_the_interval_of_an_auc_covers_the_truth_19_times_in_20() -> None:
    def draw(rng: Any) -> Any:  # scores of both classes are normal, their means 1 apart
        positive = np.arange(150) < 50
        return metrics.binary(positive, rng.normal(size=150) + positive, 0.5, None), 150

    truth = (1 + erf(1 / 2)) / 2  # Phi(1 / sqrt(2))
    assert 0.91 <= share_of_intervals_around(truth, draw, "roc_auc") <= 0.98


def test_a_resample_of_one_class_gives_figures_not_nan() -> None:
    only = np.stack([np.where(LABEL, label, 1.0 - label) for label in (0, 1)])
    figures = {name: metric(only) for name, metric in metrics.binary(LABEL == 1, TIED, 0.4, VALUE).items()}
    assert figures["roc_auc"].tolist() == [0.5, 0.5]
    assert figures["recall"][0] == figures["average_precision"][0] == 0
    assert all(np.isfinite(found).all() for found in figures.values())


def test_a_resample_without_a_class_gives_figures_not_nan() -> None:
    drawn = np.where(CLASS == 2, 0.0, 1.0)[None]
    ours = metrics.multiclass(CLASS.astype(int), SHARES)
    assert np.isfinite([metric(drawn) for metric in ours.values()]).all()


def test_a_resample_of_one_row_explains_nothing() -> None:
    drawn = np.zeros((1, ROWS))
    drawn[0, 7] = ROWS
    assert metrics.regression(NUMBER, GUESS)["r2"](drawn) <= 0  # as sklearn's r2_score for a constant target
