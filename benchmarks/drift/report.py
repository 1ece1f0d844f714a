"""The page and the picture of what run.py counted."""

from pathlib import Path
from typing import Any

import jinja2
from cells import OURS
from scipy.stats import binomtest
from simulated import NOTHING as STILL
from simulated import WORLDS
from tables import MOVED, NOTHING, SEASONS, SIDE

HERE = Path(__file__).resolve().parent
Figures = dict[str, Any]
RULES = {  # what is shown -> whose, what is counted
    OURS: (OURS, "any"),
    "Evidently, any column": ("evidently", "any"),
    "Evidently, half of the columns": ("evidently", "half"),
    "NannyML, any column": ("nannyml", "any"),
    "PSI > 0.1, any": ("PSI > 0.1", "any"),
    "PSI > 0.2, any": ("PSI > 0.2", "any"),
}
NAMED = {OURS: OURS, "Evidently": "evidently", "NannyML": "nannyml", "PSI > 0.1": "PSI > 0.1", "PSI > 0.2": "PSI > 0.2"}
COLOURS = ("#c2410c", "#1e293b", "#94a3b8", "#0d9488", "#7c3aed", "#cbd5e1")
CAUGHT = 0.9
DECISIONS = ("quiet", "watch", "data-quality", "retrain")
SIGNALS = ("features", "predictions", "broken", "quality", "any")


def wilson(count: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    interval = binomtest(count, of).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def rate(count: int, of: int) -> str:
    """The share in per cent, with its interval."""
    low, high = wilson(count, of)
    return f"{_percent(count / of)} ({_percent(low)}–{_percent(high)})"


def said(cell: Figures, shown: str, what: str = "") -> str:
    """A rule's rate in a cell; – where it was not asked or gave no verdict."""
    rule, counted = (NAMED[shown], what) if what else RULES[shown]
    found = cell["rules"].get(rule)
    if rule == OURS and counted == "any":  # its own verdict has predictions in it
        return rate(cell["signals"]["any"], cell["of"])
    if not found or not found["of"]:
        return "–"
    return "error" if found["errors"] == found["of"] else rate(found[counted], found["of"])


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share in (0, 1) else f"{100 * share:.1f}"


def summary(figures: Figures) -> Figures:
    at = {(cell["trained"], cell["rows"], cell["change"]): _filled(cell) for cell in figures["cells"]}
    lived = {(cell["world"], cell["rows"], cell["labels"]): _filled(cell) for cell in figures["worlds"]["counted"]}
    cpu = {(row["what"], row["rows"]): row["cpu"] for row in figures["speed"]}
    found: Figures = {"at": at, "lived": lived, "cpu": cpu}
    found["still"] = [cell for key, cell in sorted(at.items()) if key[2] == NOTHING.title]
    found["seasons"] = [at[key] for season in SEASONS for key in sorted(at) if key[2] == season.title]
    found["sizes"], found["references"] = sorted(map(int, figures["plan"]["moved"])), figures["plan"]["trained"]
    found["shown"] = [rows for rows in found["sizes"] if rows in (500, 1000)]  # where the watch judges and a page ends
    found["moved"], found["side"] = [change.title for change in MOVED], [change.title for change in SIDE]
    found["worlds_still"] = [cell for key, cell in sorted(lived.items()) if key[0] == STILL.title]
    found["worlds_moved"] = [lived[key] for world in WORLDS for key in sorted(lived) if key[0] == world.title]
    return found | {"targets": _targets(found, figures)}


def _filled(cell: Figures) -> Figures:
    """With 0 for what was never counted."""
    none = dict.fromkeys(DECISIONS, 0)
    parts = cell["decisions"]
    decisions = [none | part for part in parts] if isinstance(parts, list) else none | parts
    return cell | {"signals": dict.fromkeys(SIGNALS, 0) | cell["signals"], "decisions": decisions}


def _targets(found: Figures, figures: Figures) -> list[Figures]:
    judged = [cell for cell in found["still"] if cell["rows"] >= 500]
    lines = [
        _most("False alarm of a window, nothing changed", judged, lambda c: c["signals"]["any"], 0.05),
        _most("Retrain (2 of 3), nothing changed", judged, lambda c: c["decisions"]["retrain"], 0.01),
    ]
    shift = next(change.title for change in MOVED if change.size == 0.2)
    for trained in reversed(found["references"]):
        cell = found["at"][trained, 1000, shift]
        title = f"A shift of 0.2 σ found, 1,000 rows, reference of {trained:,}"
        lines.append(_target(title, cell["rules"][OURS]["right"], cell["of"], CAUGHT, False, ""))
    for rows in sorted(figures["plan"]["months"], key=int):
        quiet = found["lived"][STILL.title, int(rows), 0.2]
        title = f"False alarm of a window of the built-in data, {int(rows):,} rows, labels of 20 %"
        lines.append(_target(title, quiet["signals"]["any"], quiet["windows"], 0.05, True, ""))
        for world in WORLDS[:2]:
            cell = found["lived"][world.title, int(rows), 0.2]
            count = cell["decisions"][1]["retrain"]
            title = f"{world.title}: retrain within two windows, {int(rows):,} rows, labels of 20 %"
            lines.append(_target(title[0].upper() + title[1:], count, cell["of"], CAUGHT, False, ""))
    return lines + _speeds(found["cpu"])


def _most(title: str, cells: list[Figures], count: Any, limit: float) -> Figures:
    """All of these cells as one, and the one that does worst."""
    worst = max(cells, key=lambda cell: count(cell) / cell["of"])
    where = f"reference {worst['trained']:,}, window {worst['rows']:,}: {rate(count(worst), worst['of'])}"
    return _target(f"{title}, %", sum(map(count, cells)), sum(cell["of"] for cell in cells), limit, True, where)


def _target(title: str, count: int, of: int, limit: float, most: bool, where: str) -> Figures:
    share, (low, high) = count / of, wilson(count, of)
    holds = share <= limit if most else share >= limit
    verdict = ("✓" if holds else "✗") + (" ?" if low < limit < high else "")
    wanted = f"at {'most' if most else 'least'} {100 * limit:g}"
    return {"title": title.removesuffix(", %") + ", %", "measured": rate(count, of), "wanted": wanted,
            "verdict": verdict, "where": where}  # fmt: skip


def _speeds(cpu: dict[tuple[str, int], float]) -> list[Figures]:
    ours, preset = (
        "the watch: features, predictions and decision on a typed frame",
        "Evidently, its preset and the page",
    )
    lines = []
    for rows, limit in ((100_000, 0.3), (1_000_000, 4.0)):
        if (ours, rows) in cpu:
            taken = cpu[ours, rows]
            lines.append({"title": f"Decision on {rows:,} × 20, CPU s", "measured": f"{taken:.3f}",
                          "wanted": f"at most {limit:g}", "verdict": "✓" if taken <= limit else "✗",
                          "where": ""})  # fmt: skip
    ratio = cpu[preset, 100_000] / cpu[ours, 100_000]
    return [*lines, {"title": "Evidently's preset over that, 100,000 × 20", "measured": f"{ratio:.0f}",
                     "wanted": "at least 20", "verdict": "✓" if ratio >= 20 else "✗", "where": ""}]  # fmt: skip


def page(figures: Figures) -> str:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.globals |= {"rate": rate, "said": said, "rules": list(RULES), "named": list(NAMED), "ours": OURS}
    environment.filters["thousands"] = lambda number: f"{int(number):,}"
    template = environment.from_string((HERE / "README.md.j2").read_text("utf-8"))
    return template.render(figures | summary(figures)) + "\n"


def write(figures: Figures, folder: Path) -> None:
    (folder / "README.md").write_text(page(figures), "utf-8")
    draw(figures, folder / "drift.png")


def draw(figures: Figures, path: Path) -> None:
    """Alarms against the rows of a window: where nothing changed, and the shifted column named where one did."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    found, shift = summary(figures), next(change.title for change in MOVED if change.size == 0.2)
    small, large = found["references"]
    panels = (
        (f"nothing changed: an alarm\nreference of {small:,}", small, NOTHING.title),
        (f"nothing changed: an alarm\nreference of {large:,}", large, NOTHING.title),
        (f"one mean of 20 moved by 0.2 σ: that column named\nreference of {large:,}", large, shift),
    )
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 4), layout="constrained", sharey=True)
    for axis, (title, trained, change) in zip(axes, panels, strict=True):
        for (shown, (rule, counted)), colour in zip(RULES.items(), COLOURS, strict=True):
            what = "right" if change != NOTHING.title and counted == "any" else counted
            _line(axis, found, trained, change, (rule, what), shown, colour)
        limit = 5 if change == NOTHING.title else 90
        axis.axhline(limit, color="#cbd5e1", linestyle="--", zorder=0)
        axis.set(xscale="log", xlabel="rows of the window", title=title, ylim=(-3, 103))
        axis.set_xticks(found["sizes"], [f"{rows:,}" for rows in found["sizes"]])
        axis.minorticks_off()
        axis.title.set_fontsize(9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set(ylabel="windows, %")
    figure.legend(*axes[1].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=len(RULES))
    figure.savefig(path, dpi=150, metadata={"Software": None})
    pyplot.close(figure)


def _line(
    axis: Any, found: Figures, trained: int, change: str, counted: tuple[str, str], shown: str, colour: str
) -> None:
    points = []
    for rows in found["sizes"]:
        cell = found["at"][trained, rows, change]
        row = cell["rules"].get(counted[0])
        if row and row["errors"] < row["of"]:
            ours = counted == (OURS, "any")
            count, of = (cell["signals"]["any"], cell["of"]) if ours else (row[counted[1]], row["of"])
            points.append((rows, count / of, *wilson(count, of)))
    if points:
        rows_of, shares, lows, highs = (list(part) for part in zip(*points, strict=True))
        ends = [[100 * (s - low) for s, low in zip(shares, lows, strict=True)],
                [100 * (high - s) for s, high in zip(shares, highs, strict=True)]]  # fmt: skip
        axis.errorbar(rows_of, [100 * s for s in shares], ends, color=colour, marker="o", capsize=2, label=shown)
