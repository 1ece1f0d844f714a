"""The pictures of the drift page as figures: where each mark stands, in percent of the width it is given.

The template draws them as SVG whose words are HTML: they wrap on a phone, are read aloud, and are escaped there, as
all that came from outside must be.
"""

from collections.abc import Iterable
from itertools import pairwise
from math import asinh
from typing import Any

from scipy import stats

from perennial.monitoring import drift
from perennial.psi import SMALL, shares

Facts = dict[str, Any]
TICKS = (SMALL, 0.1, 0.5, 2, 8)  # of the scale of shifts
PROFILED = 6  # features whose bins are shown


def shifts(windows: list[Facts], profile: Facts) -> Facts:
    """The shift of the predictions and of every feature in each window, oldest first, with what chance may give.

    Args:
        windows: as `watch.judge` found them, the newest first. The newest that was judged ranks the features.
    """
    order: list[Facts] = next((window["features"] for window in windows if window["enough"]), [])
    rows = [{"feature": row["feature"], "newest": row} for row in order]
    lanes = {row["feature"]: [_lane(w, row["feature"], profile) for w in reversed(windows)] for row in rows}
    answers = [_answers(window, profile) for window in reversed(windows)] if order else []
    values = [lane["psi"] for lane in [*answers, *(lane for row in lanes.values() for lane in row)] if lane]
    top = 1.1 * max([0.1, *values])
    for row in rows:
        row["lanes"] = [_placed(lane, top) for lane in lanes[row["feature"]]]
    ticks = [{"value": tick, "at": _across(tick, top)} for tick in TICKS if tick < 0.95 * top]
    return {"rows": rows, "answers": [_placed(lane, top) for lane in answers], "ticks": ticks}


def _lane(window: Facts, name: str, profile: Facts) -> Facts | None:
    row = next((row for row in window["features"] if row["feature"] == name), None)
    if row is None:
        return None
    reference, rows = profile["features"][name], profile["trained_on"]["rows"]
    noise = _noise(reference["chi2_critical"], len(row["rows"]), window["coverage"]["kept"], rows)
    kind = "broken" if row["broken"] else "drifted" if row["drifted"] else "calm"
    return {"psi": row["psi"], "noise": noise, "kind": kind}


def _answers(window: Facts, profile: Facts) -> Facts | None:
    if not window["enough"]:
        return None
    bins, found = len(profile["answers"]["shares"]), window["predictions"]
    critical = float(stats.chi2.ppf(1 - drift.SURE, bins - 1)) if bins > 1 else 0.0
    noise = _noise(critical, bins, window["coverage"]["kept"], profile["promised"]["rows"])
    return {"psi": found["psi"], "noise": noise, "kind": "drifted" if found["drifted"] else "calm"}


def _noise(critical: float, bins: int, one: int, other: int) -> float:
    """The PSI beyond its mean that chance seldom gives: where nothing moved, PSI / (1/n + 1/m) is chi-square."""
    return max(0.0, (critical - (bins - 1)) * (1 / one + 1 / other))


def _placed(lane: Facts | None, top: float) -> Facts | None:
    return lane and lane | {"width": _across(lane["psi"], top), "limit": _across(lane["noise"], top)}


def _across(value: float, top: float) -> float:
    """Even up to the floor and logarithmic above (asinh): it is seen beside a shift a hundred times as large."""
    return round(100 * asinh(max(value, 0.0) / SMALL) / asinh(top / SMALL), 2)


def span(figures: Iterable[Facts | None]) -> Any:
    """From a value to its place on the axis that holds all of these figures, their intervals and expectations."""
    known = [value for figure in figures if figure for value in figure.values() if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = 0.05 * (high - low) or 1.0
    return lambda value: round(100 * (value - low + room) / (high - low + 2 * room), 2)


def bins(window: Facts, profile: Facts) -> list[Facts]:
    """For the features that moved most, the share of rows in each bin in training and now."""
    moved = [row for row in window["features"] if row["drifted"] or row["broken"]][:PROFILED]
    drawn = []
    for row in moved:
        reference = profile["features"][row["feature"]]
        total = max(sum(row["rows"]), 1)
        pairs = zip(labels(reference), shares(reference).tolist(), [n / total for n in row["rows"]], strict=True)
        cells = [{"label": label, "before": before, "now": now} for label, before, now in pairs]
        top = max(max(cell["before"], cell["now"]) for cell in cells)
        words = "words in " if reference["type"] == "text" else ""
        drawn.append({"feature": row["feature"], "counted": words, "row": row, "cells": cells, "top": top})
    return drawn


def labels(reference: Facts) -> list[str]:
    """The name of each bin in the order of `psi.counts`; a bin of numbers holds its upper edge, not its lower."""
    if "values" in reference:
        named = [str(value).lower() if reference["type"] == "boolean" else value for value in reference["values"]]
        return [*named, "missing", "not listed"]
    edges = _short(reference["edges"])
    if not edges:
        return ["any", "missing"]
    first = f"below {edges[0]}" if edges[:1] == edges[1:2] else f"to {edges[0]}"  # such an edge is just below it
    inner = [low if low == high else f"{low} to {high}" for low, high in pairwise(edges)]
    return [first, *inner, f"above {edges[-1]}", "missing"]


def _short(edges: list[float]) -> list[str]:
    """In the fewest digits, four or more, that tell apart what nine do: a profile's edges have no more than nine."""
    texts = [[_figure(edge, digits) for edge in edges] for digits in range(4, 10)]
    return next(text for text in texts if len(set(text)) == len(set(texts[-1])))


def _figure(edge: float, digits: int) -> str:
    if abs(edge) >= 10**digits:
        return f"{edge:.0f}"
    return f"{edge + 0.0:.{digits}g}" if abs(edge) > 1e-300 else "0"  # an edge just below 0 is the least float there is
