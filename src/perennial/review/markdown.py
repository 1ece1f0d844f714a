"""Markdown that GitHub draws as meant, whatever the data say: escaped text, tables, folds, Mermaid charts."""

import re
from collections.abc import Sequence
from decimal import Decimal

LONGEST_CODE = 100  # characters of one value
BARS = 20  # of one chart; more cannot be read


def safe(text: object) -> str:
    """Text on one line, with nothing in it that Markdown or HTML would take for its own; no mention pings anybody."""
    line = " ".join(str(text).split())
    line = re.sub(r"([\\`*_{}\[\]|~$])", r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return line.replace("@", "@\u200b").replace("#", "#\u200b")


def code(text: object) -> str:
    """A code span of at most LONGEST_CODE characters; what would end it, or a table's cell, is left out."""
    kept = re.sub(r"[`|]", "", " ".join(str(text).split()))
    return f"`{kept[:LONGEST_CODE] + '…' if len(kept) > LONGEST_CODE else kept or ' '}`"


def block(text: str) -> list[str]:
    """A block of code, fenced by more backticks than it holds."""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=2) + 1)
    return [fence, *text.splitlines(), fence]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], most: int = 30) -> list[str]:
    """Cells are Markdown already; columns whose header ends with a colon are figures, at the right."""
    align = ["--:" if name.endswith(":") else "---" for name in header]
    lines = [f"| {' | '.join(cells)} |" for cells in ([n.rstrip(":") for n in header], align, *rows[:most])]
    return lines if len(rows) <= most else [*lines, "", f"… and {len(rows) - most} more."]


def fold(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def chart(
    title: str, labels: Sequence[object], axis: str, bars: Sequence[float], line: Sequence[float] = ()
) -> list[str]:
    """A Mermaid chart from zero on: columns with a line over them, or without one bars beside their names."""
    seen = [_label(label, 30) for label in labels[:BARS]]
    names = [f"{name} ({seen[:at].count(name) + 1})" if name in seen[:at] else name for at, name in enumerate(seen)]
    values, points = bars[:BARS], line[:BARS]
    low, high = min((0.0, *values, *points)), max((0.0, *values, *points))
    return [
        "```mermaid",
        "xychart-beta" if line else "xychart-beta horizontal",  # names beside each other would overlap
        f'    title "{_label(title)}"',
        "    x-axis [" + ", ".join(f'"{name}"' for name in names) + "]",
        f'    y-axis "{_label(axis)}" {_numbers([low])} --> {_numbers([high if high > low else low + 1])}',
        f"    bar [{_numbers(values)}]",
        *([f"    line [{_numbers(points)}]"] if line else []),
        "```",
    ]


def _label(text: object, most: int = 60) -> str:
    """What Mermaid takes in quotes; equal ones would be drawn on top of each other."""
    return re.sub(r"[^\w .,:%()=+/-]", "", " ".join(str(text).split()))[:most].strip() or "-"


def _numbers(values: Sequence[float]) -> str:
    """Four significant digits; Mermaid does not know 1e-05."""
    return ", ".join(f"{Decimal(f'{value + 0.0:.4g}'):f}" for value in values)
