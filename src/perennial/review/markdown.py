"""Markdown that GitHub draws as meant, whatever the data say: escaped text, tables, folds, Mermaid charts."""

import re
from collections.abc import Sequence

BARS = 20  # of one chart; more cannot be read


def safe(text: object) -> str:
    """Text on one line, with nothing in it that Markdown or HTML would take for its own; no mention pings anybody."""
    line = " ".join(str(text).split())
    line = re.sub(r"([\\`*_{}\[\]|~])", r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return line.replace("@", "@\u200b").replace("#", "#\u200b")


def code(text: object) -> str:
    """A code span; what would end it, or a table's cell, is left out."""
    return f"`{re.sub(r'[`|]', '', ' '.join(str(text).split())) or ' '}`"


def block(text: str) -> list[str]:
    """A block of code, fenced by more backticks than it holds."""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=2) + 1)
    return [fence, *text.splitlines(), fence]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], most: int = 30) -> list[str]:
    """Cells are Markdown already; columns whose header ends with a colon are figures, at the right."""
    align = ["--:" if name.endswith(":") else "---" for name in header]
    lines = [f"| {' | '.join(cells)} |" for cells in ([n.rstrip(":") for n in header], align, *rows[:most])]
    return lines if len(rows) <= most else [*lines, "", f"… and {len(rows) - most} more, in gate.json."]


def fold(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def chart(
    title: str, labels: Sequence[object], axis: str, bars: Sequence[float], line: Sequence[float] = ()
) -> list[str]:
    """A Mermaid bar chart, with a line over it where one is given."""
    names = ", ".join(f'"{_label(label)}"' for label in labels[:BARS])
    lines = ["```mermaid", "xychart-beta", f'    title "{_label(title)}"', f"    x-axis [{names}]"]
    lines += [f'    y-axis "{_label(axis)}"', f"    bar [{_numbers(bars[:BARS])}]"]
    return [*lines, *([f"    line [{_numbers(line[:BARS])}]"] if line else []), "```"]


def _label(text: object) -> str:
    return re.sub(r"[^\w .,:%()=+/-]", "", " ".join(str(text).split()))[:60] or "-"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value + 0.0:.4g}" for value in values)
