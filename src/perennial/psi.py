"""How far a column has moved from the reference in a profile: the population stability index.

PSI = sum over bins of (p - q) ln(p / q), with half a row added to each bin, so that none is empty. Where
nothing moved its mean is (bins - 1)(1/n + 1/m); what is left above that is effect, not sample size.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

SMALL = 0.02  # a smaller excess is a shift too small to care about
SMOOTHING = 0.5


def counts(column: "pd.Series[Any]", reference: Mapping[str, Any]) -> NDArray[np.float64]:
    """Rows in each bin of the reference, then missing ones and, for a category, values of no bin; shape (bins,)."""
    given = column.dropna()
    missing = len(column) - len(given)
    if "values" in reference:
        hits = [int((given == value).sum()) for value in reference["values"]]
        return np.array([*hits, missing, len(given) - sum(hits)], np.float64)
    numbers = given.map(lambda text: len(str(text).split())) if reference["type"] == "text" else given
    places = np.searchsorted(reference["edges"], numbers.to_numpy(np.float64))
    return np.append(np.bincount(places, minlength=len(reference["edges"]) + 1), missing).astype(np.float64)


def shares(reference: Mapping[str, Any]) -> NDArray[np.float64]:
    """The reference's share of each bin, in the order of `counts`."""
    other = [reference["other"]] if "other" in reference else []
    return np.array([*reference["shares"], reference["missing"], *other])


def index(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """PSI between two counts of the same bins, and its mean where nothing moved; both 0 without rows in both."""
    counted = np.array([one, other], np.float64)
    rows, bins = counted.sum(axis=1, keepdims=True), counted.shape[1]
    if not rows.all():
        return 0.0, 0.0
    p, q = (counted + SMOOTHING) / (rows + SMOOTHING * bins)
    return float(((p - q) * np.log(p / q)).sum()), (bins - 1) * float((1 / rows).sum())


def excess(column: "pd.Series[Any]", reference: Mapping[str, Any], rows: int) -> float:
    """PSI of the column less its mean when nothing moved.

    Args:
        reference: the feature's entry in a profile.
        rows: how many rows the reference was made from.
    """
    found, chance = index(counts(column, reference), shares(reference) * rows)
    return found - chance
