"""Whether the rows of a window come from where the model learnt: feature by feature, against its training profile.

A feature has drifted when its bins differ from training beyond chance (contingency chi-square, for numbers also
Mann-Whitney; Benjamini-Hochberg over all features at 5 %) and by more than a shift worth caring about (noise-corrected
PSI). Missing and unlisted values are signals of their own: they mean broken data more often than a changed world.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from perennial.psi import SMALL, counts, index, shares

if TYPE_CHECKING:
    import pandas as pd

RATE = 0.05  # of false discoveries among the features
SURE = 0.01  # that the predictions drifted: one test beside those of the features
BROKEN = 0.05  # a share of missing or unlisted values may rise by so much before the data is called broken


def features(frame: "pd.DataFrame", profile: dict[str, Any], importance: dict[str, float]) -> list[dict[str, Any]]:
    """For each feature: p, PSI beyond chance, whether it drifted or broke, and how much that matters; most first.

    Args:
        importance: of each feature in the champion, as shares; empty when it is not known.
    """
    rows, reference = profile["trained_on"]["rows"], profile["features"]
    found = [_feature(frame[name], reference[name], rows) for name in reference]
    for row, drifted in zip(found, stats.false_discovery_control([row["p"] for row in found]), strict=True):
        row["drifted"] = bool(drifted <= RATE and row["psi"] > SMALL)
        row["importance"] = importance.get(row["feature"], 0.0)
        row["matters"] = max(row["psi"], 0.0) * row["importance"]
    return sorted(found, key=lambda row: (-row["matters"], -row["psi"]))


def _feature(column: "pd.Series[Any]", reference: dict[str, Any], rows: int) -> dict[str, Any]:
    now, before = counts(column, reference), shares(reference) * rows
    found, chance = index(now, before)
    total, bins = max(len(column), 1), len(reference["shares"])
    missing, other = now[bins] / total, now[bins + 1 :].sum() / total
    worse = missing - reference["missing"] > BROKEN or other - reference.get("other", 0.0) > BROKEN
    p = contingency(before, now)
    if "edges" in reference:  # chi-square spreads a move of the mean over all bins; the order of numbers tells it
        p = min(1.0, 2 * min(p, moved(before[:bins], now[:bins])))
    return {
        "feature": str(column.name),
        "p": p,
        "psi": found - chance,
        "missing": {"before": reference["missing"], "now": float(missing)},
        "other": {"before": reference.get("other", 0.0), "now": float(other)},
        "broken": bool(worse),
        "rows": now.astype(int).tolist(),  # in each bin of the profile, then missing, then unlisted ones
    }


def predictions(answers: NDArray[np.float64], profile: dict[str, Any]) -> dict[str, Any]:
    """Whether the answers, (rows, classes) or (rows,), are spread otherwise than on the hold-out."""
    bins = profile["answers"]
    before = np.array(bins["shares"]) * profile["promised"]["rows"]
    if "values" in bins:
        places = answers.argmax(axis=1)
    else:
        places = np.searchsorted(bins["edges"], answers if answers.ndim == 1 else answers[:, 1])
    now = np.bincount(places, minlength=len(before)).astype(np.float64)
    (found, chance), p = index(now, before), contingency(before, now)
    return {"p": p, "psi": found - chance, "drifted": bool(p <= SURE and found - chance > SMALL)}


def moved(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """p of the hypothesis that neither lies higher in the order of the bins (Mann-Whitney, midranks and correction for
    ties); 1 when there is nothing to compare."""
    whole = one + other
    rows, n, m = whole.sum(), one.sum(), other.sum()
    variance = n * m / 12 * (rows + 1 - (whole**3 - whole).sum() / (rows * (rows - 1))) if rows > 1 else 0.0
    if variance <= 0:
        return 1.0
    ranks = whole.cumsum() - (whole - 1) / 2
    return float(2 * stats.norm.sf(abs((one * ranks).sum() - n * (rows + 1) / 2) / np.sqrt(variance)))


def contingency(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """p of the two-sample chi-square test on bins; 1 when there is nothing to compare."""
    table = np.array([one, other])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return 1.0
    return float(stats.chi2_contingency(table, correction=False)[1])
