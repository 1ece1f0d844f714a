"""A pull request may upload anything as its report: nothing of it gets past the comment's edges."""

import io
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from comment_step import SHA, CommentStep
from markdown_it import MarkdownIt
from stand_in import GitHub

from perennial.review.markdown import safe

REPORT = "reports/report.md"
DRAWN = {"a", "b", "blockquote", "br", "code", "details", "em", "h1", "h2", "hr", "li", "ol", "p", "pre", "strong"}
DRAWN |= {"sub", "summary", "table", "tbody", "td", "th", "thead", "tr", "ul"}
MARKDOWNS_OWN = {"a", "code", "ol", "td", "th"}  # attributes
INVISIBLE = {"\n", "\t", "\u200b", "\u200d"}  # that may be in a comment


@pytest.fixture
def step(tmp_path: Path) -> Iterator[CommentStep]:
    with GitHub(tmp_path / "github") as github:
        yield CommentStep(github, tmp_path / "runner")


# Artifacts


def entry(name: str = REPORT, mode: int = 0o100644, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, method
    return info


def packed(*entries: tuple[zipfile.ZipInfo, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for info, content in entries:
            archive.writestr(info, content)
    return file.getvalue()


def encrypted() -> bytes:
    """As far as the flags say."""
    content = bytearray(packed((entry(), "## Fine")))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    return bytes(content)


def torn() -> bytes:
    """The compressed bytes are none."""
    content = bytearray(packed((entry(), "## Fine " * 100)))
    start = content.index(REPORT.encode()) + len(REPORT)
    content[start : start + 8] = b"\xff" * 8
    return bytes(content)


def bomb(size: int) -> bytes:
    """A small archive of a large report."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, archive.open(entry(), "w", force_zip64=True) as report:
        for _ in range(size // 1_000_000):
            report.write(b"BOOM\n" * 200_000)
    return file.getvalue()


NOT_PLAIN, UNREADABLE = "no plain file", "cannot be read"
ARTIFACTS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "names that lead outside": ("0 files", lambda: packed((entry("../../x"), "x"), (entry("/tmp/x"), "x"))),
    "a link": (NOT_PLAIN, lambda: packed((entry(mode=0o120777), "/etc/passwd"))),
    "a pipe": (NOT_PLAIN, lambda: packed((entry(mode=0o010644), "x"))),
    "the name twice": ("2 files", lambda: packed((entry(), "## Fine"), (entry(f"{REPORT}\0x"), "## Other"))),
    "no zip": (UNREADABLE, lambda: b"## Fine"),
    "nothing": (UNREADABLE, lambda: b""),
    "half a zip": (UNREADABLE, lambda: packed((entry(), "## Fine"))[:-30]),
    "the other half": (UNREADABLE, lambda: packed((entry(), "## Fine"))[40:]),
    "torn": (UNREADABLE, torn),
    "encrypted": (UNREADABLE, encrypted),
    "too large": ("larger than", lambda: packed((entry(), "## Fine"), (entry("rest", method=0), bytes(21_000_000)))),
    "unpacks in one piece": (NOT_PLAIN, lambda: packed((entry(method=zipfile.ZIP_BZIP2), "## Fine"))),
    "this too": (NOT_PLAIN, lambda: packed((entry(method=zipfile.ZIP_LZMA), "## Fine"))),
}


@pytest.mark.parametrize("name", ARTIFACTS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_artifact_that_is_not_ours_is_refused(step: CommentStep, name: str) -> None:
    """Nothing is written anywhere: CommentStep looks."""
    reason, content = ARTIFACTS[name]
    step.upload(content())
    said = step(expect=1)
    assert "::error::" in said
    assert reason in said
    assert step.comments() == []


def test_what_else_is_in_the_artifact_stays_there(step: CommentStep) -> None:
    step.upload(packed((entry("../../x"), "x"), (entry("../work/x"), "x"), (entry(), "## Fine")))
    step()
    assert "## Fine" in step.posted()


def test_a_bomb_is_cut(step: CommentStep) -> None:
    """It would need more memory than CommentStep gives."""
    step.upload(bomb(300_000_000))
    step()
    assert "BOOM" in step.posted()
    assert_harmless(step.posted())


# Texts


class Page(HTMLParser):
    """What a comment looks like: its tags, its text outside code, and what is seen without unfolding."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags, self.comments, self.text, self.seen = set[str](), list[str](), "", ""
        self._inside: list[str] = []
        self.feed(MarkdownIt("commonmark").enable("table").render(markdown))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[Any]) -> None:
        assert tag in MARKDOWNS_OWN or not attrs, (tag, attrs)
        self.tags.add(tag)
        if tag not in ("br", "hr", "img"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            del self._inside[len(self._inside) - 1 - self._inside[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        if not {"code", "pre"} & set(self._inside):
            self.text += data
            self.seen += "" if "details" in self._inside else data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def assert_harmless(body: str) -> Page:
    assert len(body) <= 65_536
    text, mark, _ = body.rpartition("\n\n![](https://cml.dev/watermark.png#")
    assert mark
    assert "![" not in text
    page = Page(text)
    assert page.tags <= DRAWN
    assert page.comments == []
    assert not re.search(r"@\w|#\d|\bGH-\d|/(issues|pull|discussions)/\d", page.text)
    assert {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Co", "Cs")} <= INVISIBLE
    assert f"Made by the pull request's own code at {SHA[:8]}" in page.seen
    return page


FORGED = '![](https://cml.dev/watermark.png#abc "CML watermark {}")'
TEXTS: dict[str, str | bytes] = {
    "mentions": r"@ada @octo/team \@ada <b>@ada</b> &#64;ada &#x40;ada &#064;ada &commat;ada &#38;#64;ada &amp;#64;ada",
    "references": r"#12 a#12 octo/demo#12 \#12 &#35;12 &#x23;12 &num;12 &amp;#12 &#12 GH-12 gh-12 GH&#45;12",
    "addresses": "https://github.com/octo/demo/issues/12 [x](https://github.com/octo/demo/pull/12#issuecomment-1)",
    "written-out addresses": "https://github.com/octo/demo&sol;issues/12 https://github.com/octo/demo/pull&#47;12",
    "HTML comments": "<!-- hidden --> <!--> and <!---> and <!-- never closed",
    "HTML": "<script>alert(1)</script> <IMG SRC=//e.x/x> <iframe> <style>*</style> </p> <?x?> <!x> <a href=x>x</a>",
    "written-out HTML": "&lt;script&gt; &#60;img src=x&#62; &LT;img src=x&GT; &#60;!-- x --&#62;",
    "attributes": "<details open><summary onclick=x>a</summary><b style=x>b</b><br/ ><sub\n>c</sub></details >",
    "pictures": "![a](https://e.x/x.png) ![b][c] !\0[d](x) !\u202e[e](x) &#33;[f](x) !&#91;g](x)\n\n[c]: //e.x",
    "our watermark": FORGED.format("perennial"),
    "another watermark": FORGED.format("other") + "<!-- x -->" + FORGED.format("perennial").replace("!", "!\u200e"),
    "turned writing": "a\u202eb\u2066c\u061cd\u200fe",
    "hidden writing": "a\0b\x1bc\x7fd\x85e\u200bf\ufeffg\u2028h\xadi\U000e0041j\r\nk\rl&#8238;m&#0;n&#xe0041;o",
    "a long number": "&#" + "9" * 5000 + "; &#99999999; &#xd800; &#x" + "f" * 5000 + ";",
    "bytes": bytes(range(256)) * 2000,
    "one line of 2 MB": "word " * 400_000,
    "2 MB": "a line\n" * 300_000,
    "nothing but wide letters": "𝔸" * 300_000,
    "nothing seen": "\0" * 300_000,
    "an open fence": "```\n## Fine",
    "an open fence, cut": "```\n" + "a line\n" * 20_000,
    "a long fence, cut": "``````\n```\n" + "a line\n" * 20_000,
    "a fence of tildes, cut": "~~~\n" + "a line\n" * 20_000,
    "a fence in a list, cut": "- ```\n  a\n\n" + "a line\n" * 20_000,
    "an open fold": "<details><summary>Fine</summary>\n\n## Fine",
    "open folds, cut": "<details>\n" * 20_000,
    "folds that close more than they open": "</details>\n</b></sub>\n" * 100,
    "many marks, cut": "@#1![<" * 20_000,
    "an open link": "## Fine\n\n[a](<b",
    "an open quote": "> [!NOTE]\n> Fine\n>",
    "an open comment in a table": "| a |\n| --- |\n| <!-- |",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_posted_harmlessly(step: CommentStep, name: str) -> None:
    text = TEXTS[name]
    step.upload({REPORT: text})
    step()
    page = assert_harmless(step.posted())
    assert ("the whole report is in" in page.seen) == (len(text) > 60_000)
    assert step.summary.strip() in step.posted()
    step()
    assert len(step.comments()) == 1  # a forged watermark or an open fence does not hide ours


def test_the_reports_own_escapes_are_harmless(step: CommentStep) -> None:
    step.upload(f"- {safe('#12 @ada <b> GH-12 octo/demo#12 ![a](b)')}")
    step()
    assert_harmless(step.posted())


NAMES = [
    "`a`\n\n# All is well\n",
    "@ada #12",
    "![a](b)",
    "a" * 4000,
    *("x" * 4000 + str(number) for number in range(20)),
]


def test_names_of_changed_files_are_harmless(step: CommentStep) -> None:
    step.repository.files[1] = [{"filename": f"scripts/{name}"} for name in NAMES]
    step.upload("a line\n" * 20_000)
    step()
    page = assert_harmless(step.posted())
    assert "Read that first" in page.seen
    assert "h1" not in page.tags


def test_a_harmless_text_would_be_told_from_a_hostile_one() -> None:
    """The looking itself, on what must not pass."""
    note = f"Made by the pull request's own code at {SHA[:8]}\n\n"
    assert_harmless(note + "fine\n\n" + FORGED.format("perennial"))
    for text in ("@ada", "&#35;12", "<!-- x -->", "<script>", "<img src=x>", "![a](b)", "a\u202eb", "<b onclick=x>"):
        with pytest.raises(AssertionError):
            assert_harmless(f"{note}{text}\n\n{FORGED.format('perennial')}")
    for hidden in ("```\n", "<details>\n\n"):
        with pytest.raises(AssertionError):
            assert_harmless(f"{hidden}{note}\n\n{FORGED.format('perennial')}")
