"""The parts of the report below its verdict: each a pure function of what the gate and the evaluation wrote."""

from typing import Any

from perennial.params import METRICS
from perennial.pipeline.page import number
from perennial.review.changes import worth_telling
from perennial.review.markdown import chart, code, fold, safe, table

MARKS = {True: "✅", False: "❌", None: "⚪"}
Facts = dict[str, Any]


def sign(name: str, facts: Facts) -> int:
    """1 when the challenger is surely better at this metric, -1 when surely worse, else 0."""
    row, more = facts["metrics"][name], METRICS[facts["task"]].get(name, True)
    sure = 1 if row["low"] > 0 else -1 if row["high"] < 0 else 0
    return sure if more else -sure


def figures(facts: Facts, *_: Any) -> list[str]:
    if facts.get("metrics"):
        header = ["metric", f"champion {code((facts['champion']['commit'] or '')[:8])}:", "challenger:", "difference:"]
        rows = [_compared(name, facts["metrics"][name], facts) for name in _in_order(facts["metrics"], facts["task"])]
        return ["", *table([*header, "93 % interval:", ""], rows)]
    if facts.get("evaluation"):
        measured, dummy = facts["evaluation"]["metrics"], facts["evaluation"]["baseline"]
        rows = [
            [code(n), number(m["value"]), f"{number(m['low'])} to {number(m['high'])}", number(dummy[n])]
            for n, m in ((name, measured[name]) for name in _in_order(measured, facts["task"]))
        ]
        return ["", *table(["metric", "challenger:", "95 % interval:", "dummy:"], rows)]
    return []


def _in_order(measured: Facts, task: str) -> list[str]:
    return [name for name in (*METRICS[task], "value_per_1000") if name in measured]


def _compared(name: str, row: Facts, facts: Facts) -> list[str]:
    span, word = f"{_signed(row['low'])} to {_signed(row['high'])}", ["", "better", "**worse**"][sign(name, facts)]
    return [code(name), number(row["champion"]), number(row["challenger"]), _signed(row["difference"]), span, word]


def _signed(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 1000 else f"{value:+.4g}"


def slices(facts: Facts, *_: Any) -> list[str]:
    """The slices that moved for sure, and how many did not."""
    every = [row for row in facts.get("slices", []) if "difference" in row]
    moved = [row for row in every if row["difference_low"] > 0 or row["difference_high"] < 0]
    if not every:
        return []
    rows = [_slice(row) for row in sorted(moved, key=lambda row: -abs(row["difference"]))]
    none = f"None of {len(every)} slices moved beyond chance."
    header = ["column", "value", "rows:", "champion:", "challenger:", "difference:"]
    return ["", "### Slices that moved", "", *(table(header, rows, 15) if rows else [none])]


def _slice(row: Facts) -> list[str]:
    place = [code(row["column"]) + (" (sensitive)" if row["sensitive"] else ""), code(row["value"])]
    return [
        *place,
        f"{row['rows']:,}",
        *(number(row[who]) for who in ("champion", "challenger")),
        _signed(row["difference"]),
    ]


def parameters(facts: Facts, *_: Any) -> list[str]:
    rows = [
        [code(row["key"]) + (" ⚠️ judges this model" if row["key"].startswith("gate") else "")]
        + [code(row[when]) if row[when] is not None else "–" for when in ("before", "after")]
        for row in facts.get("parameters", [])
    ]
    return ["", "### Parameters", "", *table(["key", "before", "after"], rows, 40)] if rows else []


def data(facts: Facts, *_: Any) -> list[str]:
    """Files and rows that came and went; features whose training rows moved."""
    lines, files = [], facts.get("files")
    if files and files["files"]:
        rows = [
            [code(row["file"]), *("–" if row[when] is None else f"{row[when]:,}" for when in ("before", "after"))]
            for row in files["files"]
        ]
        before, after = files["rows"]["before"], files["rows"]["after"]
        lines += ["", f"{before:,} → {after:,} rows ({after - before:+,}).", ""]
        lines += table(["file", "rows before:", "after:"], rows)
    moved = [row for row in facts.get("features", []) if worth_telling(row)]
    if moved:
        header = ["feature", "shift (PSI):", "missing:", "range", "new values"]
        lines += ["", "Training rows moved:", "", *table(header, [_feature(row) for row in moved], 20)]
    elif lines and facts.get("features"):
        lines += ["", f"None of {len(facts['features'])} features moved beyond chance."]
    return ["", "### Data", *lines] if lines else []


def _feature(row: Facts) -> list[str]:
    missing = f"{row['missing']['before']:.1%} → {row['missing']['after']:.1%}"
    ends = row.get("range")
    span = " → ".join(f"{number(ends[w][0])} to {number(ends[w][1])}" for w in ("before", "after")) if ends else ""
    new = row.get("new", [])
    told = " ".join(map(code, new[:5])) + (f" and {len(new) - 5} more" if len(new) > 5 else "")
    return [code(row["feature"]), f"{row['psi']:.3f}", missing, span, told]


def rules(facts: Facts, *_: Any) -> list[str]:
    rows = [[MARKS[rule["passed"]], safe(rule["name"]), safe(rule["text"])[:600]] for rule in facts["rules"]]
    return fold(f"All {len(rows)} rules", table(["", "rule", "found"], rows))


def charts(facts: Facts, plots: dict[str, Any], *_: Any) -> list[str]:
    if not plots:
        return []
    points, importance = plots["calibration"], dict(plots["importance"][:20])
    predicted, actual = [p["predicted"] for p in points], [p["actual"] for p in points]
    labels, worth = [number(value) for value in predicted], [row["mean"] for row in importance.values()]
    lead = next(iter(METRICS[facts["task"]]))
    lines = chart("What happened (bars) and what was predicted (line)", labels, "in each tenth", actual, predicted)
    cells = [[number(p["predicted"]), number(p["actual"]), f"{p['rows']:,.0f}"] for p in points]
    lines += ["", *table(["predicted:", "happened:", "rows:"], cells), ""]
    lines += chart("What the model relies on", list(importance), f"loss of {lead}", worth)
    cells = [[code(name), f"{row['mean']:.4f}", f"{row['std']:.4f}"] for name, row in importance.items()]
    return fold(
        "Pictures: calibration, importance",
        [*lines, "", *table(["feature", f"loss of {code(lead)} when shuffled:", "spread:"], cells)],
    )


def origin(facts: Facts, _: Any, run: str | None) -> list[str]:
    """Where the two models come from, whether a second run gave the same, and where the rest is."""
    lines = []
    for who in ("champion", "challenger"):
        model = facts.get(who)
        if model:
            source = f", {model['source']} from commit {code(model['commit'][:8])}" if "source" in model else ""
            lines.append(
                f"- {who}: {code(model['estimator'].rpartition('.')[2])} on {model['trained_on']['rows']:,} rows, "
                f"model {code(model['model'][:12])}{source}"
            )
    if facts.get("reproduction"):
        lines.append(f"- run again in an empty place: {facts['reproduction']['level']}")
    place = f"the artifact `review` of [the run]({run})" if run else "`reports/`"
    lines.append(f"- report.html with every picture, and gate.json with every figure: {place}")
    return ["", *lines]
