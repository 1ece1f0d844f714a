"""The page and the picture of what run.py counted."""

from pathlib import Path
from typing import Any

import jinja2
from cheats import LIMITS, NOTHING, WANTED
from decide import ALL, RULES

HERE = Path(__file__).resolve().parent
Figures = dict[str, Any]
SURE = 1.96  # standard errors of a 95 % interval


def wilson(count: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share, square = count / of, SURE**2 / of
    middle = (share + square / 2) / (1 + square)
    half = SURE * (share * (1 - share) / of + square / of / 4) ** 0.5 / (1 + square)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def rate(count: int, of: int) -> str:
    """The share in per cent, with its interval."""
    low, high = wilson(count, of)
    return f"{_percent(count / of)} ({_percent(low)}–{_percent(high)})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share in (0, 1) else f"{100 * share:.1f}"


def summary(figures: Figures) -> Figures:
    cells = {(cell["scenario"], cell["rows"]): cell for cell in figures["cells"]}
    sizes = sorted({rows for _, rows in cells})
    lines = [
        scenario | {"cells": [cells[index, rows] for rows in sizes if (index, rows) in cells]}
        for index, scenario in enumerate(figures["scenarios"])
    ]
    groups = {
        "wanted": [leak for leak in figures["leaks"] if leak["title"] in WANTED],
        "limits": [leak for leak in figures["leaks"] if leak["title"] in LIMITS],
        "nothing": next(leak for leak in figures["leaks"] if leak["title"] == NOTHING),
    }
    found = {"sizes": sizes, "equal": [line for line in lines if not line["fall"]]}
    found |= {"worse": [line for line in lines if line["fall"]], "planted": groups, "pooled": _pooled(lines, sizes)}
    return found | {"targets": _targets(found, figures)}


def _pooled(lines: list[Figures], sizes: list[int]) -> list[Figures]:
    """All scenarios of a true fall together."""
    pooled = []
    for fall in sorted({line["fall"] for line in lines}):
        for place, rows in enumerate(sizes):
            of_fall = [line["cells"][place] for line in lines if line["fall"] == fall]
            counts = {name: sum(cell["blocked"][name] for cell in of_fall) for name in of_fall[0]["blocked"]}
            pooled.append({"fall": fall, "rows": rows, "of": sum(cell["of"] for cell in of_fall), "blocked": counts})
    return pooled


def _targets(found: Figures, figures: Figures) -> list[Figures]:
    targets = []
    for rows in found["sizes"]:
        title = f"Equal models blocked, {rows:,} rows, %"
        targets.append(_together(title, found["equal"], rows, 0.05, most=True))
    targets += [
        _together(f"A true fall of {100 * fall:.0f} point{'s' * (fall > 0.01)} blocked, 5,000 rows, %",
               [line for line in found["worse"] if line["fall"] == fall], 5000, 0.95, most=False)
        for fall in (0.01, 0.02)
    ]  # fmt: skip
    leaks, mixed = found["planted"]["wanted"], figures["shuffled"]
    caught = {
        "Planted leaks caught, %": [(leak["title"], leak["stopped"], leak["of"]) for leak in leaks],
        "Shuffled labels caught, %": [
            (f"{one['shuffled']}, {one['rows']:,} rows", one["blocked"][ALL], one["of"]) for one in mixed
        ],
    }
    for title, rows_of in caught.items():
        where, count, of = min(rows_of, key=lambda row: row[1] / row[2])
        targets.append(_target(title, sum(row[1] for row in rows_of), sum(row[2] for row in rows_of), 1.0, False, ""))
        if count < of:
            targets[-1]["where"] = where
    return targets


def _together(title: str, lines: list[Figures], rows: int, limit: float, most: bool) -> Figures:
    """All scenarios as one, by the whole gate; and the one that does worst."""
    cells = [(line, cell) for line in lines for cell in line["cells"] if cell["rows"] == rows]
    line, cell = (max if most else min)(cells, key=lambda pair: pair[1]["blocked"][ALL] / pair[1]["of"])
    count, of = (sum(part) for part in zip(*((c["blocked"][ALL], c["of"]) for _, c in cells), strict=True))
    return _target(title, count, of, limit, most, f"{line['title']}: {rate(cell['blocked'][ALL], cell['of'])}")


def _target(title: str, count: int, of: int, limit: float, most: bool, where: str) -> Figures:
    share, (low, high) = count / of, wilson(count, of)
    holds = share <= limit if most else share >= limit
    unclear = low < limit < high
    wanted = f"at most {100 * limit:g}" if most else (f"at least {100 * limit:g}" if limit < 1 else "100")
    verdict = ("✓" if holds else "✗") + (" ?" if unclear else "")
    return {"title": title, "measured": rate(count, of), "wanted": wanted, "verdict": verdict, "where": where}


def page(figures: Figures) -> str:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.globals["rate"] = rate
    template = environment.from_string((HERE / "README.md.j2").read_text("utf-8"))
    names = [rule.__name__ for rule in RULES]
    return template.render(figures | summary(figures) | {"all": ALL, "rules": names}) + "\n"


def write(figures: Figures, folder: Path) -> None:
    (folder / "README.md").write_text(page(figures), "utf-8")
    draw(figures, folder / "gate.png")


def draw(figures: Figures, path: Path) -> None:
    """The share blocked against the true fall, a line for each size of the hold-out."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    found = summary(figures)
    figure, axis = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for rows, colour in zip(found["sizes"], ("#94a3b8", "#c2410c", "#1e293b"), strict=False):
        cells = [cell for cell in found["pooled"] if cell["rows"] == rows]
        falls = [100 * cell["fall"] for cell in cells]
        shares = [100 * cell["blocked"][ALL] / cell["of"] for cell in cells]
        ends = [wilson(cell["blocked"][ALL], cell["of"]) for cell in cells]
        bars = [[share - 100 * low for share, (low, _) in zip(shares, ends, strict=True)],
                [100 * high - share for share, (_, high) in zip(shares, ends, strict=True)]]  # fmt: skip
        axis.errorbar(falls, shares, bars, color=colour, marker="o", capsize=3, label=f"{rows:,} hold-out rows")
    axis.axhline(5, color="#cbd5e1", linestyle="--", zorder=0)
    axis.axhline(95, color="#cbd5e1", linestyle="--", zorder=0)
    axis.set(xlabel="true fall, ROC AUC points", ylabel="blocked, %")
    axis.set(ylim=(-2, 102), yticks=[0, 5, 25, 50, 75, 95, 100])
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150, metadata={"Software": None})
    pyplot.close(figure)
