"""The report on a pull request: what it says of fixed findings, and that it stays Markdown whatever the data say.

The files in golden/ are the report as it is; after a change that is meant: RENEW_GOLDEN=1 make test, and read the diff.
"""

import json
import os
import re
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
from gate_facts import FACTS, REGRESSION, compared, judged, slice_of
from markdown_it import MarkdownIt

from perennial.review.report import LONGEST, render

GOLDEN = Path(__file__).parent / "golden"
RUN = "https://github.com/ada/parcels/actions/runs/7"
PLOTS: dict[str, Any] = {
    "calibration": [
        {"predicted": 0.1, "actual": 0.08, "rows": 500.0},
        {"predicted": 0.4567, "actual": 0.5, "rows": 300.0},
        {"predicted": 0.9, "actual": 0.88, "rows": 200.0},
    ],
    "importance": [
        ("mass", {"mean": 0.21, "std": 0.02}), ("colour", {"mean": 0.03, "std": 0.01}),
        ("sealed", {"mean": -1e-4, "std": 2e-3}),
    ],
}  # fmt: skip
ALONE = {
    "metrics": {}, "champion": None, "compared": None, "size": {"challenger": 0.5}, "latency": {"challenger": 0.02},
    "not_compared": "there is no earlier commit to compare with",
    "slices": [{k: v for k, v in slice_of("colour", "red", 0, 0.8).items() if not k.startswith(("champion", "diff"))}],
}  # fmt: skip
MOVED = {
    "parameters": [
        {"key": "train.params.max_iter", "before": 80, "after": 1}, {"key": "train.text", "before": None, "after": "a"},
        {"key": "gate.floors.roc_auc", "before": 0.75, "after": 0.7},
    ],
    "files": {
        "rows": {"before": 3000, "after": 4000},
        "files": [{"file": "data/raw/2.csv", "before": None, "after": 1000}],
    },
    "features": [
        {
            "feature": "mass", "psi": 0.31, "missing": {"before": 0.1, "after": 0.25},
            "range": {"before": [0.5, 20000.0], "after": [0.5, 30000.0]},
        },
        {"feature": "colour", "psi": 0.001, "missing": {"before": 0, "after": 0}, "new": ["beige", "grün"]},
        {"feature": "sealed", "psi": 0.001, "missing": {"before": 0, "after": 0}},
    ],
}  # fmt: skip
WORSE = {
    "metrics": {
        "roc_auc": compared(0.82, 0.79, 0.005), "brier": compared(0.15, 0.16, 0.002),
        "value_per_1000": compared(2721.4, 1200, 300),
    },
    "slices": [slice_of("colour", "red", 0.85, 0.7), slice_of("age", "old", 0.7, 0.8, sensitive=True)],
    "compared": {"rows": 800, "of": 1000}, "calibration": {"error": 0.2, "by_chance": 0.02, "noise": 0.01},
    "champion.source": "rebuilt",
}  # fmt: skip
STALE = {"lock.stale": ["train: changed deps: src/perennial/inputs.py: modified", "evaluate: changed command"]}
BROKEN = {
    "data": {
        "passed": False,
        "error": "data/raw/2.csv: 20 of 200 rows break the contract (tolerance 1.0%)\n"
        "  mass: is no number: 20 rows, first data/raw/2.csv row 3 (heavy)\n"
        "  Fix: mend the files, or the contract in params.yaml",
    },
    "broken": "data/raw/2.csv: 20 of 200 rows break the contract (tolerance 1.0%)",
    "metrics": {}, "champion": None, "challenger": None, "evaluation": None, "slices": [], "reproduction": None,
    "files": None,
}  # fmt: skip

CASES: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "pass": (MOVED, "binary", RUN),
    "fail": (WORSE | MOVED, "binary", RUN),
    "no_champion": (ALONE, "binary", None),
    "broken_data": (BROKEN, "binary", RUN),
    "regression": (REGRESSION, "regression", None),
    "stale_lock": (STALE, "binary", RUN),
}


def rendered(case: str) -> str:
    changes, task, run = CASES[case]
    found = judged(changes, task)
    return render(found, PLOTS if not found["broken"] else {}, run)


@pytest.mark.parametrize("case", CASES)
def test_the_report_is_what_it_was(case: str) -> None:
    text, golden = rendered(case), GOLDEN / f"{case}.md"
    if os.environ.get("RENEW_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


# As GitHub would read it


class Read:
    """A report, parsed as GitHub-flavoured Markdown."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)

    def headings(self) -> list[str]:
        return [after.content for token, after in pairwise(self.tokens) if token.type == "heading_open"]

    def html(self) -> Iterator[str]:
        """Each line of raw HTML."""
        for token in self.tokens:
            for part in (token, *(token.children or [])):
                if part.type in ("html_block", "html_inline"):
                    yield from filter(None, part.content.splitlines())

    def tables(self) -> list[list[list[str]]]:
        """Rows of cells, as they are read: code and text, without marks and unescaped."""
        tables: list[list[list[str]]] = []
        for token, after in pairwise(self.tokens):
            if token.type == "table_open":
                tables.append([])
            elif token.type == "tr_open":
                tables[-1].append([])
            elif token.type in ("th_open", "td_open"):
                tables[-1][-1].append("".join(part.content for part in after.children or []))
        return tables

    def table(self, first: str) -> list[list[str]]:
        """The rows below the header that starts so."""
        return next(rows[1:] for rows in self.tables() if rows[0][0] == first)

    def links(self) -> set[str]:
        parts = [part for token in self.tokens for part in token.children or []]
        return {str(part.attrs["href"]) for part in parts if part.type == "link_open"}

    def fences(self) -> list[str]:
        return [token.content for token in self.tokens if token.type == "fence"]

    def items(self) -> list[str]:
        """What each item of a list says first."""
        found = [i for i, token in enumerate(self.tokens) if token.type == "list_item_open"]
        return ["".join(part.content for part in self.tokens[i + 2].children or []) for i in found]


def stays_markdown(text: str) -> Read:
    """What holds for every report."""
    assert len(text) <= LONGEST
    read = Read(text)
    assert text.startswith("## ")
    assert read.tokens[0].type == "heading_open"
    folds = ["end" if line == "</details>" else "start" for line in read.html()]
    assert all(re.fullmatch(r"<details><summary>[\w ,:]+</summary>|</details>", line) for line in read.html())
    assert folds == ["start", "end"] * (len(folds) // 2)
    assert read.links() <= {RUN}
    rule = re.compile(r"(\| (---|--:) )+\|")
    lines = [line for line in text.splitlines() if line.startswith("|") and not rule.fullmatch(line)]
    for line, cells in zip(lines, chain(*read.tables()), strict=True):
        assert len(re.findall(r"(?<!\\)\|", line)) == len(cells) + 1  # the parser mends rows of other lengths
    return read


@pytest.mark.parametrize("case", CASES)
def test_a_report_is_well_formed_and_starts_with_the_verdict(case: str) -> None:
    read, found = stays_markdown(rendered(case)), judged(*CASES[case][:2])
    failed = any(rule["passed"] is False for rule in found["rules"])
    assert read.headings()[0].startswith("❌ Fail: " if failed else "✅ Pass: ")


def test_every_failure_is_told_above_all_else_with_what_to_do() -> None:
    found = judged(WORSE)
    bad = [rule for rule in found["rules"] if rule["passed"] is False]
    items = Read(render(found, PLOTS, RUN)).items()
    assert len(bad) > 2
    for rule, item in zip(bad, items, strict=False):
        assert item.startswith(f"❌ {rule['name']}: {rule['text']}")
        assert f"Do: {rule['fix']}" in item


def test_the_figures_are_those_of_the_gate() -> None:
    rows = Read(render(judged(WORSE), PLOTS, RUN)).table("metric")
    assert rows[0] == ["roc_auc", "0.82", "0.79", "-0.03", "-0.035 to -0.025", "worse"]
    assert rows[1] == ["brier", "0.15", "0.16", "+0.01", "+0.008 to +0.012", "worse"]  # more of it is no gain
    assert [row[0] for row in rows] == ["roc_auc", "brier", "value_per_1000"]


def test_a_key_that_judges_this_model_is_pointed_at() -> None:
    rows = Read(render(judged(MOVED), PLOTS, RUN)).table("key")
    assert [row[0] for row in rows if "⚠️" in row[0]] == ["gate.floors.roc_auc ⚠️ judges this model"]


def test_an_error_of_many_lines_keeps_its_lines() -> None:
    (fence,) = Read(rendered("broken_data")).fences()
    assert fence.rstrip("\n") == BROKEN["data"]["error"]


def test_where_the_right_lock_is_is_told_only_when_there_is_a_run() -> None:
    changes = judged(STALE)
    assert f"are in the artifact `review` of [the run]({RUN})" in render(changes, PLOTS, RUN)
    assert "artifact" not in render(changes, PLOTS, None)


# Hostile values

NASTY = [
    "a|b", "`code`", "``", "\\", "a\\|b", "<script>alert(1)</script>", "<!-- gone", "</details>", "<img src=x>", "@ada",
    "@org/team", "#12", "two\nlines", "\r\n\t", "# heading", "- item", "```", "~~~", "| --- |", "[text](https://evil)",
    "![image](https://evil)", "**bold**", "_em_", "~~gone~~", "&lt;b&gt;", "", " ", "🟣 grün", "x" * 3000, "\u202e",
]  # fmt: skip


def shown(text: str) -> str:
    """A value as a code span can show it: on one line, without what would end the span or the cell."""
    return re.sub("[`|]", "", " ".join(text.split())).strip()


def close(cell: str, value: str) -> bool:
    """The cell shows the value, or its start where it is too long."""
    wanted = shown(value)
    return cell.strip() == wanted or (len(wanted) > 50 and cell.startswith(wanted[:50]))


@pytest.mark.parametrize("value", NASTY, ids=[ascii(value)[:20] for value in NASTY])
def test_a_hostile_value_is_shown_as_it_is_and_nothing_else_changes(value: str) -> None:
    changes: dict[str, Any] = {
        "slices": [slice_of("colour", value, 0.9, 0.6)],
        "parameters": [{"key": value, "before": value, "after": value}],
        "files": {"rows": {"before": 1, "after": 2}, "files": [{"file": value, "before": 1, "after": None}]},
        "features": [{"feature": value, "psi": 1, "missing": {"before": 0, "after": 1}, "new": [value, value]}],
        "data.error": value, "data.passed": False, "lock.stale": [value], "data.leaks": {value: 1}, "currency": value,
        "fairness": [FACTS["fairness"][0] | {"sure": 0.9, "highest": {"group": value, "rate": 1}}],
    }  # fmt: skip
    read = stays_markdown(render(judged(changes), PLOTS | {"importance": [(value, {"mean": 1, "std": 0})]}, RUN))
    assert len(read.headings()) == 4
    cells = [read.table("column")[0][1], *read.table("key")[0][1:]]
    cells += [read.table("file")[0][0], read.table("feature")[0][0]]
    assert [cell for cell in cells if not close(cell, value)] == []
    assert len(read.fences()) == 2 or "\n" in value or len(value) > 600
    assert not re.search(r"@\w", prose(read)), "would ping somebody"
    assert not re.search(r"#\d", prose(read)), "would link to an issue"


def prose(read: Read) -> str:
    """All text outside code, as a browser shows it."""
    parts = [part for token in read.tokens for part in token.children or []]
    return " ".join(part.content for part in parts if part.type == "text")


@pytest.mark.parametrize("length", [3, 300, 5000])
def test_a_thousand_of_everything_is_cut_to_what_a_comment_can_hold(length: int) -> None:
    names = [f"{i} " + "n" * length for i in range(1000)]
    found = judged(
        {
            "slices": [slice_of(name, name, 0.9, 0.5) for name in names],
            "parameters": [{"key": name, "before": name, "after": name} for name in names],
            "files": {
                "rows": {"before": 0, "after": 1000},
                "files": [{"file": name, "before": None, "after": 1} for name in names],
            },
            "features": [
                {"feature": name, "psi": 1, "missing": {"before": 0, "after": 1}, "new": names[:20]} for name in names
            ],
            "fairness": [FACTS["fairness"][0] | {"sure": 0.9, "highest": {"group": names[0], "rate": 1}}],
            "reproduction": {"level": "different", "details": names}, "data.leaks": dict.fromkeys(names, 1.0),
            "data.passed": False, "data.error": "\n".join(names), "lock.stale": names,
        },
        floors={"roc_auc": 0.99, "brier": 0.01},
    )  # fmt: skip
    text = render(found, PLOTS | {"importance": [(name, {"mean": 1, "std": 0}) for name in names]}, RUN)
    read = stays_markdown(text)
    assert len(read.items()) >= 6
    assert read.table("metric")  # the figures and the verdict are never dropped
    assert text.rstrip().endswith(f"[the run]({RUN})")
    assert " more." in text


def test_what_is_left_of_a_long_report_says_where_the_rest_is() -> None:
    assert "gate.json with every figure: `reports/`" in rendered("no_champion")


def test_the_report_needs_nothing_but_the_two_files(tmp_path: Path) -> None:
    """What `main` reads is what `render` was tested with: plain JSON."""
    found = judged(MOVED)
    file = tmp_path / "gate.json"
    file.write_text(json.dumps(found), encoding="utf-8")
    assert render(json.loads(file.read_text()), PLOTS, None) == render(found, PLOTS, None)
