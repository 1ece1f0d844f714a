"""The page and the picture of what run.py measured."""

from pathlib import Path
from statistics import median
from typing import Any

import jinja2
from contenders import BENTOML, HERE, MLFLOW, MLFLOW_UVLOOP, OURS, STATIC

Figures = dict[str, Any]
LOADED = ("rps", "p50_ms", "p99_ms", "cpu_ms")


def summary(figures: Figures) -> Figures:
    """Medians of each contender's runs, ours over theirs round by round, and which targets hold."""
    runs: dict[tuple[str, int, int], list[Figures]] = {}
    for run in figures["load"]:
        runs.setdefault((run["contender"], run["rows"], run["connections"]), []).append(run)
    settings = list(dict.fromkeys((rows, connections) for _, rows, connections in runs))
    loads = []
    for rows, connections in settings:
        ours = runs[OURS, rows, connections]
        for name in figures["contenders"]:
            theirs = runs[name, rows, connections]
            ratios = [one["rps"] / two["rps"] for one, two in zip(ours, theirs, strict=True)]
            loads.append(
                {"name": name, "rows": rows, "connections": connections, "range": (min(ratios), max(ratios))}
                | {key: median(run[key] for run in theirs) for key in LOADED}
                | {
                    "ratio": median(ratios),
                    "cpu_ratio": median(two["cpu_ms"] / one["cpu_ms"] for one, two in zip(ours, theirs, strict=True)),
                    "failed": sum(run["refused"] + run["broken"] for run in theirs),
                }
            )
    batch = _batch(figures["batch"])
    return {"loads": loads, "settings": settings, "batch": batch, "targets": _targets(figures, loads, batch)}


def _batch(batch: Figures) -> Figures:
    scored = batch["score"][str(batch["rows"])]
    pairs = list(zip(batch["bare"], scored, strict=True))
    kinds = {key: median(run[key] for run in scored) for key in ("wall_s", "cpu_s")}
    bare = {key: median(run[key] for run in batch["bare"]) for key in ("wall_s", "cpu_s")}
    ratio = {f"{key}_ratio": median(one[key] / two[key] for one, two in pairs) for key in kinds}
    walls = [one["wall_s"] / two["wall_s"] for one, two in pairs]
    peaks = {int(rows): max(run["peak_mb"] for run in runs) for rows, runs in batch["score"].items()}
    return {
        "rows": batch["rows"],
        "score": kinds,
        "bare": bare,
        "peaks": peaks,
        "range": (min(walls), max(walls)),
        **ratio,
    }


def _targets(figures: Figures, loads: list[Figures], batch: Figures) -> list[Figures]:
    ours, title = figures["contenders"][OURS], "Requests a second, one row, 8 connections, over those of"
    least = {STATIC: 0.75, MLFLOW: 30, MLFLOW_UVLOOP: 30, BENTOML: 20}
    targets = [
        _target(f"{title} {figures['contenders'][load['name']]['title']}", load["ratio"], "at least",
                least[load["name"]], load["range"], load["cpu_ratio"])
        for load in loads
        if (load["rows"], load["connections"]) == (1, 8) and load["name"] in least
    ]  # fmt: skip
    scoring = f"Speed of `perennial score` on {batch['rows']:,} rows, over onnxruntime alone"
    return [
        *targets,
        _target("Memory of both workers, MB", ours["pss_workers_mb"], "at most", 100),
        _target("CPU seconds to the first answer", ours["start_cpu_s"], "at most", 0.6),
        _target("Packages in the image, MB", ours["pruned_mb"], "at most", 130),
        _target(scoring, batch["wall_s_ratio"], "at least", 0.8, batch["range"], batch["cpu_s_ratio"]),
    ]


def _target(
    title: str, measured: float, bound: str, limit: float,
    spread: tuple[float, float] | None = None, cpu: float | None = None,
) -> Figures:  # fmt: skip
    holds = measured >= limit if bound == "at least" else measured <= limit
    unclear = spread is not None and spread[0] < limit <= spread[1]
    verdict = ("✓" if holds else "✗") + (" ?" if unclear else "")
    wanted = f"{bound} {limit:g}"
    return {"title": title, "measured": measured, "wanted": wanted, "verdict": verdict, "range": spread, "cpu": cpu}


def page(figures: Figures) -> str:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["short"] = short
    template = environment.from_string((HERE / "README.md.j2").read_text("utf-8"))
    return template.render(figures | {"plan": figures["plan"], **summary(figures), "ours": OURS}) + "\n"


def short(number: float) -> str:
    """Three digits that count; no exponent."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def write(figures: Figures, folder: Path) -> None:
    (folder / "README.md").write_text(page(figures), "utf-8")
    draw(figures, folder / "serving.png")


def draw(figures: Figures, path: Path) -> None:
    """Bars on a logarithmic scale: speed, cost and weight of each contender."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    loads = {load["name"]: load for load in summary(figures)["loads"] if (load["rows"], load["connections"]) == (1, 8)}
    names = sorted(loads, key=lambda name: loads[name]["rps"])
    facts = figures["contenders"]
    panels = [
        ("Requests a second", [loads[name]["rps"] for name in names]),
        ("CPU a request, ms", [loads[name]["cpu_ms"] for name in names]),
        ("Memory, MB", [facts[name]["pss_tree_mb"] for name in names]),
        ("CPU to the first answer, s", [facts[name]["start_cpu_s"] for name in names]),
    ]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(13, 3), sharey=True, layout="constrained")
    colours = ["#c2410c" if name == OURS else "#94a3b8" for name in names]
    for axis, (title, values) in zip(axes, panels, strict=True):
        bars = axis.barh([facts[name]["title"] for name in names], values, color=colours)
        axis.bar_label(bars, [short(value) for value in values], padding=3)
        axis.set(xscale="log", title=title, xlim=(min(values) / 2, max(values) * 5))
        axis.xaxis.set_visible(False)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    figure.suptitle("One row a request, 8 connections, two workers each (logarithmic)")
    figure.savefig(path, dpi=150, metadata={"Software": None})
    pyplot.close(figure)
