"""reports/drift.html: the decision, its reasons, and the figures behind it; one file, opens offline."""

from pathlib import Path
from typing import Any

from perennial.files import atomic, rounded
from perennial.monitoring import drift, pictures
from perennial.monitoring.tell import MEANING
from perennial.params import METRICS, Params
from perennial.pipeline import page as evaluation
from perennial.psi import SMALL

REPORT, TEMPLATE = Path("reports/drift.html"), Path(__file__).with_name("page.html.j2")
Facts = dict[str, Any]


def write(facts: Facts, profile: Facts, metrics: Facts, params: Params) -> None:
    """Write reports/drift.html.

    Args:
        facts: what `watch.watch` found.
        profile: the champion's, with what training looked like.
        metrics: of reports/metrics.json, what the hold-out promised.
    """
    with atomic(REPORT) as path:
        path.write_text(render(facts, profile, metrics, params), encoding="utf-8")


def render(facts: Facts, profile: Facts, metrics: Facts, params: Params) -> str:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": evaluation.number, "share": lambda part: f"{part:.1%}"}
    environment.filters["psi"] = lambda value: f"{round(value, 3) + 0.0:.3f}"  # no -0.000
    environment.filters["chance"] = lambda p: f"{p:.2g}" if p >= 0.001 else "< 0.001"
    facts = rounded(facts, 6)  # as drift.json has them
    windows, lead = facts["windows"], next(iter(METRICS[params.data.task]))
    named = [lead, *(["value_per_1000"] if params.value else [])]
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        facts=facts, windows=windows, newest=windows[0], meaning=MEANING[facts["decision"]], lead=lead, params=params,
        style=_style(), shifts=pictures.shifts(windows, profile), moved=pictures.bins(windows[0], profile),
        qualities=[quality(name, windows, metrics[name], params) for name in named], profile=profile, floor=SMALL,
        broken=drift.BROKEN,
    )  # fmt: skip


def _style() -> str:
    """The evaluation's own, so that the two pages cannot come to look different."""
    return evaluation.TEMPLATE.read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]


def quality(name: str, windows: list[Facts], promised: Facts, params: Params) -> Facts:
    """A metric promised, measured and expected, by window, the oldest first; the places of its marks in percent."""
    figures = [_figure(window, name) for window in reversed(windows)]
    place = pictures.span([promised, *figures])
    rows: list[Facts] = [{"figure": promised, "window": None, "fell": False}]
    for window, figure in zip(reversed(windows), figures, strict=True):
        fell = window["fell"] and name != "value_per_1000"
        rows.append({"figure": figure, "window": window, "fell": fell, "whole": _whole(figure, window)})
    for row in rows:
        row["at"] = {key: place(value) for key, value in row["figure"].items() if value is not None}
    currency = params.value.currency if params.value else ""
    unit = f" ({currency})" if name == "value_per_1000" and currency else ""
    return {"name": name, "title": name + unit, "rows": rows, "meaning": evaluation.MEANING[name], "currency": currency}


def _figure(window: Facts, name: str) -> Facts:
    """Value, low, high and expected; None for what is not known."""
    found = (window["quality"] or {}).get(name, {})
    known = {key: found.get(key) for key in ("value", "low", "high")}
    if None in known.values():
        known = dict.fromkeys(known)
    return known | {"expected": window.get("expected", {}).get(name)}


def _whole(figure: Facts, window: Facts) -> Facts:
    """A worth of 1,000 rows as that of all rows of the window."""
    return {key: value and value * window["coverage"]["rows"] / 1000 for key, value in figure.items()}
